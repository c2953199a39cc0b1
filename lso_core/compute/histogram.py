"""HDR histograms as sparse counts: the index of a value, the value at an index, and the rank rule.

One shape everywhere: integer microseconds, 1 µs to 7 days, 3 significant digits, as the `hdrhistogram` package lays
it out (its `counts` index is ours, which a test proves), so that every histogram merges with every other. Rank rule:
the value at percentile p of n values is the one at rank ceil(p / 100 * n), as the Java and JavaScript libraries answer;
the Python library rounds the rank instead and can be off by a whole value.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

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


def rank_of(percentile: float, total: int) -> int:
    """The rank, from 1, of the value at `percentile` among `total` values.

    The product is rounded at the ninth digit first: 99.9 % of 1,000 is rank 999, though in binary 99.9 / 100 * 1000 is
    a hair above it.
    """
    return min(total, max(1, math.ceil(round(percentile * total / 100, 9))))


def values_at(percentiles: tuple[float, ...], index: Int64, counts: Int64) -> list[int]:
    """The value in µs at each percentile, from a non-empty histogram with ascending `index`.

    Each is the highest value equivalent to the one at that rank, hence within 0.1 % above it.
    """
    below = np.cumsum(counts)
    ranks = [rank_of(percentile, int(below[-1])) for percentile in percentiles]
    found = np.searchsorted(below, ranks)
    return [int(value) for value in highest_at(index[found])]


def add_cells(keys: Int64, counts: Int64, more_keys: Int64, more_counts: Int64) -> tuple[Int64, Int64]:
    """The sum of two sparse tables with ascending keys: ascending keys, and no cell whose count is 0."""
    if not len(keys):
        return more_keys, more_counts
    if not len(more_keys):
        return keys, counts
    return sum_cells(np.concatenate((keys, more_keys)), np.concatenate((counts, more_counts)))


def sum_cells(keys: Int64, counts: Int64) -> tuple[Int64, Int64]:
    """Cells in any order, equal keys added together: ascending keys, and no cell whose count is 0."""
    if not len(keys):
        return keys, counts
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = starts_of(keys)
    keys, counts = keys[first], np.add.reduceat(counts, first)
    full = counts != 0
    return (keys, counts) if full.all() else (keys[full], counts[full])


def starts_of(ordered: Int64) -> npt.NDArray[np.intp]:
    """Where each run of equal values starts in a non-empty, ordered array."""
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
