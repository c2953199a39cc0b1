"""What the events of a batch say of the runs they belong to, added up by run and stage.

An event counts once for its run, however often it comes: `seen` holds what tells events apart, which is everything that
is looked at here. One without a `ts` is only ever the same as itself, since its time is that of its arrival.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from lso_core.compute import histogram
from lso_core.compute.columns import Columns
from lso_core.compute.run_ids import Numbers
from lso_core.model.events import LIFECYCLE
from lso_core.model.runs import OUTCOMES, Sums

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

SUMMED: Final = ("rows", "rows_in", "rows_out", "bytes")
"""Members of a payload that are added up, whole numbers from 0 on."""
MOST_SUMMED: Final = 1 << 53
"""A sum stays there: JavaScript and doubles count no further."""
_NEVER: Final = np.iinfo(np.int64).min


class Said(msgspec.Struct, frozen=True):
    """What the payloads of some events say."""

    rows: Int64
    """Their places, ascending."""
    numbers: Floats
    """One row for each of SUMMED, NaN where there is none."""
    messages: Mapping[int, str]
    """Of errors, by place."""


NOTHING_SAID: Final = Said(np.empty(0, np.int64), np.empty((len(SUMMED), 0)), {})


class Piece(msgspec.Struct, frozen=True):
    """An entry, as far as runs go."""

    entry_id: str
    at_ms: int
    columns: Columns
    said: Said = NOTHING_SAID


class StageSums(msgspec.Struct, frozen=True, array_like=True):
    """The events of a stage."""

    first_ms: int
    """When the first of them began."""
    last_ms: int
    outcome: int | None
    """Of the latest outcome its time (ms) and whether it failed, as time · 2 + 1; failing wins at the same time."""
    events: int
    errors: int
    timed: int
    """Outcomes with a latency."""
    busy_us: int
    """Their latencies together."""
    sums: tuple[int | None, ...]
    """Of SUMMED."""

    def plus(self, other: "StageSums") -> "StageSums":
        """The sums over both."""
        outcomes = [one.outcome for one in (self, other) if one.outcome is not None]
        return StageSums(
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
            max(outcomes, default=None),
            self.events + other.events,
            self.errors + other.errors,
            self.timed + other.timed,
            self.busy_us + other.busy_us,
            tuple(added(a, b) for a, b in zip(self.sums, other.sums, strict=True)),
        )


class Share(msgspec.Struct):
    """What some events say of one run."""

    run_id: str
    starts: set[int]
    ends: set[tuple[int, int, int]]
    """Time in ms, 1 where it failed, latency in µs or -1."""
    at_ms: tuple[int, int]
    """First and last arrival."""
    error: tuple[int, str] | None
    """Time and message of the first error that has one."""
    stages: dict[str, StageSums]
    """"" is for events without a stage."""
    seen: Words


def added(one: int | None, other: int | None) -> int | None:
    """The sum of two numbers of which either may be absent."""
    if one is None or other is None:
        return other if one is None else one
    return min(MOST_SUMMED, one + other)


def sums_of(stages: Iterable[StageSums]) -> Sums:
    """The sums over all stages."""
    total: tuple[int | None, ...] = (None,) * len(SUMMED)
    for stage in stages:
        total = tuple(added(a, b) for a, b in zip(total, stage.sums, strict=True))
    return Sums(*total)


class _Picked(NamedTuple):
    """Events by column."""

    run: Int64
    """From 1 on."""
    stage: Int64
    time_ms: Int64
    at_ms: Int64
    starts: Bools
    ends: Bools
    outcome: Bools
    error: Bools
    latency_us: Int64
    """-1 where there is none."""
    same: Words
    """Equal for an event that comes again."""
    numbers: Floats
    """One row for each of SUMMED, NaN where there is none."""
    message: Int64
    """From 1 on; 0 for none."""

    def take(self, places: "npt.NDArray[np.intp] | slice") -> "_Picked":
        columns: Any = (column[..., places] for column in self)
        return _Picked(*columns)


def shares(pieces: Sequence[Piece], chosen: Collection[str], seen: Mapping[str, bytes]) -> list[Share]:
    """What `pieces` say of the runs in `chosen`, but for events that are in `seen` of their run."""
    ids = list(chosen)
    run_of = {run_id: number for number, run_id in enumerate(ids, 1)}
    stages, messages = Numbers({None: 0}), list[str]()
    parts = [part for piece in pieces if (part := _pick(piece, run_of, stages, messages)) is not None]
    if not parts:
        return []
    picked = _joined(parts)
    picked = picked.take(_new(picked, ids, seen))
    if not len(picked.run):
        return []
    names = ["" if name is None else name for name in stages]
    return _by_run(picked.take(np.lexsort((picked.stage, picked.run))), ids, names, messages)


def _joined(parts: list[_Picked]) -> _Picked:
    columns: Any = zip(*parts, strict=True)
    return _Picked(*(np.concatenate(column, axis=-1) for column in columns))


def _pick(piece: Piece, run_of: Mapping[str, int], stages: Numbers, messages: list[str]) -> _Picked | None:
    """The events of a piece that belong to one of the runs."""
    columns = piece.columns
    run, rows = events_of(columns, run_of)
    if not len(rows):
        return None
    has_ts, types = columns.has_ts[rows], columns.event_types
    time = np.where(has_ts, np.minimum(columns.ts_ms[rows], piece.at_ms), piece.at_ms)
    latency = np.where(columns.has_latency[rows], columns.latency_us[rows], -1)
    event_type, stage, error = columns.event_type[rows], columns.stage[rows], columns.error[rows]
    alone = stage == 0
    is_end = np.array([name in OUTCOMES or name == "end" for name in types])[event_type]
    counted = np.array([name not in LIFECYCLE for name in types])[event_type]
    numbers, message = _said(piece.said, rows, messages)
    same = _mixed(
        np.where(has_ts, time, rows),
        np.where(has_ts, 0, _signed(piece.entry_id)),
        np.array([_signed(name) for name in types])[event_type],
        np.array([0, *map(_signed, columns.stages)])[stage],
        latency * 2 + error,
        *np.nan_to_num(numbers, nan=-1.0).astype(np.int64),
    )
    return _Picked(
        run=run,
        stage=np.array([0, *(stages[name] for name in columns.stages)])[stage],
        time_ms=time,
        at_ms=np.full(len(rows), piece.at_ms),
        starts=alone & np.array([name == "start" for name in types])[event_type],
        ends=alone & is_end,
        outcome=counted | is_end,
        error=error,
        latency_us=np.where(counted | alone, latency, -1),
        same=same,
        numbers=numbers,
        message=message,
    )


def events_of(columns: Columns, run_of: Mapping[str, int]) -> tuple[Int64, Int64]:
    """The numbers of the runs, above 0, of the events that belong to one of those, and the places of these events."""
    told = columns.runs
    if told is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    run = np.array([0, *(run_of.get(run_id, 0) for run_id in told.ids)])[told.number]
    places = np.flatnonzero(run)
    return run[places], places if told.whole else told.makers[places]


def _said(said: Said, rows: Int64, messages: list[str]) -> tuple[Floats, Int64]:
    """What payloads say of the events at `rows`, as columns; messages are collected."""
    numbers, message = np.full((len(SUMMED), len(rows)), np.nan), np.zeros(len(rows), np.int64)
    if len(said.rows):
        at = np.minimum(np.searchsorted(said.rows, rows), len(said.rows) - 1)
        numbers = np.where(said.rows[at] == rows, said.numbers[:, at], np.nan)
    if said.messages:
        for place in np.flatnonzero(np.isin(rows, list(said.messages))).tolist():
            messages.append(said.messages[int(rows[place])])
            message[place] = len(messages)
    return numbers, message


def _signed(text: str) -> int:
    """64 bits of a text's digest."""
    return xxhash.xxh3_64_intdigest(text.encode()) - (1 << 63)


