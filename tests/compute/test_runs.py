"""Runs: the same record whatever the order, the cuts and the repetitions, and exactly what a look at all events finds."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.compute import columns, runs
from lso_core.compute.columns import BodyKind, CorruptEntryError, NewerFormatError
from lso_core.compute.fold import Arrival
from lso_core.compute.histogram import index_of
from lso_core.compute.readback import said
from lso_core.compute.run_events import Piece
from lso_core.compute.runs import Run, Runs
from lso_core.model import times
from lso_core.model.batches import StoredEntry
from lso_core.model.events import Event
from lso_core.model.runs import OPEN_RUNS, Limits, RunState

T0 = times.from_text("2025-12-14T14:00:00.000Z")
AT = T0 + 10_000_000
NO_LIMITS = Limits()


def event(kind: str, at: int, run_id: str = "r", **more: Any) -> Event:
    status = more.pop("status", "error" if kind == "failure" else "ok")
    return Event(kind, status, more.pop("latency_ms", None), times.to_text(T0 + at), run_id=run_id, **more)


def piece_of(entry_id: str, at_ms: int, events: Sequence[Event]) -> Piece:
    """An entry as a worker reads it: columns and body packed and unpacked."""
    cut = columns.decode(columns.encode(columns.cut(events)))
    body = columns.pack_body(msgspec.json.encode({"events": events}), BodyKind.JSON)
    entry = StoredEntry(entry_id, at_ms, len(events), b"", body)
    return Piece(entry_id, at_ms, cut, said(entry, cut, np.arange(len(events))))


class Book:
    """What a worker does with runs, without the worker: plan, read, fold, advance; settled ones are looked up again."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.runs = Runs()
        self.settled: dict[str, Run] = {}
        self.limits = limits
        self.history: list[Piece] = []

    def take(self, events: Sequence[Event], at_ms: int = AT, as_of_ms: int | None = None) -> runs.Advanced:
        """One entry. Earlier entries are looked through for the events of runs that are new."""
        piece = piece_of(f"{at_ms}-{len(self.history)}", at_ms, events)
        planned = runs.plan(self.runs, [Arrival(at_ms, columns.block_of(piece.columns))])
        after = self.runs
        if planned is not None:
            settled = {one: self.settled[one] for one in planned.made if one in self.settled}
            new = set(planned.made) - settled.keys()
            older = [one for one in self.history if one.columns.runs and not new.isdisjoint(one.columns.runs.ids)]
            after = runs.fold(self.runs, planned, [piece], older, settled)
        self.history.append(piece)
        return self.advance(after, max(at_ms + 1, as_of_ms or 0))

    def advance(self, after: Runs, as_of_ms: int) -> runs.Advanced:
        advanced = runs.advance(self.runs, after, as_of_ms, self.limits)
        self.runs = advanced.runs
        for run in advanced.changed:
            assert runs.decode_run(runs.encode_run(run)) == run
            self.settled.pop(run.run_id, None)
        self.settled |= {run.run_id: run for run in advanced.settled}
        tally = runs.decode_tally(runs.encode_tally(self.runs.tally))
        assert runs.encode_tally(tally) == runs.encode_tally(self.runs.tally)
        return advanced

    def wait(self, ms: int) -> runs.Advanced:
        return self.advance(self.runs, AT + ms)

    def trouble(self) -> str | None:
        return self.runs.trouble

    def all(self) -> dict[str, Run]:
        return {**self.settled, **self.runs.watched}

    def run(self, run_id: str = "r") -> Run:
        return self.all()[run_id]


def shown(run: Run) -> dict[str, Any]:
    """What is shown of a run, without what depends on the way of its events."""
    hidden = {"first_at_ms", "last_at_ms", "seen"}
    return {name: value for name, value in msgspec.structs.asdict(run).items() if name not in hidden}


# -- examples --------------------------------------------------------------------------------------------------

STORY = [
    event("start", 0),
    event("success", 5_000, stage="extract", latency_ms=4_000.0, payload={"rows": 10, "bytes": 7}),
    event("heartbeat", 6_000),
    event("success", 9_000, stage="load", latency_ms=2_500.0, payload={"rows": 5, "rows_out": 4}),
    event("end", 10_000),
]


def test_a_run_is_what_its_events_say() -> None:
    book = Book()
    book.take(STORY)
    run = book.run()
    assert (run.state, run.attempts, run.started_ms, run.ended_ms) == (RunState.SUCCESS, 1, T0, T0 + 10_000)
    assert run.duration_us == 10_000_000
    extract, load = run.stages["extract"], run.stages["load"]
    assert (extract.first_ms, extract.last_ms, extract.busy_us) == (T0 + 1_000, T0 + 5_000, 4_000_000)
    assert (extract.sums, load.sums) == ((10, None, None, 7), (5, None, 4, None))
    assert sum(one.events for one in run.stages.values()) == 5


