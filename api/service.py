"""What every handler works with, and how it answers."""

import asyncio
import gzip
import re
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.types import Receive, Scope, Send

from api.aside.helper import Helper
from api.limits.body import Budget
from api.live import Hub
from lso_core.archive.history import WholeHistory
from lso_core.clock import Clock
from lso_core.settings import Settings
from lso_core.store.archiving import Archiving
from lso_core.store.breaker import Breakers
from lso_core.store.store import Store
from lso_core.telemetry import Telemetry

JSON_HEADER: Final = (b"content-type", b"application/json")
LONG_BYTES: Final = 8 * 1024
"""Answers from here on are compressed for whom reads that. A health is a tenth of it, and is asked for too often."""
_LEVEL: Final = 4
_GZIP: Final = re.compile(r"(?:^|,)\s*gzip\s*(?:,|$|;\s*q=(?!0(?:\.0*)?\s*(?:,|$)))", re.IGNORECASE)
"""gzip among the codings, unless with the weight 0, which refuses it."""

Asked = Request[Any, Any, Any]


class Service(msgspec.Struct, frozen=True):
    """The parts of one API process."""

    settings: Settings
    store: Store
    telemetry: Telemetry
    clock: Clock
    budget: Budget
    careful_turns: asyncio.Semaphore
    """The careful reading of a large body takes memory and time; a process does few at once."""
    helper: Helper
    """Reads pages of events back and merges histories, which computes long, and must not keep ingest waiting."""
    process: str
    """This process' name among all."""
    breakers: Breakers
    """Whether Redis answers."""
    live: Hub
    """Who watches the fleet."""
    has_archive: bool
    """Whether this process reads one."""
    history: WholeHistory
    """Rollup rows, hot and archived."""
    archiving: Archiving
    """What the workers say of the archive."""


def service_of(request: Asked) -> Service:
    """The service that serves a request."""
    service: Service = request.app.state.service
    return service


class Ready:
    """An answer, of JSON where nothing else is said, that sends itself: a third of the cost of the framework's own response."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, media_type: str | None = None
    ) -> None:
        self._body = body
        self._status = status
        kind = JSON_HEADER if media_type is None else (b"content-type", media_type.encode())
        self._headers = [kind]
        if headers:
            self._headers += ((name.lower().encode(), value.encode()) for name, value in headers.items())

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        sent, headers = self._body, self._headers
        if len(sent) >= LONG_BYTES:
            headers = [*headers, (b"vary", b"accept-encoding")]
            if any(name == b"accept-encoding" and reads_gzip(value.decode()) for name, value in scope["headers"]):
                sent = await asyncio.to_thread(
                    gzip.compress, sent, _LEVEL, mtime=0
                )  # the interpreter is free meanwhile
                headers.append((b"content-encoding", b"gzip"))
        length = (b"content-length", b"%d" % len(sent))
        start: Any = {"type": "http.response.start", "status": self._status, "headers": [*headers, length]}
        await send(start)
        body: Any = {"type": "http.response.body", "body": sent}
        await send(body)


def reads_gzip(accepted: str) -> bool:
    """Whether who sent this Accept-Encoding takes compressed answers."""
    return _GZIP.search(accepted) is not None


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Ready:
    """An answer of JSON: bytes as they are, everything else encoded."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Ready(body, status, headers)
