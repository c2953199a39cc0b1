"""Batches on disk: one file each, `<created_ms>.<key>.<doubt_ms>.<owner>.lso`.

The first line is a JSON object that says where the events belong, the rest are the events as they will be sent. What
changes while a file lies here (since when its fate is unknown, who owns it) is in its name, so that each change is one
rename. A file appears whole or not at all: it is written under another name, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
from bisect import insort

from lso_core.client.batch import Batch
from lso_core.client.ownership import LOCK, Heir, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from lso_core.client.config import Config
    from lso_core.client.counters import Counters
    from lso_core.client.notices import Notices

SUFFIX = ".lso"
PARTIAL = ".part"


class Name:
    """A spool file's name, taken apart. Sorts by age."""

    __slots__ = ("created_ms", "doubt_ms", "key", "owner")

    def __init__(self, created_ms: int, key: str, doubt_ms: int, owner: str) -> None:
        self.created_ms = created_ms
        self.key = key
        self.doubt_ms = doubt_ms
        self.owner = owner

    @classmethod
    def parse(cls, filename: str) -> Name | None:
        """None for a file that is no spooled batch."""
        parts = filename.removesuffix(SUFFIX).split(".")
        if not filename.endswith(SUFFIX) or len(parts) != 4 or not (parts[0].isdigit() and parts[2].isdigit()):
            return None
        return cls(int(parts[0]), parts[1], int(parts[2]), parts[3])

    def __str__(self) -> str:
        return f"{self.created_ms:013d}.{self.key}.{self.doubt_ms}.{self.owner}{SUFFIX}"

    def __lt__(self, other: Name) -> bool:
        return (self.created_ms, self.key) < (other.created_ms, other.key)


