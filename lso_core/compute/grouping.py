"""Events of many entries grouped by slot or by minute, and counted: the part of a fold that every event goes through.

Two ways to the same groups, which tests hold against each other: a kernel that reads the blocks as they are stored, and
numpy for machines that have no kernels.
"""

import ctypes
import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import histogram, kernel
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.columns import Block, Columns
from lso_core.compute.histogram import INDEX_BITS, Int64
from lso_core.compute.state import Arrived, Tally
from lso_core.model.events import LIFECYCLE
from lso_core.model.rollups import Width
from lso_core.model.windows import SLOT_MS

Bools = npt.NDArray[np.bool_]

_STAGE_BITS: Final = 8
"""Stage numbers are at most STAGES + 1, for OTHER; numbers of types are smaller."""
_CELL_BITS: Final = _STAGE_BITS + INDEX_BITS
_IS_LIFECYCLE: Final = 1
"""Below the number of a type, in tables."""
_NEVER: Final = -(1 << 63)


class Entry(NamedTuple):
    """What is grouped of an entry."""

    at_ms: int
    start_ms: int
    """Of the window at its arrival: what is before that is late."""
    block: Block
    tables: "Tables"


class Tables(NamedTuple):
    """The state's number of each number in a block."""

    stages: bytes
    event_types: bytes
    """Each with whether it is a lifecycle event below it."""

    @classmethod
    def of(
        cls, stages: Sequence[str], event_types: Sequence[str], stage: dict[str, int], event_type: dict[str, int]
    ) -> Self:
        """Those of a block with these names, by the number of each name."""
        types = [event_type[name] << 1 | (name in LIFECYCLE) for name in event_types]
        return cls(bytes((0, *map(stage.__getitem__, stages))), bytes(types))


class Seen(NamedTuple):
    """What was seen of all events, grouped or not; times in ms, None where there is no such event."""

    passed: int
    """Events that are in no slot: late ones, and those whose slot has left the window."""
    latest: int | None
    latest_counted: int | None
    latest_ok: int | None


NOTHING_SEEN: Final = Seen(0, None, None, None)


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a slot, or a minute."""

    number: int
    stages: dict[int, Tally]
    event_types: dict[int, int]
    """How many are shown of each, if any."""
    late: int
    clock_skewed: int
    late_stages: dict[int, int]
    """How many of the counted events of a stage were late, if any."""
    cells_end: int
    """Its cells go from where those of the one before end up to here…"""
    error_cells_end: int
    """…and so do those of its errors."""


class Groups(msgspec.Struct, frozen=True):
    """What was counted; everything is in ascending order."""

    told: list[Told]
    seen: Seen
    keys: Int64
    counts: Int64
    error_keys: Int64
    error_counts: Int64

    def arrived(self) -> dict[int, Arrived]:
        """By number of the slot or minute."""
        found, at, error_at = dict[int, Arrived](), 0, 0
        for one in self.told:
            cells, errors = slice(at, one.cells_end), slice(error_at, one.error_cells_end)
            found[one.number] = Arrived(
                self.keys[cells],
                self.counts[cells],
                self.error_keys[errors],
                self.error_counts[errors],
                one.stages,
                one.event_types,
                one.late,
                one.clock_skewed,
            )
            at, error_at = one.cells_end, one.error_cells_end
        return found

    def late(self) -> dict[int, dict[int, int]]:
        """By minute and stage, how many of the counted events were late."""
        return {one.number: one.late_stages for one in self.told if one.late_stages}


class Grouping(Protocol):
    """Entries that can be grouped."""

    def by_slot(self, first: int) -> Groups:
        """By number of the slot, those of slots from `first` on. A late event counts as late alone, in the slot of its arrival."""
        ...

    def by_minute(self, first: int, before_ms: int) -> Groups:
        """By number of the minute in which they happened, those that are in none of these slots, before `before_ms`."""
        ...


def grouping(entries: Sequence[Entry]) -> Grouping:
    """The quickest way to group entries that there is here."""
    return Plain(entries) if _compiled() is None else Compiled(entries)


# By a kernel. Layouts are those of native/fold.h.

_HEAD_FIELDS: Final = 7
_TOLD_WORDS: Final = 10
_read_told = msgspec.msgpack.Decoder(list[Told])


class Blocks:
    """The blocks of entries, one after another, as kernels take them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        tables, begins, at = bytearray(), dict[Tables, tuple[int, ...]](), 0
        fields, data = list[int](), list[bytes]()
        for at_ms, start_ms, block, names in entries:
            where = begins.get(names)
            if where is None:
                begin, middle = len(tables), len(tables) + len(names.stages)
                where = begins[names] = begin, len(names.stages), middle, len(names.event_types)
                tables += names.stages + names.event_types
            fields += (at + block.at, block.count, block.base_ms, block.widths, at_ms, start_ms, *where)
            data.append(block.data)
            at += len(block.data)
        self.data = b"".join(data)
        self.told = kernel.words(fields)
        self.tables = bytes(tables)


