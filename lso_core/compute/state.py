"""What a worker knows of one system: the slots of its window, and what stays when the window is empty.

Values are immutable: a fold makes a new state that shares the untouched slots, so a commit that is refused leaves
nothing to undo. Stored form: one hash field of meta and one a slot, each behind a version byte. A state keeps its slots in
that form: most of them are not looked at between their making and their end, and as objects they would take several times
the memory.

What a step makes of each system, here and where the others of its values are defined, is made with `gc=False`: immutable
values hold no reference cycle, and to look through those of ten thousand systems again and again costs a twentieth of a step.
"""

import functools
import struct
import zlib
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
PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)
"""Those that a state keeps at hand."""

_SEAL: Final = struct.Struct("<BI")
"""format, CRC-32 of all that follows, from format 2 on begun with the format."""


MOST_US: Final = (1 << 64) - 1
"""Largest number that can be stored. Thirty million latencies of seven days each add up to more, and count as so much."""


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Exact sums over the counted events of one stage in one slot."""

    total: int
    errors: int
    timed: int
    """How many of them have a latency: all, by the rules of the edge."""
    sum_us: int
    """At most MOST_US."""
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
            min(self.sum_us + other.sum_us, MOST_US),
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

    def packed(self) -> Slot:
        """As a slot to which nothing else came."""
        packed = cells.pack(self.keys, self.counts), cells.pack(self.error_keys, self.error_counts)
        return Slot(*packed, self.stages, self.event_types, self.late, self.clock_skewed)


NO_SLOT: Final = Slot()


def add_tallies(known: dict[int, Tally], more: dict[int, Tally]) -> dict[int, Tally]:
    """The sums over both, by stage."""
    if not known:
        return more
    sums = dict(known)
    for stage, tally in more.items():
        sums[stage] = sums[stage].plus(tally) if stage in sums else tally
    return sums


def add_counts(known: dict[int, int], more: dict[int, int]) -> dict[int, int]:
    """The sums of both, by number."""
    if not known:
        return more
    sums = dict(known)
    for number, count in more.items():
        sums[number] = sums.get(number, 0) + count
    return sums


class Sums(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What slots hold beside their cells: of one of them, or of all of a window."""

    stages: dict[int, Tally]
    event_types: dict[int, int]
    late: int
    clock_skewed: int

    def plus(self, more: "Sums | Slot | Arrived") -> "Sums":
        """The sums with more."""
        return Sums(
            add_tallies(self.stages, more.stages),
            add_counts(self.event_types, more.event_types),
            self.late + more.late,
            self.clock_skewed + more.clock_skewed,
        )


NO_SUMS: Final = Sums({}, {}, 0, 0)


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
    slots: dict[int, bytes] = {}
    """As they are stored in STATE_FORMAT, by the slot's first millisecond."""
    cells: bytes = EMPTY
    """Those of all slots added together."""
    sums: bytes = msgspec.msgpack.encode(NO_SUMS)
    """All else of the slots added together, so that a step costs as much as what comes and goes, not as the window."""
    values: list[list[int]] = []
    """In µs, at PERCENTILES: of all `cells`, then of those of each stage that has some."""
    packed: int = 0
    """Bytes of the slots."""

    def opened(self) -> dict[int, Slot]:
        """The slots."""
        return {start: open_slot(value) for start, value in self.slots.items()}

    def numbers_from(self, start_ms: int) -> tuple[set[int], set[int]]:
        """The numbers of stages, and of types, that slots from `start_ms` on hold: those that may not be given anew."""
        if min(self.slots, default=start_ms) >= start_ms:
            sums = self.summed()
            return set(sums.stages), set(sums.event_types)
        kept = [_numbers_of(value) for start, value in self.slots.items() if start >= start_ms]
        stages, event_types = (set[int]().union(*some) for some in zip(*kept, strict=True)) if kept else (set(), set())
        return stages, event_types

    def summed(self) -> Sums:
        """All of the slots but their cells, added together."""
        return _read_sums.decode(self.sums)


def from_stored(meta: Meta, values: dict[int, bytes]) -> State:
    """A state with its slots as they are stored added up. Raises CorruptEntryError or NewerFormatError."""
    slots = {start: decode_slot(value) for start, value in values.items()}
    values = {
        start: value if value[0] == STATE_FORMAT else encode_slot(slots[start]) for start, value in values.items()
    }
    counted = histogram.sum_cells(*cells.joined([cells.unpack(slot.cells) for slot in slots.values()]))
    packed = cells.pack(*counted)
    sums = functools.reduce(Sums.plus, slots.values(), NO_SUMS)
    try:
        found = cells.percentiles(PERCENTILES, packed)
    except ValueError as error:
        raise CorruptEntryError(f"the slots of a window: {error}") from error
    return State(meta, values, packed, encode_sums(sums), found, sum(map(len, values.values())))


def from_slots(meta: Meta, slots: dict[int, Slot]) -> State:
    """A state with its slots added up."""
    return from_stored(meta, {start: encode_slot(slot) for start, slot in slots.items()})


def encode_meta(meta: Meta) -> bytes:
    return bytes((STATE_FORMAT,)) + msgspec.msgpack.encode(meta)


_read_meta = msgspec.msgpack.Decoder(Meta)
_read_sums = msgspec.msgpack.Decoder(Sums)
_read_numbers = msgspec.msgpack.Decoder(tuple[dict[int, msgspec.Raw], dict[int, msgspec.Raw], int, int])
encode_sums = msgspec.msgpack.Encoder().encode


def decode_meta(data: bytes) -> Meta:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    try:
        return _read_meta.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptEntryError("the meta of a state cannot be read") from error


def encode_slot(slot: Slot) -> bytes:
    """All cells, the cells of errors, and the sums."""
    sums = encode_sums((slot.stages, slot.event_types, slot.late, slot.clock_skewed))
    parts = b"".join((slot.cells, slot.error_cells, sums))
    return _SEAL.pack(STATE_FORMAT, crc32(parts, len(parts), STATE_FORMAT)) + parts


def decode_slot(data: bytes) -> Slot:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    begun = data[0] if data[0] > 1 else 0
    if len(data) < _SEAL.size or zlib.crc32(memoryview(data)[_SEAL.size :], begun) != _SEAL.unpack_from(data)[1]:
        raise CorruptEntryError("a slot's checksum does not match")
    try:
        return open_slot(data)
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise CorruptEntryError("a slot cannot be read") from error


def open_slot(data: bytes) -> Slot:
    """A slot that is known to be whole. Raises ValueError, struct.error or msgspec.MsgspecError where it is none."""
    all_cells, at = cells.cut(data, _SEAL.size)
    errors, at = cells.cut(data, at) if data[0] > 1 else (EMPTY, at)
    sums = _read_sums.decode(memoryview(data)[at:])
    return Slot(all_cells, errors, sums.stages, sums.event_types, sums.late, sums.clock_skewed)


def _numbers_of(data: bytes) -> tuple[dict[int, msgspec.Raw], dict[int, msgspec.Raw]]:
    """The stages and types of a slot by number, in STATE_FORMAT."""
    at = cells.end_of(data, cells.end_of(data, _SEAL.size))
    stages, event_types, _, _ = _read_numbers.decode(memoryview(data)[at:])
    return stages, event_types


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
