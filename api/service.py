"""What every handler works with, and how it answers."""

import asyncio
from typing import Any, Final

import msgspec
from litestar import Request, Response

from api.limits.body import Budget
from lso_core.clock import Clock
from lso_core.settings import Settings
from lso_core.store import Store
from lso_core.telemetry import Telemetry

JSON: Final = "application/json"

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
    process: str
    """This process' name among all."""


def service_of(request: Asked) -> Service:
    """The service that serves a request."""
    service: Service = request.app.state.service
    return service


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    """An answer of JSON: bytes as they are, everything else encoded."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status_code=status, media_type=JSON, headers=headers)
