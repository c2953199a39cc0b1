"""Summaries: figures and percentiles of the whole window, nothing made up where there is nothing."""

from collections.abc import Sequence

import pytest

from lso_core.compute.fold import fold
from lso_core.compute.state import State
from lso_core.compute.summarize import summarize
from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.health import Health, Level, Thresholds
from lso_core.model.snapshots import Details, Figures, Latency, Summary
from lso_core.model.systems import System
from tests.compute.brute import arrival

NOW = times.from_text("2025-12-14T14:33:10.529Z")


def system(window_seconds: int = 60, thresholds: Thresholds | None = None) -> System:
    return System(
        system_id=9,
        name="weather",
        description="",
        tags=(),
        window_seconds=window_seconds,
        thresholds=thresholds or Thresholds(),
        created_at=times.to_text(NOW - 1_000),
    )


def after(
    state: State, at_ms: int, events: Sequence[Event], of: System | None = None, as_of_ms: int | None = None
) -> tuple[State, Summary]:
    of = of or system()
    arrivals = [arrival(at_ms, events)] if events else []
    return summarize(fold(state, arrivals, of.window, at_ms + 1 if as_of_ms is None else as_of_ms).state, of)


def latencies(*ms: float) -> list[Event]:
    return [Event("success", "ok", one) for one in ms]


def test_an_empty_window_has_no_figures_and_no_zeros_in_their_place() -> None:
    _, summary = after(State(), NOW, [])
    assert summary.figures == Figures(0, 0, None, 0.0, None, None, None)
    assert summary.details == Details(Latency(None, None, None, None, None, None, None, None), {}, {}, 0, 0)
    assert summary.verdict.health is Health.UNKNOWN


def test_one_event_is_every_percentile_exactly() -> None:
    _, summary = after(State(), NOW, latencies(123.457))
    assert summary.details.latency_ms == Latency(*[123.457] * 8)


def test_no_percentile_is_above_the_largest_value_that_was_seen() -> None:
    """100,000 µs falls on a bucket that ends at 100,031."""
    _, summary = after(State(), NOW, latencies(*[100.0] * 1_000))
    assert summary.details.latency_ms == Latency(*[100.0] * 8)
    assert (
        after(State(), NOW, latencies(*[100.0] * 9), system(thresholds=Thresholds(p95_latency=Level(100.0))))[
            1
        ].verdict.health
        is Health.OK
    )


def test_the_99th_percentile_of_60_events_is_the_largest() -> None:
    _, summary = after(State(), NOW, latencies(*[1.0] * 59, 5_000.0))
    assert (summary.details.latency_ms.p99, summary.details.latency_ms.p95) == (5_000.0, 1.0)


def test_percentiles_are_merged_and_never_averaged() -> None:
    """Ninety fast events in one stage and slot, ten slow ones in another: the median of all is fast."""
    state, _ = after(State(), NOW, [Event("success", "ok", 1.0, stage="a") for _ in range(90)])
    state, summary = after(state, NOW + 10_000, [Event("success", "ok", 1_000.0, stage="b") for _ in range(10)])
    found = summary.details
    assert (found.latency_ms.p50, found.latency_ms.p90, found.latency_ms.p95) == (1.0, 1.0, 1_000.0)
    assert (found.stages["a"].latency_ms.p99, found.stages["b"].latency_ms.p50) == (1.0, 1_000.0)
    assert found.latency_ms.mean == 100.9


def test_a_stage_with_no_latency_has_none() -> None:
    _, summary = after(State(), NOW, [Event("success", "ok", 0.0, stage="a")])
    assert summary.details.stages["a"].latency_ms == Latency(*[0.0] * 8)
    assert summary.details.stages["a"].error_rate == 0.0


def test_rates_are_over_the_windows_whole_length() -> None:
    _, summary = after(State(), NOW, [*latencies(*[1.0] * 29), Event("failure", "error", 1.0)], system(300))
    assert (summary.figures.rps, summary.figures.error_rate) == (0.1, 1 / 30)


def test_since_stands_while_the_health_does_and_moves_when_it_turns() -> None:
    state, ok = after(State(), NOW, latencies(*[1.0] * 9))
    state, still = after(state, NOW + 5_000, latencies(1.0))
    state, bad = after(state, NOW + 10_000, [Event("failure", "error", 1.0)] * 9)
    state, worse = after(state, NOW + 15_000, [Event("failure", "error", 1.0)] * 90)
    state, gone = after(state, NOW + 200_000, [])
    state, later = after(state, NOW + 400_000, [])
    assert [(one.verdict.health.name, one.verdict.since_ms - NOW) for one in (ok, still, bad, worse, gone, later)] == [
        ("OK", 1),
        ("OK", 1),
        ("UNHEALTHY", 10_001),
        ("UNHEALTHY", 10_001),
        ("UNKNOWN", 200_001),
        ("UNKNOWN", 200_001),
    ]


def test_changed_thresholds_turn_the_health_at_the_next_summary() -> None:
    state, ok = after(State(), NOW, [*latencies(*[1.0] * 98), *[Event("failure", "error", 1.0)] * 2])
    strict = system(thresholds=Thresholds(error_rate=Level(0.001, 0.01)))
    _, bad = after(state, NOW + 5_000, [], strict)
    assert (ok.verdict.health, bad.verdict.health) == (Health.OK, Health.UNHEALTHY)
    assert (bad.verdict.since_ms, bad.verdict.reason) == (NOW + 5_001, "error rate 2.0 % (2 of 100) is above 1 %")


def test_the_sentence_of_a_drained_window_names_the_last_counted_event() -> None:
    state, _ = after(State(), NOW, latencies(1.0))
    state, _ = after(state, NOW + 30_000, [Event("heartbeat", "ok")])
    _, summary = after(state, NOW + 200_000, [])
    assert summary.verdict.reason == f"no events in the last 60 s; the last one came at {times.to_text(NOW)}"
    assert summary.figures.last_event_at == times.to_text(NOW + 30_000)
    assert summary.figures.last_ok_at == times.to_text(NOW)


def test_the_last_ok_is_the_last_counted_event_that_was() -> None:
    _, summary = after(
        State(),
        NOW,
        [
            Event("success", "ok", 1.0, times.to_text(NOW - 9_000)),
            Event("failure", "error", 1.0, times.to_text(NOW - 1_000)),
            Event("heartbeat", "ok", None, times.to_text(NOW - 500)),
        ],
    )
    assert summary.figures.last_ok_at == times.to_text(NOW - 9_000)
    assert summary.figures.last_event_at == times.to_text(NOW - 500)


@pytest.mark.parametrize("seconds", [60, 300, 3_600])
def test_the_window_spans_from_its_oldest_slot_to_as_of(seconds: int) -> None:
    of = system(seconds)
    _, summary = after(State(), NOW, latencies(1.0), of)
    assert summary.as_of_ms == NOW + 1
    assert summary.window.start_of(summary.as_of_ms) % 5_000 == 0
    assert summary.as_of_ms - summary.window.start_of(summary.as_of_ms) <= seconds * 1_000
