"""From rollup rows to a distribution of latencies: all of it, by time for charts, and the share that is good."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from lso_core.compute import histogram
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK, Int64
from lso_core.compute.rollups import Column, Rollup
from lso_core.compute.state import NO_EVENTS, Tally
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


def distribution(rows: Sequence[Rollup], stage: str | None = None) -> Distribution:
    """All latencies of the rows, or of one stage of them."""
    tally = NO_EVENTS
    for row in rows:
        for name, own in row.stages.items():
            if stage is None or name == stage:
                tally = tally.plus(own)
    index, counts = zip(*(_cells_of(row, stage) for row in rows), strict=True) if rows else ([], [])
    return Distribution(tally, *histogram.sum_cells(_join(index), _join(counts)))


def heat_map(rows: Sequence[Rollup], grid: Grid, parts: int, stage: str | None = None) -> HeatMap:
    """The latencies by time, in `parts` buckets where they double once: a power of two up to FINEST, so that none is split."""
    found = [(row, *_cells_of(row, stage)) for row in rows]
    points = [np.full(len(index), (row.start_ms - grid.from_ms) // grid.step_ms, np.int64) for row, index, _ in found]
    bucket = _coarse(_join([index for _, index, _ in found]), parts)
    keys, counts = histogram.sum_cells(_join(points) << INDEX_BITS | bucket, _join([many for *_, many in found]))
    starts, bucket = keys >> INDEX_BITS, keys & INDEX_MASK
    used, numbers = np.unique(bucket, return_inverse=True)
    low, high = _bounds(used, parts)
    return HeatMap(low, high, list(zip(starts.tolist(), numbers.tolist(), counts.tolist(), strict=True)))


def good(rows: Sequence[Rollup], edges_ms: Sequence[int], latency_us: int | None) -> list[tuple[int, int]]:
    """(events, good ones) between each two `edges_ms`, which ascend and cut no row.

    Good is what is no error and, where a latency is given, took no longer, as far as a histogram can tell: 0.1 %.
    """
    sums = np.zeros((len(edges_ms) - 1, 2), np.int64)
    most = None if latency_us is None else histogram.index_of(np.array([latency_us], np.int64))[0]
    where = np.searchsorted(edges_ms, [row.start_ms for row in rows], side="right") - 1
    for at, row in zip(where.tolist(), rows, strict=True):
        total = sum(tally.total for tally in row.stages.values())
        if most is None:
            right = total - sum(tally.errors for tally in row.stages.values())
        else:
            fast = row.index <= most
            right = int((row.count[fast] - row.errors[fast]).sum())
        sums[at] += total, right
    return [(total, right) for total, right in sums.tolist()]


def _cells_of(row: Rollup, stage: str | None) -> tuple[Column, Column]:
    if stage is None:
        return row.index, row.count
    if stage not in row.stages:
        return NO_CELLS, NO_CELLS
    own = row.stage == list(row.stages).index(stage)
    return row.index[own], row.count[own]


def _join(columns: Sequence[Column]) -> Int64:
    return np.concatenate([NO_CELLS, *columns])


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
