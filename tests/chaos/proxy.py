"""A proxy for bytes, to stand between a client and a Redis (or anything else) and spoil the connection.

`tests/client/faulty_proxy.py` spoils HTTP requests, which it understands; this one understands nothing. It listens on
loopback only.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

CHUNK: Final = 1 << 16
CHUNKS: Final = 64
"""Most chunks under way in one direction; past it the sender has to wait, as on a real line."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ByteProxy:
    """Passes bytes on to the Unix socket `upstream`, well or badly. Its methods may be called from any thread."""

    def __init__(self, upstream: str, seed: int) -> None:
        self.port = 0
        self._upstream = upstream
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._delay_s = 0.0
        self._slices = False
        self._resets = False
        self._writers: set[asyncio.StreamWriter] = set()

    def heal(self) -> None:
        """Pass everything on at once, also what a black hole held back."""
        self._tell(self._heal)

    def swallow(self) -> None:
        """A black hole: connections stay open, and nothing gets through. It is not lost: it comes late."""
        self._tell(self._passes.clear)

    def reset(self) -> None:
        """Reset all connections, and each new one, until healed."""
        self._tell(self._reset)

    def delay(self, seconds: float) -> None:
        """Let everything take `seconds` longer, there and back together."""

        def slow() -> None:
            self._delay_s = seconds / 2

        self._tell(slow)

    def slice(self) -> None:
        """Pass everything on in pieces of a few bytes."""

        def cut() -> None:
            self._slices = True

        self._tell(cut)

    def _tell(self, what: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _heal(self) -> None:
        self._delay_s, self._slices, self._resets = 0.0, False, False
        self._passes.set()

    def _reset(self) -> None:
        self._resets = True
        for writer in self._writers:
            _abort(writer)

    @contextmanager
    def running(self) -> Iterator["ByteProxy"]:
        """Serve for as long as the block lasts."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._passes.set()
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            self._tell(self._reset)
            self._tell(self._loop.stop)
            thread.join()
            server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0.05))
            self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._resets:
            _abort(writer)
            return
        there, back = await asyncio.open_unix_connection(self._upstream)
        self._writers |= {writer, back}
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # cancelled at the proxy's end
                await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            self._writers -= {writer, back}
            for one in (writer, back):
                one.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: what comes in is queued with the time when it may go out."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS)
        going_out = asyncio.create_task(self._put_out(queue, writer))
        try:
            while data := await reader.read(CHUNK):
                await queue.put((self._loop.time() + self._delay_s, data))
        finally:
            await queue.put((self._loop.time(), b""))
            await going_out

    async def _put_out(self, queue: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._passes.wait()
            if not data:
                writer.close()
                return
            for piece in self._pieces(data):
                writer.write(piece)
                await writer.drain()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """All of it, or a few bytes at a time; of a large chunk only the beginning is cut so finely."""
        at = 0
        while self._slices and at < min(len(data), 512):
            size = self._dice.randrange(1, 8)
            yield data[at : at + size]
            at += size
        if at < len(data):
            yield data[at:]


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, not with a goodbye."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_INET:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
