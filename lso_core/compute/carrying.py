"""Windows carried on: what arrived added to their slots and to their sums, and what has left taken out of these.

Two ways to the same bytes, which tests hold against each other: a kernel that takes many systems at once, all of it as it
is stored, and numpy for machines that have no kernels. A step of a quiet system is all overhead, which systems that share
one call share, too. Of a state that no release wrote they may think differently.
"""

import ctypes
import functools
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from lso_core.compute import cells, grouping, kernel
from lso_core.compute.grouping import NOTHING_SEEN, Entry
from lso_core.compute.state import (
    MOST_US,
    NO_SLOT,
    NO_SUMS,
    PERCENTILES,
    STATE_FORMAT,
    Arrived,
    Meta,
    Slot,
    State,
    Sums,
    Tally,
    add_counts,
    add_tallies,
    encode_slot,
    encode_sums,
    open_slot,
)
from lso_core.model.windows import SLOT_MS


class Passage(NamedTuple):
    """One window on its way."""

    state: State
    entries: Sequence[Entry]
    """What arrived."""
    start_ms: int
    """Start of the window then…"""
    over_ms: int
    """…and of the minute up to which everything goes into history."""


class Carried(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of one window."""

    status: int
    """0, or what was wrong."""
    passed: int
    """As `Seen` has it, and so are the next three."""
    latest: int | None
    latest_counted: int | None
    latest_ok: int | None
    cells: bytes | None
    """None where nothing came and nothing went."""
    values: list[list[int]] | None
    gone: list[int]
    """The slots that left."""
    slots: dict[int, bytes]
    """Those that something came to, as they are stored."""
    came: dict[int, bytes]
    """What came to those of them that are over, in the same form."""
    sums: bytes | None

    def state(self, before: State, meta: Meta) -> State:
        """The state that `before` becomes."""
        if self.cells is None or self.values is None or self.sums is None:
            return msgspec.structs.replace(before, meta=meta)
        slots, packed = dict(before.slots), before.packed
        for start in self.gone:
            packed -= len(slots.pop(start))
        for start, value in self.slots.items():
            packed += len(value) - len(slots.get(start, b""))
            slots[start] = value
        return State(meta, slots, self.cells, self.sums, self.values, packed)


def carry(passages: Sequence[Passage]) -> list[Carried | Exception]:
    """What comes of each; an error where a state is not as it should be, which keeps none of the others up."""
    try:
        if (compiled := _compiled()) is not None:
            return [_sound(one) for one in compiled(passages)]
        return [_carry(*passage) for passage in passages]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is that of one system alone, of which is found out by itself
        return [error] if len(passages) == 1 else [found for passage in passages for found in carry([passage])]


def _sound(carried: Carried) -> Carried | Exception:
    return carried if carried.status == 0 else ValueError("a state, or a block of columns, is not as it should be")


# By a kernel. Layouts are those of native/carry.h.


class _Arrived(ctypes.Structure):
    """`struct lso_arrived`"""

    _fields_ = (
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_int64),
        ("blocks", ctypes.c_char_p),
        ("tables", ctypes.c_char_p),
        ("tables_size", ctypes.c_int64),
    )


class _Windows(ctypes.Structure):
    """`struct lso_windows`"""

    _fields_ = (
        ("systems", ctypes.c_char_p),
        ("count", ctypes.c_int64),
        ("texts", ctypes.POINTER(ctypes.c_char_p)),
        ("sizes", ctypes.c_char_p),
        ("starts", ctypes.c_char_p),
        ("parts", ctypes.c_char_p),
        ("part_count", ctypes.c_int64),
        ("format", ctypes.c_int64),
    )


_read_carried: Final = msgspec.msgpack.Decoder(list[Carried])


@functools.cache
def _compiled() -> Any:
    if kernel.trouble() is not None:
        return None
    told = map(ctypes.POINTER, (_Arrived, _Windows, kernel.Bytes))
    run: Any = kernel.function("lso_carry", *told, result=ctypes.c_int)
    free: Any = kernel.function("lso_free_bytes", ctypes.POINTER(kernel.Bytes), result=None)

    def carry(passages: Sequence[Passage]) -> list[Carried]:
        found = kernel.Bytes()
        try:
            if run(*_told(passages), found):
                raise MemoryError
            return _read_carried.decode(ctypes.string_at(found.data, found.used))
        finally:
            free(found)

    return carry


def _told(passages: Sequence[Passage]) -> tuple[_Arrived, _Windows]:
    """The windows as the kernel takes them."""
    blocks = grouping.Blocks(entry for passage in passages for entry in passage.entries)
    systems, texts, starts = list[int](), list[bytes](), list[int]()
    for state, entries, start_ms, over_ms in passages:
        systems += (start_ms // SLOT_MS, over_ms // SLOT_MS, len(entries), len(state.slots))
        texts += (state.cells, state.sums)
        texts += state.slots.values()
        starts += state.slots
    where, sizes = kernel.texts(texts)
    return (
        _Arrived(blocks.data, len(blocks.data), blocks.told, blocks.tables, len(blocks.tables)),
        _Windows(
            kernel.words(systems),
            len(passages),
            where,
            sizes,
            kernel.words(starts),
            cells.parts_of(PERCENTILES),
            len(PERCENTILES),
            STATE_FORMAT,
        ),
    )


# By numpy.


def _carry(state: State, entries: Sequence[Entry], start_ms: int, over_ms: int) -> Carried:
    seen, arrived = NOTHING_SEEN, dict[int, Arrived]()
    if entries:
        groups = grouping.grouping(entries).by_slot(start_ms // SLOT_MS)
        seen, arrived = groups.seen, {number * SLOT_MS: slot for number, slot in groups.arrived().items()}
    gone = [start for start in state.slots if start < start_ms]
    if not gone and not arrived:
        return Carried(0, *seen, None, None, [], {}, {}, None)
    leaving = [open_slot(state.slots[start]) for start in gone]
    more = [(one.keys, one.counts) for one in arrived.values()]
    window = cells.carry(state.cells, [slot.cells for slot in leaving], more)
    slots = {
        start: encode_slot(_added(open_slot(state.slots[start]) if start in state.slots else NO_SLOT, comes))
        for start, comes in arrived.items()
    }
    came = {start: encode_slot(comes.packed()) for start, comes in arrived.items() if start < over_ms}
    sums = _without(state, gone, leaving) if gone else state.summed()
    sums = functools.reduce(Sums.plus, arrived.values(), sums)
    values = cells.percentiles(PERCENTILES, window)
    return Carried(0, *seen, window, values, gone, slots, came, encode_sums(sums))


def _added(slot: Slot, more: Arrived) -> Slot:
    """A slot with what comes to it."""
    return Slot(
        cells.add(slot.cells, more.keys, more.counts),
        cells.add(slot.error_cells, more.error_keys, more.error_counts),
        add_tallies(slot.stages, more.stages),
        add_counts(slot.event_types, more.event_types),
        slot.late + more.late,
        slot.clock_skewed + more.clock_skewed,
    )


def _without(state: State, gone: Collection[int], leaving: Sequence[Slot]) -> Sums:
    """The sums without the slots that leave. Only where an extreme goes with them, or a number's last event, or a sum was full, are
    those that are kept looked at.
    """
    less, sums = functools.reduce(Sums.plus, leaving, NO_SUMS), state.summed()
    stages, event_types = dict(sums.stages), dict(sums.event_types)

    @functools.cache
    def kept() -> list[Slot]:
        return [open_slot(value) for start, value in state.slots.items() if start not in gone]

    for number, tally in less.stages.items():
        own = stages[number]
        if tally.total >= own.total:
            del stages[number]
        else:
            sum_us, low, high = own.sum_us - tally.sum_us, own.min_us, own.max_us
            if own.sum_us == MOST_US or (tally.timed and (tally.min_us <= low or tally.max_us >= high)):
                left = functools.reduce(Tally.plus, [slot.stages[number] for slot in kept() if number in slot.stages])
                sum_us, low, high = left.sum_us, left.min_us, left.max_us
            less_by = own.total - tally.total, own.errors - tally.errors, own.timed - tally.timed
            stages[number] = Tally(*less_by, sum_us, low, high)
    for number, count in less.event_types.items():
        event_types[number] -= count
        if not event_types[number] and not any(number in slot.event_types for slot in kept()):
            del event_types[number]
    return Sums(stages, event_types, sums.late - less.late, sums.clock_skewed - less.clock_skewed)
