"""The judgement: every sentence as the design words it, and the worst finding first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.compute.classify import Measured, judge
from lso_core.model import times
from lso_core.model.health import Health, Level, Thresholds
from lso_core.model.windows import Window

NOON = times.from_text("2025-12-14T12:00:00.000Z")
SLOW = Thresholds(p95_latency=Level(250.0, 1_000.0))


def judged(
    total: int,
    errors: int,
    p95_ms: float | None = None,
    thresholds: Thresholds | None = None,
    window_seconds: int = 300,
) -> tuple[str, str]:
    found = judge(
        Measured(total, errors, p95_ms, NOON if total else None), thresholds or Thresholds(), Window(window_seconds)
    )
    return found.health.name, found.reason


def test_the_sentence_of_the_design() -> None:
    assert judged(200, 46) == ("UNHEALTHY", "error rate 23.0 % (46 of 200) is above 20 %")


@pytest.mark.parametrize(
    ("total", "errors", "expected"),
    [
        (200, 0, ("OK", "error rate 0.0 % (0 of 200)")),
        (200, 10, ("OK", "error rate 5.0 % (10 of 200)")),
        (200, 11, ("DEGRADED", "error rate 5.5 % (11 of 200) is above 5 %")),
        (200, 40, ("DEGRADED", "error rate 20.0 % (40 of 200) is above 5 %")),
        (200, 41, ("UNHEALTHY", "error rate 20.5 % (41 of 200) is above 20 %")),
        (60, 3, ("OK", "error rate 5.0 % (3 of 60)")),
        (35, 7, ("DEGRADED", "error rate 20.0 % (7 of 35) is above 5 %")),
        (5, 5, ("UNHEALTHY", "error rate 100.0 % (5 of 5) is above 20 %")),
        (4, 4, ("DEGRADED", "error rate 100.0 % (4 of 4) is above 20 %; at most DEGRADED with fewer than 5 events")),
        (1, 0, ("OK", "error rate 0.0 % (0 of 1)")),
        (100_000, 1, ("OK", "error rate 0.0010 % (1 of 100000)")),
    ],
)
def test_error_rates_against_the_defaults(total: int, errors: int, expected: tuple[str, str]) -> None:
    assert judged(total, errors) == expected


@pytest.mark.parametrize(
    ("p95_ms", "expected"),
    [
        (None, ("OK", "error rate 0.0 % (0 of 100)")),
        (250.0, ("OK", "error rate 0.0 % (0 of 100), p95 250 ms")),
        (250.001, ("DEGRADED", "p95 latency 250.001 ms is above 250 ms")),
        (1_000.0, ("DEGRADED", "p95 latency 1000 ms is above 250 ms")),
        (1_000.5, ("UNHEALTHY", "p95 latency 1000.5 ms is above 1000 ms")),
    ],
)
def test_latencies_against_limits(p95_ms: float | None, expected: tuple[str, str]) -> None:
    assert judged(100, 0, p95_ms, SLOW) == expected


def test_latency_is_no_finding_where_no_limit_is_set() -> None:
    assert judged(100, 0, 600_000_000.0) == ("OK", "error rate 0.0 % (0 of 100), p95 600000000 ms")


@pytest.mark.parametrize(
    ("errors", "p95_ms", "expected"),
    [
        (10, 2_000.0, ("UNHEALTHY", "p95 latency 2000 ms is above 1000 ms")),
        (50, 300.0, ("UNHEALTHY", "error rate 50.0 % (50 of 100) is above 20 %")),
        (10, 300.0, ("DEGRADED", "error rate 10.0 % (10 of 100) is above 5 %")),
        (50, 2_000.0, ("UNHEALTHY", "error rate 50.0 % (50 of 100) is above 20 %")),
    ],
)
def test_the_worst_finding_wins(errors: int, p95_ms: float, expected: tuple[str, str]) -> None:
    assert judged(100, errors, p95_ms, SLOW) == expected


@pytest.mark.parametrize(
    ("level", "errors", "health"),
    [
        (Level(None, None), 100, "OK"),
        (Level(0.5, None), 100, "DEGRADED"),
        (Level(None, 0.5), 50, "OK"),
        (Level(None, 0.5), 51, "UNHEALTHY"),
    ],
)
def test_a_limit_that_is_not_set_is_none(level: Level, errors: int, health: str) -> None:
    assert judged(100, errors, None, Thresholds(error_rate=level))[0] == health


def test_a_few_events_are_at_most_degraded_by_latency_too() -> None:
    assert judged(2, 0, 5_000.0, SLOW) == (
        "DEGRADED",
        "p95 latency 5000 ms is above 1000 ms; at most DEGRADED with fewer than 5 events",
    )


def test_min_events_of_0_holds_nothing_back() -> None:
    assert judged(1, 1, None, Thresholds(min_events=0))[0] == "UNHEALTHY"


def test_an_empty_window_is_unknown_and_says_when_the_last_event_came() -> None:
    found = judge(Measured(0, 0, None, NOON), Thresholds(), Window(300))
    assert (found.health, found.reason) == (
        Health.UNKNOWN,
        "no events in the last 300 s; the last one came at 2025-12-14T12:00:00.000Z",
    )


def test_the_length_of_an_empty_window_is_the_systems_own() -> None:
    assert judge(Measured(0, 0, None, NOON), Thresholds(), Window(60)).reason.startswith("no events in the last 60 s")


def test_a_system_that_never_had_an_event_is_unknown() -> None:
    assert judged(0, 0) == ("UNKNOWN", "no events yet")


@given(st.integers(1, 10**9), st.data())
def test_no_data_is_never_ok_and_data_is_never_unknown(total: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, total))
    health, reason = judged(total, errors)
    assert health != "UNKNOWN"
    assert f"({errors} of {total})" in reason
    assert health == ("OK" if errors * 20 <= total else "DEGRADED" if errors * 5 <= total or total < 5 else "UNHEALTHY")
