"""A worker's hold on the process that builds Parquet files."""

import asyncio
import contextlib
import sys
import time
from typing import Any, Final, Protocol

import msgspec

from lso_core.archive.building import LENGTH, Answer, Order

IDLE_S: Final = 60.0
"""The process takes a hundred MB; without work for so long it goes."""

_decoder = msgspec.msgpack.Decoder(Answer)


class Building(Protocol):
    """Who builds files."""

    async def build(self, order: Order) -> Answer:
        """Build one file."""

    async def rest(self) -> None:
        """Give back what was not used for long."""

    async def close(self) -> None:
        """Give everything back."""


class Builder:
    """Builds files in a process beside this one, which is started when it is needed."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._used = 0.0
        self._turn = asyncio.Lock()

    async def build(self, order: Order) -> Answer:
        """Build one file, one after another. A process that dies meanwhile is an answer that says so."""
        async with self._turn:
            return await self._build(order)

    async def _build(self, order: Order) -> Answer:
        frame = msgspec.msgpack.encode(order)
        try:
            self._process = self._process or await _start()
            orders: Any = self._process.stdin  # both are pipes
            answers: Any = self._process.stdout
            orders.write(LENGTH.pack(len(frame)))
            orders.write(frame)
            await orders.drain()
            (length,) = LENGTH.unpack(await answers.readexactly(LENGTH.size))
            answer = _decoder.decode(await answers.readexactly(length))
        except (OSError, EOFError) as error:
            await self.close()
            return Answer(failed=f"the process that builds files ended: {error}")
        except asyncio.CancelledError:
            await self.close()  # a half-read answer must not become the next one's
            raise
        self._used = time.monotonic()
        return answer

    async def rest(self) -> None:
        """End the process where it had nothing to do for long."""
        if time.monotonic() - self._used > IDLE_S and not self._turn.locked():
            await self.close()

    async def close(self) -> None:
        """End the process."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()  # who is cancelled here leaves it to the next call, so that no process stays a zombie
        if self._process is process:
            self._process = None


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lso_core.archive.building"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
