"""One system's step from what was read to what is committed. Pure: no clock, no store."""

import bisect
from typing import Final

import msgspec

from lso_core.compute import columns, rollups
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.fold import Arrival, fold
from lso_core.compute.rollups import Rollup
from lso_core.compute.state import (
    Meta,
    State,
    decode_meta,
    decode_slot,
    encode_meta,
    encode_slot,
    from_slots,
    slot_field,
    slot_start,
)
from lso_core.compute.summarize import summarize
from lso_core.model import times
from lso_core.model.systems import System
from lso_core.model.windows import SLOT_MS
from lso_core.store.folding import Commit, Entry, Position, Read, Stored
from lso_core.store.history import Row
from worker.cache import Known

ROLL_MS: Final = SLOT_MS - 500
"""How long a window waits to be rolled: with its turn in the queue, its snapshot stays younger than a slot."""


MOST_ROWS: Final = 10_000
"""A commit writes no more rows of history than this, but for those of a single entry. Only events that are spread over
many minutes of the past, as of a backfill, make more."""

LOOKED_AT: Final = 100
"""So many entries back it is counted how many could not be read."""


class MostlyUnreadableError(ValueError):
    """Most of a system's entries cannot be read."""


class Decoded(msgspec.Struct, frozen=True):
    """The entries of a read that this release can fold, in order, and those that nobody can."""

    taken: list[Entry]
    arrivals: list[Arrival]
    dead: list[tuple[str, str]]
    dead_at: list[int]
    """Their places among `taken`."""
    newer: NewerFormatError | None
    """Set where the read stops at an entry of a newer release."""


class Step(msgspec.Struct, frozen=True):
    """A fold that is ready to be committed, and what is known once it is."""

    commit: Commit
    known: Known
    events: int


def know(stored: Stored) -> Known:
    """A stored system, decoded. Raises CorruptEntryError or NewerFormatError."""
    try:
        system = stored.system
    except msgspec.MsgspecError as error:
        raise CorruptEntryError(f"its settings: {error}") from error
    meta = fresh(system) if stored.meta is None else decode_meta(stored.meta)
    slots = {slot_start(field): decode_slot(value) for field, value in stored.slots.items()}
    return Known(system, stored.revision, stored.position, from_slots(meta, slots), stored.entry_bytes)


def fresh(system: System) -> Meta:
    """The meta before the first fold: UNKNOWN since the system was registered, until it is judged otherwise."""
    return Meta(since_ms=times.from_text(system.created_at))


def decode(entries: list[Entry]) -> Decoded:
    """Decode entries up to the first that a newer release wrote."""
    taken: list[Entry] = []
    arrivals: list[Arrival] = []
    dead: list[tuple[str, str]] = []
    dead_at: list[int] = []
    for entry in entries:
        try:
            if entry.at_ms is None:
                raise CorruptEntryError("the entry has no time of arrival")
            arrivals.append(Arrival(entry.at_ms, columns.decode(entry.columns)))
        except NewerFormatError as error:
            return Decoded(taken, arrivals, dead, dead_at, error)
        except CorruptEntryError as error:
            dead.append((entry.entry_id, str(error)))
            dead_at.append(len(taken))
        taken.append(entry)
    return Decoded(taken, arrivals, dead, dead_at, None)


def step(known: Known, read: Read, token: bytes) -> Step:
    """Fold what was read, or as much of it as makes no more than MOST_ROWS rows, and judge the window.

    Raises NewerFormatError where nothing of it can be read yet, and MostlyUnreadableError where nearly nothing can.
    """
    found = _step(known, read, token)
    while len(found.commit.rows) > MOST_ROWS and len(read.entries) > 1:
        read = Read(read.entries[: len(read.entries) // 2], None)
        found = _step(known, read, token)
    return found


def _step(known: Known, read: Read, token: bytes) -> Step:
    decoded = decode(read.entries)
    if decoded.newer is not None and not decoded.taken:
        raise decoded.newer
    position = _advance(known.position, decoded.taken, token)
    end_ms = None if decoded.newer is not None else read.end_ms
    meta = msgspec.structs.replace(known.state.meta, unreadable=_unreadable(known, decoded, position))
    before = msgspec.structs.replace(known.state, meta=meta)
    folded = fold(before, decoded.arrivals, known.system.window, _as_of(before, decoded, end_ms))
    state, summary = summarize(folded.state, known.system)
    rows = _numbered(folded.rows, position.rows)
    after = msgspec.structs.replace(position, rows=position.rows + len(rows), written_ms=state.meta.written_ms)
    due_ms = state.meta.as_of_ms + ROLL_MS if state.slots else None
    commit = Commit(
        system=known.system,
        revision=known.revision,
        before=known.position,
        after=after,
        meta=encode_meta(state.meta),
        slots={slot_field(start): encode_slot(state.slots[start]) for start in folded.touched},
        dropped=[slot_field(start) for start in folded.dropped],
        rows=rows,
        due_ms=due_ms,
        summary=summary,
        dead=decoded.dead,
    )
    events = after.events - known.position.events
    return Step(commit, _known(known, state, after, decoded.taken, behind=end_ms is None), events)


def _numbered(rows: list[Rollup], known: int) -> list[Row]:
    """The rows as they are stored, numbered from `known` + 1."""
    return [Row(number, row.start_ms, rollups.encode(row)) for number, row in enumerate(rows, known + 1)]


def _unreadable(known: Known, decoded: Decoded, after: Position) -> tuple[int, ...]:
    """Which of the latest LOOKED_AT entries could not be read, by their number in the stream.

    Raises MostlyUnreadableError where, at any point, it was more than half of them: then the code is wrong, not the data.
    """
    first = known.position.entries + 1
    numbers = [*known.state.meta.unreadable, *(first + at for at in decoded.dead_at)]
    for at, number in enumerate(numbers):
        among = at + 1 - bisect.bisect_right(numbers, number - LOOKED_AT)
        if number >= LOOKED_AT and among > LOOKED_AT // 2:
            raise MostlyUnreadableError(
                f"{among} of {LOOKED_AT} entries cannot be read, the last because {decoded.dead[-1][1]}"
            )
    return tuple(number for number in numbers if number > after.entries - LOOKED_AT)


def _advance(before: Position, taken: list[Entry], token: bytes) -> Position:
    """The position after `taken`."""
    if not taken:
        return msgspec.structs.replace(before, token=token)
    arrivals = [entry.at_ms for entry in taken if entry.at_ms is not None]
    return msgspec.structs.replace(
        before,
        cursor=taken[-1].entry_id,
        token=token,
        events=before.events + sum(entry.events for entry in taken),
        entries=before.entries + len(taken),
        bytes=before.bytes + sum(entry.size for entry in taken),
        # An entry without a readable arrival still has the time in its id.
        at_ms=max(arrivals, default=int(taken[-1].entry_id.split("-", 1)[0])),
    )


def _as_of(state: State, decoded: Decoded, end_ms: int | None) -> int:
    """The time that the window ends with, exclusive: hence one past the last arrival that is counted in it."""
    last = max((arrival.at_ms + 1 for arrival in decoded.arrivals), default=state.meta.as_of_ms)
    return max(state.meta.as_of_ms, last, end_ms or 0)


def _known(known: Known, state: State, position: Position, taken: list[Entry], *, behind: bool) -> Known:
    sizes = [entry.size for entry in taken]
    entry_bytes = sum(sizes) // len(sizes) if sizes else known.entry_bytes
    return Known(known.system, known.revision, position, state, entry_bytes, behind)
