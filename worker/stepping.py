"""One system's step from what was read to what is committed. Pure: no clock, no store."""

import bisect
import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from lso_core.compute import columns, rollups, runs
from lso_core.compute.columns import Block, CorruptEntryError, NewerFormatError
from lso_core.compute.fold import Arrival, Folded, Unfolded, fold
from lso_core.compute.rollups import Rollup
from lso_core.compute.runs import Advanced, Run, Runs, Tally
from lso_core.compute.state import (
    Meta,
    State,
    decode_meta,
    encode_meta,
    from_stored,
    slot_field,
    slot_start,
)
from lso_core.compute.summarize import summarize
from lso_core.model import times
from lso_core.model.systems import System
from lso_core.store.folding import Commit, Entry, Position, Read, Stored
from lso_core.store.history import Row
from lso_core.store.runs import RunWrites
from worker.cache import Known
from worker.run_reading import NOTHING, Gathered

ROLL_MS: Final = 60_000
"""A window is rolled when something leaves it, and at the latest after this time, so that minutes that are over become rows."""

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


class Step(msgspec.Struct, frozen=True, gc=False):
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
    slots = {slot_start(field): value for field, value in stored.slots.items()}
    watched = {run_id.decode(): runs.decode_run(value) for run_id, value in stored.runs.items() if run_id}
    known = Runs(watched, runs.decode_tally(stored.runs[b""]) if b"" in stored.runs else Tally())
    return Known(system, stored.revision, stored.position, from_stored(meta, slots), stored.entry_bytes, runs=known)


def fresh(system: System) -> Meta:
    """The meta before the first fold: UNKNOWN since the system was registered, until it is judged otherwise."""
    return Meta(since_ms=times.from_text(system.created_at))


def decode(entries: list[Entry]) -> Decoded:
    """Decode entries up to the first that a newer release wrote."""
    [decoded] = decode_all([entries])
    return decoded


def decode_all(reads: Sequence[list[Entry]]) -> list[Decoded]:
    """As `decode`, the entries of many reads."""
    blocks = iter(columns.read_all([entry.columns for entries in reads for entry in entries]))
    return [_decoded(entries, [*itertools.islice(blocks, len(entries))]) for entries in reads]


def _decoded(entries: list[Entry], blocks: list[Block | None]) -> Decoded:
    taken: list[Entry] = []
    arrivals: list[Arrival] = []
    dead: list[tuple[str, str]] = []
    dead_at: list[int] = []
    for entry, block in zip(entries, blocks, strict=True):
        try:
            if entry.at_ms is None:
                raise CorruptEntryError("the entry has no time of arrival")
            whole = columns.read(entry.columns) if block is None else block
            arrivals.append(Arrival(entry.at_ms, whole, entry.entry_id))
        except NewerFormatError as error:
            return Decoded(taken, arrivals, dead, dead_at, error)
        except CorruptEntryError as error:
            dead.append((entry.entry_id, str(error)))
            dead_at.append(len(taken))
        taken.append(entry)
    return Decoded(taken, arrivals, dead, dead_at, None)


class Begun(msgspec.Struct, frozen=True, gc=False):
    """A step that waits for its fold, which many systems share."""

    known: Known
    read: Read
    decoded: Decoded
    end_ms: int | None
    """As of what was read, as far as all of it could be."""
    unfolded: Unfolded


def step(known: Known, read: Read, decoded: Decoded, token: bytes, gathered: Gathered = NOTHING) -> Step:
    """Fold what was read and judge the window; as `begin` and `end`."""
    begun = begin(known, read, decoded)
    return end(begun, fold(*begun.unfolded), token, gathered)


def begin(known: Known, read: Read, decoded: Decoded) -> Begun:
    """What has to be folded.

    Raises NewerFormatError where nothing of it can be read yet, and MostlyUnreadableError where nearly nothing can.

    Args:
        known: the system before.
        read: the entries behind its cursor.
        decoded: the same, decoded.
    """
    if decoded.newer is not None and not decoded.taken:
        raise decoded.newer
    end_ms = None if decoded.newer is not None else read.end_ms
    before = _with_unreadable(known.state, _unreadable(known, decoded))
    window, as_of_ms = known.system.window, _as_of(before, decoded, end_ms)
    unfolded = Unfolded(before, decoded.arrivals, window, as_of_ms, window.lag_of(known.system.system_id))
    return Begun(known, read, decoded, end_ms, unfolded)


