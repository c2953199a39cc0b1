"""An ASGI application under uvicorn, on a socket that is there already."""

import asyncio
import json
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from lso_core.cli.accepting import Acceptor
from lso_core.cli.corking import Corked
from lso_core.cli.listening import BACKLOG
from lso_core.cli.shares import Shares
from lso_core.cli.whole import Expected, Taker, Whole

HEAD_BYTES: Final = 64 * 1024
"""Largest head of a request; servers that know no such cap take header lines until the memory is full."""
KEEP_ALIVE_S: Final = 75
"""Longer than emitters pause between batches, so that they seldom meet a connection that is just closing."""
UNREAD_BYTES: Final = 128 * 1024
"""The kernel takes twice as much of an answer before its client reads; left alone it takes megabytes of each connection."""
SWITCH_S: Final = 0.0005
"""How long a thread that computes may keep the event loop waiting; left alone it is ten times as long, at each of its turns."""
HOLD_S: Final = 1.0
"""How long a request is held for its body before the application is asked, which has a patience of its own."""
DRAIN_S: Final = 1.0
"""How long a process that ends goes on with kept-alive connections. Each is closed with its next answer, which says so; one
that was closed without a word might just be used for a request, whose sender could not tell what became of it."""


def _problem(slug: str, title: str, status: int, detail: str) -> bytes:
    return json.dumps({"type": f"urn:lso:problem:{slug}", "title": title, "status": status, "detail": detail}).encode()


_AT_ONCE: Final = struct.pack("ii", 1, 0)
_LARGE_HEAD: Final = _problem(
    "head-too-large",
    "The head is too large",
    431,
    f"the head of the request has more than {HEAD_BYTES} bytes, which is the cap",
)


