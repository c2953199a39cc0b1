"""Fork and exit: a child starts afresh, what is left at the end is sent or saved."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lso_core.client.client import Client

FORK_WAITS_S = 5.0

_clients: set[Client] = set()
_import_lock = threading.Lock()
_generation = 0


class _Importing:
    """Held while the sender's thread imports. Always the lock of this process, also in a forked child."""

    def __enter__(self) -> None:
        _import_lock.acquire()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):
            _import_lock.release()


importing = _Importing()


def generation() -> int:
    """Number of forks between the process that imported this and the present one."""
    return _generation


def watch(client: Client) -> None:
    """Let the client know of forks and of the end."""
    _clients.add(client)


def unwatch(client: Client) -> None:
    """The client is closed."""
    _clients.discard(client)


def watch_child_exit() -> None:
    """Children made by multiprocessing end without atexit; it has finalizers of its own."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415

        Finalize(None, _close_all, exitpriority=1)


def _close_all() -> None:
    for client in list(_clients):
        client.close()


def _before() -> None:
    _import_lock.acquire(timeout=FORK_WAITS_S)


def _after_in_parent() -> None:
    with contextlib.suppress(RuntimeError):
        _import_lock.release()


def _after_in_child() -> None:
    global _generation, _import_lock  # noqa: PLW0603 - what a fork is about
    _generation += 1
    _import_lock = threading.Lock()
    for client in list(_clients):
        client.start_afresh()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
