"""The registry over HTTP."""

from typing import Annotated

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath

from api.reading import read_object, read_query
from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, answer, service_of
from lso_core.model.batches import Page
from lso_core.model.systems import PAGE_MAX, System, SystemPatch, SystemSpec

Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SystemsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which systems."""

    name: str | None = None
    """Only the system of exactly this name."""
    cursor: Cursor | None = None
    """`next` of the page before."""
    limit: Limit = 100


@post("/systems")
async def create_system(request: Asked) -> Ready:
    """Register a system."""
    system = await service_of(request).store.registry.create(await read_object(request, SystemSpec))
    return answer(system, 201, {"Location": f"/systems/{system.system_id}"})


@get("/systems")
async def list_systems(request: Asked) -> Ready:
    """Systems, newest first."""
    query, registry = read_query(request, SystemsQuery), service_of(request).store.registry
    if query.name is None:
        return answer(await registry.list(query.cursor, query.limit))
    system = await registry.find(query.name)
    return answer(Page[System]([] if system is None else [system], None))


@get("/systems/{system_id:int}")
async def get_system(request: Asked, system_id: FromPath[int]) -> Ready:
    """One system."""
    return answer(await service_of(request).store.registry.get(system_id))


@patch("/systems/{system_id:int}")
async def patch_system(request: Asked, system_id: FromPath[int]) -> Ready:
    """Change a system; what is absent stays."""
    registry = service_of(request).store.registry
    async with MissingFirst(registry, system_id):
        change = await read_object(request, SystemPatch)
    return answer(await registry.patch(system_id, change))


@delete("/systems/{system_id:int}")
async def delete_system(request: Asked, system_id: FromPath[int]) -> None:
    """Remove a system and everything kept of it."""
    await service_of(request).store.registry.delete(system_id)


HANDLERS = (create_system, list_systems, get_system, patch_system, delete_system)
