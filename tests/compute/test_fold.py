"""Folding: the same state whatever the cuts and the order, and exactly what a count one by one finds."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute.cells import EMPTY
from lso_core.compute.fold import fold
from lso_core.compute.state import State, decode_meta, encode_meta, from_stored
from lso_core.compute.summarize import summarize
from lso_core.model import times
from lso_core.model.events import EVENT_TYPES, OTHER, STAGES, Event
from lso_core.model.health import Thresholds
from lso_core.model.snapshots import Summary
from lso_core.model.systems import System
from lso_core.model.windows import SLOT_MS, Window
from tests.compute.brute import Sent, arrival, as_values, close, count, percentile

NOW = times.from_text("2025-12-14T14:33:10.529Z")
WINDOW = Window(60)

offsets = st.one_of(
    st.none(),
    st.integers(-150_000, 60_000),
    # around the window's far edge, to the millisecond
    st.integers(-60_002, -54_998),
    st.sampled_from([-1, 0, 1, 60_000]),
)


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[int, list[Event]]]:
    """A few batches: (arrival, events), in the order of their arrival."""
    found = []
    at = NOW
    for _ in range(draw(st.integers(1, 5))):
        at += draw(st.sampled_from([0, 1, 999, 4_471, 5_000, 30_000, 61_000]))
        found.append((at, [draw(events(at)) for _ in range(draw(st.integers(1, 6)))]))
    return found


@st.composite
def events(draw: st.DrawFn, at_ms: int) -> Event:
    offset = draw(offsets)
    event_type = draw(st.sampled_from(["success", "failure", "start", "heartbeat", "end", "log"]))
    latency = draw(st.floats(0, 900_000)) if event_type in {"success", "failure"} else draw(st.none() | st.just(5.0))
    return Event(
        event_type,
        draw(st.sampled_from(["ok", "error"])),
        latency,
        None if offset is None else times.to_text(at_ms + offset),
        stage=draw(st.sampled_from([None, "extract", "load"])),
    )


def folded(parts: Sequence[tuple[int, Sequence[Event]]], as_of_ms: int, window: Window = WINDOW) -> State:
    """All parts folded at once, from nothing."""
    return fold(State(), [arrival(at, some) for at, some in parts], window, as_of_ms).state


def sent(parts: Sequence[tuple[int, Sequence[Event]]]) -> list[Sent]:
    return [Sent(at, event) for at, some in parts for event in some]


def summed(state: State, window: Window = WINDOW) -> Summary:
    return judged(state, window)[1]


def judged(state: State, window: Window = WINDOW) -> tuple[State, Summary]:
    system = System(
        system_id=1,
        name="s",
        description="",
        tags=(),
        window_seconds=window.seconds,
        thresholds=Thresholds(),
        created_at=times.to_text(NOW),
    )
    return summarize(state, system)


# -- properties ------------------------------------------------------------------------------------------------


@given(batches(), st.integers(0, 70_000))
@settings(max_examples=60)
def test_the_window_is_what_a_count_one_by_one_finds(parts: list[tuple[int, list[Event]]], later_ms: int) -> None:
    as_of = parts[-1][0] + 1 + later_ms
    summary = summed(folded(parts, as_of))
    truth = count(sent(parts), WINDOW, as_of)
    assert (summary.figures.total, summary.figures.errors) == (truth.total, truth.errors)
    assert summary.details.event_types == truth.event_types
    assert (summary.details.late, summary.details.clock_skewed) == (truth.late, truth.clock_skewed)
    found = {name: (own.total, own.errors) for name, own in summary.details.stages.items()}
    assert found == {name: (total, errors) for name, (total, errors, _) in truth.by_stage.items()}
    assert close(summary.figures.p95_latency, percentile(truth.latencies, 95))
    assert close(summary.details.latency_ms.min, truth.latencies[0] if truth.latencies else None)
    assert close(summary.details.latency_ms.max, truth.latencies[-1] if truth.latencies else None)


@given(batches(), st.integers(0, 70_000), st.data())
def test_nothing_but_the_time_changes_in_a_window_until_it_says(
    parts: list[tuple[int, list[Event]]], later_ms: int, data: st.DataObject
) -> None:
    as_of = parts[-1][0] + 1 + later_ms
    state, before = judged(folded(parts, as_of))
    until = before.steady_until_ms
    assert (until is None) == before.drained
    then = data.draw(st.integers(as_of, as_of + 10**7 if until is None else until - 1))
    after = summed(fold(state, [], WINDOW, then).state)
    assert after == msgspec.structs.replace(before, as_of_ms=then)
    if until is not None:
        assert len(fold(state, [], WINDOW, until).dropped) == 1


@given(batches(), st.data())
def test_splitting_a_batch_anywhere_and_folding_the_parts_equals_the_whole(
    parts: list[tuple[int, list[Event]]], data: st.DataObject
) -> None:
    as_of = parts[-1][0] + 1
    pieces = []
    for at, some in parts:
        cut = data.draw(st.integers(0, len(some)))
        pieces += [(at, piece) for piece in (some[:cut], some[cut:]) if piece]
    assert as_values(folded(pieces, as_of)) == as_values(folded(parts, as_of))


@given(batches(), st.data())
def test_folding_in_any_grouping_equals_the_whole(parts: list[tuple[int, list[Event]]], data: st.DataObject) -> None:
    """Group by group, each up to its own last arrival, as a worker that falls behind or keeps up would."""
    as_of = parts[-1][0] + 1
    state, left = State(), list(parts)
    while left:
        size = data.draw(st.integers(1, len(left)))
        group, left = left[:size], left[size:]
        state = fold(state, [arrival(at, some) for at, some in group], WINDOW, group[-1][0] + 1).state
        if data.draw(st.booleans()):
            state = fold(state, [], WINDOW, group[-1][0] + 1).state
    assert as_values(state) == as_values(folded(parts, as_of))


@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_batches_and_events_does_not_matter(
    parts: list[tuple[int, list[Event]]], chance: random.Random
) -> None:
    as_of = parts[-1][0] + 1
    turned = [(at, chance.sample(some, len(some))) for at, some in parts]
    chance.shuffle(turned)
    assert as_values(folded(turned, as_of)) == as_values(folded(parts, as_of))


@given(batches(), batches())
def test_a_state_is_the_same_after_it_was_stored_between(
    parts: list[tuple[int, list[Event]]], more: list[tuple[int, list[Event]]]
) -> None:
    as_of = max(parts[-1][0], more[-1][0]) + 1
    before = folded(parts, parts[-1][0] + 1)
    stored = from_stored(decode_meta(encode_meta(before.meta)), before.slots)
    arrivals = [arrival(at, some) for at, some in more]
    assert as_values(fold(stored, arrivals, WINDOW, as_of).state) == as_values(
        fold(before, arrivals, WINDOW, as_of).state
    )


@given(batches())
def test_what_is_carried_along_is_what_the_slots_add_up_to(parts: list[tuple[int, list[Event]]]) -> None:
    state = State()
    for at, some in parts:
        before, slots = state, dict(state.slots)
        state = fold(state, [arrival(at, some)], WINDOW, at + 1).state
        assert before.slots == slots
        anew = from_stored(state.meta, state.slots)
        assert (state.cells, state.summed(), state.values) == (anew.cells, anew.summed(), anew.values)
        assert state.packed == anew.packed


@given(batches(), st.integers(0, 200_000))
def test_the_slots_said_to_be_touched_and_dropped_are_those_that_differ(
    parts: list[tuple[int, list[Event]]], later_ms: int
) -> None:
    """What is not named is not written, so a slot forgotten here is lost at the next restart."""
    *early, (at, last) = parts
    before = folded(early, early[-1][0] + 1) if early else State()
    after = fold(before, [arrival(at, last)], WINDOW, at + 1 + later_ms)
    kept = {start for start in before.slots if after.state.slots.get(start) is before.slots[start]}
    assert set(after.dropped) == before.slots.keys() - after.state.slots.keys()
    assert after.touched == {start: after.state.slots[start] for start in after.state.slots.keys() - kept}


@given(batches())
def test_a_window_rolls_to_nothing_and_remembers_when_it_was_well(parts: list[tuple[int, list[Event]]]) -> None:
    full = folded(parts, parts[-1][0] + 1)
    state, as_of = full, full.meta.as_of_ms
    for _ in range(14):
        as_of += SLOT_MS
        state = fold(state, [], WINDOW, as_of).state
        truth = count(sent(parts), WINDOW, as_of)
        assert (summed(state).figures.total, summed(state).details.late) == (truth.total, truth.late)
    assert (state.slots, state.cells) == ({}, EMPTY)
    assert summed(state).drained
    assert as_values(state)["last"] == as_values(full)["last"]


# -- single cases ----------------------------------------------------------------------------------------------


def test_a_window_never_goes_back_in_time() -> None:
    state = folded([(NOW, [Event("success", "ok", 1.0)])], NOW + 1)
    again = fold(state, [], WINDOW, NOW - 3_600_000)
    assert (again.state.meta.as_of_ms, again.touched, again.dropped) == (NOW + 1, {}, [])
    assert as_values(again.state) == as_values(state)


def test_an_arrival_before_the_window_of_the_last_fold_is_passed_over() -> None:
    state = fold(State(), [], WINDOW, NOW).state
    after = fold(state, [arrival(NOW - 600_000, [Event("success", "ok", 1.0)])], WINDOW, NOW)
    assert (after.state.slots, after.touched) == ({}, {})
    assert after.state.meta.last_event_ms == NOW - 600_000


@pytest.mark.parametrize(
    ("before_ms", "late"),
    [(0, 0), (55_000 + NOW % SLOT_MS, 0), (55_001 + NOW % SLOT_MS, 1), (86_400_000, 1)],
)
def test_an_event_is_late_once_its_slot_has_left_the_window_of_its_arrival(before_ms: int, late: int) -> None:
    event = Event("success", "ok", 1.0, times.to_text(NOW - before_ms))
    summary = summed(folded([(NOW, [event])], NOW + 1))
    assert (summary.details.late, summary.figures.total) == (late, 1 - late)


def test_a_late_event_is_counted_in_the_slot_of_its_arrival_and_rolls_out_with_it() -> None:
    event = Event("success", "error", 1.0, times.to_text(NOW - 3_600_000), stage="extract")
    state = folded([(NOW, [event])], NOW + 1)
    assert {start: slot.late for start, slot in state.opened().items()} == {NOW - NOW % SLOT_MS: 1}
    assert summed(fold(state, [], WINDOW, NOW + 50_000).state).details.late == 1
    assert summed(fold(state, [], WINDOW, NOW + 60_000).state).details.late == 0


def test_a_backlog_never_makes_events_late() -> None:
    """Folded half a window behind, events that were on time when they arrived are on time."""
    parts = [(NOW, [Event("success", "ok", 1.0, times.to_text(NOW - 20_000)) for _ in range(3)])]
    summary = summed(folded(parts, NOW + 30_000))
    assert (summary.figures.total, summary.details.late) == (3, 0)
    assert summed(folded(parts, NOW + 3_600_000)).details.late == 0


@pytest.mark.parametrize(("ahead_ms", "skewed"), [(-1, 0), (0, 0), (1, 1), (60_000, 1)])
def test_a_ts_ahead_of_the_arrival_counts_at_the_arrival_and_as_skewed(ahead_ms: int, skewed: int) -> None:
    event = Event("success", "ok", 1.0, times.to_text(NOW + ahead_ms))
    state = folded([(NOW, [event])], NOW + 1)
    summary = summed(state)
    assert (summary.details.clock_skewed, summary.figures.total) == (skewed, 1)
    assert list(state.slots) == [NOW - NOW % SLOT_MS]
    assert state.meta.last_event_ms == NOW + min(0, ahead_ms)


@pytest.mark.parametrize("event_type", ["start", "heartbeat", "end", "log"])
def test_a_lifecycle_event_is_shown_but_not_counted(event_type: str) -> None:
    some = [Event(event_type, "error", 9_999.0, stage="load"), Event(event_type, "ok"), Event("success", "ok", 2.0)]
    summary = summed(folded([(NOW, some)], NOW + 1))
    assert (summary.figures.total, summary.figures.errors, summary.figures.p95_latency) == (1, 0, 2.0)
    assert summary.details.event_types == {event_type: 2, "success": 1}
    assert (summary.details.stages, summary.details.latency_ms.max) == ({}, 2.0)


def test_only_lifecycle_events_leave_the_window_unknown_but_not_drained() -> None:
    summary = summed(folded([(NOW, [Event("heartbeat", "ok")])], NOW + 1))
    assert (summary.verdict.health.name, summary.verdict.reason) == ("UNKNOWN", "no events yet")
    assert (summary.figures.error_rate, summary.drained) == (None, False)
    assert (summary.figures.last_event_at, summary.figures.last_ok_at) == (times.to_text(NOW), None)


def test_the_first_and_the_last_year_of_rfc_3339_do_no_harm() -> None:
    some = [Event("success", "ok", 1.0, "0001-01-01T00:00:00.000Z"), Event("success", "ok", 1.0)]
    summary = summed(folded([(NOW, some)], NOW + 1))
    assert (summary.figures.total, summary.details.late) == (1, 1)
    alone = summed(folded([(NOW, some[:1])], NOW + 1))
    assert alone.figures.last_event_at == "0001-01-01T00:00:00.000Z"


def test_an_empty_batch_changes_nothing_but_the_time() -> None:
    state = fold(State(), [arrival(NOW, [])], WINDOW, NOW + 1).state
    assert (state.slots, state.meta.as_of_ms, state.meta.last_event_ms) == ({}, NOW + 1, None)


# -- caps ------------------------------------------------------------------------------------------------------


def of_stages(names: Sequence[str]) -> list[Event]:
    return [Event("success", "ok", 1.0, stage=name) for name in names]


def stage_totals(state: State) -> dict[str, int]:
    return {name: own.total for name, own in summed(state).details.stages.items()}


def test_64_stages_have_names_and_further_ones_share_other() -> None:
    names = [f"s{at:03d}" for at in range(STAGES + 6)]
    totals = stage_totals(folded([(NOW, of_stages(names))], NOW + 1))
    assert totals == {**dict.fromkeys(names[:STAGES], 1), OTHER: 6}
    assert STAGES == 64


def test_32_event_types_have_names_and_further_ones_share_other() -> None:
    some = [Event(f"t{at:03d}", "ok", 1.0) for at in range(EVENT_TYPES + 5)]
    found = summed(folded([(NOW, some)], NOW + 1)).details.event_types
    assert found == {**{f"t{at:03d}": 1 for at in range(EVENT_TYPES)}, OTHER: 5}
    assert EVENT_TYPES == 32


def test_what_goes_under_other_is_still_counted_in_the_total() -> None:
    names = [f"s{at}" for at in range(500)]
    summary = summed(folded([(NOW, of_stages(names))], NOW + 1))
    assert summary.figures.total == 500
    assert sum(own.total for own in summary.details.stages.values()) == 500


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_the_first_64_stages_keep_their_names_however_the_batch_is_split(size: int) -> None:
    names = [f"s{at:03d}" for at in range(100)]
    pieces = [(NOW, of_stages(names[at : at + size])) for at in range(0, 100, size)]
    state = State()
    for piece in pieces:
        state = fold(state, [arrival(*piece)], WINDOW, NOW + 1).state
    assert as_values(state) == as_values(folded([(NOW, of_stages(names))], NOW + 1))


def test_a_stage_that_calls_itself_other_takes_nobodys_place() -> None:
    names = [OTHER, *(f"s{at:03d}" for at in range(STAGES + 2))]
    totals = stage_totals(folded([(NOW, of_stages(names))], NOW + 1))
    assert totals == {**{f"s{at:03d}": 1 for at in range(STAGES)}, OTHER: 3}


def test_numbers_of_stages_that_rolled_out_are_given_anew() -> None:
    state = folded([(NOW, of_stages([f"old{at}" for at in range(STAGES)]))], NOW + 1)
    later = NOW + 120_000
    fresh = [f"new{at}" for at in range(STAGES)]
    state = fold(state, [arrival(later, of_stages(fresh))], WINDOW, later + 1).state
    assert stage_totals(state) == dict.fromkeys(fresh, 1)


def test_a_number_in_use_is_not_given_anew() -> None:
    """Half of the stages rolled out: their numbers serve new names, and the others' histograms stay their own."""
    old, kept = [f"old{at}" for at in range(STAGES // 2)], [f"kept{at}" for at in range(STAGES // 2)]
    state = folded([(NOW, of_stages(old)), (NOW + 30_000, of_stages(kept))], NOW + 30_001)
    later = NOW + 70_000
    fresh = [f"new{at}" for at in range(STAGES)]
    state = fold(state, [arrival(later, of_stages(fresh))], WINDOW, later + 1).state
    totals = stage_totals(state)
    assert {name for name in totals if name.startswith("kept")} == set(kept)
    assert sum(name.startswith("new") for name in totals) == STAGES // 2
    assert (totals[OTHER], sum(totals.values())) == (STAGES // 2, STAGES + STAGES // 2)


def test_names_come_and_go_for_hours_and_every_window_is_right() -> None:
    chance = random.Random(7)
    state, parts, at = State(), list[tuple[int, list[Event]]](), NOW
    for turn in range(120):
        at += 3_000
        some = of_stages([f"s{turn // 3 * 2 + chance.randrange(6)}" for _ in range(4)])
        parts.append((at, some))
        state = fold(state, [arrival(at, some)], WINDOW, at + 1).state
        truth = count(sent(parts), WINDOW, at + 1)
        assert stage_totals(state) == {name: total for name, (total, _, _) in truth.by_stage.items()}
    assert len(state.meta.stages) <= STAGES + 1


# -- larger ----------------------------------------------------------------------------------------------------


def test_forty_thousand_events_shuffled_over_two_windows_are_counted_exactly() -> None:
    chance = random.Random(11)
    window, base = Window(300), NOW
    some = [
        Event(
            "success",
            "error" if chance.random() < 0.07 else "ok",
            round(10 ** chance.uniform(-3, 5.95), 6),
            times.to_text(base - chance.randrange(600_000)),
            stage=chance.choice(["extract", "transform", "load"]),
        )
        for _ in range(40_000)
    ]
    parts = [(base + at, some[at * 1_000 : (at + 1) * 1_000]) for at in range(40)]
    for as_of in (base + 41, base + 20_000, base + 299_000):
        summary = summed(folded(parts, as_of, window), window)
        truth = count(sent(parts), window, as_of)
        assert (summary.figures.total, summary.figures.errors) == (truth.total, truth.errors)
        assert summary.details.late == truth.late
        latency = summary.details.latency_ms
        for per_cent, found in (
            (50, latency.p50),
            (90, latency.p90),
            (95, latency.p95),
            (99, latency.p99),
            (99.9, latency.p999),
        ):
            assert close(found, percentile(truth.latencies, per_cent))
        for name, (total, errors, latencies) in truth.by_stage.items():
            own = summary.details.stages[name]
            assert (own.total, own.errors) == (total, errors)
            assert close(own.latency_ms.p99, percentile(latencies, 99))