class Compiled:
    """Entries as the kernel takes them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._blocks, self._entries = Blocks(entries), len(entries)
        self._events = sum(entry.block.count for entry in entries)

    def by_slot(self, first: int) -> Groups:
        return self._grouped(0, first, 0)

    def by_minute(self, first: int, before_ms: int) -> Groups:
        return self._grouped(1, first, before_ms)

    def _grouped(self, *how: int) -> Groups:
        events, blocks = self._events, self._blocks
        results = np.empty(_HEAD_FIELDS + (4 + _TOLD_WORDS) * events + 1, np.int64)
        told = blocks.data, len(blocks.data), blocks.told, self._entries, blocks.tables, len(blocks.tables)
        status = _compiled()(*told, *how, events, kernel.address(results))
        if status:
            raise MemoryError if status == -1 else ValueError("a block of columns is not as it was told")
        size, cells, errors, passed, *latest = results[:_HEAD_FIELDS].tolist()
        starts = (_HEAD_FIELDS + events * at for at in range(4))
        columns = (results[at : at + count] for at, count in zip(starts, (cells, cells, errors, errors), strict=True))
        texts = results[_HEAD_FIELDS + 4 * events :].view(np.uint8)[:size]
        return Groups(
            _read_told.decode(texts.data),
            Seen(passed, *(None if time == _NEVER else time for time in latest)),
            *columns,
        )


@functools.cache
def _compiled() -> Any:
    if kernel.trouble() is not None:
        return None
    text, number = ctypes.c_char_p, ctypes.c_int64
    arguments = (*(text, number) * 3, ctypes.c_int, number, number, number, ctypes.c_void_p)
    return kernel.function("lso_fold", *arguments, result=ctypes.c_int)


# By numpy.


class _Events(NamedTuple):
    """All events of all entries by column, with the state's numbers."""

    at_ms: Int64
    time_ms: Int64
    """min(ts, at)"""
    latency_us: Int64
    has_latency: Bools
    error: Bools
    stage: Int64
    event_type: Int64
    lifecycle: Bools
    late: Bools
    skewed: Bools

    def where(self, chosen: Bools | npt.NDArray[np.intp]) -> "_Events":
        """Some of the events, or in another order."""
        columns: Any = (column[chosen] for column in self)
        return _Events(*columns)