def test_a_running_one_has_no_end() -> None:
    book = Book()
    book.take(STORY[:-1])
    assert (book.run().state, book.run().ended_ms, book.run().duration_us) == (RunState.RUNNING, None, None)
    assert book.run().last_ms == T0 + 9_000


@pytest.mark.parametrize(
    ("events", "state", "attempts", "started", "ended"),
    [
        ([event("end", 5, status="error")], RunState.FAILED, 1, 5, 5),
        ([event("failure", 5_000, latency_ms=3_000.0)], RunState.FAILED, 1, 2_000, 5_000),
        ([event("success", 5_000, latency_ms=3_000.0)], RunState.SUCCESS, 1, 2_000, 5_000),
        ([event("start", 0), event("start", 7)], RunState.RUNNING, 1, 0, None),
        ([event("start", 0), event("end", 5), event("end", 9, status="error")], RunState.FAILED, 1, 0, 9),
        ([event("start", 0), event("end", 9), event("end", 5, status="error")], RunState.SUCCESS, 1, 0, 9),
        ([event("start", 0), event("end", 9), event("end", 9, status="error")], RunState.FAILED, 1, 0, 9),
        ([event("start", 0), event("failure", 5, latency_ms=5.0), event("start", 8)], RunState.RUNNING, 2, 8, None),
        ([event("end", 5), event("start", 8), event("end", 9)], RunState.SUCCESS, 2, 8, 9),
        ([event("start", 5), event("end", 5)], RunState.SUCCESS, 1, 5, 5),
        # Begin and end of a stage are not those of the run.
        ([event("start", 0, stage="a"), event("end", 5, stage="a")], RunState.RUNNING, 1, 0, None),
        ([event("start", 0, stage="a"), event("end", 5, stage="a"), event("end", 7)], RunState.SUCCESS, 1, 0, 7),
    ],
)
def test_attempts_and_ends(
    events: list[Event], state: RunState, attempts: int, started: int, ended: int | None
) -> None:
    for order in itertools.permutations(events):
        book = Book()
        for one in order:
            book.take([one])
        run = book.run()
        assert (run.state, run.attempts, run.started_ms - T0) == (state, attempts, started)
        assert (None if run.ended_ms is None else run.ended_ms - T0) == ended


def test_ids_that_make_no_run_are_none() -> None:
    book = Book()
    book.take([event("success", 0, stage="load", latency_ms=1.0), event("heartbeat", 1), event("log", 2)])
    book.take([event("custom", 0, latency_ms=1.0)])
    assert not book.all()
    assert runs.plan(book.runs, [Arrival(AT, columns.block_of(book.history[0].columns))]) is None


def test_events_without_a_time_count_each() -> None:
    book = Book()
    one = Event("success", "ok", 1.0, run_id="r", stage="load", payload={"rows": 2})
    book.take([Event("start", "ok", run_id="r"), one, one])
    book.take([one])
    assert book.run().stages["load"].sums[0] == 6


def test_the_first_error_with_a_message_is_the_summary() -> None:
    story = [
        event("failure", 3, stage="a", latency_ms=1.0, payload={"error": "second"}),
        event("failure", 1, stage="a", latency_ms=1.0),
        event("failure", 2, stage="b", latency_ms=1.0, payload={"error": "first"}),
        event("success", 0, stage="b", latency_ms=1.0, payload={"error": "no error"}),
        event("end", 9, status="error"),
    ]
    for order in itertools.permutations(story, 5):
        book = Book()
        for one in order:
            book.take([one])
        assert book.run().error == (T0 + 2, "first")


def test_a_late_event_of_an_ended_run_still_belongs_to_it() -> None:
    book = Book()
    book.take(STORY)
    book.wait(runs.SETTLED_MS - 1_000)
    book.take([event("success", 9_500, stage="check", latency_ms=1.0)], AT + 1)
    assert book.run().stages["check"].events == 1


def test_a_settled_run_takes_another_attempt() -> None:
    book = Book()
    book.take(STORY)
    assert book.wait(runs.SETTLED_MS + 2_000).settled == [book.run()]
    assert not book.runs.watched
    book.take([event("start", 20_000)], AT + 100_000)
    book.take([event("end", 30_000)], AT + 100_001)
    assert (book.run().attempts, book.run().state, book.run().stages["load"].events) == (2, RunState.SUCCESS, 1)
    assert book.runs.tally.cells.tolist() == [1]


