"""From rollup rows to the points of a series.

Sums add up, least and greatest are of the exact tallies, and percentiles are ranks in the merged histogram: nothing is
averaged, so that a point is what a count over its events would find, whatever rows it is made of.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import histogram
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK, Int64
from lso_core.compute.rollups import Column, Rollup
from lso_core.model.series import Grid, Metric, check_points

Floats = npt.NDArray[np.float64]

_US_A_MS: Final = 1_000
_DIGITS: Final = 6


class Line(msgspec.Struct, frozen=True):
    """The points of one stage, or of all."""

    stage: str | None
    """None for all events, `model.rollups.NO_STAGE` for those without a stage."""
    values: dict[str, list[float | int | None]]
    """By the metric's name, one a point; latencies in ms. None where nothing was counted."""
    revised: list[int]
    """How many events of each point were late."""


def lines(rows: Sequence[Rollup], grid: Grid, metrics: Sequence[Metric], *, by_stage: bool = False) -> list[Line]:
    """The points of `grid` from rows that each lie within one; a line for all events, or for each stage that rows have.

    Raises InputError where that would be too many points.
    """
    names = sorted({name for row in rows for name in row.stages}) if by_stage else []
    check_points(len(names), grid, "by")
    places = _Places(rows, grid, names)
    sums = _Sums.of(rows, places)
    values = {metric.name: _values(metric, sums, places) for metric in metrics}
    points = grid.points
    return [
        Line(
            name,
            {metric: found[at * points : (at + 1) * points] for metric, found in values.items()},
            sums.revised[at * points : (at + 1) * points].astype(np.int64).tolist(),
        )
        for at, name in enumerate(names if by_stage else [None])
    ]


