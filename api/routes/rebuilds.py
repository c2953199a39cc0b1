"""Rebuilds: a system's window computed again from the entries that are still there."""

from typing import Any

from litestar import get, post
from litestar.params import FromPath

from api.service import Asked, Ready, answer, service_of


@post("/systems/{system_id:int}/rebuild")
async def ask_rebuild(request: Asked, system_id: FromPath[int]) -> Ready:
    """Have the worker that holds the system rebuild it."""
    asked = await service_of(request).store.rebuilds.ask(system_id)
    return answer(asked, 202, {"Location": f"/systems/{system_id}/rebuild"})


@get("/systems/{system_id:int}/rebuild")
async def get_rebuild(request: Asked, system_id: FromPath[int]) -> Ready:
    """How far the latest rebuild is."""
    return answer(await service_of(request).store.rebuilds.get(system_id))


HANDLERS: tuple[Any, ...] = (ask_rebuild, get_rebuild)
