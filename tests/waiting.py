"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, overload

import psutil

T = TypeVar("T")
POLL_S = 0.02


def wait_for(condition: Callable[[], T], what: str, within: float = 10.0) -> T:
    """The condition's first true value. Fails, saying `what`, where there is none `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {within:.1f} s in vain: {what}"
        time.sleep(POLL_S)
    return value


@overload
async def eventually(condition: Callable[[], Awaitable[T]], what: str, within: float = 10.0) -> T: ...
@overload
async def eventually(condition: Callable[[], T], what: str, within: float = 10.0) -> T: ...
async def eventually(condition: Callable[[], Any], what: str, within: float = 10.0) -> Any:
    """As `wait_for`, inside an event loop; the condition may be awaited too."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        value = await found if isinstance(found, Awaitable) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {within:.1f} s in vain: {what}"
        await asyncio.sleep(POLL_S)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is no more; one that only waits for its parent to notice has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def have_ended(processes: Iterable[psutil.Process]) -> bool:
    """Whether all of them are no more."""
    return all(has_ended(process) for process in processes)
