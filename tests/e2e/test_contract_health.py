"""GET /systems/{id}/health and /metrics: their shape, and how a state comes about (section 7 of the design)."""

import httpx
import pytest

from tests.e2e.answers import RFC3339_MS, from_now, now_ms, problem, to_ms
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import Json, ObservedSystem, error, event, events
from tests.waiting import wait_for

HEALTH = {
    "system_id",
    "window_seconds",
    "window_start",
    "window_end",
    "as_of",
    "health",
    "since",
    "reason",
    "total",
    "errors",
    "error_rate",
    "rps",
    "p95_latency",
    "last_event_at",
    "last_ok_at",
}
METRICS = HEALTH | {"latency_ms", "stages", "event_types", "late", "clock_skewed"}
LATENCY = {"min", "mean", "p50", "p90", "p95", "p99", "p999", "max"}
SLOT_MS = 5_000


def judged(new_system: NewSystem, good: int, bad: int, **members: object) -> Json:
    """The health of a new system after so many events."""
    system = new_system(**members)
    system.take(events(good, bad))
    return system.health_with(total=good + bad)


def test_health_has_the_members_of_the_contract(system: ObservedSystem) -> None:
    system.take(events(8, 2))
    health = system.health_with(total=10)
    assert HEALTH == health.keys()
    assert (system.id, 300, 2, 0.2) == tuple(
        health[name] for name in ("system_id", "window_seconds", "errors", "error_rate")
    )
    assert pytest.approx(10 / 300, abs=1e-5) == health["rps"]
    assert pytest.approx(12, rel=0.001) == health["p95_latency"]
    for name in ("window_start", "window_end", "as_of", "since", "last_event_at", "last_ok_at"):
        assert RFC3339_MS.fullmatch(health[name]), name


def test_the_window_is_whole_slots_up_to_as_of(system: ObservedSystem) -> None:
    system.take([event()])
    health = system.health_with(total=1)
    end = to_ms(health["window_end"])
    assert health["as_of"] == health["window_end"]
    assert end - end % SLOT_MS - (300_000 - SLOT_MS) == to_ms(health["window_start"])


def test_a_system_without_events_is_unknown_and_has_no_numbers(system: ObservedSystem) -> None:
    health = system.health()
    assert HEALTH == health.keys()
    assert ("UNKNOWN", 0, 0, 0) == tuple(health[name] for name in ("health", "total", "errors", "rps"))
    assert [None] * 4 == [health[name] for name in ("error_rate", "p95_latency", "last_event_at", "last_ok_at")]
    assert health["reason"]


def test_metrics_has_the_members_of_the_contract(system: ObservedSystem) -> None:
    system.take([event(stage="extract"), error(stage="extract"), event(stage="load"), event()])
    metrics = system.metrics_with(total=4)
    assert METRICS == metrics.keys()
    assert LATENCY == metrics["latency_ms"].keys()
    assert {"extract", "load"} == metrics["stages"].keys()
    for stage in metrics["stages"].values():
        assert {"total", "errors", "error_rate", "latency_ms"} == stage.keys()
        assert LATENCY == stage["latency_ms"].keys()
    extract = metrics["stages"]["extract"]
    assert (2, 1, 0.5) == (extract["total"], extract["errors"], extract["error_rate"])
    assert {"success": 3, "failure": 1} == metrics["event_types"]
    assert (0, 0) == (metrics["late"], metrics["clock_skewed"])


def test_metrics_of_a_system_without_events_has_no_numbers(system: ObservedSystem) -> None:
    metrics = system.metrics()
    assert METRICS == metrics.keys()
    assert dict.fromkeys(LATENCY) == metrics["latency_ms"]
    assert ({}, {}, 0, 0) == tuple(metrics[name] for name in ("stages", "event_types", "late", "clock_skewed"))


def test_health_and_metrics_agree(system: ObservedSystem) -> None:
    system.take([event(latency_ms=number) for number in range(1, 101)])
    metrics = system.metrics_with(total=100)
    health = system.health()
    moving = {"window_start", "window_end", "as_of"}
    assert {name: health[name] for name in HEALTH - moving} == {name: metrics[name] for name in HEALTH - moving}
    assert metrics["latency_ms"]["p95"] == health["p95_latency"]


