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
LEAST_BYTES_A_CELL: Final = 2
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
    window: bytes, gone: Sequence[bytes], slots: Sequence[bytes], more: Sequence[tuple[Int64, Int64]]
) -> tuple[bytes, list[bytes]]:
    """A window's packed cells without those that are gone and with more, and those of its slots to which these come, one by one.

    Raises ValueError where something is not packed as it should be.
    """
    keys, counts = joined(more)
    bounds = [0, *itertools.accumulate(len(some) for some, _ in more)]
    if (compiled := _compiled_carry()) is not None:
        return compiled(window, gone, slots, keys, counts, bounds)
    less = [(some, -how_often) for some, how_often in map(unpack, gone)]
    changes = histogram.sum_cells(*joined([*less, (keys, counts)]))
    return pack(*histogram.add_cells(*unpack(window), *changes)), add(slots, keys, counts, bounds)


def percentiles(wanted: tuple[float, ...], packed: bytes, groups: int) -> list[list[int]]:
    """As `histogram.percentiles`, of packed cells."""
    if (compiled := _compiled_percentiles()) is not None:
        return compiled(wanted, packed, groups)
    return histogram.percentiles(wanted, *unpack(packed), groups)


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
        out = _Room(packed, len(keys), len(packed))
        keys, counts = kernel.numbers(keys), kernel.numbers(counts)
        cells = kernel.address(keys), kernel.address(counts), struct.pack(f"={len(bounds)}q", *bounds)
        return out.tables(run(len(packed), *kernel.texts(packed), *cells, *out.told()))

    return add


@functools.cache
def _compiled_carry() -> Callable[..., tuple[bytes, list[bytes]]] | None:
    """`carry` by a kernel."""
    if kernel.trouble() is not None:
        return None
    address, number, numbers = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
    arguments = (number, number, *_PACKED, address, address, numbers, address, number, address)
    run: Any = kernel.function("lso_carry", *arguments, result=ctypes.c_int)

    def carry(
        window: bytes, gone: Sequence[bytes], slots: Sequence[bytes], keys: Int64, counts: Int64, bounds: Sequence[int]
    ) -> tuple[bytes, list[bytes]]:
        packed = (window, *gone, *slots)
        out = _Room(packed, 2 * len(keys), 1 + len(slots))  # each cell that comes is in the window and in its slot
        keys, counts = kernel.numbers(keys), kernel.numbers(counts)
        cells = kernel.address(keys), kernel.address(counts), struct.pack(f"={len(bounds)}q", *bounds)
        after, *found = out.tables(run(len(gone), len(slots), *kernel.texts(packed), *cells, *out.told()))
        return after, found

    return carry


class _Room:
    """Where a kernel packs tables one after another."""

    def __init__(self, packed: Sequence[bytes], more: int, tables: int) -> None:
        cells = sum(map(len, packed)) // LEAST_BYTES_A_CELL + more
        self._bytes = np.empty(cells * _MOST_BYTES_A_CELL + tables * _HEAD.size, np.uint8)
        self._ends = np.empty(tables, np.int64)

    def told(self) -> tuple[Any, int, Any]:
        """As a kernel takes it."""
        return kernel.address(self._bytes), len(self._bytes), kernel.address(self._ends)

    def tables(self, status: int) -> list[bytes]:
        """What was packed. Raises what the kernel's answer stands for."""
        if status:
            raise MemoryError if status == -1 else ValueError("cells are not packed as they should be")
        data, at = self._bytes.data, [0, *self._ends.tolist()]
        return [bytes(data[start:end]) for start, end in itertools.pairwise(at)]


@functools.cache
def _compiled_percentiles() -> Callable[[tuple[float, ...], bytes, int], list[list[int]]] | None:
    """`percentiles` by a kernel."""
    if kernel.trouble() is not None:
        return None
    text, address, number = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
    run: Any = kernel.function("lso_percentiles", text, number, text, number, address, number, result=number)

    def percentiles(wanted: tuple[float, ...], packed: bytes, groups: int) -> list[list[int]]:
        values = np.empty((1 + groups, len(wanted)), np.int64)
        rows = run(packed, len(packed), _parts(wanted), len(wanted), kernel.address(values), len(values))
        if rows != len(values):
            raise MemoryError if rows == -1 else ValueError("the cells are not of as many stages as was told")
        found: list[list[int]] = values.tolist()
        return found

    return percentiles


@functools.lru_cache(maxsize=64)
def _parts(percentiles: tuple[float, ...]) -> bytes:
    return struct.pack(f"={len(percentiles)}q", *map(histogram.parts_of, percentiles))