def _mixed(*columns: Int64) -> Words:
    """64 bits of each row's digest: equal rows have equal ones, and others hardly ever."""
    digest = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        digest = (digest ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        digest ^= digest >> np.uint64(29)
    return digest


def _new(picked: _Picked, ids: list[str], seen: Mapping[str, bytes]) -> npt.NDArray[np.intp]:
    """The first of each event that was not seen before."""
    order = np.lexsort((picked.same, picked.run))
    run, same = picked.run[order], picked.same[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (run[1:] != run[:-1]) | (same[1:] != same[:-1])
    starts = histogram.starts_of(run)
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(run)], strict=True):
        known = seen.get(ids[run[start] - 1])
        if known:
            first[start:end] &= ~np.isin(same[start:end], np.frombuffer(known, "<u8"))
    return order[first]


def _by_run(picked: _Picked, ids: list[str], names: list[str], messages: list[str]) -> list[Share]:
    """The events added up; they are ordered by run and stage."""
    groups = histogram.starts_of(picked.run * len(names) + picked.stage)
    sums = _stage_sums(picked, groups)
    runs = histogram.starts_of(picked.run)
    first_at, last_at = np.minimum.reduceat(picked.at_ms, runs), np.maximum.reduceat(picked.at_ms, runs)
    found: dict[int, Share] = {}
    for number, *at, start, end in zip(
        picked.run[runs].tolist(),
        first_at.tolist(),
        last_at.tolist(),
        runs.tolist(),
        [*runs[1:].tolist(), len(picked.run)],
        strict=True,
    ):
        own = picked.take(slice(start, end))
        ends = np.flatnonzero(own.ends)
        found[number] = Share(
            run_id=ids[number - 1],
            starts=set(own.time_ms[own.starts].tolist()),
            ends=set(
                zip(
                    own.time_ms[ends].tolist(),
                    own.error[ends].astype(np.int64).tolist(),
                    own.latency_us[ends].tolist(),
                    strict=True,
                )
            ),
            at_ms=(at[0], at[1]),
            error=_first_error(own, messages),
            stages={},
            seen=own.same,
        )
    for number, stage, summed in zip(picked.run[groups].tolist(), picked.stage[groups].tolist(), sums, strict=True):
        found[number].stages[names[stage]] = summed
    return list(found.values())


