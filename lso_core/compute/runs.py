"""Runs: a fold over the events that carry a run's id, in any order and however often they come.

What is kept of a run are sets, sums over different events, and least and greatest times; state, start and end are
computed from them. An attempt begins with a `start`; the latest end in it counts, and a `start` after an end begins the
next attempt.

A system watches the runs that are open, and for SETTLED_MS those that have ended, since events of theirs may still be
on their way. Then a run settles: only another start or end looks it up again.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import filterfalse
from typing import Final

import msgspec
import numpy as np

from lso_core.compute import histogram
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.fold import Arrival
from lso_core.compute.histogram import Int64
from lso_core.compute.run_events import Piece, Share, StageSums, shares
from lso_core.compute.state import LAST_FORMAT
from lso_core.model import times
from lso_core.model.events import OTHER
from lso_core.model.runs import ENDED, GIVEN_UP_MS, OPEN_RUNS, RUN_STAGES, Limits, RunCounts, RunState

RUN_FORMAT: Final = 1
SETTLED_MS: Final = 60_000
"""How long after its last event an ended run is still watched."""
WATCHED_ENDED: Final = 256
"""So many ended runs are watched at most; those that were silent for longest settle first."""
MADE_A_SECOND: Final = 2_000
"""Most runs that a system makes in a second; the ids of further ones are mere attributes, and counted as skipped."""
SEEN: Final = 256
"""So many events of a run are remembered to tell whether one comes again."""
SEEN_FOR_LONG: Final = 32
"""So many once it has settled."""
MARKS: Final = 64
"""So many starts and ends are kept of a run; of more, attempts long over are only counted."""


class Run(msgspec.Struct, frozen=True, array_like=True):
    """One run."""

    run_id: str
    starts: tuple[int, ...] = ()
    """Times in ms, ascending."""
    ends: tuple[tuple[int, int, int], ...] = ()
    """Time in ms, 1 where it failed, latency in µs or -1; ascending."""
    older: int = 0
    """Attempts before those."""
    attempts: int = 1
    started_ms: int = 0
    """Of the latest attempt."""
    ended_ms: int | None = None
    """The end of the latest attempt."""
    duration_us: int | None = None
    first_ms: int = times.LATEST_MS
    """When its first event began."""
    last_ms: int = times.EARLIEST_MS
    """Its last sign of life."""
    first_at_ms: int = times.LATEST_MS
    last_at_ms: int = 0
    """Arrivals of its first and last event."""
    error: tuple[int, str] | None = None
    """Time and message of the first error that has one."""
    stages: dict[str, StageSums] = {}
    """"" is for events without a stage."""
    seen: bytes = b""
    """Digests of up to SEEN events."""
    closed: bool = False
    """No longer waited for: too many were open, or it was silent for too long."""
    state: RunState = RunState.RUNNING
    ranked_us: int | None = None
    """The duration that the system's histogram has of it."""

    def plus(self, share: Share) -> "Run":
        """The run with what more events say of it."""
        stages = _stages(self.stages, share.stages)
        older, starts, ends = _thinned(self.older, {*self.starts, *share.starts}, {*self.ends, *share.ends})
        own = list(stages.values())
        again = any(start > self.last_ms for start in share.starts)
        return _derived(
            msgspec.structs.replace(
                self,
                starts=starts,
                ends=ends,
                older=older,
                first_ms=min(sums.first_ms for sums in own),
                last_ms=max(sums.last_ms for sums in own),
                first_at_ms=min(self.first_at_ms, share.at_ms[0]),
                last_at_ms=max(self.last_at_ms, share.at_ms[1]),
                error=min((one for one in (self.error, share.error) if one is not None), default=None),
                stages=stages,
                seen=(self.seen + share.seen.astype("<u8").tobytes())[: 8 * SEEN],
                closed=self.closed and not again,
            )
        )

    @property
    def is_open(self) -> bool:
        """Whether its end is waited for."""
        return self.ended_ms is None and not self.closed

    def at(self, as_of_ms: int, limits: Limits) -> "Run":
        """The run at a time."""
        closed = self.closed or (self.ended_ms is None and as_of_ms - self.last_ms >= GIVEN_UP_MS)
        state = self._state(as_of_ms, limits, closed=closed)
        if (closed, state) == (self.closed, self.state):
            return self
        return msgspec.structs.replace(self, closed=closed, state=state)

    def _state(self, as_of_ms: int, limits: Limits, *, closed: bool) -> RunState:
        if self.ended_ms is not None:
            return RunState.FAILED if self.ends[-1][1] else RunState.SUCCESS
        if closed:
            return self.state if self.state is RunState.TIMED_OUT else RunState.LOST
        if _passed(limits.max_runtime_s, self.started_ms, as_of_ms):
            return RunState.TIMED_OUT
        if _passed(limits.heartbeat_timeout_s, self.last_ms, as_of_ms):
            return RunState.LOST
        return RunState.RUNNING

    def due_ms(self, limits: Limits) -> int:
        """When the state changes without any event, if it is open."""
        found = [self.last_ms + GIVEN_UP_MS]
        if limits.max_runtime_s is not None and self.state is not RunState.TIMED_OUT:
            found.append(self.started_ms + limits.max_runtime_s * 1_000)
        if limits.heartbeat_timeout_s is not None and self.state is RunState.RUNNING:
            found.append(self.last_ms + limits.heartbeat_timeout_s * 1_000)
        return min(found)


