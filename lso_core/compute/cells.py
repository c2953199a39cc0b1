"""Cells of a sparse histogram as they are stored: packed, and added to without being unpacked by whoever holds them.

A cell's key is a number from 0 on, its count how many values fall on it; keys ascend. Packed, little-endian: `_HEAD`,
the steps from each key to the next, of which most fit a byte or two, and the counts, each as wide as the largest needs.
"""

import ctypes
import functools
import itertools
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
_MOST_BYTES_A_CELL: Final = 16
_LEAST_BYTES_A_CELL: Final = 2
_PACKED: Final = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_char_p)
"""As kernels take packed tables: where each is, and its size."""


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
    cells, *widths = _HEAD.unpack_from(data, at)
    for width in widths:
        if width not in WIDTHS:
            raise UnknownWidthError(f"a width of {width} bytes")
    end = at + _HEAD.size + cells * sum(widths)
    if end > len(data):
        raise ValueError("the cells are cut off")
    return data[at:end], end


def add(packed: Sequence[bytes], keys: Int64, counts: Int64, bounds: Sequence[int]) -> list[bytes]:
    """Packed cells with more added: to `packed[i]` those of `keys` and `counts` from `bounds[i]` to before `bounds[i + 1]`.

    Raises ValueError where something is not packed as it should be.
    """
    if (compiled := _compiled()) is not None:
        return compiled(packed, keys, counts, bounds)
    pieces = [slice(*piece) for piece in itertools.pairwise(bounds)]
    return [_add(one, keys[piece], counts[piece]) for one, piece in zip(packed, pieces, strict=True)]


def _add(packed: bytes, keys: Int64, counts: Int64) -> bytes:
    return pack(*histogram.add_cells(*unpack(packed), keys, counts)) if len(keys) else packed


def carry(
    keys: Int64, counts: Int64, gone: Sequence[bytes], more: Sequence[tuple[Int64, Int64]]
) -> tuple[Int64, Int64]:
    """Ascending cells without packed ones that are among them, and with more, each of which ascend: no cell whose count is 0.

    Raises ValueError where something is not packed as it should be.
    """
    more_keys, more_counts = joined(more)
    if (compiled := _compiled_carry()) is not None:
        return compiled(keys, counts, gone, more_keys, more_counts)
    less = [(some, -how_often) for some, how_often in map(unpack, gone)]
    changes = histogram.sum_cells(*joined([*less, (more_keys, more_counts)]))
    return histogram.add_cells(keys, counts, *changes)


def joined(tables: Sequence[tuple[Int64, Int64]]) -> tuple[Int64, Int64]:
    """The cells of all tables, one after another."""
    if len(tables) == 1:
        return tables[0]
    keys, counts = zip(*tables, strict=True) if tables else ((NO_CELLS,), (NO_CELLS,))
    return np.concatenate(keys), np.concatenate(counts)


@functools.cache
def _compiled() -> Callable[[Sequence[bytes], Int64, Int64, Sequence[int]], list[bytes]] | None:
    """`add` by a kernel."""
    if kernel.trouble() is not None:
        return None
    address, number, numbers = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
    arguments = (number, *_PACKED, address, address, numbers, address, number, address)
    run: Any = kernel.function("lso_add_packed", *arguments, result=ctypes.c_int)

    def add(packed: Sequence[bytes], keys: Int64, counts: Int64, bounds: Sequence[int]) -> list[bytes]:
        tables, sizes = len(packed), list(map(len, packed))
        room = (
            sum(sizes) * (_MOST_BYTES_A_CELL // _LEAST_BYTES_A_CELL)
            + len(keys) * _MOST_BYTES_A_CELL
            + tables * _HEAD.size
        )
        ends, out = np.empty(tables, np.int64), np.empty(room, np.uint8)
        keys, counts = kernel.numbers(keys), kernel.numbers(counts)
        status = run(
            tables,
            *kernel.texts(packed),
            kernel.address(keys),
            kernel.address(counts),
            struct.pack(f"={tables + 1}q", *bounds),
            kernel.address(out),
            room,
            kernel.address(ends),
        )
        if status:
            raise MemoryError if status == -1 else ValueError("cells are not packed as they should be")
        found, at = out.data, [0, *ends.tolist()]
        return [bytes(found[start:end]) for start, end in itertools.pairwise(at)]

    return add


@functools.cache
def _compiled_carry() -> Callable[[Int64, Int64, Sequence[bytes], Int64, Int64], tuple[Int64, Int64]] | None:
    """`carry` by a kernel."""
    if kernel.trouble() is not None:
        return None
    address, number = ctypes.c_void_p, ctypes.c_int64
    table = (address, address, number)
    run: Any = kernel.function("lso_carry", *table, number, *_PACKED, *table, address, number, result=number)

    def carry(
        keys: Int64, counts: Int64, gone: Sequence[bytes], more_keys: Int64, more_counts: Int64
    ) -> tuple[Int64, Int64]:
        keys, counts, more_keys, more_counts = map(kernel.numbers, (keys, counts, more_keys, more_counts))
        room = len(keys) + len(more_keys) + sum(map(len, gone)) // _LEAST_BYTES_A_CELL
        sums = np.empty((2, room), np.int64)
        found = run(
            kernel.address(keys),
            kernel.address(counts),
            len(keys),
            len(gone),
            *kernel.texts(gone),
            kernel.address(more_keys),
            kernel.address(more_counts),
            len(more_keys),
            kernel.address(sums),
            room,
        )
        if found < 0:
            raise MemoryError if found == -1 else ValueError("cells are not packed as they should be")
        return sums[0, :found], sums[1, :found]

    return carry
