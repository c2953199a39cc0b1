"""Probes for whatever runs LSO."""

from typing import Any, Final

from litestar import get

from api.service import Asked, Ready, answer, service_of
from lso_core.model.errors import UnavailableError

READY: Final = "/readyz"


@get("/healthz")
async def get_healthz() -> Ready:
    """This process answers."""
    return answer({"status": "ok"})


@get(READY)
async def get_readyz(request: Asked) -> Ready:
    """LSO can take events and fold them."""
    problems = await service_of(request).store.reads.readiness()
    if problems:
        raise UnavailableError("; ".join(problems))
    return answer({"status": "ready"})


HANDLERS: tuple[Any, ...] = (get_healthz, get_readyz)
