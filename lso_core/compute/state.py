"""What a worker knows of one system: the slots of its window, and what stays when the window is empty.

Values are immutable: a fold makes a new state that shares the untouched slots, so a commit that is refused leaves
nothing to undo. Stored form: one hash field of meta and one a slot, each behind a version byte.

What a step makes of each system, here and where the others of its values are defined, is made with `gc=False`: immutable
values hold no reference cycle, and to look through those of ten thousand systems again and again costs a twentieth of a step.
"""

import functools
import itertools
import struct
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from lso_core.compute import cells, histogram
from lso_core.compute.cells import EMPTY, NO_CELLS
from lso_core.compute.checksum import crc32
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.histogram import Int64
from lso_core.model.health import Health
from lso_core.model.windows import SLOT_MS

STATE_FORMAT: Final = 2
"""2 since a meta says what is written in rows, and a slot tells the cells of errors."""
LAST_FORMAT: Final = 31
"""No release writes a higher one, so that text in the place of a value is not taken for a newer release's."""
SLOT_PREFIX: Final = b"s"

_SEAL: Final = struct.Struct("<BI")
"""format, CRC-32 of all that follows, from format 2 on begun with the format."""


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Exact sums over the counted events of one stage in one slot."""

    total: int
    errors: int
    timed: int
    """How many of them have a latency: all, by the rules of the edge."""
    sum_us: int
    min_us: int
    max_us: int

    def plus(self, other: "Tally") -> "Tally":
        """The sums over both."""
        if not self.timed or not other.timed:
            low, high = (self.min_us, self.max_us) if self.timed else (other.min_us, other.max_us)
        else:
            low, high = min(self.min_us, other.min_us), max(self.max_us, other.max_us)
        return Tally(
            self.total + other.total,
            self.errors + other.errors,
            self.timed + other.timed,
            self.sum_us + other.sum_us,
            low,
            high,
        )

    def less(self, other: "Tally", parts: Callable[[], list["Tally"]]) -> "Tally":
        """The sums over what is left without `other`, a part of it but not all; `parts` tells what that is, should an extreme go."""
        low, high = self.min_us, self.max_us
        if other.timed and (other.min_us <= low or other.max_us >= high):
            left = parts()
            left = [part for part in left if part.timed] or left
            low, high = min([part.min_us for part in left]), max([part.max_us for part in left])
        return Tally(
            self.total - other.total,
            self.errors - other.errors,
            self.timed - other.timed,
            self.sum_us - other.sum_us,
            low,
            high,
        )


NO_EVENTS: Final = Tally(0, 0, 0, 0, 0, 0)


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One slot of event time. A cell's key is stage << INDEX_BITS | histogram index."""

    cells: bytes = EMPTY
    """As `compute.cells` packs them: a window has a hundred thousand, most of which a fold does not change."""
    error_cells: bytes = EMPTY
    """Those of the errors among them, for history: it tells what was right and in time."""
    stages: dict[int, Tally] = {}
    """By stage number; 0 is for events without a stage."""
    event_types: dict[int, int] = {}
    late: int = 0
    clock_skewed: int = 0

    def opened(self) -> "Arrived":
        """The same, with cells that are not packed."""
        packed = cells.unpack(self.cells), cells.unpack(self.error_cells)
        return Arrived(*packed[0], *packed[1], self.stages, self.event_types, self.late, self.clock_skewed)


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """What comes to a slot: the same, with cells that are not packed."""

    keys: Int64 = NO_CELLS
    counts: Int64 = NO_CELLS
    error_keys: Int64 = NO_CELLS
    error_counts: Int64 = NO_CELLS
    stages: dict[int, Tally] = {}
    event_types: dict[int, int] = {}
    late: int = 0
    clock_skewed: int = 0


