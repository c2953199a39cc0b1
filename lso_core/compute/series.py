"""From rollup rows to the points of a series.

Sums add up, least and greatest are of the exact tallies, and percentiles are ranks in the merged histogram: nothing is
averaged, so that a point is what a count over its events would find, whatever rows it is made of.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import ranks
from lso_core.compute.histogram import Int64
from lso_core.compute.rollup_columns import Floats, RollupColumns
from lso_core.model.series import Grid, Metric, check_points

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


def lines(rows: RollupColumns, grid: Grid, metrics: Sequence[Metric], *, by_stage: bool = False) -> list[Line]:
    """The points of `grid` from rows that each lie within one; a line for all events, or for each stage that rows have.

    Raises InputError where that would be too many points.
    """
    names = sorted(set(rows.names)) if by_stage else []
    check_points(len(names), grid, "by")
    places = _Places(rows, grid, names)
    sums = _Sums.of(rows, places)
    percentiles = _percentiles_us(metrics, rows, places)
    values = {metric.name: _values(metric, sums, percentiles, places) for metric in metrics}
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
    """Where rows, their tallies and their cells stand among the points of all lines, line by line."""

    def __init__(self, rows: RollupColumns, grid: Grid, names: Sequence[str]) -> None:
        """`names` of stages make a line each; without any, one line is for all events."""
        self.grid = grid
        self.lines = max(1, len(names))
        self.count = grid.points * self.lines
        self.by_stage = bool(names)
        self.of_rows = (rows.start_ms - grid.from_ms) // grid.step_ms
        self.of_tallies = np.repeat(self.of_rows, rows.stages)
        if self.by_stage:
            line = {name: at * grid.points for at, name in enumerate(names)}
            self.of_tallies += np.array([line[name] for name in rows.names], np.int64)

    @property
    def seconds(self) -> Floats:
        """How long each point is: all alike, but for the last of a line."""
        starts = np.array(self.grid.starts, np.int64)
        ends = np.minimum(starts + self.grid.step_ms, self.grid.to_ms)
        return np.tile((ends - starts) / 1_000, self.lines)

    def of_cells(self, rows: RollupColumns) -> Int64:
        """The place of each cell, which is that of its tally."""
        found: Int64 = self.of_tallies[rows.tally_of_cells]
        return found


class _Sums(msgspec.Struct, frozen=True):
    """The tallies of all places added up."""

    total: Floats
    errors: Floats
    timed: Floats
    sum_us: Floats
    min_us: Floats
    max_us: Floats
    revised: Floats

    @classmethod
    def of(cls, rows: RollupColumns, places: _Places) -> "_Sums":
        """The sums of rows."""
        where, columns = places.of_tallies, rows.tallies
        has_latency = columns[2] > 0
        low, high = np.full(places.count, np.inf), np.zeros(places.count)
        np.minimum.at(low, where[has_latency], columns[4][has_latency])
        np.maximum.at(high, where[has_latency], columns[5][has_latency])
        total, errors, timed, sum_us, revised = (_binned(where, columns[at], places.count) for at in (0, 1, 2, 3, 6))
        return cls(total, errors, timed, sum_us, low, high, revised)


def _percentiles_us(metrics: Sequence[Metric], rows: RollupColumns, places: _Places) -> dict[float, Int64]:
    """The values at every percentile that is asked for, at every place; 0 where there is none."""
    wanted = tuple(sorted({metric.percentile for metric in metrics if metric.percentile is not None}))
    if not wanted:
        return {}
    if places.by_stage:
        found = ranks.of_cells(wanted, places.of_cells(rows), rows.index, rows.count, places.count)
    else:
        found = ranks.of_rows(wanted, rows, places.of_rows, places.count)
    return dict(zip(wanted, found.T, strict=True))


def _binned(where: Int64, values: Floats, places: int) -> Floats:
    return np.bincount(where, values, places).astype(np.float64)


def _values(
    metric: Metric, sums: _Sums, percentiles: Mapping[float, Int64], places: _Places
) -> list[float | int | None]:
    """A metric at every place."""
    if metric.name in {"total", "errors"}:
        whole: Int64 = getattr(sums, metric.name).astype(np.int64)
        return _known(whole, sums.total > 0)
    if metric.name == "error_rate":
        return _known(sums.errors / np.maximum(sums.total, 1), sums.total > 0)
    if metric.name == "rps":
        return _known(np.round(sums.total / places.seconds, _DIGITS), sums.total > 0)
    return _known(np.round(_latency_us(metric, sums, percentiles) / _US_A_MS, _DIGITS), sums.timed > 0)


def _latency_us(metric: Metric, sums: _Sums, percentiles: Mapping[float, Int64]) -> Floats:
    """A latency in µs at every place; anything where there is none."""
    match metric.name:
        case "min":
            return sums.min_us
        case "max":
            return sums.max_us
        case "mean":
            return sums.sum_us / np.maximum(sums.timed, 1)
    # A bucket's upper end may lie above the largest value that was seen; nothing seen was above that.
    return np.minimum(percentiles[metric.percentile or 0.0], sums.max_us)


def _known(values: Floats | Int64, known: npt.NDArray[np.bool_]) -> list[float | int | None]:
    return [value if there else None for value, there in zip(values.tolist(), known.tolist(), strict=True)]
