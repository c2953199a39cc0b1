"""What can be seen from this machine: variables, the Redis that they name, the disk."""

import asyncio
import shutil
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lso_core.cli.doctor import checks
from lso_core.cli.doctor.checks import Check

NO_PACKAGES = (
    "the servers' packages are not installed here, so this is not checked; run `lso doctor` where the servers run"
)


def configuration(environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether a server would start with these variables."""
    try:
        from lso_core.model.errors import ConfigurationError
        from lso_core.settings import Settings
    except ModuleNotFoundError:
        yield Check("configuration", "skipped", NO_PACKAGES)
        return
    try:
        Settings.from_env(environ)
    except ConfigurationError as error:
        yield Check("configuration", "wrong", str(error), "correct or unset it; `lso config` prints all settings")
        return
    given = sorted(name for name, text in environ.items() if name.startswith("LSO_") and text.strip())
    yield Check("configuration", "well", f"set: {', '.join(given)}" if given else "all at their defaults")


def kernels() -> Iterator[Check]:
    """Whether the compiled kernels are there, where the servers' packages are."""
    import importlib.util

    from lso_core.compute import kernel

    if importlib.util.find_spec("numpy") is None:
        yield Check("kernels", "skipped", NO_PACKAGES)
    elif (reason := kernel.trouble()) is not None:
        advice = "install a C compiler and run scripts/up again: without the kernels everything works, more slowly (Arrow most)"
        yield Check("kernels", "look", reason, advice)
    else:
        yield Check("kernels", "well", "compiled and loaded")


def redis(environ: Mapping[str, str], data_dir: Path) -> Iterator[Check]:
    """The Redis that LSO_REDIS_URL names, or the embedded one of the data directory."""
    try:
        from lso_core.model.errors import LsoError
        from lso_core.store.embedded import socket_path
    except ModuleNotFoundError:
        yield Check("redis", "skipped", NO_PACKAGES)
        return
    url = environ.get("LSO_REDIS_URL", "").strip()
    socket = socket_path(data_dir.absolute())
    if not url and not socket.exists():
        yield Check("redis", "skipped", f"LSO_REDIS_URL is not set and no embedded server runs in {data_dir}")
        return
    try:
        yield from asyncio.run(_examine(url or "unix://" + urllib.parse.quote(str(socket))))
    except LsoError as error:
        yield Check("redis", "wrong", str(error), "start it, or correct LSO_REDIS_URL")


async def _examine(url: str) -> list[Check]:
    from lso_core.model.errors import StoreError
    from lso_core.store.server import Server

    server = Server.connect(url)
    try:
        asked = time.time()
        about, memory, persistence, (seconds, micros) = await server.run(
            ("INFO", "server"), ("INFO", "memory"), ("INFO", "persistence"), ("TIME",)
        )
        answered = time.time()
        try:
            fsync = _setting(await server.one(("CONFIG GET", "appendfsync")))
        except StoreError:  # rented servers do not tell
            fsync = None
    finally:
        await server.close()
    skew = (asked + answered) / 2 - (seconds + micros / 1e6)
    clock = checks.clock(skew, (answered - asked) / 2, "Redis")._replace(name="redis clock")
    return [checks.version(about), *checks.memory(memory), checks.persistence(persistence, fsync), clock]


def _setting(answer: Any) -> str | None:
    """The value in an answer to CONFIG GET, which is a dict or a flat list."""
    values = list(answer.values()) if isinstance(answer, dict) else list(answer)[1::2]
    value = values[0] if values else None
    return value.decode() if isinstance(value, bytes) else value


def disk(data_dir: Path) -> Iterator[Check]:
    """Room for the embedded server's files."""
    where = next((folder for folder in (data_dir.absolute(), *data_dir.absolute().parents) if folder.exists()), None)
    if where is not None:
        usage = shutil.disk_usage(where)
        yield checks.disk(usage.free, usage.total, str(data_dir))
