"""Percentiles of the points of a series, each being the sum of the histograms of some rows."""

import ctypes
import functools
import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from lso_core.compute import histogram, kernel
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK, Int64
from lso_core.compute.rollup_columns import RollupColumns
from lso_core.compute.rollups import Column

_ROWS: Final = struct.Struct("@PPqqPq")
"""`struct lso_rows` of native/ranks.h."""


def of_rows(wanted: tuple[float, ...], rows: RollupColumns, place: Int64, places: int) -> Int64:
    """The values in µs at ascending percentiles: (places, wanted). Row i is of `place[i]`; 0 where there is nothing."""
    if (compiled := _compiled()) is not None:
        return compiled(wanted, rows, place, places)
    return of_cells(wanted, np.repeat(place, rows.cells), rows.index, rows.count, places)


def of_cells(wanted: tuple[float, ...], place: Int64, index: Column, count: Column, places: int) -> Int64:
    """The same from cells, each of a place of its own."""
    packed = place << INDEX_BITS | index
    order = np.argsort(packed, kind="stable")
    packed = packed[order]
    below = np.zeros(len(packed) + 1, np.int64)
    below[1:] = count[order]
    np.cumsum(below, out=below)  # widened before, it takes half the time
    ends = below[np.searchsorted(packed, np.arange(places + 1, dtype=np.int64) << INDEX_BITS)]
    before, total = ends[:-1], np.diff(ends)
    found, there = np.zeros((places, len(wanted)), np.int64), total > 0
    for at, percentile in enumerate(wanted):
        ranks = before[there] + histogram.rank_of(percentile, total[there])
        cells = np.searchsorted(below, ranks) - 1
        found[there, at] = histogram.highest_at(packed[cells] & INDEX_MASK)
    return found


@functools.cache
def _compiled() -> Callable[[tuple[float, ...], RollupColumns, Int64, int], Int64] | None:
    """`of_rows` by a kernel."""
    if kernel.trouble() is not None:
        return None
    address, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64
    arguments = (text, address, address, number, text, number, address)
    run: Any = kernel.function("lso_point_percentiles", *arguments, result=ctypes.c_int)

    def of_rows(wanted: tuple[float, ...], rows: RollupColumns, place: Int64, places: int) -> Int64:
        index, count = _plain(rows.index), _plain(rows.count)
        edges = np.concatenate(([0], np.cumsum(rows.cells, dtype=np.int64)))
        order = np.argsort(place, kind="stable").astype(np.int64, copy=False)
        bounds = np.searchsorted(place[order], np.arange(places + 1)).astype(np.int64, copy=False)
        if not edges[-1] == len(index) == len(count):
            raise ValueError("the rows do not have the cells that are told")
        told = _ROWS.pack(
            index.ctypes.data, count.ctypes.data, index.itemsize, count.itemsize, edges.ctypes.data, len(rows.cells)
        )
        parts = struct.pack(f"={len(wanted)}q", *map(histogram.parts_of, wanted))
        found = np.empty((places, len(wanted)), np.int64)
        status = run(told, order.ctypes.data, bounds.ctypes.data, places, parts, len(wanted), found.ctypes.data)
        if status:
            raise MemoryError if status == -1 else ValueError("the rows are none")
        return found

    return of_rows


def _plain(column: Column) -> Column:
    """The numbers as C wants them: one after another."""
    return np.ascontiguousarray(column, column.dtype.newbyteorder("="))
