"""The archive's files: a folder of this machine, or an object store. A file is there whole or not at all, and for good.

Paths are relative to the archive, with slashes. Everything here blocks: call it in a thread.
"""

import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from lso_core.model.errors import ArchiveError, ConfigurationError
from lso_core.settings import Settings

log = structlog.get_logger(__name__)

RETRY: Final = timedelta(seconds=15)
"""How long an object store is asked again; then the job's next turn does."""
LEFTOVER_S: Final = 3_600
"""A half-written file of this age has no writer any more."""
PACKAGES: Final = ("duckdb", "obstore", "pyarrow")
_HALF: Final = ".half"
"""What a file is called until it is whole; no reader of Parquet takes it for one."""


class Found(msgspec.Struct, frozen=True):
    """A file in a listing."""

    path: str
    size: int


class Files(Protocol):
    """What the archive asks of a place. Every method raises ArchiveError where it does not answer or is full."""

    where: str
    """For people; without secrets."""

    def write(self, path: str, data: bytes) -> None:
        """Put a file; when this returns it survives a loss of power. An equal one may be there already."""

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""

    def listing(self, prefix: str = "") -> list[Found]:
        """Every whole file whose path starts with `prefix`, which ends with a slash or is empty."""

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone is no error."""

    def local(self, paths: list[str]) -> list[str]:
        """Names under which this process can open the files. Raises FileNotFoundError."""

    def tidy(self) -> None:
        """Remove what half-written files and empty folders killed processes left."""


def possible(settings: Settings) -> Settings:
    """The settings, without an archive where its packages are not installed. Raises ConfigurationError where it is required."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if settings.archive == "off" or not missing:
        return settings
    if settings.archive == "required":
        raise ConfigurationError(f'LSO_ARCHIVE=required needs {", ".join(missing)} (pip install "lso[archive]")')
    log.warning("archive.off", missing=missing, install='pip install "lso[archive]"')
    return msgspec.structs.replace(settings, archive="off")


def find_files(settings: Settings) -> Files | None:
    """The archive's place, None where there is none."""
    return None if settings.archive == "off" else open_files(settings)


def open_files(settings: Settings) -> Files:
    """The place that LSO_ARCHIVE_URL names. Raises ConfigurationError for one that cannot be."""
    url = settings.archive_url
    scheme = urlsplit(url).scheme
    if not url:
        return LocalFiles(Path(settings.data_dir) / "archive")
    if scheme in {"", "file"}:
        return LocalFiles(Path(urlsplit(url).path if scheme else url))
    return ObjectFiles(url, settings.archive_cache_bytes)