# -- deadlines -------------------------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_is_timed_out_until_it_ends() -> None:
    book = Book(Limits(max_runtime_s=11_000))
    book.take([event("start", 0)])
    assert (book.run().state, book.runs.due_ms) == (RunState.RUNNING, T0 + 11_000_000)
    book.wait(999_999)
    assert (book.run().state.name, book.trouble()) == ("RUNNING", None)
    book.wait(1_000_000)
    assert book.run().state is RunState.TIMED_OUT
    assert book.trouble() == ("run r has not ended within 11000 s; it started at 2025-12-14T14:00:00.000Z")
    for at in range(20):
        book.take([event("start", 12_000_000, f"s{at}"), event("end", 12_000_001, f"s{at}")], AT + 2_100_000)
    assert book.trouble() is not None
    book.take([event("end", 13_000_000)], AT + 3_000_001)
    assert (book.run().state.name, book.trouble()) == ("SUCCESS", None)


def test_several_that_take_too_long_are_named_by_the_oldest() -> None:
    book = Book(Limits(max_runtime_s=1))
    book.take([event("start", at, f"r{at}") for at in (3, 1, 2)])
    assert "run r1 has" in str(book.trouble())
    assert "(and 2 more runs)" in str(book.trouble())


def test_a_run_without_a_sign_of_life_is_lost_and_may_come_back() -> None:
    book = Book(Limits(heartbeat_timeout_s=100))
    book.take([event("start", 9_950_000)])
    assert book.runs.due_ms == T0 + 10_050_000
    book.wait(50_000)
    assert book.run().state is RunState.LOST
    assert "run r is lost: it gave no sign of life within 100 s" in str(book.trouble())
    book.take([event("heartbeat", 10_060_000)], AT + 60_000)
    assert (book.run().state.name, book.trouble()) == ("RUNNING", None)


def test_a_later_run_that_succeeds_makes_up_for_a_lost_one() -> None:
    book = Book(Limits(heartbeat_timeout_s=1))
    book.take([event("start", 0)])
    book.take([event("start", 5, "s"), event("end", 6, "s", status="error")])
    assert book.trouble() is not None
    book.take([event("start", 7, "t"), event("end", 8, "t")])
    assert (book.run().state.name, book.trouble()) == ("LOST", None)


def test_a_run_that_is_silent_for_a_week_is_given_up() -> None:
    book = Book(Limits(max_runtime_s=60))
    book.take([event("start", 0)])
    book.take([event("start", 1, "s")])
    book.wait(8 * 86_400_000)
    assert (book.run().state, book.run("s").state) == (RunState.TIMED_OUT, RunState.TIMED_OUT)
    assert (book.runs.watched, book.trouble(), book.runs.due_ms) == ({}, None, None)


def test_past_the_cap_the_oldest_open_run_is_closed_as_lost() -> None:
    book = Book()
    book.take([event("start", at, f"r{at}") for at in range(OPEN_RUNS + 3)])
    states = {run_id: run.state for run_id, run in book.all().items()}
    assert {run_id for run_id, state in states.items() if state is RunState.LOST} == {"r0", "r1", "r2"}
    assert (book.runs.tally.counts.running, book.runs.tally.counts.closed_as_lost) == (OPEN_RUNS, 3)
    assert book.trouble() is None
    book.take([event("end", 5_000, "r1")])
    assert book.run("r1").state is RunState.SUCCESS


def test_a_system_makes_only_so_many_runs_a_second() -> None:
    book = Book()
    for part in range(6):
        book.take([event("success", at, f"r{part}-{at}", latency_ms=1.0) for at in range(500)])
    assert (len(book.all()), book.runs.tally.counts.skipped) == (runs.MADE_A_SECOND, 1_000)
    book.take([event("success", 1, "one more", latency_ms=1.0)], AT + 1_000)
    assert "one more" in book.all()


# -- properties ------------------------------------------------------------------------------------------------

happenings = st.builds(
    lambda kind, at, stage, rows, failed: event(
        kind,
        at,
        stage=stage,
        status="error" if failed else "ok",
        latency_ms=float(rows) if kind in {"success", "failure"} else None,
        payload=None if rows % 3 == 0 else {"rows": rows, "bytes": 2 * rows, "error": f"m{rows}"},
    ),
    st.sampled_from(["start", "end", "success", "failure", "heartbeat"]),
    st.integers(0, 40).map(lambda at: at * 100),
    st.none() | st.sampled_from(["a", "b"]),
    st.integers(0, 9),
    st.booleans(),
)


@given(st.lists(happenings, min_size=1, max_size=14), st.randoms(use_true_random=False))
def test_any_order_repetition_and_cut_gives_the_same_run(story: list[Event], dice: random.Random) -> None:
    one, other = Book(), Book()
    one.take(story)
    mixed = [*story, *dice.choices(story, k=dice.randrange(8))]
    dice.shuffle(mixed)
    at = 0
    while at < len(mixed):
        size = dice.randrange(1, 5)
        other.take(mixed[at : at + size])
        at += size
    assert {run_id: shown(run) for run_id, run in one.all().items()} == {
        run_id: shown(run) for run_id, run in other.all().items()
    }
    assert one.runs.tally.keys.tolist() == other.runs.tally.keys.tolist()


