"""Rollup rows: exact sums and histogram cells of a minute, an hour or a day of event time.

Rows are additive: all rows of one stretch together say what it held, in whatever pieces it was written, and rows of
minutes merge to rows of hours and days without loss. A row has its own names and stands for itself. Stored form,
little-endian: a version byte and a CRC-32 of the rest, `_HEAD`, the columns of the cells, and a msgpack list of
[stage to Tally, event type to count, stage to late events].
"""

import ctypes
import functools
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import cells, histogram, kernel
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK, Int64
from lso_core.compute.packing import narrow_to, view
from lso_core.compute.state import NO_EVENTS, Meta, Slot, Tally
from lso_core.model.events import OTHER
from lso_core.model.rollups import MOST_NAMES, NO_STAGE, Width

Column = npt.NDArray[Any]
"""Whole numbers from 0 on, as wide as they were stored: to be widened before they are added up."""

ROLLUP_FORMAT: Final = 1
"""Version of the stored row. Rows outlive releases in the archive: every format that ever was stays readable."""

STAGE_BITS: Final = 10
"""Positions in `Rollup.stages` are below 2^10."""
STAGE_MASK: Final = (1 << STAGE_BITS) - 1

NONE_LATE: Final[Mapping[int, int]] = {}

_NO_COLUMN: Final = np.empty(0, np.uint8)
_SEAL: Final = struct.Struct("<BI")
"""format, CRC-32 of all that follows."""
_HEAD: Final = struct.Struct("<qIIBBBB")
"""start, width, cells, bytes of a step of the index, of a stage, of a count, of errors; 0 for a column of zeros."""


class Rollup(msgspec.Struct, frozen=True):
    """What one stretch of event time held, or a part of it. Lifecycle events are in `event_types` alone.

    `index`, `stage`, `count` and `errors` are the histogram's cells, by column: how many latencies of which stage (a
    position in `stages`) fall on which index of `compute.histogram`, and how many of them are those of errors. They are
    in the order of the index, so that ranks over all stages need no sorting.
    """

    start_ms: int
    width: Width
    stages: dict[str, Tally] = {}
    """By name; NO_STAGE for events without one."""
    index: Column = msgspec.field(default_factory=lambda: NO_CELLS)
    stage: Column = msgspec.field(default_factory=lambda: NO_CELLS)
    count: Column = msgspec.field(default_factory=lambda: NO_CELLS)
    errors: Column = msgspec.field(default_factory=lambda: NO_CELLS)
    event_types: dict[str, int] = {}
    revised: dict[str, int] = {}
    """By stage, how many of the counted events were late: the answer for this stretch changed by them afterwards."""


class Share(NamedTuple):
    """What goes into a row, with the numbers of one meta: slots of the window, or what comes to it."""

    slots: Sequence[Slot]
    meta: Meta

    def places(self, place: Mapping[str, int]) -> list[int]:
        """By number of a stage, the position of its name; 0 of one that no slot holds."""
        return [place.get(name, 0) for name in (NO_STAGE, *self.meta.stages)]


def of_minute(
    start_ms: int, slots: Sequence[Slot], before: Meta, arrived: Sequence[Slot], meta: Meta, late: Mapping[int, int]
) -> Rollup:
    """The row of a minute from `slots` of it, whose numbers are those of `before`, and from what `arrived` for it, with
    those of `meta`; so many of each stage were `late`.
    """
    tallies: dict[str, Tally] = {}
    types: dict[str, int] = {}
    shares = Share(slots, before), Share(arrived, meta)
    for some, of in shares:
        for slot in some:
            for number, tally in slot.stages.items():
                stage = of.stages[number - 1] if number else NO_STAGE
                tallies[stage] = tallies[stage].plus(tally) if stage in tallies else tally
            for number, count in slot.event_types.items():
                event_type = of.event_types[number]
                types[event_type] = types.get(event_type, 0) + count
    stages = {name: tallies[name] for name in sorted(tallies)}
    place = {name: at for at, name in enumerate(stages)}
    columns = _cells_of((*slots, *arrived), len(slots), *(share.places(place) for share in shares))
    revised = {meta.stages[number - 1] if number else NO_STAGE: many for number, many in late.items()}
    return Rollup(start_ms, Width.MINUTE, stages, *columns, {name: types[name] for name in sorted(types)}, revised)