@pytest.mark.parametrize(
    ("good", "bad", "state", "reason"),
    [
        (154, 46, "UNHEALTHY", "error rate 23.0 % (46 of 200) is above 20 %"),
        (0, 5, "UNHEALTHY", "error rate 100.0 % (5 of 5) is above 20 %"),
        (79, 21, "UNHEALTHY", "error rate 21.0 % (21 of 100) is above 20 %"),
        (80, 20, "DEGRADED", "error rate 20.0 % (20 of 100) is above 5 %"),
        (94, 6, "DEGRADED", "error rate 6.0 % (6 of 100) is above 5 %"),
    ],
)
def test_an_error_rate_above_its_limit_is_the_reason(
    new_system: NewSystem, good: int, bad: int, state: str, reason: str
) -> None:
    health = judged(new_system, good, bad)
    assert (state, reason) == (health["health"], health["reason"])


@pytest.mark.parametrize(("good", "bad"), [(95, 5), (100, 0), (5, 0), (1, 0)])
def test_an_error_rate_up_to_5_percent_is_ok(new_system: NewSystem, good: int, bad: int) -> None:
    assert "OK" == judged(new_system, good, bad)["health"]


@pytest.mark.parametrize("bad", [1, 4])
def test_below_min_events_it_is_at_most_degraded_and_the_reason_says_so(new_system: NewSystem, bad: int) -> None:
    health = judged(new_system, 0, bad)
    assert "DEGRADED" == health["health"]
    assert f"({bad} of {bad})" in health["reason"]
    assert "5 events" in health["reason"]


def test_min_events_is_a_threshold_of_the_system(new_system: NewSystem) -> None:
    assert "UNHEALTHY" == judged(new_system, 0, 1, thresholds={"min_events": 1})["health"]
    assert "DEGRADED" == judged(new_system, 0, 49, thresholds={"min_events": 50})["health"]


def test_limits_of_the_error_rate_are_thresholds_of_the_system(new_system: NewSystem) -> None:
    thresholds = {"error_rate": {"warn": 0.001, "crit": 0.005}}
    health = judged(new_system, 990, 10, thresholds=thresholds)
    assert ("UNHEALTHY", "error rate 1.0 % (10 of 1000) is above 0.5 %") == (health["health"], health["reason"])


@pytest.mark.parametrize(("latency_ms", "state"), [(100, "OK"), (150, "DEGRADED"), (1_500, "UNHEALTHY")])
def test_a_p95_above_its_limit_is_the_reason(new_system: NewSystem, latency_ms: int, state: str) -> None:
    system = new_system(thresholds={"p95_latency": {"warn": 120, "crit": 1_000}})
    system.take([event(latency_ms=latency_ms) for _ in range(20)])
    health = system.health_with(total=20)
    assert state == health["health"]
    if state != "OK":
        limit = 120 if state == "DEGRADED" else 1_000
        assert f"{limit}" in health["reason"]
        assert "p95" in health["reason"]


def test_the_worst_finding_wins(new_system: NewSystem) -> None:
    system = new_system(thresholds={"p95_latency": {"crit": 10}})
    system.take(events(94, 6))
    health = system.health_with(total=100)
    assert "UNHEALTHY" == health["health"]
    assert "p95" in health["reason"]


