"""Requests that are answered without ASGI.

An ASGI server starts a task for each request, hands it its body in messages and takes the answer in messages back. That is a
third of what a small request costs; one whose body is there, and whose answer needs no waiting but for others, can do without.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Header = tuple[bytes, bytes]


class Connection(Protocol):
    """What a request needs of its connection: of uvicorn's protocol."""

    transport: asyncio.Transport
    server_state: Any

    def on_response_complete(self) -> None: ...


class Whole:
    """One request with all of its body, and the way to answer it. To uvicorn it is the cycle under way on its connection."""

    __slots__ = ("_connection", "body", "disconnected", "keep_alive", "response_complete")

    more_body: ClassVar[bool] = False
    message_event: ClassVar[asyncio.Event] = asyncio.Event()
    """uvicorn sets it where a request has to wake up; here nobody waits."""

    def __init__(self, connection: Connection, body: bytes, *, keep_alive: bool) -> None:
        self._connection = connection
        self.body = body
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    def answer(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send the answer, unless the client has gone. Names and values must be fit for a header."""
        self.response_complete = True
        connection = self._connection
        if self.disconnected or connection.transport.is_closing():
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*connection.server_state.default_headers, *headers):
            parts += name, b": ", value, b"\r\n"
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += b"content-length: %d\r\n\r\n" % len(body), body
        try:
            connection.transport.write(b"".join(parts))
        except RuntimeError:  # so uvloop says that the client has reset the connection just now
            return
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


class Expected(Protocol):
    """A request whose head has come, and that may be taken when its body has, too."""

    def grow(self, size: int) -> bool:
        """Keep room for so many bytes of its body, which have come; False where there is none."""
        ...

    def take(self, request: Whole) -> bool:
        """Promise to answer the request, at once or later; False where the application has to."""
        ...

    def drop(self) -> None:
        """Give back what was kept for it: the application answers it, or nobody."""
        ...


class Taker(Protocol):
    """Who answers such requests."""

    def expect(self, method: bytes, target: bytes, headers: Sequence[Header]) -> Expected | None:
        """The request with this head (names in lower case), to be held until its body is there; None for the application."""
        ...
