"""An ASGI application under uvicorn, on a socket that is there already."""

import asyncio
import json
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lso_core.cli.listening import BACKLOG

KEEP_ALIVE_S: Final = 75
"""Longer than emitters pause between batches, so that they seldom meet a connection that is just closing."""


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


def _capped(max_connections: int) -> type[HttpToolsProtocol]:
    """A protocol that answers connections over the cap with 503, in the form of every other error, and closes them."""

    class Capped(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                self.app = _too_many(max_connections)

    return Capped


def _too_many(max_connections: int) -> Any:
    detail = f"this process has its {max_connections} open connections (LSO_MAX_CONNECTIONS); try again"
    problem = {"type": "urn:lso:problem:too-many-connections", "title": "Not able now", "status": 503, "detail": detail}
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"2"),
        (b"connection", b"close"),
    ]

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