def _cells_of(
    slots: Sequence[Slot], held: int, of_held: list[int], of_others: list[int]
) -> tuple[Int64, Int64, Int64, Int64]:
    """Index, stage, count and errors of all cells, by the positions of the stages: of the first `held` slots, and the others."""
    all_cells, errors = [slot.cells for slot in slots], [slot.error_cells for slot in slots]
    if (compiled := _compiled()) is not None:
        return compiled(all_cells, errors, held, of_held, of_others)
    places = np.array(of_held), np.array(of_others)
    parts = [
        (places[at >= held][keys >> INDEX_BITS] | (keys & INDEX_MASK) << STAGE_BITS, *(pair if told else pair[::-1]))
        for told, packed in ((True, all_cells), (False, errors))
        for at, (keys, counts) in enumerate(map(cells.unpack, packed))
        for pair in ((counts, np.zeros_like(counts)),)
    ]
    return _cells(*map(np.concatenate, zip(*parts, strict=True)))


class _Share(ctypes.Structure):
    """`struct lso_share`"""

    _fields_ = (
        ("tables", ctypes.c_int64),
        ("packed", ctypes.POINTER(ctypes.c_char_p)),
        ("sizes", ctypes.c_char_p),
    )


class _Places(ctypes.Structure):
    """`struct lso_places`"""

    _fields_ = (("places", ctypes.c_char_p), ("count", ctypes.c_int64))


@functools.cache
def _compiled() -> Callable[..., tuple[Int64, Int64, Int64, Int64]] | None:
    """`_cells_of` by a kernel."""
    if kernel.trouble() is not None:
        return None
    share, places = ctypes.POINTER(_Share), ctypes.POINTER(_Places)
    arguments = (share, share, ctypes.c_int64, places, places, ctypes.c_void_p, ctypes.c_int64)
    run: Any = kernel.function("lso_row_cells", *arguments, result=ctypes.c_int64)

    def cells_of(
        all_cells: list[bytes], errors: list[bytes], held: int, *of: list[int]
    ) -> tuple[Int64, Int64, Int64, Int64]:
        room = sum(map(len, (*all_cells, *errors))) // cells.LEAST_BYTES_A_CELL
        out = np.empty((4, room), np.int64)
        shares = (_Share(len(packed), *kernel.texts(packed)) for packed in (all_cells, errors))
        places = (_Places(kernel.words(some), len(some)) for some in of)
        found = run(*shares, held, *places, kernel.address(out), room)
        if found < 0:
            raise MemoryError if found == -1 else ValueError("the cells of a slot are not packed as they should be")
        index, stage, count, failed = out[:, :found]
        return index, stage, count, failed

    return cells_of


def _cells(packed: Int64, count: Int64, errors: Int64) -> tuple[Int64, Int64, Int64, Int64]:
    """Index, stage, count and errors of cells that came packed and in any order, equal ones added up."""
    if not len(packed):
        return NO_CELLS, NO_CELLS, NO_CELLS, NO_CELLS
    packed, count, errors = histogram.sum_pairs(packed, count, errors)
    return packed >> STAGE_BITS, packed & STAGE_MASK, count, errors


def merge(rows: Iterable[Rollup], width: Width) -> list[Rollup]:
    """The rows added up to one a stretch of `width`, by time. None of them may be wider than that.

    Equal sums give equal rows, whatever pieces they came in and in whatever order, as long as no more than MOST_NAMES
    names meet.
    """
    stretches: dict[int, list[Rollup]] = defaultdict(list)
    for row in rows:
        stretches[width.start_of(row.start_ms)].append(row)
    return [_sum(start, width, stretches[start]) for start in sorted(stretches)]