def test_strict_answers_503_when_unhealthy_and_200_otherwise(http: httpx.Client, new_system: NewSystem) -> None:
    for bad, status in ((0, 200), (6, 200), (50, 503)):
        system = new_system()
        system.take(events(94, bad))
        health = system.health_with(total=94 + bad)
        strict = http.get(f"{system.path}/health?strict=1")
        assert (status, health["health"]) == (strict.status_code, strict.json()["health"])
        assert 200 == http.get(f"{system.path}/health?strict=0").status_code
        if status == 503:
            assert int(strict.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("query", ["strict=perhaps", "colour=red"])
def test_a_wrong_query_is_422(http: httpx.Client, system: ObservedSystem, query: str) -> None:
    problem(http.get(f"{system.path}/health?{query}"), 422)


def test_since_stays_with_the_state_and_moves_with_a_change(system: ObservedSystem) -> None:
    system.take(events(10))
    well = system.health_with(total=10, health="OK")
    system.take(events(10))
    assert well["since"] == system.health_with(total=20)["since"]
    system.take(events(0, 20))
    ill = system.health_with(total=40)
    assert "UNHEALTHY" == ill["health"]
    assert to_ms(ill["since"]) > to_ms(well["since"])


def test_last_event_and_last_ok_tell_the_times_of_events(system: ObservedSystem) -> None:
    good, bad = from_now(-20), from_now(-10)
    system.take([event(ts=good), error(ts=bad), event(ts=from_now(-30))])
    health = system.health_with(total=3)
    assert (bad, good) == (health["last_event_at"], health["last_ok_at"])


def test_lifecycle_events_alone_leave_a_system_unknown(system: ObservedSystem) -> None:
    system.take([event(event_type=kind, latency_ms=None) for kind in ("start", "heartbeat", "log", "end")])
    wait_for(lambda: len(system.metrics()["event_types"]) == 4, "the lifecycle events show")
    health = system.health()
    assert ("UNKNOWN", 0, None, None) == tuple(
        health[name] for name in ("health", "total", "error_rate", "p95_latency")
    )


def test_p99_of_60_values_is_the_largest(system: ObservedSystem) -> None:
    system.take([event(latency_ms=value) for value in [1] * 58 + [10, 1_000]])
    latency = system.metrics_with(total=60)["latency_ms"]
    assert pytest.approx(1_000, rel=0.001) == latency["p99"]
    assert pytest.approx(1, rel=0.001) == latency["p90"]


def test_percentiles_of_one_event_are_that_event(system: ObservedSystem) -> None:
    system.take([event(latency_ms=0.001)])
    assert dict.fromkeys(LATENCY, 0.001) == system.metrics_with(total=1)["latency_ms"]


@pytest.mark.timeout(60)
def test_a_window_rolls_on_and_drains_without_new_events(new_system: NewSystem) -> None:
    """Events that are 44 to 48 s old leave a window of 60 s within the next 21 s."""
    system = new_system(window_seconds=60)
    last = from_now(-44)
    system.take([event(ts=from_now(-48)), error(ts=last), event(event_type="log", latency_ms=None, ts=from_now(-46))])
    before = system.health_with(total=2)
    left_at = now_ms()
    after = system.health_with(total=0, within=25)
    left_at = now_ms() - left_at
    assert left_at > 5_000
    assert ("UNKNOWN", f"no events in the last 60 s; the last one came at {last}") == (after["health"], after["reason"])
    assert (0, 0, None, None) == tuple(after[name] for name in ("errors", "rps", "error_rate", "p95_latency"))
    assert (before["last_event_at"], before["last_ok_at"]) == (after["last_event_at"], after["last_ok_at"])
    assert to_ms(after["since"]) > to_ms(before["since"])
    assert to_ms(after["window_start"]) > to_ms(last)
    drained = system.metrics()
    assert ({}, dict.fromkeys(LATENCY)) == (drained["stages"], drained["latency_ms"])
    system.take([event()])
    system.health_with(total=1, health="OK")


@pytest.mark.timeout(60)
def test_a_snapshot_with_events_is_at_most_a_slot_and_half_a_second_old(new_system: NewSystem) -> None:
    systems = [new_system() for _ in range(20)]
    for system in systems:
        system.take([event()])
    for system in systems:
        system.health_with(total=1)
    oldest = 0
    until = now_ms() + 12_000
    while now_ms() < until:
        for system in systems:
            asked = now_ms()  # before the answer is made, so that its own way does not count
            oldest = max(oldest, asked - to_ms(system.health()["as_of"]))
    assert oldest <= SLOT_MS + 500
