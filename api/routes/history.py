"""History over HTTP: series, distributions and objectives, from rollup rows."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import structlog
from litestar import get
from litestar.params import FromPath

from api.reading import read_query, refused
from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, Service, answer, service_of
from lso_core.archive.history import Both
from lso_core.compute import distribution, hdr, histogram
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.distribution import Distribution
from lso_core.compute.series import Line, lines
from lso_core.model import times
from lso_core.model.errors import UnavailableError
from lso_core.model.events import LATENCY_MS_MAX
from lso_core.model.objectives import LONGEST_MS, Attainment, Question
from lso_core.model.rollups import MOST_ROWS, Piece, Width, pieces
from lso_core.model.series import (
    MINUTES_SPAN_MS,
    Grid,
    Metric,
    check_points,
    duration_of,
    grid_of,
    metrics_of,
    span_of,
)

log = structlog.get_logger(__name__)

MOST_SYSTEMS: Final = 100
"""Most systems in one request."""
HDR: Final = "application/vnd.hdrhistogram"
DEFAULT_METRICS: Final = "total,errors,error_rate,rps,p95"

Answered = TypeVar("Answered")
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


class OneSeries(msgspec.Struct):
    """The points of one system, or of one stage of it."""

    system_id: int
    as_of: str | None
    points: msgspec.Raw
    stage: str | msgspec.UnsetType | None = msgspec.UNSET


class SeriesAnswer(msgspec.Struct, rename={"from_": "from"}):
    """Series over one grid of points."""

    from_: str
    to: str
    step: int
    metrics: list[str]
    series: list[OneSeries]


class Bucket(msgspec.Struct):
    """Latencies from `low` to `high`, both included, in ms."""

    low: float
    high: float
    count: int


class HistogramAnswer(msgspec.Struct, rename={"from_": "from"}):
    """The latencies of a stretch of time. Latencies are ms."""

    system_id: int
    from_: str
    to: str
    as_of: str | None
    stage: str | None
    total: int | None
    min: float | None
    mean: float | None
    max: float | None
    buckets: list[Bucket]


class Band(msgspec.Struct):
    """A bucket of a heat map: latencies from `low` to `high`, both included, in ms."""

    low: float
    high: float


class HeatMapAnswer(msgspec.Struct, rename={"from_": "from"}):
    """Latencies by time: `cells` are [number in `times`, number in `buckets`, count]."""

    system_id: int
    from_: str
    to: str
    step: int
    as_of: str | None
    stage: str | None
    times: list[str]
    buckets: list[Band]
    cells: list[tuple[int, int, int]]


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
    plotter = _Plotter(grid, metrics, by_stage=query.by is not None)
    for system_id in ids:
        left = MOST_ROWS - plotter.rows
        await _merged(service, system_id, grid.pieces, left, partial(plotter.add, system_id))
    span = times.to_text(grid.from_ms), times.to_text(grid.to_ms)
    return SeriesAnswer(*span, grid.step_ms // 1_000, [metric.name for metric in metrics], plotter.series)


class _Plotter:
    """Makes series ready to be sent, system by system."""

    def __init__(self, grid: Grid, metrics: Sequence[Metric], *, by_stage: bool) -> None:
        self._grid, self._metrics, self._by_stage = grid, metrics, by_stage
        self._starts = [times.to_text(start) for start in grid.starts]
        self._point = _point_of(metrics)
        self.series: list[OneSeries] = []
        self.rows = 0

    def add(self, system_id: int, history: Both) -> None:
        """Add one system's lines."""
        rows = history.columns(by_stage=self._by_stage)
        found = lines(rows, self._grid, self._metrics, by_stage=self._by_stage)
        check_points(len(self.series) + len(found), self._grid, "by")
        self.rows += len(rows)
        as_of = times.to_text_or_none(history.as_of_ms)
        self.series += (
            OneSeries(system_id, as_of, self._points(line), (line.stage or None) if self._by_stage else msgspec.UNSET)
            for line in found
        )

    def _points(self, line: Line) -> msgspec.Raw:
        points = map(self._point, self._starts, *line.values.values(), line.revised)
        return msgspec.Raw(msgspec.json.encode(list(points)))


