"""The answers for one system."""

from typing import Any

import msgspec
from litestar import get
from litestar.params import FromPath

from api.reading import read_query
from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, answer, service_of
from lso_core.model.health import Health


class HealthQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to answer."""

    strict: bool = False
    """Answer 503 where the system is UNHEALTHY: for probes that look at the status alone."""


@get("/systems/{system_id:int}/health")
async def get_health(request: Asked, system_id: FromPath[int]) -> Ready:
    """The snapshot, as it is stored."""
    reads = service_of(request).store.reads
    if not request.scope["query_string"]:
        return Ready((await reads.health(system_id)).body)
    return await _get_health_strictly(request, system_id)


async def _get_health_strictly(request: Asked, system_id: int) -> Ready:
    store = service_of(request).store
    async with MissingFirst(store.registry, system_id):
        query = read_query(request, HealthQuery)
    found = await store.reads.health(system_id)
    if query.strict and found.health is Health.UNHEALTHY:
        return answer(found.body, 503, {"Retry-After": "5"})
    return answer(found.body)


@get("/systems/{system_id:int}/metrics")
async def get_metrics(request: Asked, system_id: FromPath[int]) -> Ready:
    """The same window in full."""
    return answer((await service_of(request).store.reads.metrics(system_id)).body)


HANDLERS: tuple[Any, ...] = (get_health, get_metrics)
