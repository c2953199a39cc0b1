"""History over HTTP: series, distributions and objectives, from rollup rows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import get
from litestar.params import FromPath

from api.aside.orders import Drawn, HeatMap, Latencies, Objective, Order, Series
from api.reading import read_query, refused
from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, Service, answer, service_of
from lso_core.archive.history import Both
from lso_core.model import times
from lso_core.model.events import LATENCY_MS_MAX
from lso_core.model.objectives import LONGEST_MS, Question
from lso_core.model.rollups import MOST_ROWS, Piece, Width, pieces
from lso_core.model.series import (
    MINUTES_SPAN_MS,
    check_points,
    duration_of,
    grid_of,
    metrics_of,
    span_of,
)

MOST_SYSTEMS: Final = 100
"""Most systems in one request."""
HDR: Final = "application/vnd.hdrhistogram"
DEFAULT_METRICS: Final = "total,errors,error_rate,rps,p95"

_drawn: Final = msgspec.json.Decoder(Drawn)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
Stage = Annotated[str, msgspec.Meta(max_length=200)]
Parts = Literal[1, 2, 4, 8, 16, 32]


class SeriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which points."""

    metric: Text = DEFAULT_METRICS
    from_: Text | None = None
    to: Text | None = None
    step: Text | None = None
    by: Literal["stage"] | None = None


class ManySeriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which points of which systems."""

    systems: Text | None = None
    metric: Text = DEFAULT_METRICS
    from_: Text | None = None
    to: Text | None = None
    step: Text | None = None
    by: Literal["stage"] | None = None


class HistogramQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which latencies, and in which form."""

    from_: Text | None = None
    to: Text | None = None
    stage: Stage | None = None
    form: Literal["buckets", "heatmap"] = "buckets"
    step: Text | None = None
    parts: Parts = 4


class SloQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which objective."""

    objective: Annotated[float, msgspec.Meta(gt=0, lt=100)] | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0, le=LATENCY_MS_MAX)] | None = None
    window: Text = "30d"


class SeriesAnswer(msgspec.Struct, rename={"from_": "from"}):
    """Series over one grid of points."""

    from_: str
    to: str
    step: int
    metrics: list[str]
    series: list[msgspec.Raw]
    """Of `OneSeries`."""


@get("/systems/{system_id:int}/series")
async def get_series(request: Asked, system_id: FromPath[int]) -> Ready:
    """Figures of one system by time."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, SeriesQuery)
        return answer(await _series(service, [system_id], query))


@get("/series")
async def get_many_series(request: Asked) -> Ready:
    """Figures of several systems by time."""
    query = read_query(request, ManySeriesQuery)
    return answer(await _series(service_of(request), _systems(query.systems), query))


def _systems(text: str | None) -> list[int]:
    """Ids between commas. Raises InputError."""
    if text is None:
        raise refused("systems is missing: ids with commas between", "systems")
    parts = text.split(",")
    if len(parts) > MOST_SYSTEMS:
        raise refused(f"systems names {len(parts)}; the cap is {MOST_SYSTEMS}", "systems")
    if not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        raise refused("systems must be ids with commas between", "systems")
    ids = list(dict.fromkeys(map(int, parts)))
    if len(ids) < len(parts):
        raise refused("systems names one twice", "systems")
    return ids


async def _series(service: Service, ids: Sequence[int], query: SeriesQuery | ManySeriesQuery) -> SeriesAnswer:
    metrics = metrics_of(query.metric)
    grid = grid_of(query.from_, query.to, query.step, await service.store.history.now_ms())
    check_points(len(ids), grid, "step")
    series: list[msgspec.Raw] = []
    left = MOST_ROWS
    make = partial(Series, grid=grid, metrics=metrics, by_stage=query.by is not None)
    for system_id in ids:
        drawn = _drawn.decode(await _merged(service, system_id, grid.pieces, left, make))
        series, left = [*series, *drawn.series], left - drawn.rows
        check_points(len(series), grid, "by")
    span = times.to_text(grid.from_ms), times.to_text(grid.to_ms)
    return SeriesAnswer(*span, grid.step_ms // 1_000, [metric.name for metric in metrics], series)


@get("/systems/{system_id:int}/histogram")
async def get_histogram(request: Asked, system_id: FromPath[int]) -> Ready:
    """The distribution of one system's latencies."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, HistogramQuery)
        if query.form == "heatmap":
            return answer(await _heat_map(service, system_id, query))
        if query.step is not None:
            raise refused("step is for form=heatmap", "step")
        return await _distribution(service, system_id, query, encoded=HDR in request.headers.get("accept", ""))


async def _distribution(service: Service, system_id: int, query: HistogramQuery, *, encoded: bool) -> Ready:
    from_ms, to_ms = span_of(query.from_, query.to, await service.store.history.now_ms())
    make = partial(Latencies, from_ms=from_ms, to_ms=to_ms, stage=query.stage, encoded=encoded)
    body = await _merged(service, system_id, pieces(from_ms, to_ms), MOST_ROWS, make)
    return Ready(body, headers={"Vary": "Accept"}, media_type=HDR if encoded else None)


async def _heat_map(service: Service, system_id: int, query: HistogramQuery) -> bytes:
    grid = grid_of(query.from_, query.to, query.step, await service.store.history.now_ms())
    make = partial(HeatMap, grid=grid, parts=query.parts, stage=query.stage)
    return await _merged(service, system_id, grid.pieces, MOST_ROWS, make)


@get("/systems/{system_id:int}/slo")
async def get_slo(request: Asked, system_id: FromPath[int]) -> Ready:
    """How far an objective is met."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, SloQuery)
        question = _question(query, await service.store.history.now_ms())
    make = partial(Objective, question=question)
    return answer(await _merged(service, system_id, question.pieces, MOST_ROWS, make))


def _question(query: SloQuery, now_ms: int) -> Question:
    """Raises InputError."""
    if query.objective is None:
        raise refused("objective is missing: per cent of good events, such as 99.5", "objective")
    window_ms = duration_of("window", query.window)
    unit = Width.HOUR if window_ms > MINUTES_SPAN_MS else Width.MINUTE
    if window_ms > LONGEST_MS:
        raise refused(f"window is longer than {LONGEST_MS // Width.DAY} days", "window")
    if window_ms % unit:
        rule = "whole minutes, or whole hours where it is longer than 30 days"
        raise refused(f"window must be in {rule}", "window")
    to_ms = unit.start_of(now_ms) + unit
    return Question(query.objective, query.latency_ms, query.window, to_ms - window_ms, to_ms)


async def _merged(
    service: Service, system_id: int, some: Sequence[Piece], most: int, make: Callable[[Both], Order]
) -> bytes:
    """What comes of the order that `make` makes of one system's history."""
    async with service.helper.turn():
        return await service.helper.ask(make(await service.history.read(system_id, some, most)))


HANDLERS: tuple[Any, ...] = (get_series, get_many_series, get_histogram, get_slo)