def _added(slots: Sequence[Slot], arrived: Sequence[Arrived], all_cells: Sequence[bytes]) -> list[Slot]:
    """Each slot with what comes to it; its cells are that already."""
    errors = [slot.error_cells for slot in slots]
    more = [(one.error_keys, one.error_counts) for one in arrived]
    if any(len(keys) for keys, _ in more):
        errors = cells.add(errors, *cells.joined(more), [0, *itertools.accumulate(len(keys) for keys, _ in more)])
    return [
        Slot(
            packed,
            error_cells,
            _add_tallies(slot.stages, more.stages),
            _add_counts(slot.event_types, more.event_types),
            slot.late + more.late,
            slot.clock_skewed + more.clock_skewed,
        )
        for slot, more, packed, error_cells in zip(slots, arrived, all_cells, errors, strict=True)
    ]


def _add_tallies(known: dict[int, Tally], more: dict[int, Tally]) -> dict[int, Tally]:
    if not known:
        return more
    sums = dict(known)
    for stage, tally in more.items():
        sums[stage] = sums[stage].plus(tally) if stage in sums else tally
    return sums


def _add_counts(known: dict[int, int], more: dict[int, int]) -> dict[int, int]:
    if not known:
        return more
    sums = dict(known)
    for number, count in more.items():
        sums[number] = sums.get(number, 0) + count
    return sums


NO_SLOT: Final = Slot()


class Meta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stays when the window is empty."""

    as_of_ms: int = 0
    """Redis' time up to which everything accepted is folded; 0 before the first fold."""
    stages: tuple[str, ...] = ()
    """Stage number i + 1 is `stages[i]`. A number is given anew once no slot holds it."""
    event_types: tuple[str, ...] = ()
    last_event_ms: int | None = None
    last_counted_ms: int | None = None
    last_ok_ms: int | None = None
    health: Health = Health.UNKNOWN
    since_ms: int | None = None
    unreadable: tuple[int, ...] = ()
    """Which of the latest entries could not be read, by their number in the stream."""
    written_ms: int = 0
    """Start of the minute before which everything counted stands in rows; 0 while there is none."""


class State(msgspec.Struct, frozen=True, gc=False):
    """One system's window and meta."""

    meta: Meta = Meta()
    slots: dict[int, Slot] = {}
    """By the slot's first millisecond."""
    cells: bytes = EMPTY
    """Those of all slots added together."""
    sums: Slot = NO_SLOT
    """All else of the slots added together, so that a step costs as much as what comes and goes, not as the window."""
    packed: int = 0
    """Bytes of the slots' cells."""

    def before(self, start_ms: int) -> frozenset[int]:
        """The slots before `start_ms`."""
        return frozenset([start for start in self.slots if start < start_ms])

    def sums_without(self, gone: Collection[int]) -> Slot:
        """The sums without these slots."""
        return _without(self.sums, self.slots, gone) if gone else self.sums

    def carry(self, gone: Collection[int], sums: Slot, arrived: dict[int, Arrived], meta: Meta) -> "State":
        """The state without the slots that are gone, `sums` being those without them, and with what arrived."""
        if not gone and not arrived:
            return msgspec.structs.replace(self, meta=meta)
        slots, comes = dict(self.slots), list(arrived.values())
        leaving = [slots.pop(start) for start in gone]
        before = [slots.get(start, NO_SLOT) for start in arrived]
        window, of_slots = cells.carry(
            self.cells,
            [slot.cells for slot in leaving],
            [slot.cells for slot in before],
            [(one.keys, one.counts) for one in comes],
        )
        after = _added(before, comes, of_slots)
        slots.update(zip(arrived, after, strict=True))
        packed = self.packed + _packed(after) - _packed([*leaving, *(one for one in before if one is not NO_SLOT)])
        return State(meta, slots, window, functools.reduce(_plus, comes, sums), packed)


def from_slots(meta: Meta, slots: dict[int, Slot]) -> State:
    """A state with its slots added up."""
    keys, counts = histogram.sum_cells(*cells.joined([cells.unpack(slot.cells) for slot in slots.values()]))
    sums = functools.reduce(_plus, slots.values(), NO_SLOT)
    return State(meta, slots, cells.pack(keys, counts), sums, _packed(slots.values()))


def _packed(slots: Collection[Slot]) -> int:
    return sum(len(slot.cells) + len(slot.error_cells) for slot in slots)


