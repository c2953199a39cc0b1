"""The state file of `lso emit --state`: how far an input was sent, so that a later run goes on from there.

The keys alone make a second run harmless while the server remembers them (24 hours by default); the state file also
spares it the way, works after that time, and keeps the cuts of an input that trickles.
"""

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from lso_core.cli.emit.cutting import READ, Cut
from lso_core.cli.talk import NEVER, TalkError

VERSION = 1


class Place:
    """How far the input was sent, and what was there."""

    def __init__(self, system_id: int, salt: str) -> None:
        self.system_id = system_id
        self.salt = salt
        self.offset = 0
        """Everything before it is counted."""
        self.line = 1
        self.under_way: int | None = None
        """Where the batch ends whose fate is not known."""
        self.known = (0, "")
        """Start and digest of the last lines that were counted, to know the input by."""


class StateFile:
    """A place on disk; written before each batch and after it. Without a path nothing is kept."""

    def __init__(self, path: Path | None, system_id: int, salt: str) -> None:
        self._path = path
        self.place = Place(system_id, salt)
        if path is not None and path.exists():
            self._load(path, system_id)

    def sending(self, cut: Cut) -> None:
        self.place.under_way = cut.end
        self._write()

    def counted(self, cut: Cut) -> None:
        place = self.place
        place.offset, place.line, place.under_way = cut.end, cut.next_line, None
        place.known = (cut.start, digest(b"\n".join(cut.lines)))
        self._write()

    def skip(self, fd: int) -> None:
        """Bring the input to the place, and make sure that it is the same input."""
        start, known = self.place.known
        seen = _discard(fd, start, keep=False) if start else b""
        seen = _discard(fd, self.place.offset - start, keep=True)
        if self.place.offset and digest(_lines(seen)) != known:
            raise TalkError(f"the state file {self._path} belongs to another input than this", exit_code=NEVER)

    def _load(self, path: Path, system_id: int) -> None:
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            place = self.place
            place.offset, place.line, place.salt = int(kept["offset"]), int(kept["line"]), str(kept["salt"])
            place.under_way = None if kept["under_way"] is None else int(kept["under_way"])
            place.known = (int(kept["known"][0]), str(kept["known"][1]))
            fits = kept["version"] == VERSION and kept["system_id"] == system_id
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TalkError(f"the state file {path} cannot be read: {error}", exit_code=NEVER) from None
        if not fits:
            raise TalkError(f"the state file {path} is about another system or of another LSO", exit_code=NEVER)

    def _write(self) -> None:
        if self._path is None:
            return
        new = self._path.with_name(self._path.name + ".new")
        try:
            new.write_text(json.dumps({"version": VERSION, **vars(self.place)}), encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            raise TalkError(f"the state file {self._path} cannot be written: {error.strerror}") from None


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _lines(data: bytes) -> bytes:
    """The bytes as a cut's lines stand in its digest."""
    return b"\n".join(text for line in data.split(b"\n") if (text := line.strip()))


def _discard(fd: int, size: int, *, keep: bool) -> bytes:
    """Read past `size` bytes; what they were, where that is wanted."""
    if not keep and stat.S_ISREG(os.fstat(fd).st_mode):
        with contextlib.suppress(OSError):
            os.lseek(fd, size, os.SEEK_CUR)
            return b""
    seen: list[bytes] = []
    while size > 0:
        data = os.read(fd, min(READ, size))
        if not data:
            raise TalkError("the input ends before the place that the state file names", exit_code=NEVER)
        size -= len(data)
        if keep:
            seen.append(data)
    return b"".join(seen)