class Spool:
    """One process' view of a spool directory. Not for several threads at once: the outbox holds its lock around it."""

    def __init__(self, config: Config, counters: Counters, notices: Notices) -> None:
        self._directory = config.spool_dir
        self._url = str(config.address)
        self._max_bytes = config.options.spool_bytes
        self._counters = counters
        self._notices = notices
        self._owner: Owner | None = None
        self._waiting: list[Name] = []
        self._held: dict[str, Name] = {}
        self.evicted: list[str] = []
        """Keys of this process' batches that the cap took away, for the outbox to forget."""

    def __len__(self) -> int:
        return len(self._waiting)

    def save(self, batch: Batch) -> bool:
        """Write the batch, in place of what was stored of it before. False when the disk refuses; that is said once."""
        try:
            name = self._held.get(batch.key) or Name(batch.created_ms, batch.key, batch.doubt_ms, self._own())
            self._write(str(name), batch)
        except OSError as error:
            self._notices.warn("spool", f"the spool {self._directory} cannot be written: {error}")
            return False
        self._notices.over("spool", f"the spool {self._directory} can be written again")
        self._held[batch.key] = name
        batch.stored = len(batch.lines)
        return True

    def mark(self, batch: Batch) -> None:
        """Put the batch's `doubt_ms` into its file's name."""
        name = self._held.get(batch.key)
        if name is None or name.doubt_ms == batch.doubt_ms:
            return
        marked = Name(name.created_ms, name.key, batch.doubt_ms, name.owner)
        with contextlib.suppress(OSError):
            os.rename(self._path(str(name)), self._path(str(marked)))
            self._held[batch.key] = marked

    def remove(self, batch: Batch) -> None:
        """The batch was answered."""
        name = self._held.pop(batch.key, None)
        if name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path(str(name)))

    def shelve(self, batch: Batch) -> None:
        """Memory lets the batch go; its file waits for its turn."""
        insort(self._waiting, self._held.pop(batch.key))

    def load(self) -> Batch | None:
        """The oldest batch that waits; None when none does. Files that cannot be read are put aside and reported."""
        while self._waiting:
            name = self._waiting.pop(0)
            try:
                batch = self._read(name)
            except FileNotFoundError:  # another process' cap took it, and counted it
                self.evicted.append(name.key)
            except (OSError, ValueError) as error:
                self._put_aside(name, error)
            else:
                self._held[name.key] = name
                return batch
        return None

    def claim(self) -> int:
        """Take over the files of every owner that is gone. Answers how many."""
        owners: dict[str, list[Name]] = {name: [] for name in self._locks()}
        for name in self._names():
            owners.setdefault(name.owner, []).append(name)
        if self._owner is not None:
            owners.pop(self._owner.name, None)
        return sum(self._inherit(owner, names) for owner, names in owners.items())

    def any_left(self) -> bool:
        """Whether the directory holds anything to send."""
        return next(self._names(), None) is not None

    def trim(self) -> None:
        """Remove the oldest files until the directory is within its cap; those that memory holds too stay."""
        sizes = sorted((name, self._size(name)) for name in self._names())
        excess = sum(size for _, size in sizes) - self._max_bytes
        for name, size in sizes:
            if excess <= 0:
                return
            if name.key not in self._held:
                self._evict(name)
                excess -= size

    def close(self) -> None:
        if self._owner is not None:
            self._owner.release(remove=not self._held and not self._waiting)
            self._owner = None

    def abandon(self) -> None:
        """For a forked child: everything here is its parent's."""
        if self._owner is not None:
            self._owner.abandon()

    def _own(self) -> str:
        if self._owner is None:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._owner = Owner(self._directory)
        return self._owner.name

    def _write(self, filename: str, batch: Batch) -> None:
        partial = self._path(f".{filename}{PARTIAL}")
        header = json.dumps({"url": self._url, "system": batch.system}).encode()
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(header + b"\n" + batch.body())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self._path(filename))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _read(self, name: Name) -> Batch:
        with open(self._path(str(name)), "rb") as file:
            header = _header(file.readline())
            lines = file.read().split(b"\n")[:-1]
        if not lines:
            raise ValueError("no events in it")
        batch = Batch(header["system"], lines, key=name.key, created_ms=name.created_ms, first=None)
        batch.doubt_ms, batch.stored, batch.frozen = name.doubt_ms, len(lines), True
        return batch

    def _names(self) -> Iterator[Name]:
        return filter(None, map(Name.parse, self._files()))

    def _locks(self) -> list[str]:
        """Every owner with a lock file, also those that left nothing else."""
        return [file.removesuffix(LOCK) for file in self._files() if file.endswith(LOCK) and not file.startswith(".")]

    def _files(self) -> list[str]:
        try:
            return os.listdir(self._directory)
        except OSError:  # not made yet, or not ours to read: writing will say so
            return []

    def _inherit(self, owner: str, names: list[Name]) -> int:
        """Rename an absent owner's files to this process' name, where they belong to the same LSO."""
        heir = Heir(self._directory, owner)
        with heir as gone:
            if not gone:
                return 0
            ours = [name for name in names if self._is_ours(name)]
            claimed = sum(map(self._rename_to_own, ours))
            self._remove_partials(owner)
            if len(ours) == len(names):
                heir.bury()
            return claimed

    def _is_ours(self, name: Name) -> bool:
        """Whether the file's events belong to the LSO this client talks to. An unreadable file is ours to report."""
        try:
            with open(self._path(str(name)), "rb") as file:
                return bool(_header(file.readline())["url"] == self._url)
        except OSError:
            return False
        except ValueError:
            return True

    def _rename_to_own(self, name: Name) -> bool:
        """False when another process was quicker."""
        try:
            mine = Name(name.created_ms, name.key, name.doubt_ms, self._own())
            os.rename(self._path(str(name)), self._path(str(mine)))
        except OSError:
            return False
        insort(self._waiting, mine)
        return True

    def _remove_partials(self, owner: str) -> None:
        """What a writer that was killed left half written was never promised to anybody."""
        for filename in self._files():
            if filename.startswith(".") and filename.endswith(f".{owner}{SUFFIX}{PARTIAL}"):
                with contextlib.suppress(OSError):
                    os.unlink(self._path(filename))

    def _evict(self, name: Name) -> None:
        try:
            with open(self._path(str(name)), "rb") as file:
                events = file.read().count(b"\n") - 1
            os.unlink(self._path(str(name)))
        except OSError:  # another process was quicker
            return
        self._counters.add("spool_full", max(0, events))
        self.evicted.append(name.key)
        self._waiting = [waiting for waiting in self._waiting if waiting.key != name.key]

    def _put_aside(self, name: Name, error: Exception) -> None:
        self._notices.warn(
            "spool-file", f"the spool file {name} cannot be read ({error}); it is kept with .bad at its end"
        )
        with contextlib.suppress(OSError):
            os.rename(self._path(str(name)), self._path(f"{name}.bad"))
        self.evicted.append(name.key)

    def _size(self, name: Name) -> int:
        try:
            return os.stat(self._path(str(name))).st_size
        except OSError:
            return 0

    def _path(self, filename: str) -> str:
        return os.path.join(self._directory, filename)


def _header(line: bytes) -> dict[str, int | str]:
    """Raises ValueError for anything that is not a spool file's first line."""
    header = json.loads(line)
    if not isinstance(header, dict) or not isinstance(header.get("system"), int | str) or "url" not in header:
        raise ValueError("its first line is not a spool header")
    return header