def end(begun: Begun, folded: Folded, token: bytes, gathered: Gathered = NOTHING) -> Step:
    """The step, or a shorter one where that would make more than MOST_ROWS rows.

    Args:
        begun: its beginning.
        folded: what came of it.
        token: of the commit.
        gathered: what `run_reading.gather` found for the entries.
    """
    known, decoded, entries = begun.known, begun.decoded, begun.read.entries
    if len(folded.rows) > MOST_ROWS and len(entries) > 1:
        read = Read(entries[: len(entries) // 2], None)
        return step(known, read, decode(read.entries), token, gathered)
    advanced = _advance_runs(known, decoded, gathered, folded.state.meta.as_of_ms)
    state, summary = summarize(folded.state, known.system, advanced.runs)
    rows = _numbered(folded.rows, known.position.rows)
    after = _advance(known.position, decoded.taken, token, len(rows), state.meta.written_ms)
    commit = Commit(
        system=known.system,
        revision=known.revision,
        before=known.position,
        after=after,
        meta=encode_meta(state.meta),
        slots={slot_field(start): value for start, value in folded.touched.items()},
        dropped=[slot_field(start) for start in folded.dropped],
        rows=rows,
        due_ms=times.earliest(summary.steady_until_ms, state.meta.as_of_ms + ROLL_MS if state.slots else None),
        summary=summary,
        dead=decoded.dead,
        runs=RunWrites(
            watched=[_run_args(run) for run in advanced.changed],
            settled=[_run_args(run) for run in advanced.settled],
            tally=runs.encode_tally(advanced.runs.tally) if advanced.tally_changed else b"",
            due_ms=advanced.runs.due_ms,
        ),
    )
    events = after.events - known.position.events
    return Step(commit, _known(known, state, after, advanced.runs, decoded.taken, behind=begun.end_ms is None), events)


def _with_unreadable(state: State, numbers: tuple[int, ...]) -> State:
    if numbers == state.meta.unreadable:
        return state
    return msgspec.structs.replace(state, meta=msgspec.structs.replace(state.meta, unreadable=numbers))


def _advance_runs(known: Known, decoded: Decoded, gathered: Gathered, as_of_ms: int) -> Advanced:
    """The runs after what was read."""
    planned, after = runs.plan(known.runs, decoded.arrivals), known.runs
    if planned is not None:
        entry_ids = (decoded.arrivals[place].entry_id for place in planned.places)
        pieces = [gathered.pieces[one] for one in entry_ids if one in gathered.pieces]
        after = runs.fold(known.runs, planned, pieces, gathered.older, gathered.settled)
    return runs.advance(known.runs, after, as_of_ms, known.system.run_limits)


def _run_args(run: Run) -> tuple[str, int, bytes]:
    return run.run_id, run.started_ms, runs.encode_run(run)


def _numbered(rows: list[Rollup], known: int) -> list[Row]:
    """The rows as they are stored, numbered from `known` + 1."""
    return [Row(number, row.start_ms, rollups.encode(row)) for number, row in enumerate(rows, known + 1)]


def _unreadable(known: Known, decoded: Decoded) -> tuple[int, ...]:
    """Which of the latest LOOKED_AT entries could not be read, by their number in the stream.

    Raises MostlyUnreadableError where, at any point, it was more than half of them: then the code is wrong, not the data.
    """
    if not known.state.meta.unreadable and not decoded.dead_at:
        return ()
    first = known.position.entries + 1
    numbers = [*known.state.meta.unreadable, *(first + at for at in decoded.dead_at)]
    for at, number in enumerate(numbers):
        among = at + 1 - bisect.bisect_right(numbers, number - LOOKED_AT)
        if number >= LOOKED_AT and among > LOOKED_AT // 2:
            raise MostlyUnreadableError(
                f"{among} of {LOOKED_AT} entries cannot be read, the last because {decoded.dead[-1][1]}"
            )
    return tuple(number for number in numbers if number >= first + len(decoded.taken) - LOOKED_AT)


def _advance(before: Position, taken: list[Entry], token: bytes, rows: int, written_ms: int) -> Position:
    """The position after `taken`, of which so many rows were made."""
    arrivals = [entry.at_ms for entry in taken if entry.at_ms is not None]
    at_ms = max(arrivals) if arrivals else before.at_ms
    if taken and not arrivals:  # an entry without a readable arrival still has the time in its id
        at_ms = int(taken[-1].entry_id.split("-", 1)[0])
    return Position(
        cursor=taken[-1].entry_id if taken else before.cursor,
        token=token,
        events=before.events + sum([entry.events for entry in taken]),
        entries=before.entries + len(taken),
        bytes=before.bytes + sum([entry.size for entry in taken]),
        at_ms=at_ms,
        rows=before.rows + rows,
        written_ms=written_ms,
    )


def _as_of(state: State, decoded: Decoded, end_ms: int | None) -> int:
    """The time that the window ends with, exclusive: hence one past the last arrival that is counted in it."""
    return max([state.meta.as_of_ms, end_ms or 0, *[arrival.at_ms + 1 for arrival in decoded.arrivals]])


def _known(known: Known, state: State, position: Position, runs: Runs, taken: list[Entry], *, behind: bool) -> Known:
    sizes = [entry.size for entry in taken]
    entry_bytes = sum(sizes) // len(sizes) if sizes else known.entry_bytes
    return Known(
        known.system, known.revision, position, state, entry_bytes, runs, read=len(taken) or known.read, behind=behind
    )