class LocalFiles:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.where = str(self._root)

    def write(self, path: str, data: bytes) -> None:
        """Write beside, sync, rename, sync the folder."""
        target = self._root / path
        half = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_HALF}")
        with _translated(self.where, whole=True):
            _make_folder(target.parent)
            try:
                with half.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                half.replace(target)
            except BaseException:
                half.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def read(self, path: str) -> bytes:
        with _translated(self.where):
            return (self._root / path).read_bytes()

    def listing(self, prefix: str = "") -> list[Found]:
        with _translated(self.where):
            return sorted(self._walk(self._root / prefix), key=lambda found: found.path)

    def _walk(self, top: Path) -> Iterator[Found]:
        try:
            entries = list(os.scandir(top))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path))
            elif not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    yield Found(Path(entry.path).relative_to(self._root).as_posix(), entry.stat().st_size)

    def delete(self, path: str) -> None:
        with _translated(self.where):
            (self._root / path).unlink(missing_ok=True)

    def local(self, paths: list[str]) -> list[str]:
        names = [str(self._root / path) for path in paths]
        for name in names:
            if not Path(name).exists():
                raise FileNotFoundError(name)
        return names

    def tidy(self) -> None:
        with _translated(self.where):
            for folder, _, names in os.walk(self._root, topdown=False):
                for name in names:
                    half = Path(folder) / name
                    with contextlib.suppress(FileNotFoundError):
                        if name.endswith(_HALF) and time.time() - half.stat().st_mtime > LEFTOVER_S:
                            half.unlink()
                if Path(folder) != self._root:
                    with contextlib.suppress(OSError):  # it is not empty
                        Path(folder).rmdir()


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a loss of power, too."""
    if folder.exists():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class ObjectFiles:
    """A bucket of S3 and the like, through obstore, with a cache of what was read: files there never change.

    Credentials and endpoints are taken from the variables that obstore knows (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …).
    """

    def __init__(self, url: str, cache_bytes: int) -> None:
        parts = urlsplit(url)
        self.where = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        self._obstore: Any = importlib.import_module("obstore")
        stores: Any = importlib.import_module("obstore.store")
        try:
            self._store = stores.from_url(
                url,
                # A store in one's own network often has no certificate; its endpoint says http or https.
                client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "5s"},
                retry_config={"max_retries": 2, "retry_timeout": RETRY},
            )
        except Exception as error:  # noqa: BLE001 - obstore's errors have no common type that it shows
            raise ConfigurationError(f"LSO_ARCHIVE_URL names a store that cannot be: {_brief(error)}") from None
        self._cache = _Cache(cache_bytes)

    def write(self, path: str, data: bytes) -> None:
        with _translated(self.where, whole=True):
            self._obstore.put(self._store, path, data)

    def read(self, path: str) -> bytes:
        with _translated(self.where):
            return bytes(self._obstore.get(self._store, path).bytes())

    def listing(self, prefix: str = "") -> list[Found]:
        with _translated(self.where):
            chunks = self._obstore.list(self._store, prefix=prefix.rstrip("/") or None, chunk_size=1_000)
            found = [Found(one["path"], one["size"]) for chunk in chunks for one in chunk]
        return sorted((one for one in found if one.path.startswith(prefix)), key=lambda one: one.path)

    def delete(self, path: str) -> None:
        with _translated(self.where), contextlib.suppress(FileNotFoundError):
            self._obstore.delete(self._store, path)

    def local(self, paths: list[str]) -> list[str]:
        return [self._cache.name(path, functools.partial(self.read, path)) for path in paths]

    def tidy(self) -> None:
        """Nothing is ever half there, and there are no folders."""


class _Cache:
    """Copies of files in a temporary folder, of at most `most_bytes`; the ones that were not used for longest go."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._sizes: dict[str, int] = {}
        """In the order of their last use."""

    def name(self, path: str, read: Callable[[], bytes]) -> str:
        """A name for the copy of the file at `path`, which is made where there is none."""
        with self._lock:
            copy = self._root() / path.replace("/", "~")
            if path in self._sizes:
                self._sizes[path] = self._sizes.pop(path)
                return str(copy)
        data = read()
        with self._lock, _translated(str(copy.parent)):
            half = copy.with_suffix(f".{secrets.token_hex(4)}{_HALF}")
            half.write_bytes(data)
            half.replace(copy)
            self._sizes[path] = len(data)
            self._shrink(path)
        return str(copy)

    def _root(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="lso-archive-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def _shrink(self, kept: str) -> None:
        """Forget copies; who has one open goes on reading it."""
        while sum(self._sizes.values()) > self._most_bytes and next(iter(self._sizes)) != kept:
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            (self._root() / oldest.replace("/", "~")).unlink(missing_ok=True)


@contextlib.contextmanager
def _translated(where: str, *, whole: bool = False) -> Iterator[None]:
    """Errors of the system and of obstore as ours. With `whole`, what is not there is the place itself."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not whole:
            raise
        raise ArchiveError(f"the archive at {where} does not work: {error.strerror or error}") from error
    except Exception as error:
        if type(error).__name__ == "NotFoundError" and not whole:
            raise FileNotFoundError(_brief(error)) from error
        if not type(error).__module__.startswith("obstore"):
            raise
        raise ArchiveError(f"the archive at {where} does not answer: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """The first line of an error, which may be a page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
