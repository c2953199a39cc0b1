"""The outermost layer: request id, API key, HEAD, and one line of metrics for every answer.

One thin ASGI callable instead of a middleware each: every layer costs a few microseconds of each request.
"""

import itertools
import re
import secrets
import time
from typing import Any, Final, NamedTuple

import structlog
from litestar.types import ASGIApp, Receive, Send
from prometheus_client import Histogram

from api import errors, methods
from api.auth import Guard
from api.routes import dashboard, probes, stream
from lso_core.model.errors import LsoError
from lso_core.telemetry import REQUEST_ID, Tally, Telemetry

log = structlog.get_logger(__name__)

_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SLOW_S: Final = 1.0
"""Requests that take longer are worth a line."""


class Visit(NamedTuple):
    """A request that is being served."""

    request_id: bytes
    began_s: float
    """By the clock of `time.perf_counter`."""


class Edge:
    """Wraps the application's own ASGI handler."""

    def __init__(self, app: ASGIApp, guard: Guard, telemetry: Telemetry) -> None:
        self._app = app
        self._guard = guard
        self._telemetry = telemetry
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = itertools.count(1)
        self._requests: dict[tuple[str, str, int], Tally] = {}
        self._seconds: dict[str, Histogram] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request; there is nothing but HTTP here."""
        visit = self.visit(scope["headers"])
        REQUEST_ID.set(visit.request_id.decode())
        sender = _Sender(send, visit.request_id, is_head=scope["method"] == "HEAD")
        method = scope["method"]
        if sender.is_head:
            scope = {**scope, "method": "GET", "head_only": True}  # a copy: the server has to know that it was HEAD
        if dashboard.has_page(scope["path"]):
            sender.vary = b"accept"
            if dashboard.is_navigation(method, scope["path"], scope["headers"]):
                scope = {**scope, "path": dashboard.PAGE}
        try:
            self._guard.check(method, scope["path"], scope["headers"])
        except LsoError as error:
            await _refuse(sender, errors.answer(error))
        else:
            if method != "OPTIONS" or not await _say_methods(scope, sender):
                await self._app(scope, receive, sender)
        self.count(visit, scope.get("path_template", "") or "(none)", method, scope["path"], sender.status)

    def visit(self, headers: Any) -> Visit:
        """A request that begins now, under the id that its caller gave it, if that is sane."""
        for name, value in headers:
            if name == b"x-request-id" and _SANE_ID.fullmatch(value):
                return Visit(bytes(value), time.perf_counter())
        return Visit(b"%b-%x" % (self._prefix, next(self._numbers)), time.perf_counter())

    def count(self, visit: Visit, route: str, method: str, path: str, status: int) -> None:
        """Count an answer that has just been given, and log it where it is worth that."""
        seconds = time.perf_counter() - visit.began_s
        key = (route, method if method in _METHODS else "(other)", status)
        tally = self._requests.get(key)
        if tally is None:
            counter = self._telemetry.requests.labels(key[0], key[1], str(status))
            tally = self._requests[key] = self._telemetry.tally(counter)
            self._seconds[route] = self._telemetry.request_seconds.labels(route)
        tally.inc()
        slow = False
        if route != stream.PATH:  # which lasts as long as somebody looks at it
            self._seconds[route].observe(seconds)
            slow = seconds > SLOW_S
        refused = status >= 400 and route != probes.READY  # which is asked often, and whose no is an answer
        if refused or slow:
            level = "warning" if status >= 500 or slow else "info"
            getattr(log, level)("request", method=method, path=path[:200], status=status, ms=round(seconds * 1_000, 1))


class _Sender:
    """Sends an answer with the request id; and without its body to a HEAD, for servers that do not see to it."""

    __slots__ = ("_request_id", "_send", "is_head", "status", "vary")

    def __init__(self, send: Send, request_id: bytes, *, is_head: bool) -> None:
        self._send = send
        self._request_id = request_id
        self.is_head = is_head
        self.status = 0
        self.vary = b""
        """What the answer depends on beside the path, where it does not say so itself."""

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", self._request_id)]
            if self.vary and not any(name == b"vary" for name, _ in message["headers"]):
                message["headers"].append((b"vary", self.vary))
        elif self.is_head and message["type"] == "http.response.body":
            message["body"] = b""
        await self._send(message)


async def _say_methods(scope: Any, send: Any) -> bool:
    """Answer OPTIONS, which the framework does for one of a path's routes only. False where there is no such path."""
    found = methods.allowed(scope["litestar_app"], scope["path"])
    if found:
        headers = [(b"allow", ", ".join(found).encode())]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    return bool(found)


async def _refuse(send: Any, answer: errors.Answer) -> None:
    """Send a problem without going through the application."""
    headers = [*errors.headers_of(answer), (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