class Plain:
    """Entries as numpy takes them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._events = _events_of(entries)

    def by_slot(self, first: int) -> Groups:
        slot = self._slots()
        chosen = self._events.where(slot >= first)
        return self._grouped(first, chosen, slot[slot >= first], ~chosen.late)

    def by_minute(self, first: int, before_ms: int) -> Groups:
        passed = self._events.late | (self._slots() < first)
        chosen = self._events.where(passed & (self._events.time_ms < before_ms))
        return self._grouped(first, chosen, chosen.time_ms // Width.MINUTE, np.ones(len(chosen.late), np.bool_))

    def _slots(self) -> Int64:
        found: Int64 = np.where(self._events.late, self._events.at_ms, self._events.time_ms) // SLOT_MS
        return found

    def _seen(self, first: int) -> Seen:
        events = self._events
        counted, well = ~events.lifecycle, ~events.lifecycle & ~events.error
        times = (events.time_ms, events.time_ms[counted], events.time_ms[well])
        passed = np.count_nonzero(events.late | (self._slots() < first))
        return Seen(int(passed), *(int(some.max()) if len(some) else None for some in times))

    def _grouped(self, first: int, events: _Events, number: Int64, shown: Bools) -> Groups:
        counted = shown & ~events.lifecycle
        groups, *cells = _groups_of(events.where(counted), number[counted])
        return Groups(_told_of(groups, _kinds_of(events, number, shown)), self._seen(first), *cells)


def _events_of(entries: Sequence[Entry]) -> _Events:
    cut = [entry.block.columns() for entry in entries]
    sizes = [len(one) for one in cut]
    at = np.repeat(np.array([entry.at_ms for entry in entries], np.int64), sizes)
    start = np.repeat(np.array([entry.start_ms for entry in entries], np.int64), sizes)
    ts, has_ts = _joined(cut, "ts_ms"), _joined(cut, "has_ts")
    time = np.where(has_ts, np.minimum(ts, at), at)
    event_type = _named([entry.tables.event_types for entry in entries], [one.event_type for one in cut])
    return _Events(
        at_ms=at,
        time_ms=time,
        latency_us=_joined(cut, "latency_us"),
        has_latency=_joined(cut, "has_latency"),
        error=_joined(cut, "error"),
        stage=_named([entry.tables.stages for entry in entries], [one.stage for one in cut]),
        event_type=event_type >> 1,
        lifecycle=(event_type & _IS_LIFECYCLE).astype(np.bool_),
        late=time < start,  # both sides of the window's start are slot boundaries, so this compares slots
        skewed=has_ts & (ts > at),
    )


def _joined(cut: Sequence[Columns], name: str) -> Any:
    return np.concatenate([getattr(one, name) for one in cut])


def _named(tables: Sequence[bytes], columns: Sequence[Int64]) -> Int64:
    """The columns with the numbers that their tables have for theirs."""
    pairs = zip(tables, columns, strict=True)
    return np.concatenate([np.frombuffer(table, np.uint8).astype(np.int64)[column] for table, column in pairs])


def _told_of(groups: list[list[int]], kinds: list[list[int]]) -> list[Told]:
    """What is known of each number that has kinds; all that are in groups have."""
    found, of_groups, ends = list[Told](), _by_number(groups), [0, 0]
    for number, rows in _by_number(kinds).items():
        own = of_groups.get(number, [])
        *_, ends = [ends, *(row[-2:] for row in own)]
        stages = {stage: Tally(*tally) for stage, *tally, _, _, _ in own}
        late_stages = {stage: late for stage, *_, late, _, _ in own if late}
        types = {event_type: shown for event_type, shown, _, _ in rows if shown}
        late, skewed = (sum(row[at] for row in rows) for at in (2, 3))
        found.append(Told(number, stages, types, late, skewed, late_stages, *ends))
    return found


def _by_number(rows: list[list[int]]) -> dict[int, list[list[int]]]:
    """The rest of each row by the number that it begins with."""
    found: dict[int, list[list[int]]] = {}
    for number, *rest in rows:
        found.setdefault(number, []).append(rest)
    return found


def _groups_of(events: _Events, number: Int64) -> tuple[list[list[int]], Int64, Int64, Int64, Int64]:
    """The groups of counted events (number, stage, the fields of a Tally, how many were late, where cells and those of errors
    end), and the cells.

    One sort over (number, stage, histogram index), packed in one integer, puts equal cells side by side, the cells of a
    stage, and the stages of a number; everything after it is a reduction over runs.
    """
    if not len(number):
        return [], NO_CELLS, NO_CELLS, NO_CELLS, NO_CELLS
    packed = (number << _STAGE_BITS | events.stage) << INDEX_BITS | histogram.index_of(events.latency_us)
    order = np.argsort(packed, kind="stable")
    packed, events = packed[order], events.where(order)
    starts = histogram.starts_of(packed >> INDEX_BITS)
    group = packed[starts] >> INDEX_BITS
    keys, counts = _runs_of(packed[events.has_latency])
    error_keys, error_counts = _runs_of(packed[events.has_latency & events.error])
    columns = (
        group >> _STAGE_BITS,
        group & ((1 << _STAGE_BITS) - 1),
        *_tallies(events, starts),
        np.add.reduceat(events.late.astype(np.int64), starts),
        keys.searchsorted((group + 1) << INDEX_BITS),
        error_keys.searchsorted((group + 1) << INDEX_BITS),
    )
    mask = (1 << _CELL_BITS) - 1
    return _rows(columns), keys & mask, counts, error_keys & mask, error_counts


def _runs_of(ordered: Int64) -> tuple[Int64, Int64]:
    """The distinct values of an ordered array, and how often each stands there."""
    if not len(ordered):
        return NO_CELLS, NO_CELLS
    starts = histogram.starts_of(ordered)
    return ordered[starts], histogram.lengths_of(starts, len(ordered)).astype(np.int64)


def _tallies(events: _Events, starts: npt.NDArray[np.intp]) -> tuple[Int64, ...]:
    """The columns of a Tally for each group; events are in the order of groups, which begin at `starts`."""
    latency, timed = events.latency_us, events.has_latency
    return (
        histogram.lengths_of(starts, len(latency)),
        np.add.reduceat(events.error.astype(np.int64), starts),
        np.add.reduceat(timed.astype(np.int64), starts),
        np.add.reduceat(np.where(timed, latency, 0), starts),
        np.minimum.reduceat(np.where(timed, latency, histogram.HIGHEST_US), starts),
        np.maximum.reduceat(np.where(timed, latency, 0), starts),
    )


def _kinds_of(events: _Events, number: Int64, shown: Bools) -> list[list[int]]:
    """Number, type, and how many are shown, late, skewed."""
    if not len(number):
        return []
    packed = number << _STAGE_BITS | events.event_type
    order = np.argsort(packed, kind="stable")
    starts = histogram.starts_of(packed[order])
    kind = packed[order][starts]
    sums = (np.add.reduceat(flags[order].astype(np.int64), starts) for flags in (shown, events.late, events.skewed))
    columns = (kind >> _STAGE_BITS, kind & ((1 << _STAGE_BITS) - 1), *sums)
    return _rows(columns)


def _rows(columns: Sequence[Int64]) -> list[list[int]]:
    found: list[list[int]] = np.stack(columns, axis=1).tolist()
    return found
