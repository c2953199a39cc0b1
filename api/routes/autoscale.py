"""What an autoscaler of workers needs."""

from typing import Any

from litestar import get

from api.service import Asked, Ready, answer, service_of


@get("/autoscale")
async def get_autoscale(request: Asked) -> Ready:
    """The backlog, the workers there are, and the workers there should be."""
    return answer(await service_of(request).store.reads.autoscale())


HANDLERS: tuple[Any, ...] = (get_autoscale,)