class Tally(msgspec.Struct, frozen=True):
    """What a system knows of its runs beside the runs."""

    counts: RunCounts = RunCounts()
    second: int = 0
    """The latest second of arrival in which runs were made…"""
    made: int = 0
    """…and how many."""
    succeeded_ms: int = times.EARLIEST_MS
    """Start of the latest run that succeeded."""
    keys: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    cells: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    """The histogram of the durations of all runs that ever ended."""


class Runs(msgspec.Struct, frozen=True):
    """The runs that a system watches, and what follows from them by `limits`."""

    watched: dict[str, Run] = {}
    tally: Tally = Tally()
    limits: Limits | None = None
    """Those that the rest was found by; None where it is not known yet."""
    due_ms: int | None = None
    """When a run's state changes without any event."""
    settles_ms: int | None = None
    """When the next of the ended runs settles. That may as well be later."""
    trouble: str | None = None
    """What is wrong with the open runs, as a sentence: timed out ones, or lost ones that no later run made up for."""


def _runs(watched: dict[str, Run], tally: Tally, limits: Limits) -> Runs:
    waited_for = [run for run in watched.values() if run.is_open]
    due_ms = min((run.due_ms(limits) for run in waited_for), default=None)
    settles_ms = min((run.last_at_ms + SETTLED_MS for run in watched.values() if not run.is_open), default=None)
    return Runs(watched, tally, limits, due_ms, settles_ms, _trouble(waited_for, tally, limits))


def _trouble(waited_for: list[Run], tally: Tally, limits: Limits) -> str | None:
    late = [run for run in waited_for if run.state is RunState.TIMED_OUT]
    if late:
        first = min(late, key=_by_start)
        return (
            f"run {first.run_id} has not ended within {limits.max_runtime_s} s; "
            f"it started at {shown_time(first.started_ms)}{_and_more(len(late) - 1)}"
        )
    lost = [run for run in waited_for if run.state is RunState.LOST and run.started_ms > tally.succeeded_ms]
    if not lost:
        return None
    first = min(lost, key=_by_start)
    return (
        f"run {first.run_id} is lost: it gave no sign of life within {limits.heartbeat_timeout_s} s "
        f"after {shown_time(first.last_ms)}{_and_more(len(lost) - 1)}"
    )


class Plan(msgspec.Struct, frozen=True):
    """What must be read to fold the runs of some arrivals."""

    made: tuple[str, ...]
    """Runs that are not watched: they are new, or have settled."""
    places: list[int]
    """Which arrivals say something of a run."""
    tally: Tally


class Advanced(msgspec.Struct, frozen=True):
    """The runs after a step, and what of them is to be written."""

    runs: Runs
    changed: list[Run]
    """Of those watched."""
    settled: list[Run]
    tally_changed: bool


