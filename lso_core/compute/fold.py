"""Folding: adding the events of stream entries to the slots they belong to.

A pure function of entries, state, window and `as_of`; the worker, a rebuild and the property tests all call it.
Splitting a batch anywhere and folding the parts gives the same state as folding the whole.

A fold also writes history. Up to `Meta.written_ms`, a start of a minute, everything counted stands in rows; from there
on it stands in the slots alone. The minute of `as_of` is wholly in the window, which is never shorter than a minute.
So a fold that carries `as_of` into another minute finds all slots of the minutes that are over in the state as it was
before it rolled, and makes their rows of them and of what arrives for these minutes now. What arrives for a minute
afterwards (behind its time, late, or out of a backlog) makes a row more of it. Each event is in one row, or in none
and the slots.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import histogram, rollups
from lso_core.compute.columns import Columns
from lso_core.compute.histogram import INDEX_BITS, Int64
from lso_core.compute.rollups import Rollup
from lso_core.compute.state import NO_CELLS, Meta, Slot, State, Tally
from lso_core.model.events import EVENT_TYPES, LIFECYCLE, OTHER, STAGES
from lso_core.model.rollups import Width
from lso_core.model.windows import SLOT_MS, Window

_STAGE_BITS: Final = 8
"""Stage numbers are at most STAGES + 1, for OTHER."""
_CELL_BITS: Final = _STAGE_BITS + INDEX_BITS


class Arrival(msgspec.Struct, frozen=True):
    """One decoded entry: the events of one POST and when Redis took them."""

    at_ms: int
    columns: Columns
    entry_id: str = ""


class Folded(msgspec.Struct, frozen=True):
    """The state after a fold, the slots that differ from the one before, and what goes into history."""

    state: State
    touched: frozenset[int]
    dropped: frozenset[int]
    """Slots that left the window."""
    rows: list[Rollup]
    """At most one a minute, by time."""


def fold(state: State, arrivals: Sequence[Arrival], window: Window, as_of_ms: int) -> Folded:
    """Add `arrivals` to `state` and roll the window on to `as_of_ms` (never back)."""
    as_of_ms = max(as_of_ms, state.meta.as_of_ms)
    start_ms = window.start_of(as_of_ms)
    rolled = state.roll(start_ms)
    dropped = frozenset(state.slots.keys() - rolled.slots.keys())
    written_ms = max(state.meta.written_ms, Width.MINUTE.start_of(as_of_ms))
    meta = msgspec.structs.replace(state.meta, as_of_ms=as_of_ms, written_ms=written_ms)
    rows, arrived = _finished(state, written_ms), dict[int, Slot]()
    if arrivals:
        events, meta = _gather(arrivals, meta, rolled.slots.values(), window)
        arrived, after = _to_slots(events, start_ms), _behind(events, written_ms, meta)
        rows = rollups.merge([*rows, *after], Width.MINUTE) if rows and after else rows or after
    return Folded(rolled.add(arrived, meta), frozenset(arrived), dropped, rows)


def unwritten(meta: Meta, slots: dict[int, Slot]) -> list[Rollup]:
    """What is counted and in no row yet, as the rows that it would make; only slots from `written_ms` on matter."""
    minutes: dict[int, list[Slot]] = {}
    for start, slot in slots.items():
        if start >= meta.written_ms:
            minutes.setdefault(Width.MINUTE.start_of(start), []).append(slot)
    rows = (rollups.from_slots(start, minutes[start], meta) for start in sorted(minutes))
    return [row for row in rows if row.event_types]


def _finished(state: State, before_ms: int) -> list[Rollup]:
    """The rows of the minutes that are over: of what the state holds before `before_ms` and no row has yet."""
    if state.meta.written_ms == before_ms:
        return []
    return unwritten(state.meta, {start: slot for start, slot in state.slots.items() if start < before_ms})


class _Events(msgspec.Struct, frozen=True):
    """The events of all arrivals by column, with names turned into the state's numbers."""

    at_ms: Int64
    time_ms: Int64
    """min(ts, at)"""
    latency_us: Int64
    has_latency: npt.NDArray[np.bool_]
    error: npt.NDArray[np.bool_]
    stage: Int64
    event_type: Int64
    lifecycle: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]
    """Before the window of its arrival."""
    skewed: npt.NDArray[np.bool_]