class _Places:
    """Where rows, their stages and their cells stand among the points of all lines, line by line."""

    def __init__(self, rows: Sequence[Rollup], grid: Grid, names: Sequence[str]) -> None:
        """`names` of stages make a line each; without any, one line is for all events."""
        self.grid = grid
        self.lines = max(1, len(names))
        self.count = grid.points * self.lines
        self._line = {name: at * grid.points for at, name in enumerate(names)}
        starts = np.array([row.start_ms for row in rows], np.int64)
        self._point = ((starts - grid.from_ms) // grid.step_ms).tolist()
        self._rows = rows

    @property
    def seconds(self) -> Floats:
        """How long each point is: all alike, but for the last of a line."""
        starts = np.array(self.grid.starts, np.int64)
        ends = np.minimum(starts + self.grid.step_ms, self.grid.to_ms)
        return np.tile((ends - starts) / 1_000, self.lines)

    def of_names(self, names: Sequence[Sequence[str]]) -> Int64:
        """The place of each name of each row."""
        if not self._line:
            return np.repeat(np.array(self._point, np.int64), [len(some) for some in names])
        line = self._line
        return np.array(
            [point + line[name] for point, some in zip(self._point, names, strict=True) for name in some], np.int64
        )

    def of_cells(self) -> Int64:
        """The place of each cell of each row."""
        sizes = [len(row.index) for row in self._rows]
        points = np.repeat(np.array(self._point, np.int64), sizes)
        if not self._line:
            return points
        tables = (
            np.array([self._line[name] for name in row.stages], np.int64)[row.stage]
            for row in self._rows
            if len(row.index)
        )
        return points + _join(tables)

    @cached_property
    def cells(self) -> "_Cells":
        """The histograms of all places."""
        index, counts = _join(row.index for row in self._rows), _join(row.count for row in self._rows)
        points, places = np.array(self._point, np.int64), np.arange(self.count + 1, dtype=np.int64)
        if not self._line and (points[1:] > points[:-1]).all():
            # One row a point, as of hours at a step of an hour: the cells are in order as they come.
            ends = np.cumsum([0, *(len(row.index) for row in self._rows)])
            return _Cells.of(index, counts, ends[np.searchsorted(points, places)])
        packed = self.of_cells() << INDEX_BITS | index
        order = np.argsort(packed, kind="stable")
        packed = packed[order]
        return _Cells.of(packed & INDEX_MASK, counts[order], np.searchsorted(packed, places << INDEX_BITS))


class _Cells(msgspec.Struct, frozen=True):
    """Histograms one after another, each by ascending index; equal ones stay apart."""

    index: Column
    below: Int64
    """How many latencies all cells before each hold; one more than there are cells."""
    edges: Int64
    """Where each histogram begins, and where the last ends."""

    @classmethod
    def of(cls, index: Column, counts: Column, edges: Any) -> "_Cells":
        """From the count of each cell."""
        below = np.empty(len(counts) + 1, np.int64)
        below[0], below[1:] = 0, counts
        np.cumsum(below, out=below)  # widened before, it takes half the time
        return cls(index, below, edges)

    def percentile_us(self, percentile: float) -> Floats:
        """The value at a percentile of each histogram; 0 where it is empty."""
        ends = self.below[self.edges]
        before, total = ends[:-1], np.diff(ends)
        found, there = np.zeros(len(total)), total > 0
        ranks = before[there] + histogram.rank_of(percentile, total[there])
        cells = self.index[np.searchsorted(self.below, ranks) - 1]
        found[there] = histogram.highest_at(cells.astype(np.int64))
        return found


class _Sums(msgspec.Struct, frozen=True):
    """The tallies of all places added up. Floats are exact up to 2^53, which no sum of ours comes near."""

    total: Floats
    errors: Floats
    timed: Floats
    sum_us: Floats
    min_us: Floats
    max_us: Floats
    revised: Floats

    @classmethod
    def of(cls, rows: Sequence[Rollup], places: _Places) -> "_Sums":
        """The sums of rows."""
        where = places.of_names([list(row.stages) for row in rows])
        tallies = [msgspec.structs.astuple(tally) for row in rows for tally in row.stages.values()]
        columns = np.array(tallies, np.float64).reshape(-1, 6).T
        has_latency = columns[2] > 0
        low, high = np.full(places.count, np.inf), np.zeros(places.count)
        np.minimum.at(low, where[has_latency], columns[4][has_latency])
        np.maximum.at(high, where[has_latency], columns[5][has_latency])
        late = places.of_names([list(row.revised) for row in rows])
        counts = np.array([count for row in rows for count in row.revised.values()], np.float64)
        total, errors, timed, sum_us = (_binned(where, column, places.count) for column in columns[:4])
        return cls(total, errors, timed, sum_us, low, high, _binned(late, counts, places.count))


def _binned(where: Int64, values: Floats, places: int) -> Floats:
    return np.bincount(where, values, places).astype(np.float64)


def _join(columns: Iterable[Column]) -> Column:
    """All columns in one, no wider than the widest of them."""
    return np.concatenate(list(columns) or [NO_CELLS])


def _values(metric: Metric, sums: _Sums, places: _Places) -> list[float | int | None]:
    """A metric at every place."""
    if metric.name in {"total", "errors"}:
        whole: Int64 = getattr(sums, metric.name).astype(np.int64)
        return _known(whole, sums.total > 0)
    if metric.name == "error_rate":
        return _known(sums.errors / np.maximum(sums.total, 1), sums.total > 0)
    if metric.name == "rps":
        return _known(np.round(sums.total / places.seconds, _DIGITS), sums.total > 0)
    return _known(np.round(_latency_us(metric, sums, places) / _US_A_MS, _DIGITS), sums.timed > 0)


def _latency_us(metric: Metric, sums: _Sums, places: _Places) -> Floats:
    """A latency in µs at every place; anything where there is none."""
    match metric.name:
        case "min":
            return sums.min_us
        case "max":
            return sums.max_us
        case "mean":
            return sums.sum_us / np.maximum(sums.timed, 1)
    # A bucket's upper end may lie above the largest value that was seen; nothing seen was above that.
    return np.minimum(places.cells.percentile_us(metric.percentile or 0.0), sums.max_us)


def _known(values: Floats | Int64, known: npt.NDArray[np.bool_]) -> list[float | int | None]:
    return [value if there else None for value, there in zip(values.tolist(), known.tolist(), strict=True)]
