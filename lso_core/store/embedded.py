"""The server that `lso up` brings along: a real Redis or Valkey on a Unix socket, its files in the data directory.

::

    data/
      lock        held (flock) by whoever runs the server, and by the server itself for as long as it lives
      redis/      the append-only files
      redis.log   what the server says
      redis.pid   its process, for children that outlive a supervisor
      redis.sock  the socket, or a hashed name under the temporary directory where this path is too long
      release     what wrote the files: "Valkey 9.1"
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lso_core import machine
from lso_core.model.errors import ConfigurationError
from lso_core.store.binaries import Binary, Release, find_binary
from lso_core.store.tether import tethered

if TYPE_CHECKING:
    import redis.asyncio

GIB: Final = 1024**3
LONGEST_SOCKET_PATH: Final = 100
"""Bytes of a Unix socket's path. The systems' own limits are 107 (Linux) and 103 (macOS)."""
LOCK_PATIENCE_S: Final = 3.0
"""How long the server of a supervisor that was killed may take to end."""
STOP_S: Final = 5.0
RESERVE: Final = 32 << 20
"""Bytes of free disk below which a server that syncs each write only reads: more than any single write takes."""
_POLL_S: Final = 0.02
_ROOM_POLL_S: Final = 0.5
_PROGRESS_S: Final = 5.0

_WANTED_REPLICAS: Final = "min-replicas-to-write"
_ONLY_READ: Final = (f"--{_WANTED_REPLICAS}", "1")
"""A server without replicas then refuses what writes, scripts too, and answers what reads."""

Say = Callable[[str], None]


def default_maxmemory(available: int) -> int:
    """Half of what there is, for the copy that a rewrite of the append-only file may take; at most 4 GiB."""
    return min(4 * GIB, available // 2)


class EmbeddedServer:
    """The server of one data directory: `claim` takes the directory, `start` and `stop` run it, `close` gives it back."""

    def __init__(self, data_dir: Path, binary: Binary, maxmemory: int, appendfsync: str) -> None:
        self.binary = binary
        self.socket = socket_path(data_dir)
        self.maxmemory = maxmemory
        self._data_dir = data_dir
        self._appendfsync = appendfsync
        self._lock: int | None = None
        self._opening: asyncio.Task[None] | None = None
        """Waits for room on the disk."""
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def claim(
        cls,
        data_dir: Path | str,
        *,
        maxmemory: int = 0,
        appendfsync: Literal["everysec", "always"] = "everysec",
        path: str | None = None,
    ) -> "EmbeddedServer":
        """Make and lock the directory and choose the server; `path` stands for the PATH.

        `maxmemory` 0 means `default_maxmemory` of what the machine has. Raises ConfigurationError where the directory cannot be used or there is no server.
        """
        home = Path(data_dir).absolute()
        lock = _take(home)
        try:
            _make_private(socket_path(home).parent, home)
            release = _release_of(home)
            binary = find_binary(release, path)
            (home / "redis").mkdir(exist_ok=True)
            _write(home / "release", str(binary.release))
        except OSError as error:
            os.close(lock)
            raise _unusable(home, error) from None
        except ConfigurationError:
            os.close(lock)
            raise
        server = cls(home, binary, maxmemory or default_maxmemory(machine.memory_bytes()), appendfsync)
        server._lock = lock
        return server

    @property
    def url(self) -> str:
        """What clients connect to."""
        return "unix://" + urllib.parse.quote(str(self.socket))

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self._data_dir / "redis.log"

    @property
    def pid(self) -> int | None:
        """The server's process, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, say: Say = lambda _: None) -> None:
        """Start the server and wait until it has loaded its data, however long that takes; `say` gets the progress.

        Raises ConfigurationError with the server's last words where it ends instead.
        """
        self.socket.unlink(missing_ok=True)  # of a server that was killed; the lock says that there is none
        only_reads = self._appendfsync == "always" and not self._has_room()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tethered((*self.command(), *(_ONLY_READ if only_reads else ())), signal.SIGTERM),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._held_lock(),),
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends the server last
            )
        with contextlib.suppress(OSError):  # where the disk is full it has to do without
            (self._data_dir / "redis.pid").write_text(str(self._process.pid))
        await self._until_ready(self._process, say)
        if only_reads:
            say(
                f"there is no room in {self._data_dir}: the embedded server only reads until {RESERVE >> 20} MiB are free"
            )
            self._opening = asyncio.create_task(self._open_when_there_is_room(self._process, say))

    def _has_room(self) -> bool:
        return shutil.disk_usage(self._data_dir).free >= RESERVE

    async def _open_when_there_is_room(self, process: asyncio.subprocess.Process, say: Say) -> None:
        """Let the server write again. One that syncs each write ends at the first that fails, and so would never read."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - it takes its time, which the server uses to start

        client = _connect(self.socket)
        try:
            while process.returncode is None:
                if self._has_room():
                    with contextlib.suppress(RedisError, OSError):
                        await client.config_set(_WANTED_REPLICAS, 0)
                        say("there is room again: the embedded server writes")
                        return
                await asyncio.sleep(_ROOM_POLL_S)
        finally:
            await client.aclose()

    async def wait(self) -> int:
        """Wait for the server's end; its status, as `asyncio.subprocess` gives it."""
        process = self._running()
        status = await process.wait()
        _end_rest(process.pid)
        return status

    async def stop(self, within: float = STOP_S) -> None:
        """End the server: SIGTERM, on which it syncs its files, and SIGKILL after `within` seconds."""
        process = self._process
        if process is None:
            return
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        lives = process.returncode is None
        await end(process, within)
        if lives:
            _end_rest(process.pid)
        self._process = None
        (self._data_dir / "redis.pid").unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the data directory back. The server must have ended."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def command(self) -> tuple[str, ...]:
        """The server's command line."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._data_dir / "redis"),
            "daemonize": "no",
            "logfile": str(self.log),
            "maxmemory": str(self.maxmemory),
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            # A power cut leaves a half-written last command: load what is before it.
            "aof-load-truncated": "yes",
            "auto-aof-rewrite-min-size": str(256 * 1024**2),
            # What is large came compressed; to try again only makes a rewrite take longer.
            "rdbcompression": "no",
            # The append-only file is all there is; no snapshots beside it.
            "save": "",
            # What is kept of a quiet system, its settings and its rows of history are few values, but longer than the
            # 64 bytes up to which a server would pack them; the slots of a window are many, and want a table.
            "hash-max-listpack-entries": "32",
            "hash-max-listpack-value": "512",
            "zset-max-listpack-value": "512",
            # Large streams are freed beside the commands, not by them.
            "lazyfree-lazy-user-del": "yes",
            "lazyfree-lazy-user-flush": "yes",
            "lazyfree-lazy-server-del": "yes",
            "lazyfree-lazy-expire": "yes",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return (self.binary.path, *words, *self.binary.options())

    async def _until_ready(self, process: asyncio.subprocess.Process, say: Say) -> None:
        client = _connect(self.socket)
        said_at = time.monotonic()
        try:
            while True:
                state = await _state(client)
                if state is not None and not int(state["loading"]):
                    return
                if process.returncode is not None:
                    raise ConfigurationError(self._why_ended())
                if time.monotonic() - said_at > _PROGRESS_S:
                    say(_progress(state))
                    said_at = time.monotonic()
                await asyncio.sleep(_POLL_S if state is None else 10 * _POLL_S)  # asking it takes from its loading
        finally:
            await client.aclose()

    def _why_ended(self) -> str:
        name = f"{self.binary.release}, {self.binary.path}"
        return f"the embedded server ({name}) ended at its start: {last_words(self.log)} (its log is {self.log})"

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the embedded server is not started")
        return self._process

    def _held_lock(self) -> int:
        if self._lock is None:
            raise RuntimeError("the data directory was given back")
        return self._lock


async def end(process: asyncio.subprocess.Process, within: float) -> None:
    """End a process: SIGTERM, and SIGKILL after `within` seconds."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), within)
        except TimeoutError:
            process.kill()
    await process.wait()