def _gather(arrivals: Sequence[Arrival], meta: Meta, slots: Iterable[Slot], window: Window) -> tuple[_Events, Meta]:
    """All events of all arrivals in one set of columns, and the meta with their names and last times."""
    blocks = [arrival.columns for arrival in arrivals]
    sizes = [len(block) for block in blocks]
    slots = list(slots)
    stages, stage = _number(
        [b.stages for b in blocks], meta.stages, {s for slot in slots for s in slot.stages}, STAGES, 1
    )
    types, event_type = _number(
        [b.event_types for b in blocks],
        meta.event_types,
        {t for slot in slots for t in slot.event_types},
        EVENT_TYPES,
        0,
    )
    at = np.repeat(np.array([arrival.at_ms for arrival in arrivals], np.int64), sizes)
    starts = np.repeat(np.array([window.start_of(arrival.at_ms) for arrival in arrivals], np.int64), sizes)
    ts, has_ts = _join([b.ts_ms for b in blocks]), np.concatenate([b.has_ts for b in blocks])
    time = np.where(has_ts, np.minimum(ts, at), at)
    late = time < starts  # both sides of the window's start are slot boundaries, so this compares slots
    life = np.concatenate([_is_lifecycle(b.event_types)[b.event_type] for b in blocks])
    error = np.concatenate([b.error for b in blocks])
    meta = msgspec.structs.replace(
        meta,
        stages=stages,
        event_types=types,
        last_event_ms=_latest(meta.last_event_ms, time),
        last_counted_ms=_latest(meta.last_counted_ms, time[~life]),
        last_ok_ms=_latest(meta.last_ok_ms, time[~life & ~error]),
    )
    events = _Events(
        at_ms=at,
        time_ms=time,
        latency_us=_join([b.latency_us for b in blocks]),
        has_latency=np.concatenate([b.has_latency for b in blocks]),
        error=error,
        stage=_join([table[b.stage] for table, b in zip(stage, blocks, strict=True)]),
        event_type=_join([table[b.event_type] for table, b in zip(event_type, blocks, strict=True)]),
        lifecycle=life,
        late=late,
        skewed=has_ts & (ts > at),
    )
    return events, meta


