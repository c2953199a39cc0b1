"""All systems on one page, worst first."""

from typing import Annotated, Any

import msgspec
from litestar import get

from api.reading import read_query
from api.service import Asked, Ready, answer, service_of
from lso_core.model.batches import FleetPage
from lso_core.model.health import Health
from lso_core.model.systems import PAGE_MAX


class FleetQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page."""

    cursor: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    """`next` of the page before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = PAGE_MAX


class Fleet(msgspec.Struct, frozen=True):
    """The fleet's health."""

    worst: str | None
    """The worst state that any system is in; null where there is no system."""
    counts: dict[str, int]
    """Systems by state, over the whole fleet."""
    items: list[msgspec.Raw]
    next: str | None


@get("/health")
async def get_fleet(request: Asked) -> Ready:
    """How well everything is."""
    query = read_query(request, FleetQuery)
    return answer(as_fleet(await service_of(request).store.reads.fleet(query.cursor, query.limit)))


def as_fleet(page: FleetPage) -> Fleet:
    """A page as it is answered."""
    worst = next((health.name for health in Health if page.counts.get(health.name)), None)
    return Fleet(worst, page.counts, [msgspec.Raw(line) for line in page.lines], page.next)


HANDLERS: tuple[Any, ...] = (get_fleet,)