def _end_rest(pid: int) -> None:
    """End what a server that was just killed left: a child that rewrites its files knows nothing of it, and goes on.

    It would hold the directory's lock, and compete with the next server. The server leads a group of its own.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the second of a group of zombies
        os.killpg(pid, signal.SIGKILL)


def socket_path(data_dir: Path) -> Path:
    """Where the server of `data_dir` listens: inside it, or in a private directory where the path would be too long."""
    inside = data_dir / "redis.sock"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16] + ".sock"
    path = Path(tempfile.gettempdir()) / f"lso-{os.getuid()}" / name
    fits = len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
    return path if fits else Path("/tmp") / path.parent.name / name  # noqa: S108 - it is checked to be ours alone


def end_orphan(data_dir: Path | str) -> None:
    """End the server of a supervisor that is gone, where the kernel did not (it does on Linux)."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((Path(data_dir) / "redis.pid").read_text()), signal.SIGTERM)


def last_words(log: Path) -> str:
    """The last line that a server wrote about trouble, else its last line, without time and process."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-40:]
    except OSError:
        return "it left no log"
    spoken = [line.strip() for line in lines if line.strip()]
    trouble = [line for line in spoken if " # " in line or line.startswith((">>>", "***", "'", "Bad"))]
    line = (trouble or spoken or ["it said nothing"])[-1]
    return line.split(" # ", 1)[-1].rstrip(".")


def _take(home: Path) -> int:
    """Make the directory and lock it. The server of a supervisor that was just killed gets a moment to end."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(home, error) from None
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            holder = os.read(lock, 20).decode(errors="replace").strip()
            os.close(lock)
            raise ConfigurationError(
                f"the data directory {home} is in use by another LSO (process {holder or 'unknown'}); "
                "stop that one, or choose another directory with --data-dir or LSO_DATA_DIR"
            )
        time.sleep(_POLL_S)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_private(folder: Path, home: Path) -> None:
    """Where the socket lies outside the data directory, its folder must be ours alone."""
    if folder == home:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{folder}, for the embedded server's socket, is not private to this user; choose a shorter LSO_DATA_DIR"
        )


def _release_of(home: Path) -> Release | None:
    """What wrote the directory's files, None where there are none."""
    written = home / "release"
    return Release.parse(written.read_text()) if written.exists() else None


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def _unusable(home: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"LSO_DATA_DIR: the directory {home} cannot be used: {error.strerror}")


def _connect(path: Path) -> "redis.asyncio.Redis":
    from redis.asyncio import Redis  # noqa: PLC0415 - as above

    return Redis(unix_socket_path=str(path), socket_timeout=1.0)  # the server may accept, and then hang


async def _state(client: "redis.asyncio.Redis") -> dict[str, Any] | None:
    """What the server says of its files, which it does while it loads too; None where it does not answer yet."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - as above

    try:
        info: dict[str, Any] = await client.info("persistence")
    except (RedisError, OSError):
        return None
    return info


def _progress(state: dict[str, Any] | None) -> str:
    if state is None:
        return "the embedded server does not answer yet"
    done, left = state.get("loading_loaded_perc", "?"), state.get("loading_eta_seconds", "?")
    return f"the embedded server is loading its data: {done} % done, about {left} s to go"
