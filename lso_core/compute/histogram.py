"""HDR histograms as sparse counts: the index of a value, the value at an index, and the rank rule.

One shape everywhere: integer microseconds, 1 µs to 7 days, 3 significant digits, as the `hdrhistogram` package lays
it out (its `counts` index is ours, which a test proves), so that every histogram merges with every other. Rank rule:
the value at percentile p of n values is the one at rank ceil(p / 100 * n), as the Java and JavaScript libraries answer;
the Python library rounds the rank instead and can be off by a whole value.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from lso_core.compute import kernel

Int64 = npt.NDArray[np.int64]
Count = TypeVar("Count", int, Int64)

PERCENTILE_DIGITS: Final = 5

LOWEST_US: Final = 1
HIGHEST_US: Final = 7 * 86_400_000_000
SIGNIFICANT_DIGITS: Final = 3

_SUB_BITS: Final = 11
"""2 * 10^3 rounded up to a power of two: 2,048 sub-buckets."""
_SUB_BUCKETS: Final = 1 << _SUB_BITS
_HALF: Final = _SUB_BUCKETS >> 1

INDEX_BITS: Final = 15
"""Every index is below 2^15: the highest value falls on 31,000-odd."""
INDEX_MASK: Final = (1 << INDEX_BITS) - 1


def index_of(value_us: Int64) -> Int64:
    """The counts index of every value (0 to HIGHEST_US)."""
    bits = np.frexp((value_us | (_SUB_BUCKETS - 1)).astype(np.float64))[1].astype(np.int64)
    bucket = bits - _SUB_BITS
    return np.asarray(((bucket + 1) << (_SUB_BITS - 1)) + (value_us >> bucket) - _HALF, np.int64)


def highest_at(index: Int64) -> Int64:
    """The highest value, in µs, that falls on each index."""
    bucket = (index >> (_SUB_BITS - 1)) - 1
    sub = (index & (_HALF - 1)) + np.where(bucket < 0, 0, _HALF)
    bucket = np.maximum(bucket, 0)
    return np.asarray(((sub + 1) << bucket) - 1, np.int64)


def lowest_at(index: Int64) -> Int64:
    """The lowest value, in µs, that falls on each index."""
    return np.where(index > 0, highest_at(np.maximum(index - 1, 0)) + 1, 0)


def rank_of(percentile: float, total: Count) -> Count:
    """The rank, from 1, of the value at `percentile` among `total` values, at least one; of many totals at once, too.

    Counted in whole parts: 99.9 % of 1,000 is rank 999, though in binary 99.9 / 100 * 1000 is a hair above it.
    A percentile is from 0 to 100 and has at most PERCENTILE_DIGITS digits behind the point; at 0 it is the least value.
    """
    return -(-total * parts_of(percentile) // (100 * 10**PERCENTILE_DIGITS))


def parts_of(percentile: float) -> int:
    """A percentile in hundred-thousandths of a percent, at least one."""
    return max(1, round(percentile * 10**PERCENTILE_DIGITS))


def values_at(percentiles: tuple[float, ...], index: Int64, counts: Int64) -> list[int]:
    """The value in µs at each percentile, from a non-empty histogram with ascending `index`."""
    return values_of_each(percentiles, index, counts, np.array([0, len(index)]))[0]


def values_of_each(
    percentiles: tuple[float, ...], index: Int64, counts: Int64, bounds: npt.NDArray[np.intp]
) -> list[list[int]]:
    """The values in µs at the percentiles of n histograms that lie one after another in `index` and `counts`.

    Histogram i goes from `bounds[i]` up to `bounds[i + 1]`; none is empty, and within each `index` ascends. Each value is
    the highest equivalent to the one at that rank, hence within 0.1 % above it.
    """
    below = np.concatenate(((0,), counts)).cumsum()
    before = below[bounds]
    totals = before[1:] - before[:-1]
    ranks = np.array([rank_of(percentile, totals) for percentile in percentiles]) + before[:-1]
    found: list[list[int]] = highest_at(index[below.searchsorted(ranks.T) - 1]).tolist()
    return found


def percentiles(wanted: tuple[float, ...], keys: Int64, counts: Int64) -> list[list[int]]:
    """The values in µs at ascending percentiles: of all cells together, at least one, then of each group in its order.

    A key is group << INDEX_BITS | index, and keys ascend.
    """
    index = keys & INDEX_MASK
    all_index, all_counts = sum_cells(index, counts)
    starts = starts_of(keys >> INDEX_BITS)
    bounds = np.concatenate(((0,), starts + len(all_index), (len(all_index) + len(index),)))
    return values_of_each(wanted, np.concatenate((all_index, index)), np.concatenate((all_counts, counts)), bounds)


def add_cells(keys: Int64, counts: Int64, more_keys: Int64, more_counts: Int64) -> tuple[Int64, Int64]:
    """The sum of two sparse tables with ascending keys: ascending keys, and no cell whose count is 0."""
    if not len(keys):
        return more_keys, more_counts
    if not len(more_keys):
        return keys, counts
    if (compiled := _compiled_add()) is not None:
        return compiled(keys, counts, more_keys, more_counts)
    return sum_cells(np.concatenate((keys, more_keys)), np.concatenate((counts, more_counts)))


def sum_cells(keys: Int64, counts: Int64) -> tuple[Int64, Int64]:
    """Cells in any order, equal keys added together: ascending keys, and no cell whose count is 0."""
    if not len(keys):
        return keys, counts
    if (compiled := _compiled_sum()) is not None:
        return compiled(keys, counts)
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = starts_of(keys)
    keys, counts = keys[first], np.add.reduceat(counts, first)
    full = counts != 0
    return (keys, counts) if full.all() else (keys[full], counts[full])


def sum_pairs(keys: Int64, ones: Int64, others: Int64) -> tuple[Int64, Int64, Int64]:
    """Cells in any order, at least one, with two counts each: ascending keys, and the sums of each."""
    if (compiled := _compiled_pairs()) is not None:
        return compiled(keys, ones, others)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = starts_of(keys)
    return keys[first], np.add.reduceat(ones[order], first), np.add.reduceat(others[order], first)


Cells = tuple[Int64, Int64]


@functools.cache
def _compiled_sum() -> Callable[[Int64, Int64], Cells] | None:
    """`sum_cells` by a kernel."""
    if kernel.trouble() is not None:
        return None
    address, number = ctypes.c_void_p, ctypes.c_int64
    run: Any = kernel.function("lso_sum_cells", address, address, number, address, address, result=number)

    def sum_cells(keys: Int64, counts: Int64) -> Cells:
        keys, counts = kernel.numbers(keys), kernel.numbers(counts)
        sums = np.empty((2, len(keys)), np.int64)
        return _found(sums, run(kernel.address(keys), kernel.address(counts), len(keys), *map(kernel.address, sums)))

    return sum_cells


@functools.cache
def _compiled_add() -> Callable[[Int64, Int64, Int64, Int64], Cells] | None:
    """`add_cells` by a kernel."""
    if kernel.trouble() is not None:
        return None
    table = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    run: Any = kernel.function("lso_add_cells", *table, *table, *table[:2], result=ctypes.c_int64)

    def add_cells(*tables: Int64) -> Cells:
        keys, counts, more_keys, more_counts = map(kernel.numbers, tables)
        sums = np.empty((2, len(keys) + len(more_keys)), np.int64)
        one = (kernel.address(keys), kernel.address(counts), len(keys))
        other = (kernel.address(more_keys), kernel.address(more_counts), len(more_keys))
        return _found(sums, run(*one, *other, *map(kernel.address, sums)))

    return add_cells


@functools.cache
def _compiled_pairs() -> Callable[[Int64, Int64, Int64], tuple[Int64, Int64, Int64]] | None:
    """`sum_pairs` by a kernel."""
    if kernel.trouble() is not None:
        return None
    columns = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    run: Any = kernel.function("lso_sum_pairs", *columns, ctypes.c_int64, *columns, result=ctypes.c_int64)

    def sum_pairs(*columns: Int64) -> tuple[Int64, Int64, Int64]:
        keys, ones, others = map(kernel.numbers, columns)
        sums = np.empty((3, len(keys)), np.int64)
        told = (kernel.address(keys), kernel.address(ones), kernel.address(others), len(keys))
        found = run(*told, *map(kernel.address, sums))
        if found < 0:
            raise MemoryError
        return sums[0, :found], sums[1, :found], sums[2, :found]

    return sum_pairs


def _found(sums: Int64, found: int) -> Cells:
    if found < 0:
        raise MemoryError
    return sums[0, :found], sums[1, :found]


def starts_of(ordered: Int64) -> npt.NDArray[np.intp]:
    """Where each run of equal values starts in a non-empty, ordered array."""
    differs = np.empty(len(ordered), np.bool_)
    differs[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    return differs.nonzero()[0]


def lengths_of(starts: npt.NDArray[np.intp], end: int) -> npt.NDArray[np.intp]:
    """How long each run is that begins at `starts`, the last of them up to `end`; for few runs faster than np.diff."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = end - starts[-1:]
    return lengths
