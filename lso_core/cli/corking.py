"""An answer's head and body in one write: each is a system call of its own, and wakes the client, which waits for both."""

import asyncio


class Corked:
    """A connection's transport, for what answers a request: its first piece is held for the second.

    It is never held longer than the turn of the event loop, in which what has a body sends it.
    """

    __slots__ = ("_held", "_holds", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self._holds = False

    def begin(self) -> None:
        """Hold the next piece: the head of an answer."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """Send `data`, or hold it."""
        if self._holds:
            self._holds, self._held = False, data
            self._loop.call_soon(self._let_go)
        elif self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._let_go()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closing, or closed."""
        return self._transport.is_closing()

    def _let_go(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