def _point_of(metrics: Sequence[Metric]) -> type[msgspec.Struct]:
    """What a point tells: made for each question, since structs are written several times as fast as dicts."""
    names = {f"metric_{at}": metric.name for at, metric in enumerate(metrics)}
    values = ((name, float | int | None) for name in names)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("time", str), *values, ("revised", int, 0)]
    return msgspec.defstruct("Point", fields, rename=names, omit_defaults=True)


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

    def merge(history: Both) -> bytes:
        found = distribution.distribution(history.rollups(), query.stage)
        if encoded:
            return hdr.encode(found.index, found.counts)
        start, end, as_of = times.to_text(from_ms), times.to_text(to_ms), times.to_text_or_none(history.as_of_ms)
        return msgspec.json.encode(_histogram(found, system_id, start, end, as_of, query.stage))

    body = await _merged(service, system_id, pieces(from_ms, to_ms), MOST_ROWS, merge)
    return Ready(body, headers={"Vary": "Accept"}, media_type=HDR if encoded else None)


def _histogram(
    found: Distribution, system_id: int, from_: str, to: str, as_of: str | None, stage: str | None
) -> HistogramAnswer:
    tally, ms = found.tally, 1_000
    if not tally.timed:
        return HistogramAnswer(system_id, from_, to, as_of, stage, tally.total or None, None, None, None, [])
    low, high = histogram.lowest_at(found.index) / ms, histogram.highest_at(found.index) / ms
    return HistogramAnswer(
        system_id,
        from_,
        to,
        as_of,
        stage,
        tally.total,
        tally.min_us / ms,
        round(tally.sum_us / tally.timed / ms, 6),
        tally.max_us / ms,
        list(map(Bucket, low.tolist(), high.tolist(), found.counts.tolist())),
    )


async def _heat_map(service: Service, system_id: int, query: HistogramQuery) -> bytes:
    grid = grid_of(query.from_, query.to, query.step, await service.store.history.now_ms())

    def merge(history: Both) -> bytes:
        found = distribution.heat_map(history.rollups(), grid, query.parts, query.stage)
        return msgspec.json.encode(
            HeatMapAnswer(
                system_id,
                times.to_text(grid.from_ms),
                times.to_text(grid.to_ms),
                grid.step_ms // 1_000,
                times.to_text_or_none(history.as_of_ms),
                query.stage,
                [times.to_text(start) for start in grid.starts],
                [Band(low / 1_000, high / 1_000) for low, high in zip(found.low_us, found.high_us, strict=True)],
                found.cells,
            )
        )

    return await _merged(service, system_id, grid.pieces, MOST_ROWS, merge)


@get("/systems/{system_id:int}/slo")
async def get_slo(request: Asked, system_id: FromPath[int]) -> Ready:
    """How far an objective is met."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, SloQuery)
        question = _question(query, await service.store.history.now_ms())
    latency_us = None if query.latency_ms is None else round(query.latency_ms * 1_000)

    def judge(history: Both) -> Attainment:
        good = distribution.good(history.rollups(), question.edges, latency_us)
        return question.answer(system_id, good, history.as_of_ms)

    return answer(await _merged(service, system_id, question.pieces, MOST_ROWS, judge))


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
    service: Service, system_id: int, some: Sequence[Piece], most: int, merge: Callable[[Both], Answered]
) -> Answered:
    """What `merge` makes of one system's history. It takes its turn, off the event loop."""
    async with service.page_turns:
        found = await service.history.read(system_id, some, most)
        try:
            return await asyncio.to_thread(merge, found)
        except (CorruptEntryError, NewerFormatError) as error:
            log.exception("history.unreadable", system_id=system_id)
            raise UnavailableError(f"a part of system {system_id}'s history cannot be read: {error}", 60) from error


HANDLERS: tuple[Any, ...] = (get_series, get_many_series, get_histogram, get_slo)