def plan(runs: Runs, arrivals: Sequence[Arrival]) -> Plan | None:
    """What to read; None where no arrival says anything of a run."""
    made: dict[str, None] = {}
    touched: set[int] = set()
    tally = runs.tally
    for place, arrival in enumerate(arrivals):
        told = arrival.block.runs
        if told is None or not len(told.makers):
            continue
        ids = told.made()
        fresh = list(filterfalse(made.__contains__, filterfalse(runs.watched.__contains__, ids)))
        taken: list[str] = []
        if fresh:
            tally, taken = _admit(tally, arrival.at_ms // 1_000, fresh)
            made |= dict.fromkeys(taken)
        if taken or len(fresh) < len(ids):
            touched.add(place)
    if made or runs.watched:
        touched |= {place for place, arrival in enumerate(arrivals) if _tells(arrival, runs.watched, made)}
    if not touched and tally is runs.tally:
        return None
    return Plan(tuple(made), sorted(touched), tally)


def _tells(arrival: Arrival, watched: Mapping[str, Run], made: Mapping[str, None]) -> bool:
    """Whether an arrival that tells of all its events tells of one of the runs."""
    told = arrival.block.runs
    if told is None or not told.whole:
        return False
    return not (watched.keys().isdisjoint(told.ids) and made.keys().isdisjoint(told.ids))


def _admit(tally: Tally, second: int, fresh: list[str]) -> tuple[Tally, list[str]]:
    """Which runs may be made in this second."""
    made = tally.made if second <= tally.second else 0
    taken = fresh[: max(0, MADE_A_SECOND - made)]
    skipped = tally.counts.skipped + len(fresh) - len(taken)
    counts = msgspec.structs.replace(tally.counts, skipped=skipped)
    second = max(second, tally.second)
    return msgspec.structs.replace(tally, counts=counts, second=second, made=made + len(taken)), taken


def fold(
    runs: Runs, planned: Plan, pieces: Sequence[Piece], older: Sequence[Piece], settled: Mapping[str, Run]
) -> Runs:
    """Add what `pieces` say.

    Args:
        runs: those watched.
        planned: the plan for `pieces`.
        pieces: the entries that say something of a run.
        older: entries before them, in which events of runs may be that are new.
        settled: the runs among `planned.made` that had settled.
    """
    known = {run_id: settled[run_id] for run_id in planned.made if run_id in settled} | runs.watched
    new = [run_id for run_id in planned.made if run_id not in known]
    for share in shares(older, _among(new, older), {}):
        known[share.run_id] = Run(share.run_id).plus(share)
    watched = dict(runs.watched)
    chosen = _among((*planned.made, *runs.watched), pieces)
    seen = {run_id: known[run_id].seen for run_id in chosen if run_id in known}
    for share in shares(pieces, chosen, seen):
        watched[share.run_id] = known.get(share.run_id, Run(share.run_id)).plus(share)
    return Runs(watched, planned.tally)


def _among(run_ids: Iterable[str], pieces: Sequence[Piece]) -> list[str]:
    """Those of the runs that the pieces tell of."""
    told = {run_id for piece in pieces if piece.columns.runs is not None for run_id in piece.columns.runs.ids}
    return [run_id for run_id in run_ids if run_id in told]


def advance(before: Runs, after: Runs, as_of_ms: int, limits: Limits) -> Advanced:
    """Carry the runs on to `as_of_ms`: deadlines pass, too many open ones are closed, ended ones settle."""
    if after is before and before.limits == limits and not _passes(before, as_of_ms):
        return Advanced(before, [], [], tally_changed=False)
    watched = {run_id: run.at(as_of_ms, limits) for run_id, run in after.watched.items()}
    surplus = _surplus(watched.values())
    for run in surplus:
        watched[run.run_id] = msgspec.structs.replace(run, closed=True, state=RunState.LOST)
    tally = _counted(_ranked(after.tally, watched), watched.values(), len(surplus))
    settled = [_bare(run) for run in _settling(watched.values(), as_of_ms)]
    for run in settled:
        del watched[run.run_id]
    changed = [run for run_id, run in watched.items() if run is not before.watched.get(run_id)]
    return Advanced(_runs(watched, tally, limits), changed, settled, tally is not before.tally)


def _passes(runs: Runs, as_of_ms: int) -> bool:
    """Whether the time of a run has come."""
    return any(at is not None and at <= as_of_ms for at in (runs.due_ms, runs.settles_ms))


def _counted(tally: Tally, watched: Iterable[Run], closed: int) -> Tally:
    states = [run.state for run in watched if run.is_open]
    counts = RunCounts(
        running=states.count(RunState.RUNNING),
        timed_out=states.count(RunState.TIMED_OUT),
        lost=states.count(RunState.LOST),
        closed_as_lost=tally.counts.closed_as_lost + closed,
        skipped=tally.counts.skipped,
    )
    return tally if counts == tally.counts else msgspec.structs.replace(tally, counts=counts)


def _surplus(watched: Iterable[Run]) -> list[Run]:
    """The oldest of the open runs, as many as there are too many."""
    still_open = [run for run in watched if run.is_open]
    return sorted(still_open, key=_by_start)[: max(0, len(still_open) - OPEN_RUNS)]


def _ranked(tally: Tally, watched: dict[str, Run]) -> Tally:
    """The tally with the durations of runs that ended or whose end is another one by now; such runs are marked."""
    keys: list[int] = []
    counts: list[int] = []
    succeeded_ms = tally.succeeded_ms
    for run_id, run in watched.items():
        if run.state is RunState.SUCCESS:
            succeeded_ms = max(succeeded_ms, run.started_ms)
        duration_us = run.duration_us if run.state in ENDED else None
        if duration_us == run.ranked_us:
            continue
        for us, count in ((run.ranked_us, -1), (duration_us, 1)):
            if us is not None:
                keys.append(us)
                counts.append(count)
        watched[run_id] = msgspec.structs.replace(run, ranked_us=duration_us)
    if not keys and succeeded_ms == tally.succeeded_ms:
        return tally
    index = histogram.index_of(np.minimum(np.array(keys, np.int64), histogram.HIGHEST_US))
    added = histogram.add_cells(tally.keys, tally.cells, *histogram.sum_cells(index, np.array(counts, np.int64)))
    return msgspec.structs.replace(tally, succeeded_ms=succeeded_ms, keys=added[0], cells=added[1])


def _settling(watched: Iterable[Run], as_of_ms: int) -> list[Run]:
    """Runs that nothing more is expected of."""
    ended = sorted((run for run in watched if not run.is_open), key=lambda run: (run.last_at_ms, run.run_id))
    surplus = max(0, len(ended) - WATCHED_ENDED)
    return [run for at, run in enumerate(ended) if at < surplus or as_of_ms - run.last_at_ms > SETTLED_MS]


def _bare(run: Run) -> Run:
    """A run as it is kept for long: it still knows its first few events again."""
    return (
        run if len(run.seen) <= 8 * SEEN_FOR_LONG else msgspec.structs.replace(run, seen=run.seen[: 8 * SEEN_FOR_LONG])
    )


def _stages(known: dict[str, StageSums], more: dict[str, StageSums]) -> dict[str, StageSums]:
    stages = dict(known)
    for name, sums in more.items():
        kept = name if name in stages or name == "" or len(stages) < RUN_STAGES else OTHER
        stages[kept] = stages[kept].plus(sums) if kept in stages else sums
    return stages


def _thinned(
    older: int, starts: set[int], ends: set[tuple[int, int, int]]
) -> tuple[int, tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    """The starts and ends in order, and how many attempts are over before them; at most MARKS.

    Of more those go that no longer matter unless something very late comes: all ends of an attempt but the latest, all
    starts but the first, and then whole attempts, oldest first.
    """
    if len(starts) + len(ends) <= MARKS:
        return older, tuple(sorted(starts)), tuple(sorted(ends))
    kept: list[tuple[int, int, int, int]] = []
    for mark in sorted([*((at, 0, 0, 0) for at in starts), *((at, 1, failed, us) for at, failed, us in ends)]):
        if mark[1] and kept and kept[-1][1]:
            kept[-1] = mark
        elif mark[1] or not kept or kept[-1][1]:
            kept.append(mark)
    while len(kept) > MARKS:
        older += kept.pop(0)[1]
    while kept[0][1] and len(kept) > 1:
        older += kept.pop(0)[1]
    return (
        older,
        tuple(at for at, is_end, _, _ in kept if not is_end),
        tuple((at, failed, us) for at, is_end, failed, us in kept if is_end),
    )


def _derived(run: Run) -> Run:
    """The run with what follows from its starts and ends: attempts, and start, end and duration of the latest."""
    attempts, started_ms, end = run.older + 1, None, None
    ends = iter((*run.ends, None))
    following = next(ends)
    for start in (*run.starts, None):
        while following is not None and (start is None or following[0] < start):
            end, following = following, next(ends)
        if start is not None and end is not None:
            attempts, started_ms, end = attempts + 1, start, None
        elif started_ms is None:
            started_ms = start
    if end is None:
        started_ms = run.first_ms if started_ms is None else started_ms
        return msgspec.structs.replace(run, attempts=attempts, started_ms=started_ms, ended_ms=None, duration_us=None)
    if started_ms is None:
        started_ms = end[0] - end[2] // 1_000 if end[2] >= 0 else run.first_ms
        duration_us = end[2] if end[2] >= 0 else (end[0] - started_ms) * 1_000
    else:
        duration_us = (end[0] - started_ms) * 1_000
    return msgspec.structs.replace(
        run, attempts=attempts, started_ms=started_ms, ended_ms=end[0], duration_us=duration_us
    )


def _passed(limit_s: int | None, since_ms: int, as_of_ms: int) -> bool:
    return limit_s is not None and as_of_ms - since_ms >= limit_s * 1_000


def _by_start(run: Run) -> tuple[int, str]:
    return run.started_ms, run.run_id


def _and_more(count: int) -> str:
    return "" if not count else f" (and {count} more run{'s' if count > 1 else ''})"


def shown_time(ms: int) -> str:
    """A time as text; one that a latency carries out of the years is cut off."""
    return times.to_text(max(times.EARLIEST_MS, min(times.LATEST_MS, ms)))


_read_run = msgspec.msgpack.Decoder(Run)


class _StoredTally(msgspec.Struct, array_like=True):
    counts: RunCounts
    second: int
    made: int
    succeeded_ms: int
    steps: list[int]
    """Of the cells' keys, each as the difference to the one before."""
    cells: list[int]


_read_tally = msgspec.msgpack.Decoder(_StoredTally)


def encode_run(run: Run) -> bytes:
    return bytes((RUN_FORMAT,)) + msgspec.msgpack.encode(run)


def decode_run(data: bytes) -> Run:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    try:
        return _read_run.decode(memoryview(data)[1:])
    except ValueError as error:  # also of msgspec and of Unicode
        raise CorruptEntryError("a run cannot be read") from error


def encode_tally(tally: Tally) -> bytes:
    steps = np.diff(tally.keys, prepend=0).tolist()
    stored = _StoredTally(tally.counts, tally.second, tally.made, tally.succeeded_ms, steps, tally.cells.tolist())
    return bytes((RUN_FORMAT,)) + msgspec.msgpack.encode(stored)


def decode_tally(data: bytes) -> Tally:
    """Raises CorruptEntryError or NewerFormatError."""
    _check_format(data)
    try:
        stored = _read_tally.decode(memoryview(data)[1:])
        keys, cells = np.cumsum(np.array(stored.steps, np.int64)), np.array(stored.cells, np.int64)
    except (ValueError, OverflowError) as error:
        raise CorruptEntryError("what is known of a system's runs cannot be read") from error
    if len(keys) != len(cells):
        raise CorruptEntryError("the histogram of a system's runs cannot be read")
    return Tally(stored.counts, stored.second, stored.made, stored.succeeded_ms, keys, cells)


def _check_format(data: bytes) -> None:
    if not data or not 0 < data[0] <= LAST_FORMAT:
        raise CorruptEntryError("what is stored of a run begins with no format")
    if data[0] > RUN_FORMAT:
        raise NewerFormatError(f"run format {data[0]}; this release reads up to {RUN_FORMAT}", runs=data[0])
