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

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from lso_core.compute import carrying, rollups
from lso_core.compute.carrying import Carried, Passage
from lso_core.compute.columns import Block
from lso_core.compute.grouping import Entry, Tables, grouping
from lso_core.compute.rollups import Rollup
from lso_core.compute.state import Meta, Slot, State, open_slot
from lso_core.model.events import EVENT_TYPES, OTHER, STAGES
from lso_core.model.rollups import Width
from lso_core.model.windows import SLOT_MS, Window, slot_of

Found = TypeVar("Found")


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One decoded entry: the events of one POST and when Redis took them."""

    at_ms: int
    block: Block
    entry_id: str = ""


class Unfolded(NamedTuple):
    """What is to be folded."""

    state: State
    arrivals: Sequence[Arrival]
    window: Window
    as_of_ms: int
    lag_ms: int = 0
    """A minute becomes a row so long after its end; at most `Window.lag_of` says."""


class Folded(msgspec.Struct, frozen=True, gc=False):
    """The state after a fold, the slots that differ from the one before, and what goes into history."""

    state: State
    touched: dict[int, bytes]
    """As they are stored."""
    dropped: list[int]
    """Slots that left the window."""
    rows: list[Rollup]
    """At most one a minute, by time."""


def fold(state: State, arrivals: Sequence[Arrival], window: Window, as_of_ms: int, lag_ms: int = 0) -> Folded:
    """Add `arrivals` to `state` and roll the window on to `as_of_ms` (never back)."""
    [found] = fold_all([Unfolded(state, arrivals, window, as_of_ms, lag_ms)])
    if isinstance(found, Exception):
        raise found
    return found


def fold_all(many: Sequence[Unfolded]) -> list[Folded | Exception]:
    """As `fold`, many at once; an error in the place of one whose state is not as it should be."""
    begun = [_caught(_begin, *one) for one in many]
    carried = iter(carrying.carry([one.passage for one in begun if isinstance(one, _Begun)]))
    return [_caught(_end, one, next(carried)) if isinstance(one, _Begun) else one for one in begun]


def _caught(work: Callable[..., Found], *given: Any) -> Found | Exception:
    """What comes of it, or its error, which is that of one system alone."""
    try:
        return work(*given)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error


class _Begun(NamedTuple):
    passage: Passage
    meta: Meta
    """With the names of what arrived."""
    as_of_ms: int
    written_ms: int


def _begin(state: State, arrivals: Sequence[Arrival], window: Window, as_of_ms: int, lag_ms: int) -> _Begun:
    as_of_ms = max(as_of_ms, state.meta.as_of_ms)
    start_ms = window.start_of(as_of_ms)
    written_ms = max(state.meta.written_ms, Width.MINUTE.start_of(as_of_ms - lag_ms))
    entries, meta = _gather(arrivals, state, start_ms, window)
    return _Begun(Passage(state, entries, start_ms, written_ms), meta, as_of_ms, written_ms)


def _end(begun: _Begun, carried: Carried | Exception) -> Folded:
    if isinstance(carried, Exception):
        raise carried
    before, meta, written_ms = begun.passage.state, begun.meta, begun.written_ms
    meta = msgspec.structs.replace(
        meta,
        as_of_ms=begun.as_of_ms,
        written_ms=written_ms,
        last_event_ms=_latest(meta.last_event_ms, carried.latest),
        last_counted_ms=_latest(meta.last_counted_ms, carried.latest_counted),
        last_ok_ms=_latest(meta.last_ok_ms, carried.latest_ok),
    )
    rows = list[Rollup]()
    if carried.passed or carried.came or written_ms > before.meta.written_ms:
        rows = _rows(begun.passage, carried, meta)
    return Folded(carried.state(before, meta), carried.slots, carried.gone, rows)


def unwritten(meta: Meta, slots: dict[int, Slot]) -> list[Rollup]:
    """What is counted and in no row yet, as the rows that it would make; only slots from `written_ms` on matter."""
    minutes = _by_minute((start, slot) for start, slot in slots.items() if start >= meta.written_ms)
    rows = (rollups.of_minute(start, minutes[start], meta, (), meta, rollups.NONE_LATE) for start in sorted(minutes))
    return [row for row in rows if row.event_types]


def _rows(passage: Passage, carried: Carried, meta: Meta) -> list[Rollup]:
    """The rows of what goes into history now, each event in the minute in which it happened: of the minutes that are over,
    and are in no row yet, all that the state holds; and all before that that came now, be it in slots or, because it is late or
    its slot has left the window, in none.
    """
    since_ms, before_ms = passage.state.meta.written_ms, meta.written_ms
    over = {start: value for start, value in passage.state.slots.items() if since_ms <= start < before_ms}
    held, came = (
        _by_minute((start, open_slot(value)) for start, value in some.items()) for some in (over, carried.came)
    )
    late: dict[int, dict[int, int]] = {}
    if carried.passed:
        passed = grouping(passage.entries).by_minute(passage.start_ms // SLOT_MS, before_ms)
        late = passed.late()
        for number, slot in passed.arrived().items():
            came.setdefault(number * Width.MINUTE, []).append(slot.packed())
    rows = (
        rollups.of_minute(
            start,
            held.get(start, ()),
            passage.state.meta,
            came.get(start, ()),
            meta,
            late.get(start // Width.MINUTE, rollups.NONE_LATE),
        )
        for start in sorted({*held, *came})
    )
    return [row for row in rows if row.event_types]


def _by_minute(slots: Iterable[tuple[int, Slot]]) -> dict[int, list[Slot]]:
    minutes: dict[int, list[Slot]] = {}
    for start, slot in slots:
        minutes.setdefault(Width.MINUTE.start_of(start), []).append(slot)
    return minutes


def _gather(arrivals: Sequence[Arrival], state: State, start_ms: int, window: Window) -> tuple[list[Entry], Meta]:
    """The arrivals with the numbers that the state has for their names, and its meta with these names."""
    meta = state.meta
    names = [(one.block.stages, one.block.event_types) for one in arrivals]
    known = {one: _known_tables(*one, meta.stages, meta.event_types) for one in names}
    tables = {one: found for one, found in known.items() if found is not None}
    if len(tables) < len(known):
        held = functools.cache(lambda: state.numbers_from(start_ms))
        stages, stage = _number([one for one, _ in known], meta.stages, lambda: held()[0], STAGES, 1)
        types, event_type = _number([one for _, one in known], meta.event_types, lambda: held()[1], EVENT_TYPES, 0)
        tables = {one: Tables.of(*one, stage, event_type) for one in known}
        meta = msgspec.structs.replace(meta, stages=stages, event_types=types)
    back_ms = window.start_of(0)  # as far before every slot
    entries = [
        Entry(one.at_ms, slot_of(one.at_ms) + back_ms, one.block, tables[named])
        for one, named in zip(arrivals, names, strict=True)
    ]
    return entries, meta


@functools.lru_cache(2_048)
def _known_tables(
    stages: tuple[str, ...], event_types: tuple[str, ...], known_stages: tuple[str, ...], known_types: tuple[str, ...]
) -> Tables | None:
    """The tables of a block where the state has a number for every name of it, as it nearly always has; else None."""
    stage = {name: at for at, name in enumerate(known_stages, 1)}
    event_type = {name: at for at, name in enumerate(known_types)}
    if not (stage.keys() >= set(stages) and event_type.keys() >= set(event_types)):
        return None
    return Tables.of(stages, event_types, stage, event_type)


def _latest(known: int | None, seen: int | None) -> int | None:
    return seen if known is None else known if seen is None else max(known, seen)


def _number(
    blocks: list[tuple[str, ...]], known: tuple[str, ...], used: Callable[[], Collection[int]], cap: int, first: int
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Give every name of every block its number in the state.

    Args:
        blocks: the names of each block, in the block's order.
        known: the state's names; the number of `known[i]` is i + `first`.
        used: asked where not all fit: the numbers that some slot still holds, so that the others may be given anew.
        cap: most names beside OTHER.
        first: 1 where number 0 means "no name", else 0.

    Returns:
        The state's names, and the number of each.
    """
    names = list(known)
    number = {name: at + first for at, name in enumerate(names)}
    wanted = dict.fromkeys(name for block in blocks for name in block)
    free: list[int] = []
    if len({*number, *wanted} - {OTHER}) > cap:
        held = used()
        free = [at for at, name in enumerate(names) if at + first not in held and name not in wanted and name != OTHER]
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
    return tuple(names), number