def brute(story: list[Event]) -> dict[str, Any] | None:
    """A run by plain loops over its different events; None where nothing makes one."""
    told = list({msgspec.json.encode(one): one for one in story}.values())
    if not any(
        one.event_type in {"start", "end"} or (one.event_type in {"success", "failure"} and one.stage is None)
        for one in told
    ):
        return None
    marks = sorted(
        (times.from_text(str(one.ts)), one.event_type != "start", one.status == "error")
        for one in told
        if one.stage is None and one.event_type != "heartbeat"
    )
    attempts, start, end = 1, None, None
    for at, is_end, failed in marks:
        if is_end:
            end = (at, failed)
        elif end is not None:
            attempts, start, end = attempts + 1, at, None
        elif start is None:
            start = at
    errors = sum(one.status == "error" for one in told)
    rows = [one.payload["rows"] for one in told if one.payload]
    messages = [(str(one.ts), one.payload["error"]) for one in told if one.payload and one.status == "error"]
    state = RunState.RUNNING if end is None else RunState.FAILED if end[1] else RunState.SUCCESS
    return {
        "attempts": attempts,
        "state": state,
        "end": None if end is None else end[0],
        "start": start,
        "errors": errors,
        "events": len(told),
        "rows": sum(rows) if rows else None,
        "summary": min(messages)[1] if messages else None,
        "busy": sum(one.latency_ms or 0 for one in told if one.stage == "a"),
    }


@given(st.lists(happenings, min_size=1, max_size=14))
def test_a_run_is_what_a_look_at_all_its_events_finds(story: list[Event]) -> None:
    book = Book()
    book.take(story)
    expected = brute(story)
    if expected is None:
        assert not book.all()
        return
    run = book.run()
    rows = [sums.sums[0] for sums in run.stages.values() if sums.sums[0] is not None]
    assert expected == {
        "attempts": run.attempts,
        "state": run.state,
        "end": run.ended_ms,
        "start": run.started_ms if expected["start"] is not None else None,
        "errors": sum(sums.errors for sums in run.stages.values()),
        "events": sum(sums.events for sums in run.stages.values()),
        "rows": sum(rows) if rows else None,
        "summary": None if run.error is None else run.error[1],
        "busy": run.stages["a"].busy_us / 1_000 if "a" in run.stages else 0,
    }


def test_very_many_attempts_are_counted_and_the_last_is_right() -> None:
    book = Book()
    for at in range(300):
        book.take([event("start", 10 * at), event("end", 10 * at + 5, status="error")])
    book.take([event("start", 5_000)])
    assert (book.run().attempts, book.run().started_ms, book.run().state) == (301, T0 + 5_000, RunState.RUNNING)
    assert len(book.run().starts) + len(book.run().ends) <= runs.MARKS + 2


def test_a_thousand_outcomes_of_one_run_are_one_attempt() -> None:
    book = Book()
    book.take([event("start", 0), *(event("success", at, latency_ms=1.0) for at in range(1, 1_001))])
    assert (book.run().attempts, book.run().ended_ms, book.run().duration_us) == (1, T0 + 1_000, 1_000_000)


def test_durations_of_all_ended_runs_are_in_the_histogram_once() -> None:
    dice = random.Random(3)
    book = Book()
    took = {f"r{at}": dice.randrange(1, 50_000) for at in range(200)}
    events = [one for run_id, ms in took.items() for one in (event("start", 0, run_id), event("end", ms, run_id))]
    dice.shuffle(events)
    for at in range(0, len(events), 7):
        book.take([*events[at : at + 7], *dice.choices(events[:at] or events[:1], k=2)])
    tally = book.runs.tally
    expected: dict[int, int] = {}
    for ms in took.values():
        index = int(index_of(np.array([ms * 1_000]))[0])
        expected[index] = expected.get(index, 0) + 1
    assert dict(zip(tally.keys.tolist(), tally.cells.tolist(), strict=True)) == expected


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"\x01", b"\x01\x93", b"\xff" * 9, b"text"])
def test_garbage_is_no_run(garbage: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        runs.decode_run(garbage)
    with pytest.raises(CorruptEntryError):
        runs.decode_tally(garbage)


def test_a_run_of_a_newer_release_says_so() -> None:
    with pytest.raises(NewerFormatError) as refused:
        runs.decode_run(bytes((runs.RUN_FORMAT + 1,)) + b"whatever")
    assert refused.value.needs == {"runs": runs.RUN_FORMAT + 1}
