"""A process beside this one that computes what would keep this one from its work: bytes in on its stdin, bytes out on its stdout.

A process, since a thread holds the interpreter from the event loop, and the longer the lower its priority is. Its priority
is low, so that the kernel gives it the time that nobody else wants. It ends with its parent, however that ends.
"""

import asyncio
import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from lso_core.machine import keep_freed_memory
from lso_core.store.tether import tethered

_LENGTH: Final = struct.Struct("<Q")
_GROUP: Final = Path("/proc/self/autogroup")


class Aside:
    """A hold on such a process. It is started when it is needed."""

    def __init__(self, module: str, environ: Mapping[str, str] | None = None) -> None:
        """`module` calls `serve` where it is run as a program; it is told `environ` beside our own."""
        self._module = module
        self._environ = environ or {}
        self._process: asyncio.subprocess.Process | None = None
        self._used = 0.0
        self._turn = asyncio.Lock()

    async def ask(self, frame: bytes) -> bytes:
        """The answer to `frame`, one after another. Raises OSError or EOFError where the process ends meanwhile."""
        async with self._turn:
            try:
                process = self._process
                if process is None or process.returncode is not None:
                    self._process = process = await self._start()
                answer = await _exchange(process, frame)
            except BaseException:
                await self.close()  # a half-read answer must not become the next one's
                raise
            self._used = time.monotonic()
            return answer

    async def rest(self, idle_s: float) -> None:
        """End the process where it had nothing to do for so long."""
        if time.monotonic() - self._used > idle_s and not self._turn.locked():
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

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *tethered((sys.executable, "-P", "-m", self._module), signal.SIGKILL),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Linux shares its cores out among sessions first, and only then by priority
        )


async def _exchange(process: asyncio.subprocess.Process, frame: bytes) -> bytes:
    orders: Any = process.stdin  # both are pipes
    answers: Any = process.stdout
    orders.write(_LENGTH.pack(len(frame)))
    orders.write(frame)
    await orders.drain()
    (length,) = _LENGTH.unpack(await answers.readexactly(_LENGTH.size))
    found: bytes = await answers.readexactly(length)
    return found


def serve(answer: Callable[[bytes], bytes], nice: int) -> None:
    """Answer until stdin ends, at that much lower a priority. What is raised ends the process."""
    os.nice(nice)
    with contextlib.suppress(OSError):  # only Linux has groups, and not in every container
        _GROUP.write_text(str(nice))
    keep_freed_memory()
    orders, answers = sys.stdin.buffer, sys.stdout.buffer
    while (frame := _read(orders)) is not None:
        found = answer(frame)
        answers.write(_LENGTH.pack(len(found)))
        answers.write(found)
        answers.flush()


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    frame = stream.read(length)
    return frame if len(frame) == length else None