def _join(columns: list[Int64]) -> Int64:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _is_lifecycle(event_types: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    return np.array([name in LIFECYCLE for name in event_types], np.bool_)


def _latest(known: int | None, times: Int64) -> int | None:
    if not len(times):
        return known
    latest = int(times.max())
    return latest if known is None else max(known, latest)


def _number(
    blocks: list[tuple[str, ...]], known: tuple[str, ...], used: set[int], cap: int, first: int
) -> tuple[tuple[str, ...], list[Int64]]:
    """Give every name of every block its number in the state.

    Args:
        blocks: the names of each block, in the block's order.
        known: the state's names; the number of `known[i]` is i + `first`.
        used: numbers that some slot still holds; the others may be given anew.
        cap: most names beside OTHER.
        first: 1 where number 0 means "no name", else 0.

    Returns:
        The state's names, and for each block the table from its numbers to the state's.
    """
    names = list(known)
    number = {name: at + first for at, name in enumerate(names)}
    wanted = dict.fromkeys(name for block in blocks for name in block)
    free = [at for at, name in enumerate(names) if at + first not in used and name not in wanted and name != OTHER]
    for name in wanted:
        if name in number:
            continue
        if len(names) - (OTHER in number) - (name == OTHER) < cap:
            names.append(name)
            number[name] = len(names) - 1 + first
        elif free:
            at = free.pop()
            del number[names[at]]
            names[at] = name
            number[name] = at + first
        else:
            if OTHER not in number:
                names.append(OTHER)
                number[OTHER] = len(names) - 1 + first
            number[name] = number[OTHER]
    head = [0] if first else []
    return tuple(names), [np.array([*head, *(number[name] for name in block)], np.int64) for block in blocks]


def _to_slots(events: _Events, start_ms: int) -> dict[int, Slot]:
    """The events cut into slots; those whose slot has left the window since they arrived are passed over.

    A late event is only counted as late, in the slot of its arrival.
    """
    slot = np.where(events.late, events.at_ms, events.time_ms) // SLOT_MS
    first = start_ms // SLOT_MS
    inside = slot >= first
    slots: dict[int, Slot] = {}
    shown = inside & ~events.late
    _add_shown(slots, events, slot, shown)
    for number, _, count in _tally(slot[inside & events.late]):
        _add(slots, {number: Slot(late=count)})
    for number, _, count in _tally(slot[inside & events.skewed]):
        _add(slots, {number: Slot(clock_skewed=count)})
    return {number * SLOT_MS: slot for number, slot in slots.items()}


def _behind(events: _Events, before_ms: int, meta: Meta) -> list[Rollup]:
    """The rows of the events before `before_ms`, late or not, each in the minute in which it happened."""
    chosen = events.time_ms < before_ms
    if not chosen.any():
        return []
    minute = events.time_ms // Width.MINUTE
    slots: dict[int, Slot] = {}
    _add_shown(slots, events, minute, chosen)
    late: dict[int, dict[int, int]] = {number: {} for number in slots}
    revising = chosen & events.late & ~events.lifecycle
    for number, stage, count in _tally(minute[revising], events.stage[revising]):
        late[number][stage] = count
    return [rollups.from_slots(number * Width.MINUTE, [slots[number]], meta, late[number]) for number in sorted(slots)]


def _add_shown(slots: dict[int, Slot], events: _Events, number: Int64, shown: npt.NDArray[np.bool_]) -> None:
    """Add the events that are shown to the slots with their `number`, and count those that are no lifecycle events."""
    _add(slots, _counted_slots(events, number, shown & ~events.lifecycle))
    for slot, event_type, count in _tally(number[shown], events.event_type[shown]):
        _add(slots, {slot: Slot(event_types={event_type: count})})


def _add(slots: dict[int, Slot], more: dict[int, Slot]) -> None:
    for number, slot in more.items():
        slots[number] = slots[number].plus(slot) if number in slots else slot


def _tally(slot: Int64, value: Int64 | None = None) -> list[tuple[int, int, int]]:
    """(number of the slot, value, count) of every distinct pair."""
    if not len(slot):
        return []
    packed = slot if value is None else slot << _STAGE_BITS | value
    pairs, counts = np.unique(packed, return_counts=True)
    slots, values = (pairs, np.zeros_like(pairs)) if value is None else (pairs >> _STAGE_BITS, pairs & 0xFF)
    return list(zip(slots.tolist(), values.tolist(), counts.tolist(), strict=True))


def _counted_slots(events: _Events, slot: Int64, counted: npt.NDArray[np.bool_]) -> dict[int, Slot]:
    """Histogram cells and tallies of the counted events, by the number of their slot.

    One sort over (slot, stage, histogram index), packed in one integer, puts equal cells side by side, the cells of a
    stage, and the stages of a slot; everything after it is a reduction over runs.
    """
    if not counted.any():
        return {}
    latency, timed = events.latency_us[counted], events.has_latency[counted]
    group = slot[counted] << _STAGE_BITS | events.stage[counted]
    packed = group << INDEX_BITS | histogram.index_of(latency)
    order = np.argsort(packed, kind="stable")
    packed, group, latency, timed = packed[order], group[order], latency[order], timed[order]
    error, groups = events.error[counted][order], histogram.starts_of(group)
    tallies = _tallies(error, latency, timed, groups)
    cells, errors = _cells(packed[timed]), _cells(packed[timed & error])
    slots: dict[int, Slot] = {}
    numbers = (group[groups] >> _STAGE_BITS).tolist()
    for number in dict.fromkeys(numbers):
        slots[number] = Slot(*_cells_of(number, *cells), *_cells_of(number, *errors), {})
    for number, stage, tally in zip(numbers, (group[groups] & 0xFF).tolist(), tallies, strict=True):
        slots[number].stages[stage] = tally
    return slots


def _cells(packed: Int64) -> tuple[Int64, Int64]:
    """The distinct values of an ordered array, and how often each stands there."""
    if not len(packed):
        return NO_CELLS, NO_CELLS
    starts = histogram.starts_of(packed)
    return packed[starts], histogram.lengths_of(starts, len(packed)).astype(np.int64)


def _cells_of(number: int, cells: Int64, counts: Int64) -> tuple[Int64, Int64]:
    """The cells of one slot."""
    if not len(cells):
        return NO_CELLS, NO_CELLS
    low, high = np.searchsorted(cells, [number << _CELL_BITS, (number + 1) << _CELL_BITS])
    return cells[low:high] & ((1 << _CELL_BITS) - 1), counts[low:high]


def _tallies(
    error: npt.NDArray[np.bool_], latency: Int64, timed: npt.NDArray[np.bool_], groups: npt.NDArray[np.intp]
) -> list[Tally]:
    """One Tally a group; events are ordered by group, which start at `groups`."""
    untimed = ~timed
    totals = histogram.lengths_of(groups, len(latency))
    sums = (
        totals,
        np.add.reduceat(error.astype(np.int64), groups),
        np.add.reduceat(timed.astype(np.int64), groups),
        np.add.reduceat(np.where(untimed, 0, latency), groups),
        np.minimum.reduceat(np.where(untimed, histogram.HIGHEST_US, latency), groups),
        np.maximum.reduceat(np.where(untimed, 0, latency), groups),
    )
    return [Tally(*row) for row in zip(*(column.tolist() for column in sums), strict=True)]
