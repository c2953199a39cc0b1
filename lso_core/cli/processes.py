"""What `lso api` and `lso worker` do: one process each, alone or as a child of `lso up`.

`api` and `worker` are imported by name, at run time: the command line knows that they exist, not what is in them.
"""

import asyncio
import contextlib
import importlib
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import lso_core
from lso_core.cli.listening import listen
from lso_core.cli.shares import Shares
from lso_core.machine import keep_freed_memory
from lso_core.model.errors import ConfigurationError
from lso_core.settings import Settings
from lso_core.store.embedded import end_orphan

ROOT: Final = Path(lso_core.__file__).resolve().parent.parent
"""Where `api` and `worker` lie beside `lso_core`: the checkout, or the image's folder."""
GRACE_S: Final = 8
"""How long an API process alone waits for requests under way."""
SUPERVISED_GRACE_S: Final = 4
"""The same under `lso up`, which ends everything within 10 s."""


def serve_api(
    given: Mapping[str, Any], fd: int | None, parent_fd: int | None, after_fd: int | None, place: tuple[int, int] | None
) -> int:
    """Run one API process on the socket `fd`, or on one of its own; `place` is the memory that it shares with others, and its
    number among them.
    """
    settings = _prepare(given, parent_fd)
    listener = listen(settings) if fd is None else socket.socket(fileno=fd)
    from lso_core.cli.serving import serve  # uvicorn, for this process only

    api = importlib.import_module("api.app")
    app = api.create_app(settings)
    check_store(settings.redis_url, after_fd)
    grace_s = GRACE_S if parent_fd is None else SUPERVISED_GRACE_S
    limits = settings.max_connections, settings.client_timeout, grace_s
    shares = None if place is None else Shares(*place)
    serve(app, listener, *limits, lambda: api.end_streams(app), app.state.lane, shares)
    return 0


def run_worker(given: Mapping[str, Any], parent_fd: int | None, after_fd: int | None) -> int:
    """Run one worker process until it is told to end."""
    settings = _prepare(given, parent_fd)
    worker = importlib.import_module("worker.main")
    check_store(settings.redis_url, after_fd)
    worker.run(settings, os.environ.get("LSO_WORKER_ID", ""))
    return 0


def check_checkout() -> None:
    """Raise ConfigurationError where only the wheel is installed."""
    for room in ("api/app.py", "worker/main.py"):
        if not (ROOT / room).exists():
            raise ConfigurationError(
                "servers run from a checkout (./scripts/up) or the image; the installed package has none"
            )


def check_store(url: str, after_fd: int | None = None) -> None:
    """Ask the Redis at `url` whether it is fit, once the pipe `after_fd` ends. Raises ConfigurationError or StoreError."""
    from lso_core.store.server import Server  # loads redis

    async def ask() -> None:
        await (await Server.open(url)).close()

    if not url:
        raise ConfigurationError("LSO_REDIS_URL is not set; it names the Redis to use (`lso up` brings one along)")
    if after_fd is not None:
        os.read(after_fd, 1)
    asyncio.run(ask())


def raise_file_limit() -> None:
    """Take as many open files as the system lets us: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _prepare(given: Mapping[str, Any], parent_fd: int | None) -> Settings:
    """What every process does first: settings, its parent's life, and the limits of the machine."""
    end_early()
    settings = Settings.from_env(os.environ, **given)
    if parent_fd is not None:
        end_with_parent(parent_fd, settings.data_dir)
    check_checkout()
    raise_file_limit()
    keep_freed_memory()
    return settings


def end_early() -> None:
    """Let SIGTERM and SIGINT end this process well before and after the time when something else handles them."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End at once. An exception would do, too, but is swallowed where a finalizer happens to run."""
    with contextlib.suppress(RuntimeError, OSError):  # RuntimeError: the signal came in the middle of a write
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


def end_with_parent(parent_fd: int, data_dir: str) -> None:
    """End this process when the other end of the pipe closes, which the kernel does however the parent ends.

    At once and without draining: the port and the data directory are wanted by the next start.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(parent_fd, 1)
        if sys.platform != "linux":
            end_orphan(data_dir)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