def serve(
    app: Any,
    listener: socket.socket,
    max_connections: int,
    client_timeout_s: int,
    grace_s: int,
    end_streams: Callable[[], None],
    taker: Taker | None = None,
    shares: Shares | None = None,
) -> None:
    """Serve `app` until SIGTERM or SIGINT; then no new connections, and `grace_s` seconds for requests under way.

    `end_streams` is called as soon as it ends: for answers that would go on for ever. The `taker` may answer requests before
    the app sees them. Other processes may serve the same socket; `shares` tells of them.
    """
    sys.setswitchinterval(SWITCH_S)
    given = {"max_connections": max_connections, "client_timeout_s": client_timeout_s, "taker": taker}
    protocol: type[_Capped] = type("Capped", (_Capped,), given)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
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
    _Server(config, protocol, end_streams, shares).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends without losing a request that was sent before its client could know."""

    def __init__(
        self,
        config: uvicorn.Config,
        protocol: "type[_Capped]",
        end_streams: Callable[[], None],
        shares: Shares | None,
    ) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._end_streams = end_streams
        self._shares = shares
        self._acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        connections, most = self.server_state.connections, self._protocol.max_connections
        for listener in sockets or []:  # there is one
            self._acceptor = Acceptor(listener, self._connected, connections, most, self._shares)
            self._protocol.recount = self._acceptor.recount

    def _connected(self) -> asyncio.Protocol:
        """For a new connection, as uvicorn makes it."""
        return self._protocol(self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            await self._acceptor.close()
        self._protocol.draining = True
        connections: set[Any] = {*self.server_state.connections}
        for connection in connections:
            if connection.cycle is not None:
                connection.cycle.keep_alive = False
        self._end_streams()
        deadline = time.monotonic() + DRAIN_S
        while self.server_state.connections and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells of the last
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


class _Capped(HttpToolsProtocol):
    """Refuses connections over the cap, and request heads over theirs, and closes them; cuts slow clients off; and holds
    requests that the taker expects, until their bodies are there.
    """

    max_connections: int
    client_timeout_s: int
    taker: Taker | None
    recount: Callable[[], None]
    """Heeds that there is a connection more or less."""
    draining = False
    """Set on the class: every connection is closed with its next answer."""
    _late: asyncio.TimerHandle | None = None
    """Ends the wait for a head, or for the body of a request that is held."""
    _idle: asyncio.TimerHandle | None = None
    """Looks whether the connection is idle for too long; one that is used lives on."""
    _idle_since: float | None = None
    """When its last answer was complete; None while something comes or is answered."""
    _unread: asyncio.TimerHandle | None = None
    """Ends the wait for a client that does not read."""
    _in_head = True
    _running: RequestResponseCycle | Whole | None = None
    """The request that is being answered."""
    _expected: Expected | None = None
    """The request that is held for its body."""
    _held: list[bytes]
    """What came of that so far."""
    _read_bytes = 0
    """What came so far of a head whose end has not come."""
    _coming_bytes = 0
    """What is being read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.recount()
        self._held = []
        self._corked = Corked(transport, self.loop)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
        if len(self.connections) > self.max_connections:
            self.app = _too_many(self.max_connections)
        self._late = self.loop.call_later(self.client_timeout_s, self._refuse_late_head)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.recount()
        self._drop()
        self.pipeline.clear()
        if self._running is not None:  # of several requests sent at once uvicorn tells only the last
            self._running.disconnected = True
            self._running.message_event.set()
        for timer in (self._late, self._idle, self._unread):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._coming_bytes, self._idle_since = len(data), None
        super().data_received(data)
        self._keep_body_small()
        if self._expected is not None and self._late is None:
            self._late = self.loop.call_later(HOLD_S, self._start)
        if self._in_head:
            self._read_bytes += len(data)
            if self._late is None:
                self._late = self.loop.call_later(self.client_timeout_s, self._refuse_late_head)
            if self._read_bytes > HEAD_BYTES and not self.transport.is_closing():
                self._refuse_head(b"431 Request Header Fields Too Large", _LARGE_HEAD)

    def _keep_body_small(self) -> None:
        """Read on when the application has taken what there is. The rest of a body that nobody wants is read and dropped."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete and len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_begin(self) -> None:
        self._in_head, self._read_bytes = True, 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body as it is: most come whole, and need be neither copied nor kept from growing."""
        if self._expected is not None:
            if self._expected.grow(len(body)):
                self._held.append(body)
                return
            self._start()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body = cycle.body + body if cycle.body else body  # type: ignore[assignment]  # what is taken is read only
            cycle.message_event.set()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        if self._read_bytes + self._coming_bytes > HEAD_BYTES and self._has_large_head():
            self.app = _refusing(431, _LARGE_HEAD)
        self._expected = self._find_expected()
        if self._expected is None:
            self._start()

    def on_message_complete(self) -> None:
        if self._expected is not None:
            if self._is_taken(self._expected):
                return
            self._start()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn does, but that it sets a timer with each answer, and stops it with the next request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle is None:
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._look_if_idle)

    def _look_if_idle(self) -> None:
        """Close the connection where it has been idle for so long, else look again when it may have been."""
        idle_s = 0.0 if self._idle_since is None else self.loop.time() - self._idle_since
        if idle_s < self.timeout_keep_alive:
            self._idle = self.loop.call_later(self.timeout_keep_alive - idle_s, self._look_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def shutdown(self) -> None:
        if self._expected is not None:
            self._start()  # so that it is answered
        super().shutdown()

    def _has_large_head(self) -> bool:
        return sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES

    def _find_expected(self) -> Expected | None:
        if self.taker is None or self.expect_100_continue or self.flow.write_paused or self.parser.should_upgrade():
            return None
        before: RequestResponseCycle | None = self.cycle
        if self.app is not self.config.loaded_app or not (before is None or before.response_complete):
            return None
        return self.taker.expect(self.parser.get_method(), self.url, self.headers)

    def _is_taken(self, expected: Expected) -> bool:
        """Let the taker see the request, which is complete."""
        keeps = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive() and not self.draining
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        whole, before = Whole(self, body, keep_alive=keeps), self.cycle
        self.cycle = self._running = whole  # type: ignore[assignment]  # it has what uvicorn uses of one that has begun
        if not expected.take(whole):
            self.cycle = before
            return False
        self._expected, self._held = None, []
        self._stop_waiting()
        return True

    def _start(self) -> None:
        """Let the application answer the request, whether or not its body is there."""
        held = self._drop()
        self._stop_waiting()
        super().on_headers_complete()
        if self.draining and self.cycle is not None:
            self.cycle.keep_alive = False
        if held:
            self.on_body(b"".join(held))

    def _drop(self) -> list[bytes]:
        """Give up the request that is held; what came of its body."""
        if self._expected is not None:
            self._expected.drop()
        held, self._expected, self._held = self._held, None, []
        return held

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._corked.begin()
        cycle.transport = self._corked  # type: ignore[assignment]  # it has what a cycle uses of one
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.client_timeout_s, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; at once where its client has not read its answer, which a close would wait for."""
        if self.transport.get_write_buffer_size():
            self._give_up()
        else:
            super().timeout_keep_alive_handler()

    def _give_up(self) -> None:
        """Drop a connection and what the kernel holds for it, which it would keep for minutes after a mere close."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _refuse_late_head(self) -> None:
        if not self.transport.is_closing():
            detail = f"the head was not complete after {self.client_timeout_s} s (LSO_CLIENT_TIMEOUT)"
            self._refuse_head(b"408 Request Timeout", _problem("too-slow", "The head took too long", 408, detail))

    def _refuse_head(self, status: bytes, problem: bytes) -> None:
        """Answer a head whose end is not in sight: no application is asked before it."""
        head = b"HTTP/1.1 %b\r\nconnection: close\r\n" % status
        kind = b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n" % len(problem)
        self.transport.write(head + kind + problem)
        self.transport.close()


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
