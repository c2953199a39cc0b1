"""From rollup rows to a distribution of latencies: all of it, by time for charts, and the share that is good."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from lso_core.compute import histogram
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK, Int64
from lso_core.compute.rollup_columns import Detail, Floats, RollupColumns
from lso_core.compute.rollups import Column
from lso_core.compute.state import Tally
from lso_core.model.series import Grid

FINEST: Final = 1_024
"""Buckets of a histogram in which latency doubles once, above 2 ms."""


class Distribution(msgspec.Struct, frozen=True):
    """The latencies of many events."""

    tally: Tally
    index: Int64
    """Ascending, distinct: of `compute.histogram`."""
    counts: Int64


class HeatMap(msgspec.Struct, frozen=True):
    """How many latencies fall on which bucket at which point of a grid."""

    low_us: list[int]
    """Least value of each bucket."""
    high_us: list[int]
    """Greatest value of each bucket."""
    cells: list[tuple[int, int, int]]
    """(point, bucket, count), by point and bucket; none is empty."""


def detail_of(stage: str | None) -> Detail:
    """What rows have to tell for the latencies of a stage, or of all."""
    return Detail.NONE if stage is None else Detail.STAGE


def distribution(rows: RollupColumns, stage: str | None = None) -> Distribution:
    """All latencies of the rows, or of one stage of them."""
    tallies, index, count, _ = _of_stage(rows, stage)
    total, errors, timed, sum_us = tallies[:4].sum(axis=1).astype(np.int64).tolist()
    with_latency = tallies[4:6, tallies[2] > 0].astype(np.int64)
    low, high = (int(with_latency[0].min()), int(with_latency[1].max())) if timed else (0, 0)
    return Distribution(Tally(total, errors, timed, sum_us, low, high), *histogram.sum_cells(index, count))


def heat_map(rows: RollupColumns, grid: Grid, parts: int, stage: str | None = None) -> HeatMap:
    """The latencies by time, in `parts` buckets where they double once: a power of two up to FINEST, so that none is split."""
    _, index, count, start_ms = _of_stage(rows, stage)
    points = (start_ms - grid.from_ms) // grid.step_ms
    keys, counts = histogram.sum_cells(points << INDEX_BITS | _coarse(index, parts), count)
    starts, bucket = keys >> INDEX_BITS, keys & INDEX_MASK
    used, numbers = np.unique(bucket, return_inverse=True)
    low, high = _bounds(used, parts)
    return HeatMap(low, high, list(zip(starts.tolist(), numbers.tolist(), counts.tolist(), strict=True)))


def good(rows: RollupColumns, edges_ms: Sequence[int], latency_us: int | None) -> list[tuple[int, int]]:
    """(events, good ones) between each two `edges_ms`, which ascend and cut no row; with a latency, rows tell Detail.ERRORS.

    Good is what is no error and, where a latency is given, took no longer, as far as a histogram can tell: 0.1 %.
    """
    where = np.searchsorted(edges_ms, rows.start_ms, side="right") - 1
    stretches, of_tallies = len(edges_ms) - 1, np.repeat(where, rows.stages)
    total, errors = (np.bincount(of_tallies, rows.tallies[at], stretches) for at in (0, 1))
    if latency_us is None:
        right = total - errors
    else:
        fast = rows.index <= histogram.index_of(np.array([latency_us], np.int64))[0]
        of_cells = np.repeat(where, rows.cells)[fast]
        right = np.bincount(of_cells, rows.count[fast].astype(np.float64) - rows.errors[fast], stretches)
    return list(zip(total.astype(np.int64).tolist(), right.astype(np.int64).tolist(), strict=True))


def _of_stage(rows: RollupColumns, stage: str | None) -> tuple[Floats, Int64, Int64, Int64]:
    """Tallies; and of each cell the index, the count and the start of its row: of all events, or of one stage."""
    index, count, start_ms = rows.index, rows.count, np.repeat(rows.start_ms, rows.cells)
    if stage is None:
        return rows.tallies, _wide(index), _wide(count), start_ms
    own = np.array([name == stage for name in rows.names], np.bool_)
    cells = own[rows.tally_of_cells]
    return rows.tallies[:, own], _wide(index[cells]), _wide(count[cells]), start_ms[cells]


def _wide(column: Column) -> Int64:
    return column.astype(np.int64, copy=False)


def _coarse(index: Int64, parts: int) -> Int64:
    """The number of the bucket of each index, where `parts` of them make a doubling. Below `parts` µs one is 1 µs wide."""
    value = histogram.highest_at(index)
    octave = np.maximum(
        np.frexp(np.maximum(value, 1).astype(np.float64))[1].astype(np.int64) - 1, parts.bit_length() - 1
    )
    shift = octave - (parts.bit_length() - 1)
    return np.asarray(shift * parts + (value >> shift), np.int64)


def _bounds(bucket: Int64, parts: int) -> tuple[list[int], list[int]]:
    """Least and greatest value of buckets that `_coarse` gave."""
    shift = np.maximum(bucket // parts - 1, 0)
    low = (bucket - shift * parts) << shift
    return low.tolist(), (low + (np.int64(1) << shift) - 1).tolist()