def _first_error(own: _Picked, messages: list[str]) -> tuple[int, str] | None:
    """The earliest error with a message; of several at one time the one that sorts first."""
    told = own.error & (own.message > 0)
    if not told.any():
        return None
    at = int(own.time_ms[told].min())
    return at, min(messages[number - 1] for number in own.message[told & (own.time_ms == at)].tolist())


def _stage_sums(picked: _Picked, groups: npt.NDArray[np.intp]) -> list[StageSums]:
    """One for each group; those start at `groups`."""
    timed = picked.outcome & (picked.latency_us >= 0)
    busy = np.where(timed, picked.latency_us, 0)
    outcome = np.where(picked.outcome, picked.time_ms * 2 + picked.error, _NEVER)
    told = ~np.isnan(picked.numbers)
    numbers = np.add.reduceat(np.where(told, picked.numbers, 0.0), groups, axis=1)
    present = np.add.reduceat(told.astype(np.int64), groups, axis=1)
    columns = (
        np.minimum.reduceat(picked.time_ms - busy // 1_000, groups),
        np.maximum.reduceat(picked.time_ms, groups),
        np.maximum.reduceat(outcome, groups),
        np.diff(groups, append=len(picked.run)),
        np.add.reduceat(picked.error.astype(np.int64), groups),
        np.add.reduceat(timed.astype(np.int64), groups),
        np.add.reduceat(busy, groups),
    )
    sums = [
        tuple(None if not count else min(MOST_SUMMED, int(number)) for number, count in zip(row, counts, strict=True))
        for row, counts in zip(numbers.T.tolist(), present.T.tolist(), strict=True)
    ]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        StageSums(first, last, None if outcome == _NEVER else outcome, events, errors, timed, busy_us, summed)
        for (first, last, outcome, events, errors, timed, busy_us), summed in zip(rows, sums, strict=True)
    ]
