"""History as folding writes it: rows and the slots that are in none, against a count one by one over event times."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import histogram, rollups
from lso_core.compute.fold import fold, unwritten
from lso_core.compute.rollups import Rollup
from lso_core.compute.state import Meta, State, decode_meta, decode_slot, encode_meta, from_slots
from lso_core.model import times
from lso_core.model.events import OTHER, STAGES, Event
from lso_core.model.rollups import Width
from lso_core.model.windows import Window
from tests.compute.brute import Sent, arrival

NOW = times.from_text("2025-12-14T14:33:10.529Z")
MINUTE = 60_000

Batch = tuple[int, list[Event]]


class Turn(NamedTuple):
    """One fold: the batches that it takes, how long after the last of them it stops, and the window it is under."""

    batches: list[Batch]
    as_of_ms: int
    window: Window
    lag_ms: int = 0


offsets = st.one_of(
    st.none(),
    st.integers(-150_000, 60_000),
    st.integers(-2 * 3_600_000, 0),
    st.integers(-(10**12), 0),
    st.sampled_from([-1, 0, 1, 60_000, -60_000, -55_000]),
)
types = st.sampled_from(["success", "failure", "start", "heartbeat", "log"])
gaps = st.sampled_from([0, 1, 999, 4_471, 5_000, 30_000, 59_999, 61_000, 300_000, 7_200_000])
windows = st.sampled_from([60, 65, 300, 3_600]).map(Window)


@st.composite
def events(draw: st.DrawFn, at_ms: int) -> Event:
    offset, event_type = draw(offsets), draw(types)
    return Event(
        event_type,
        draw(st.sampled_from(["ok", "error"])),
        draw(st.floats(0, 900_000)) if event_type in {"success", "failure"} else None,
        None if offset is None else times.to_text(at_ms + offset),
        stage=draw(st.sampled_from([None, "extract", "load"])),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Turn]:
    """Folds one after another: of one batch, of a backlog, of none, after a stall, under windows that were changed."""
    turns = []
    at = as_of = NOW - NOW % MINUTE + draw(st.integers(0, 59_999))
    window, system_id = draw(windows), draw(st.integers(0, 100_000))
    for _ in range(draw(st.integers(1, 8))):
        batches = []
        for _ in range(draw(st.integers(0, 3))):
            at += draw(gaps)
            batches.append((at, [draw(events(at)) for _ in range(draw(st.integers(1, 4)))]))
        # `as_of` is one past the last arrival folded, or the time of the read; what arrives next may be as old as that.
        as_of = max(as_of, at + 1) + draw(gaps)
        at = draw(st.sampled_from([at, as_of]))
        if draw(st.booleans()):
            window = draw(windows)
        turns.append(Turn(batches, as_of, window, window.lag_of(system_id)))
    return turns


def run(turns: Sequence[Turn]) -> tuple[State, list[Rollup], list[tuple[Sent, Window]]]:
    """The last state, all rows that were written, and all events with the window they were folded under.

    State and rows go through their stored forms, and every fold is done twice, as after a commit that was refused.
    """
    state, rows, sent = State(), list[Rollup](), list[tuple[Sent, Window]]()
    for batches, as_of, window, lag_ms in turns:
        arrivals = [arrival(at, some) for at, some in batches]
        fold(state, arrivals, window, as_of, lag_ms)
        folded = fold(state, arrivals, window, as_of, lag_ms)
        assert [row.start_ms for row in folded.rows] == sorted({row.start_ms for row in folded.rows})
        rows += [rollups.decode(rollups.encode(row)) for row in folded.rows]
        sent += [(Sent(at, event), window) for at, some in batches for event in some]
        slots = {start: decode_slot(value) for start, value in folded.state.slots.items()}
        state = from_slots(decode_meta(encode_meta(folded.state.meta)), slots)
    return state, rows, sent


def check(state: State, rows: Sequence[Rollup], sent: Sequence[tuple[Sent, Window]]) -> None:
    """Every minute of rows and slots is what a count one by one finds in it."""
    assert all(row.start_ms < state.meta.written_ms for row in rows)
    found = {row.start_ms: row for row in rollups.merge([*rows, *unwritten(state.meta, state.opened())], Width.MINUTE)}
    minutes: dict[int, list[tuple[Sent, Window]]] = defaultdict(list)
    for one, window in sent:
        minutes[one.time_ms // MINUTE * MINUTE].append((one, window))
    assert sorted(found) == sorted(minutes)
    for start, some in minutes.items():
        row = found[start]
        counted = [(one, window) for one, window in some if not one.lifecycle]
        assert row.event_types == Counter(one.event.event_type for one, _ in some)
        assert row.revised == Counter(one.event.stage or "" for one, window in counted if one.late(window))
        assert row.stages.keys() == {one.event.stage or "" for one, _ in counted}
        for at, (stage, tally) in enumerate(row.stages.items()):
            own = [one.event for one, _ in counted if (one.event.stage or "") == stage]
            us = [round(event.latency_ms * 1_000) for event in own if event.latency_ms is not None]
            errors = sum(event.status == "error" for event in own)
            assert (tally.total, tally.errors, tally.timed) == (len(own), errors, len(us))
            assert (tally.sum_us, tally.min_us, tally.max_us) == (sum(us), min(us), max(us))
            mine = row.stage == at
            cells = zip(row.index[mine].tolist(), row.count[mine].tolist(), row.errors[mine].tolist(), strict=True)
            assert {index: (count, wrong) for index, count, wrong in cells} == counted_cells(own)


def counted_cells(own: Sequence[Event]) -> dict[int, tuple[int, int]]:
    """How many latencies fall on which index, and how many of them are those of errors."""
    cells: dict[int, tuple[int, int]] = {}
    for event in own:
        index = int(histogram.index_of(np.array([round((event.latency_ms or 0) * 1_000)]))[0])
        count, wrong = cells.get(index, (0, 0))
        cells[index] = count + 1, wrong + (event.status == "error")
    return cells


@given(histories())
@settings(max_examples=60)
def test_the_rows_of_a_minute_add_up_to_a_count_one_by_one(turns: list[Turn]) -> None:
    check(*run(turns))


def event(at_ms: int, *, stage: str | None = None, event_type: str = "success") -> Event:
    return Event(event_type, "ok", 1.0, times.to_text(at_ms), stage=stage)


M = NOW - NOW % MINUTE


def test_a_minute_is_written_once_when_it_is_over() -> None:
    turns = [
        Turn([(M + 10_000, [event(M + 10_000)])], M + 10_001, Window(60)),
        Turn([(M + 59_999, [event(M + 59_999)])], M + 60_000 - 1, Window(60)),
    ]
    assert run(turns)[1] == []
    [row] = run([*turns, Turn([], M + 60_000, Window(60))])[1]
    assert (row.start_ms, row.stages[""].total, row.revised) == (M, 2, {})
    assert len(run([*turns, Turn([], M + 60_000, Window(60)), Turn([], M + 64_500, Window(60))])[1]) == 1


def test_what_arrives_for_a_minute_that_is_written_makes_a_row_more_of_it() -> None:
    first = Turn([(M + 10_000, [event(M + 10_000)])], M + 60_000, Window(300))
    straggler = Turn([(M + 61_000, [event(M + 59_000)])], M + 61_001, Window(300))
    late = Turn([(M + 900_000, [event(M + 1_000)])], M + 900_001, Window(300))
    state, rows, sent = run([first, straggler, late])
    assert [(row.start_ms, row.stages[""].total, row.revised) for row in rows] == [
        (M, 1, {}),
        (M, 1, {}),
        (M, 1, {"": 1}),
    ]
    check(state, rows, sent)


def test_what_is_over_and_what_arrives_for_it_then_share_one_row() -> None:
    first = Turn([(M + 10_000, [event(M + 10_000, stage="a")])], M + 10_001, Window(60))
    both = Turn([(M + 61_000, [event(M + 59_000, stage="b"), event(M + 60_500)])], M + 61_001, Window(60))
    _, rows, _ = run([first, both])
    assert [(row.start_ms, list(row.stages)) for row in rows] == [(M, ["a", "b"])]


def test_a_backlog_is_written_under_its_own_minutes() -> None:
    """Its slots have left the window while it waited; it counts in history all the same, and nothing of it is late."""
    waiting = [(M + at * MINUTE, [event(M + at * MINUTE - 1), event(M + at * MINUTE - 30_000)]) for at in range(90)]
    state, rows, sent = run([Turn(waiting, M + 200 * MINUTE, Window(60))])
    assert (len(rows), state.slots) == (90, {})
    assert not any(row.revised for row in rows)
    check(state, rows, sent)


def test_a_minute_with_nothing_but_heartbeats_has_a_row_without_stages() -> None:
    [row] = run([Turn([(M, [event(M, event_type="heartbeat")])], M + 60_000, Window(60))])[1]
    assert (row.stages, row.event_types) == ({}, {"heartbeat": 1})


def test_the_window_of_a_state_from_before_there_were_rows_becomes_history() -> None:
    arrivals = [arrival(M + at * 20_000, [event(M + at * 20_000)]) for at in range(10)]
    before = fold(State(), arrivals, Window(300), M + 190_000).state
    old = from_slots(Meta(before.meta.as_of_ms, before.meta.stages, before.meta.event_types), before.opened())
    rows = fold(old, [], Window(300), M + 195_000).rows
    assert [(row.start_ms - M, row.stages[""].total) for row in rows] == [(0, 3), (MINUTE, 3), (2 * MINUTE, 3)]


def test_stage_numbers_that_are_given_anew_do_not_mix_up_names() -> None:
    """More stages than there are numbers, turn by turn: each row names its own."""
    turns = [
        Turn([(at, [event(at, stage=f"{turn}-{n}") for n in range(STAGES)])], at + 1, Window(60))
        for turn, at in enumerate(range(M, M + 6 * 40_000, 40_000))
    ]
    state, rows, sent = run(turns)
    merged = rollups.merge([*rows, *unwritten(state.meta, state.opened())], Width.HOUR)
    totals = Counter[str]()
    for row in merged:
        totals.update({name: tally.total for name, tally in row.stages.items()})
    assert totals.total() == len(sent)
    assert all(totals[f"{turn}-{n}"] <= 1 for turn in range(6) for n in range(STAGES))
    assert totals[OTHER] == 3 * STAGES  # of every other turn, whose predecessors hold all the numbers
