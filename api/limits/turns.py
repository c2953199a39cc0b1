"""Turns for what computes long: one after another, and with rests while the process is busy with everything else.

A merge of histories keeps a core busy, and the interpreter for most of it. Ingest and health share both with it. So such
work is done one piece at a time, off the event loop; and the busier the loop is, the longer nothing of the kind follows,
until ingest has more than nine tenths of the time to itself. Where nothing else goes on there is no rest.
"""

import asyncio
import time
from types import TracebackType
from typing import Final

from lso_core.model.errors import UnavailableError

RESTS: Final = 12.0
"""After a piece of work the busy process rests so many times as long."""
CALM: Final = 0.25
"""Share of the time that the event loop computes up to which nobody is kept waiting: the work's own part of it is that much."""
BUSY: Final = 0.35
"""The share from which on it is as busy as can be: on few cores worker and Redis want them too, and take more than it does."""
LONGEST_REST_S: Final = 2.0
LONGEST_S: Final = 30.0
"""Nobody waits longer until it is his turn to rest, and then to work."""
LOOKED_BACK_S: Final = 0.25
"""How long a stretch tells how busy the loop is."""


class Turns:
    """A lock that rests; `async with` it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._began = 0.0
        self._free = 0.0
        self._load = _Load()

    async def __aenter__(self) -> None:
        """Wait for the turn. Raises UnavailableError where it does not come."""
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._lock.acquire()
        except TimeoutError:
            raise UnavailableError(
                f"nothing of the kind got its turn within {LONGEST_S:.0f} s: too many ask", 5
            ) from None
        try:
            await asyncio.sleep(self._free - time.monotonic())
        except BaseException:
            self._lock.release()
            raise
        self._load.now()
        self._began = time.monotonic()

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        ended = time.monotonic()
        pressure = min(1.0, max(0.0, (self._load.now() - CALM) / (BUSY - CALM)))
        self._free = ended + min(LONGEST_REST_S, (ended - self._began) * RESTS * pressure)
        self._lock.release()


class _Load:
    """Which share of the time this thread, the event loop's, has computed of late."""

    def __init__(self) -> None:
        self._since, self._used = time.monotonic(), time.thread_time()
        self._share = 0.0

    def now(self) -> float:
        """The share, from 0 to 1."""
        now, used = time.monotonic(), time.thread_time()
        if now - self._since >= LOOKED_BACK_S:
            self._share = (used - self._used) / (now - self._since)
            self._since, self._used = now, used
        return self._share
