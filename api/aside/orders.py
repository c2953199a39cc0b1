"""What is computed beside an API process, and how: each order holds all that it takes, but for the archive's files."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from lso_core.archive.events import Archived
from lso_core.archive.history import Both
from lso_core.archive.warm import Warm
from lso_core.compute import distribution, hdr, histogram
from lso_core.compute.distribution import Distribution, detail_of
from lso_core.compute.readback import Place, Reading, Wanted
from lso_core.compute.rollup_columns import Detail
from lso_core.compute.series import Line, lines
from lso_core.model import objectives, times
from lso_core.model.batches import StoredEntry
from lso_core.model.errors import Finding
from lso_core.model.series import Grid, Metric


class Order(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Something to compute."""

    def answer(self, warm: Warm) -> bytes:
        """The answer as JSON, where nothing else is said. Raises InputError, ArchiveError, CorruptEntryError or NewerFormatError."""
        raise NotImplementedError


class Drawn(msgspec.Struct):
    """The lines of one system."""

    rows: int
    """How many were merged."""
    series: list[msgspec.Raw]


class OneSeries(msgspec.Struct):
    """The points of one system, or of one stage of it."""

    system_id: int
    as_of: str | None
    points: list[Any]
    stage: str | msgspec.UnsetType | None = msgspec.UNSET


class Series(Order, frozen=True):
    """One system's series: a `Drawn`."""

    history: Both
    grid: Grid
    metrics: tuple[Metric, ...]
    by_stage: bool

    def answer(self, warm: Warm) -> bytes:
        """The lines, point by point."""
        rows = self.history.columns(warm, Detail.STAGE if self.by_stage else Detail.NONE)
        found = lines(rows, self.grid, self.metrics, by_stage=self.by_stage)
        starts, point = [times.to_text(start) for start in self.grid.starts], _point_of(self.metrics)
        series = [msgspec.Raw(msgspec.json.encode(self._one(line, starts, point))) for line in found]
        return msgspec.json.encode(Drawn(len(rows), series))

    def _one(self, line: Line, starts: Sequence[str], point: type[msgspec.Struct]) -> OneSeries:
        as_of = times.to_text_or_none(self.history.as_of_ms)
        points = list(map(point, starts, *line.values.values(), line.revised))
        stage = (line.stage or None) if self.by_stage else msgspec.UNSET
        return OneSeries(self.history.asked.system_id, as_of, points, stage)


def _point_of(metrics: Sequence[Metric]) -> type[msgspec.Struct]:
    """What a point tells: made for each question, since structs are written several times as fast as dicts."""
    names = {f"metric_{at}": metric.name for at, metric in enumerate(metrics)}
    values = ((name, float | int | None) for name in names)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("time", str), *values, ("revised", int, 0)]
    return msgspec.defstruct("Point", fields, rename=names, omit_defaults=True)


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


class Latencies(Order, frozen=True):
    """The distribution of one system's latencies: a `HistogramAnswer`, or the standard encoding."""

    history: Both
    from_ms: int
    to_ms: int
    stage: str | None
    encoded: bool

    def answer(self, warm: Warm) -> bytes:
        """All of them in one."""
        found = distribution.distribution(self.history.columns(warm, detail_of(self.stage)), self.stage)
        if self.encoded:
            return hdr.encode(found.index, found.counts)
        start, end = times.to_text(self.from_ms), times.to_text(self.to_ms)
        as_of = times.to_text_or_none(self.history.as_of_ms)
        return msgspec.json.encode(_histogram(found, self.history.asked.system_id, start, end, as_of, self.stage))


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


class HeatMap(Order, frozen=True):
    """The same by time: a `HeatMapAnswer`."""

    history: Both
    grid: Grid
    parts: int
    stage: str | None

    def answer(self, warm: Warm) -> bytes:
        """A cell for each bucket and point that has any."""
        rows, grid = self.history.columns(warm, detail_of(self.stage)), self.grid
        found = distribution.heat_map(rows, grid, self.parts, self.stage)
        return msgspec.json.encode(
            HeatMapAnswer(
                self.history.asked.system_id,
                times.to_text(grid.from_ms),
                times.to_text(grid.to_ms),
                grid.step_ms // 1_000,
                times.to_text_or_none(self.history.as_of_ms),
                self.stage,
                [times.to_text(start) for start in grid.starts],
                [Band(low / 1_000, high / 1_000) for low, high in zip(found.low_us, found.high_us, strict=True)],
                found.cells,
            )
        )


class Objective(Order, frozen=True):
    """How far an objective is met: an `Attainment`."""

    history: Both
    question: objectives.Question

    def answer(self, warm: Warm) -> bytes:
        """Good events, counted."""
        latency_ms = self.question.latency_ms
        latency_us = None if latency_ms is None else round(latency_ms * 1_000)
        rows = self.history.columns(warm, Detail.NONE if latency_us is None else Detail.ERRORS)
        good = distribution.good(rows, self.question.edges, latency_us)
        return msgspec.json.encode(self.question.answer(self.history.asked.system_id, good, self.history.as_of_ms))


class HotPage(Order, frozen=True):
    """Entries for a page: the `Reading`, fed."""

    reading: Reading
    entries: list[StoredEntry]

    def answer(self, _warm: Warm) -> bytes:
        """The events that are wanted."""
        self.reading.feed(self.entries)
        return msgspec.json.encode(self.reading)


class ArchivedPage(Order, frozen=True):
    """Archived events: a `Page`."""

    system_id: int
    wanted: Wanted
    oldest_ms: int
    before: Place | None
    limit: int

    def answer(self, warm: Warm) -> bytes:
        """The events that are wanted."""
        archived = Archived(warm, self.system_id, self.wanted, oldest_ms=self.oldest_ms)
        return msgspec.json.encode(archived.page(self.before, self.limit))


ORDERS: Any = Series | Latencies | HeatMap | Objective | HotPage | ArchivedPage


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why there is no answer."""

    kind: Literal["input", "archive", "unreadable", "failed"]
    detail: str
    findings: tuple[Finding, ...] = ()


DONE, REFUSED = b"+", b"-"
"""How an answer begins: with what was asked for, or with a `Refusal` in msgpack."""