def _plus(sums: Slot, more: Slot | Arrived) -> Slot:
    """The sums with those of a slot; they have no cells."""
    return Slot(
        stages=_add_tallies(sums.stages, more.stages),
        event_types=_add_counts(sums.event_types, more.event_types),
        late=sums.late + more.late,
        clock_skewed=sums.clock_skewed + more.clock_skewed,
    )


def _without(sums: Slot, slots: dict[int, Slot], gone: Collection[int]) -> Slot:
    """The sums of slots without those that are gone; only where an extreme leaves with them are those that are kept looked at."""
    leaving = functools.reduce(_plus, [slots[start] for start in gone])
    stages, event_types = dict(sums.stages), dict(sums.event_types)
    for number, tally in leaving.stages.items():
        if tally.total < stages[number].total:
            stages[number] = stages[number].less(tally, functools.partial(_tallies_of, number, slots, gone))
        else:
            del stages[number]
    for number, count in leaving.event_types.items():
        event_types[number] -= count
        if not event_types[number] and not any(number in slot.event_types for slot in _others(slots, gone)):
            del event_types[number]
    return Slot(
        stages=stages,
        event_types=event_types,
        late=sums.late - leaving.late,
        clock_skewed=sums.clock_skewed - leaving.clock_skewed,
    )


def _tallies_of(stage: int, slots: dict[int, Slot], gone: Collection[int]) -> list[Tally]:
    return [slot.stages[stage] for slot in _others(slots, gone) if stage in slot.stages]


def _others(slots: dict[int, Slot], gone: Collection[int]) -> list[Slot]:
    return [slot for start, slot in slots.items() if start not in gone]


def encode_meta(meta: Meta) -> bytes:
    return bytes((STATE_FORMAT,)) + msgspec.msgpack.encode(meta)


_read_meta = msgspec.msgpack.Decoder(Meta)
_read_sums = msgspec.msgpack.Decoder(tuple[dict[int, Tally], dict[int, int], int, int])


def decode_meta(data: bytes) -> Meta:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    try:
        return _read_meta.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptEntryError("the meta of a state cannot be read") from error


def encode_slot(slot: Slot) -> bytes:
    """All cells, the cells of errors, and the sums."""
    sums = msgspec.msgpack.encode((slot.stages, slot.event_types, slot.late, slot.clock_skewed))
    parts = b"".join((slot.cells, slot.error_cells, sums))
    return _SEAL.pack(STATE_FORMAT, crc32(parts, len(parts), STATE_FORMAT)) + parts


def decode_slot(data: bytes) -> Slot:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    begun = data[0] if data[0] > 1 else 0
    if len(data) < _SEAL.size or zlib.crc32(memoryview(data)[_SEAL.size :], begun) != _SEAL.unpack_from(data)[1]:
        raise CorruptEntryError("a slot's checksum does not match")
    try:
        all_cells, at = cells.cut(data, _SEAL.size)
        errors, at = cells.cut(data, at) if data[0] > 1 else (EMPTY, at)
        sums = _read_sums.decode(memoryview(data)[at:])
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise CorruptEntryError("a slot cannot be read") from error
    return Slot(all_cells, errors, *sums)


def _check_format(data: bytes) -> None:
    if not data or not data[0]:
        raise CorruptEntryError("an empty value in a state")
    if data[0] > LAST_FORMAT:
        raise CorruptEntryError("a value in a state begins with no format")
    if data[0] > STATE_FORMAT:
        raise NewerFormatError(f"state format {data[0]}; this release reads up to {STATE_FORMAT}", state=data[0])


def slot_field(start_ms: int) -> bytes:
    """The hash field of the slot that starts at `start_ms`."""
    return SLOT_PREFIX + b"%d" % (start_ms // SLOT_MS)


def slot_start(field: bytes) -> int:
    """The inverse of `slot_field`. Raises CorruptEntryError."""
    try:
        return int(field.removeprefix(SLOT_PREFIX)) * SLOT_MS
    except ValueError as error:
        raise CorruptEntryError("a field of a state is no slot") from error
