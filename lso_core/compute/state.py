"""What a worker knows of one system: the slots of its window, and what stays when the window is empty.

Values are immutable: a fold makes a new state that shares the untouched slots, so a commit that is refused leaves
nothing to undo. Stored form: one hash field of meta and one a slot, each behind a version byte.
"""

import struct
import zlib
from typing import Final

import msgspec
import numpy as np

from lso_core.compute import histogram
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.histogram import Int64
from lso_core.compute.packing import narrow, widen
from lso_core.model.health import Health
from lso_core.model.windows import SLOT_MS

STATE_FORMAT: Final = 2
"""2 since a meta says what is written in rows, and a slot tells the cells of errors."""
LAST_FORMAT: Final = 31
"""No release writes a higher one, so that text in the place of a value is not taken for a newer release's."""
SLOT_PREFIX: Final = b"s"
NO_CELLS: Final = np.empty(0, np.int64)

_SEAL: Final = struct.Struct("<BI")
"""format, CRC-32 of all that follows, from format 2 on begun with the format."""
_CELLS: Final = struct.Struct("<IBB")
"""cells, bytes of a key, bytes of a count."""


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


NO_EVENTS: Final = Tally(0, 0, 0, 0, 0, 0)


class Slot(msgspec.Struct, frozen=True):
    """One slot of event time. A cell's key is stage << INDEX_BITS | histogram index; keys ascend."""

    keys: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    counts: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    error_keys: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    error_counts: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    """The cells of the errors among them, for history: it tells what was right and in time."""
    stages: dict[int, Tally] = {}
    """By stage number; 0 is for events without a stage."""
    event_types: dict[int, int] = {}
    late: int = 0
    clock_skewed: int = 0

    def plus(self, other: "Slot") -> "Slot":
        """Both slots in one."""
        keys, counts = histogram.add_cells(self.keys, self.counts, other.keys, other.counts)
        errors = histogram.add_cells(self.error_keys, self.error_counts, other.error_keys, other.error_counts)
        stages = dict(self.stages)
        for stage, tally in other.stages.items():
            stages[stage] = stages.get(stage, NO_EVENTS).plus(tally)
        event_types = dict(self.event_types)
        for event_type, count in other.event_types.items():
            event_types[event_type] = event_types.get(event_type, 0) + count
        late, skewed = self.late + other.late, self.clock_skewed + other.clock_skewed
        return Slot(keys, counts, *errors, stages, event_types, late, skewed)


class Meta(msgspec.Struct, frozen=True, array_like=True):
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


class State(msgspec.Struct, frozen=True):
    """One system's window and meta. `keys` and `counts` are the cells of all slots added together."""

    meta: Meta = Meta()
    slots: dict[int, Slot] = {}
    """By the slot's first millisecond."""
    keys: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    counts: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)

    def roll(self, start_ms: int) -> "State":
        """The state without the slots before `start_ms`."""
        gone = [slot for start, slot in self.slots.items() if start < start_ms]
        if not gone:
            return self
        slots = {start: slot for start, slot in self.slots.items() if start >= start_ms}
        keys, counts = histogram.sum_cells(
            np.concatenate((self.keys, *(slot.keys for slot in gone))),
            np.concatenate((self.counts, *(-slot.counts for slot in gone))),
        )
        return State(self.meta, slots, keys, counts)

    def add(self, arrived: dict[int, Slot], meta: Meta) -> "State":
        """The state with what arrived added to its slots."""
        if not arrived:
            return State(meta, self.slots, self.keys, self.counts)
        slots = dict(self.slots)
        for start, slot in arrived.items():
            slots[start] = slots[start].plus(slot) if start in slots else slot
        keys, counts = histogram.sum_cells(
            np.concatenate((self.keys, *(slot.keys for slot in arrived.values()))),
            np.concatenate((self.counts, *(slot.counts for slot in arrived.values()))),
        )
        return State(meta, slots, keys, counts)


def from_slots(meta: Meta, slots: dict[int, Slot]) -> State:
    """A state with its cells added up."""
    return State(meta).add(slots, meta)


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
    cells = _pack_cells(slot.keys, slot.counts) + _pack_cells(slot.error_keys, slot.error_counts)
    return _SEAL.pack(STATE_FORMAT, zlib.crc32(cells + sums, STATE_FORMAT)) + cells + sums


def _pack_cells(keys: Int64, counts: Int64) -> bytes:
    """Keys as differences to the one before: they ascend, so most fit a byte or two."""
    steps, packed = narrow(_steps(keys)), narrow(counts)
    return _CELLS.pack(len(steps), steps.itemsize, packed.itemsize) + steps.tobytes() + packed.tobytes()


def _steps(keys: Int64) -> Int64:
    """Each key's distance to the one before; for few keys faster than np.diff."""
    steps = keys.copy()
    steps[1:] -= keys[:-1]
    return steps


def decode_slot(data: bytes) -> Slot:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    begun = data[0] if data[0] > 1 else 0
    if len(data) < _SEAL.size or zlib.crc32(memoryview(data)[_SEAL.size :], begun) != _SEAL.unpack_from(data)[1]:
        raise CorruptEntryError("a slot's checksum does not match")
    try:
        keys, counts, at = _unpack_cells(data, _SEAL.size)
        error_keys, error_counts, at = _unpack_cells(data, at) if data[0] > 1 else (NO_CELLS, NO_CELLS, at)
        sums = _read_sums.decode(memoryview(data)[at:])
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise CorruptEntryError("a slot cannot be read") from error
    return Slot(keys, counts, error_keys, error_counts, *sums)


def _unpack_cells(data: bytes, at: int) -> tuple[Int64, Int64, int]:
    """Keys, counts, and where they end."""
    cells, key_width, count_width = _CELLS.unpack_from(data, at)
    at += _CELLS.size
    steps = widen(data, key_width, cells, at)
    at += cells * key_width
    counts = widen(data, count_width, cells, at)
    return np.cumsum(steps), counts, at + cells * count_width


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
