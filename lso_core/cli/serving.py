"""An ASGI application under uvicorn, on a socket that is there already."""

import asyncio
import json
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lso_core.cli.listening import BACKLOG

HEAD_BYTES: Final = 64 * 1024
"""Largest head of a request; servers that know no such cap take header lines until the memory is full."""
KEEP_ALIVE_S: Final = 75
"""Longer than emitters pause between batches, so that they seldom meet a connection that is just closing."""


def _problem(slug: str, title: str, status: int, detail: str) -> bytes:
    return json.dumps({"type": f"urn:lso:problem:{slug}", "title": title, "status": status, "detail": detail}).encode()


_LARGE_HEAD: Final = _problem(
    "head-too-large",
    "The head is too large",
    431,
    f"the head of the request has more than {HEAD_BYTES} bytes, which is the cap",
)


def serve(app: Any, listener: socket.socket, max_connections: int, grace_s: int) -> None:
    """Serve `app` until SIGTERM or SIGINT; then no new connections, and `grace_s` seconds for requests under way."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_capped(max_connections),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",  # that it starts and ends is the supervisor's to tell
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )
    uvicorn.Server(config).run(sockets=[listener])


class _Capped(HttpToolsProtocol):
    """Refuses connections over the cap, and request heads over theirs, and closes them."""

    max_connections: int
    _in_head = True
    _read_bytes = 0
    """What came so far of a head whose end has not come."""
    _field_bytes = 0
    """Names and values of its fields."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = _too_many(self.max_connections)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._read_bytes += len(data)
            if self._read_bytes > HEAD_BYTES and not self.transport.is_closing():
                self._refuse_head()

    def on_message_begin(self) -> None:
        self._in_head, self._read_bytes, self._field_bytes = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > HEAD_BYTES:
            self.app = _refusing(431, _LARGE_HEAD)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def _refuse_head(self) -> None:
        """Answer a head whose end is not in sight: no application is asked before it."""
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
        kind = b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n" % len(_LARGE_HEAD)
        self.transport.write(head + kind + _LARGE_HEAD)
        self.transport.close()


def _capped(max_connections: int) -> type[HttpToolsProtocol]:
    return type("Capped", (_Capped,), {"max_connections": max_connections})


def _too_many(max_connections: int) -> Any:
    detail = f"this process has its {max_connections} open connections (LSO_MAX_CONNECTIONS); try again"
    body = _problem("too-many-connections", "Not able now", 503, detail)
    return _refusing(503, body, (b"retry-after", b"2"))


def _refusing(status: int, body: bytes, *more: tuple[bytes, bytes]) -> Any:
    """An application that answers everything with one problem, in the form of every other error, and closes."""
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *more,
    ]

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