def _sum(start_ms: int, width: Width, rows: Sequence[Rollup]) -> Rollup:
    stages: dict[str, Tally] = {}
    event_types: dict[str, int] = {}
    revised: dict[str, int] = {}
    for row in rows:
        for name, tally in row.stages.items():
            stages[name] = stages.get(name, NO_EVENTS).plus(tally)
        for name, count in row.event_types.items():
            event_types[name] = event_types.get(name, 0) + count
    names = _kept({name: tally.total for name, tally in stages.items()})
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())))}
    for row in rows:
        for name, count in row.revised.items():
            revised[names[name]] = revised.get(names[name], 0) + count
    tallies = dict.fromkeys(numbers, NO_EVENTS)
    for name, tally in stages.items():
        tallies[names[name]] = tallies[names[name]].plus(tally)
    packed = [
        row.index << STAGE_BITS | np.array([numbers[names[name]] for name in row.stages], np.int64)[row.stage]
        for row in rows
        if len(row.index)
    ]
    cells = _cells(
        np.concatenate([NO_CELLS, *packed]),
        np.concatenate([NO_CELLS, *(row.count for row in rows)]),
        np.concatenate([NO_CELLS, *(row.errors for row in rows)]),
    )
    return Rollup(start_ms, width, tallies, *cells, _few(event_types), dict(sorted(revised.items())))


def _kept(events: dict[str, int]) -> dict[str, str]:
    """Each name as it is kept: itself, or OTHER where more than MOST_NAMES of them have more events."""
    most = sorted(events, key=lambda name: (-events[name], name))
    return dict.fromkeys(most, OTHER) | {name: name for name in most[:MOST_NAMES]}


def _few(event_types: dict[str, int]) -> dict[str, int]:
    names = _kept(event_types)
    kept = dict.fromkeys(sorted(set(names.values())), 0)
    for name, count in event_types.items():
        kept[names[name]] += count
    return kept


def encode(row: Rollup) -> bytes:
    """The row as bytes. Indexes are stored as differences to the one before, most of which fit a byte."""
    table = np.stack((row.index, row.stage, row.count, row.errors), dtype=np.int64, casting="unsafe")
    table[0, 1:] -= row.index[:-1]
    most = table.max(axis=1, initial=0).tolist()
    columns = [narrow_to(column, top) if top else _NO_COLUMN for column, top in zip(table, most, strict=True)]
    widths = (column.itemsize if len(column) else 0 for column in columns)
    head = _HEAD.pack(row.start_ms, row.width, len(row.index), *widths)
    sums = msgspec.msgpack.encode((row.stages, row.event_types, row.revised))
    sealed = b"".join((head, *(column.tobytes() for column in columns), sums))
    return _SEAL.pack(ROLLUP_FORMAT, zlib.crc32(sealed)) + sealed


def _columns(data: bytes, widths: Iterable[int], cells: int, at: int) -> tuple[list[Column], int]:
    """Columns of `cells` numbers each, from byte `at` on, and where they end."""
    columns: list[Column] = []
    for width in widths:
        columns.append(view(data, width, cells, at) if width else np.zeros(cells, np.uint8))
        at += cells * width
    return columns, at


_read_sums = msgspec.msgpack.Decoder(tuple[dict[str, Tally], dict[str, int], dict[str, int]])


def decode(data: bytes) -> Rollup:
    """The row of `encode`. Raises CorruptEntryError, or NewerFormatError where a newer release wrote it."""
    _check_seal(data)
    try:
        start_ms, width, cells, *widths = _HEAD.unpack_from(data, _SEAL.size)
        (steps, stage, count, errors), at = _columns(data, widths, cells, _SEAL.size + _HEAD.size)
        stages, event_types, revised = _read_sums.decode(memoryview(data)[at:])
        row = Rollup(start_ms, Width(width), stages, _sums_of(steps), stage, count, errors, event_types, revised)
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise CorruptEntryError(f"a rollup row cannot be read: {error}") from error
    if cells and (int(row.index[-1]) > INDEX_MASK or int(stage.max()) >= len(stages)):
        raise CorruptEntryError("a rollup row has a cell that there cannot be")
    return row


def _sums_of(steps: Column) -> Column:
    """What the differences add up to, one by one. Widened before, it takes less than np.cumsum with a type."""
    sums = steps.astype(np.int32)
    np.add.accumulate(sums, out=sums)
    return sums


def _check_seal(data: bytes) -> None:
    if len(data) < _SEAL.size:
        raise CorruptEntryError("a rollup row is cut off")
    version, checksum = _SEAL.unpack_from(data)
    if version > ROLLUP_FORMAT:
        raise NewerFormatError(f"rollup format {version}; this release reads up to {ROLLUP_FORMAT}")
    if not version or zlib.crc32(memoryview(data)[_SEAL.size :]) != checksum:
        raise CorruptEntryError("a rollup row's checksum does not match")
