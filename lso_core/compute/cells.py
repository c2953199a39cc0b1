"""Cells of a sparse histogram as they are stored: packed.

A cell's key is a number from 0 on, its count how many values fall on it; keys ascend. Packed, little-endian: `_HEAD`,
the steps from each key to the next, of which most fit a byte or two, and the counts, each as wide as the largest needs.
"""

import ctypes
import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from lso_core.compute import histogram, kernel
from lso_core.compute.histogram import Int64
from lso_core.compute.packing import WIDTHS, UnknownWidthError, narrow, widen

NO_CELLS: Final = np.empty(0, np.int64)
_HEAD: Final = struct.Struct("<IBB")
"""cells, bytes of a step, bytes of a count."""
LEAST_BYTES_A_CELL: Final = 2
MOST_GROUPS: Final = 256
"""Groups of which percentiles are told: stages."""


def pack(keys: Int64, counts: Int64) -> bytes:
    """Ascending keys and their counts as bytes."""
    steps = keys.copy()
    steps[1:] -= keys[:-1]
    steps, packed = narrow(steps), narrow(counts)
    return _HEAD.pack(len(steps), steps.itemsize, packed.itemsize) + steps.tobytes() + packed.tobytes()


EMPTY: Final = pack(NO_CELLS, NO_CELLS)


def unpack(packed: bytes) -> tuple[Int64, Int64]:
    """The keys and counts of `pack`."""
    cells, step_width, count_width = _HEAD.unpack_from(packed)
    if not cells:
        return NO_CELLS, NO_CELLS
    at = _HEAD.size + cells * step_width
    keys: Int64 = np.add.accumulate(widen(packed, step_width, cells, _HEAD.size))
    return keys, widen(packed, count_width, cells, at)


def cut(data: bytes, at: int) -> tuple[bytes, int]:
    """The packed cells that begin at byte `at`, and where they end. Raises ValueError or struct.error where there are none."""
    end = end_of(data, at)
    return data[at:end], end


def end_of(data: bytes, at: int) -> int:
    """Where the packed cells end that begin at byte `at`; raises as `cut`."""
    cells, *widths = _HEAD.unpack_from(data, at)
    for width in widths:
        if width not in WIDTHS:
            raise UnknownWidthError(f"a width of {width} bytes")
    end: int = at + _HEAD.size + cells * sum(widths)
    if end > len(data):
        raise ValueError("the cells are cut off")
    return end


def add(packed: bytes, keys: Int64, counts: Int64) -> bytes:
    """Packed cells with more added, whose keys ascend."""
    return pack(*histogram.add_cells(*unpack(packed), keys, counts)) if len(keys) else packed


def carry(window: bytes, gone: Sequence[bytes], more: Sequence[tuple[Int64, Int64]]) -> bytes:
    """A window's packed cells without those that are gone and with more."""
    less = [(some, -how_often) for some, how_often in map(unpack, gone)]
    return pack(*histogram.add_cells(*unpack(window), *histogram.sum_cells(*joined([*less, *more]))))


def percentiles(wanted: tuple[float, ...], packed: bytes) -> list[list[int]]:
    """As `histogram.percentiles`, of packed cells; nothing where there are none."""
    if (compiled := _compiled_percentiles()) is not None:
        return compiled(wanted, packed)
    keys, counts = unpack(packed)
    return histogram.percentiles(wanted, keys, counts) if len(keys) else []


def joined(tables: Sequence[tuple[Int64, Int64]]) -> tuple[Int64, Int64]:
    """The cells of all tables, one after another."""
    if len(tables) == 1:
        return tables[0]
    keys, counts = zip(*tables, strict=True) if tables else ((NO_CELLS,), (NO_CELLS,))
    return np.concatenate(keys), np.concatenate(counts)


@functools.cache
def _compiled_percentiles() -> Callable[[tuple[float, ...], bytes], list[list[int]]] | None:
    """`percentiles` by a kernel."""
    if kernel.trouble() is not None:
        return None
    text, address, number = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
    run: Any = kernel.function("lso_percentiles", text, number, text, number, address, number, result=number)

    def percentiles(wanted: tuple[float, ...], packed: bytes) -> list[list[int]]:
        values = np.empty((1 + MOST_GROUPS, len(wanted)), np.int64)
        rows = run(packed, len(packed), parts_of(wanted), len(wanted), kernel.address(values), len(values))
        if rows < 0:
            raise MemoryError if rows == -1 else ValueError("the cells are not packed as they should be")
        found: list[list[int]] = values[:rows].tolist()
        return found

    return percentiles


@functools.lru_cache(maxsize=64)
def parts_of(percentiles: tuple[float, ...]) -> bytes:
    """Percentiles as kernels take them."""
    return struct.pack(f"={len(percentiles)}q", *map(histogram.parts_of, percentiles))
