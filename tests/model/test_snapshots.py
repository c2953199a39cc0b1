"""Snapshots: served as bytes, with only verdict and times spliced, and always valid JSON."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.model import snapshots, times
from lso_core.model.health import Health, Thresholds
from lso_core.model.snapshots import Details, Figures, Latency, StageSummary, Summary, Verdict
from lso_core.model.systems import System
from lso_core.model.windows import SLOT_MS, Window, slot_of

AS_OF = times.from_text("2025-12-14T14:33:10.529Z")
STALE_MS = 15_000
VERDICT_FIELDS = {"health", "since", "reason"}
TIME_FIELDS = {"window_start", "window_end", "as_of"}

FIELDS = [
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
]


def summary(
    *,
    health: Health = Health.OK,
    reason: str = "error rate 0.0 % (0 of 3)",
    total: int = 3,
    as_of_ms: int = AS_OF,
    window: Window | None = None,
) -> Summary:
    """A summary with something in its window, or with nothing where `total` is 0."""
    latency = Latency(1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0) if total else Latency()
    return Summary(
        system_id=7,
        window=window or Window(300),
        as_of_ms=as_of_ms,
        verdict=Verdict(health, as_of_ms - 60_000, reason),
        figures=Figures(
            total=total,
            errors=0,
            error_rate=0.0 if total else None,
            rps=total / 300,
            p95_latency=latency.p95,
            last_event_at=times.to_text(as_of_ms - 1_000),
            last_ok_at=None,
        ),
        details=Details(
            latency_ms=latency,
            stages={'sta"ge': StageSummary(total, 0, 0.0, latency)} if total else {},
            event_types={"success": total} if total else {},
            late=0,
            clock_skewed=0,
        ),
    )


drained = summary(health=Health.UNKNOWN, reason="no events in the last 300 s; the last one came at noon", total=0)


def answered(stored: bytes, watermark_ms: int | None, now_ms: int = AS_OF) -> dict[str, Any]:
    answer = snapshots.answer(stored, watermark_ms, now_ms, STALE_MS)
    body: dict[str, Any] = json.loads(answer.body)
    assert body["health"] == answer.health.name
    return body


def without(body: dict[str, Any], fields: set[str]) -> list[tuple[str, Any]]:
    """The rest of a body, in order."""
    return [(name, value) for name, value in body.items() if name not in fields]


def test_a_snapshot_says_what_the_contract_names_in_its_order() -> None:
    body = answered(snapshots.encode(summary()), AS_OF)
    assert list(body) == FIELDS
    assert body == {
        "system_id": 7,
        "window_seconds": 300,
        "window_start": "2025-12-14T14:28:15.000Z",
        "window_end": "2025-12-14T14:33:10.529Z",
        "as_of": "2025-12-14T14:33:10.529Z",
        "health": "OK",
        "since": "2025-12-14T14:32:10.529Z",
        "reason": "error rate 0.0 % (0 of 3)",
        "total": 3,
        "errors": 0,
        "error_rate": 0.0,
        "rps": 0.01,
        "p95_latency": 3.0,
        "last_event_at": "2025-12-14T14:33:09.529Z",
        "last_ok_at": None,
    }


def test_a_current_snapshot_is_served_byte_for_byte() -> None:
    stored = snapshots.encode(summary())
    assert snapshots.answer(stored, AS_OF, AS_OF + STALE_MS, STALE_MS).body == stored[snapshots.HEADER.size :]


@given(st.text(max_size=200), st.sampled_from(Health), st.integers(0, 10**6))
def test_any_reason_makes_valid_json_and_comes_back(reason: str, health: Health, total: int) -> None:
    made = summary(health=health, reason=reason, total=total)
    body = answered(snapshots.encode(made), AS_OF)
    assert (body["reason"], body["health"], body["total"]) == (reason, health.name, total)


@given(st.integers(1, 10**7), st.integers(12, 720), st.integers(STALE_MS + 1, 10**10))
def test_while_the_observer_is_behind_only_the_verdict_differs(total: int, slots: int, behind_ms: int) -> None:
    made = summary(total=total, health=Health.UNHEALTHY, window=Window(slots * 5))
    stored = snapshots.encode(made)
    before = stored[snapshots.HEADER.size :]
    after = snapshots.answer(stored, AS_OF, AS_OF + behind_ms, STALE_MS)
    assert after.health is Health.UNKNOWN
    first, last = before.index(b'"health"'), before.index(b',"total"')
    verdict_end = after.body.index(b',"total"')
    assert (after.body[:first], after.body[verdict_end:]) == (before[:first], before[last:])
    assert without(json.loads(after.body), VERDICT_FIELDS) == without(json.loads(before), VERDICT_FIELDS)


def test_an_observer_who_is_behind_says_how_far() -> None:
    body = answered(snapshots.encode(summary()), AS_OF - 5_000, AS_OF + 15_500)
    assert body["health"] == "UNKNOWN"
    assert body["since"] == times.to_text(AS_OF - 5_000)
    assert body["reason"] == ("the observer is 20.5 s behind (allowed: 15 s); the figures are as last computed")


@pytest.mark.parametrize(("behind_ms", "expected"), [(15_000, "UNHEALTHY"), (15_001, "UNKNOWN")])
def test_the_observer_is_behind_once_the_delay_exceeds_what_is_allowed(behind_ms: int, expected: str) -> None:
    stored = snapshots.encode(summary(health=Health.UNHEALTHY))
    assert answered(stored, AS_OF, AS_OF + behind_ms)["health"] == expected


def test_without_any_watermark_nothing_is_known() -> None:
    body = answered(snapshots.encode(summary()), None)
    assert body["health"] == "UNKNOWN"
    assert "observer" in body["reason"]
    assert body["total"] == 3


@given(st.integers(0, 10**9), st.integers(12, 720))
def test_a_drained_system_lives_in_the_present(later_ms: int, slots: int) -> None:
    window = Window(slots * 5)
    made = msgspec.structs.replace(drained, window=window)
    stored = snapshots.encode(made)
    watermark = AS_OF + later_ms
    body, before = answered(stored, watermark, watermark), json.loads(stored[snapshots.HEADER.size :])
    assert body["as_of"] == body["window_end"] == times.to_text(watermark)
    assert body["window_start"] == times.to_text(window.start_of(watermark))
    assert without(body, TIME_FIELDS) == without(before, TIME_FIELDS)
    assert list(body) == FIELDS


def test_a_drained_system_never_goes_back_in_time() -> None:
    """A watermark is up to half a second old; a system registered since then must not answer for the time before."""
    body = answered(snapshots.encode(drained), AS_OF - 400)
    assert (body["as_of"], body["window_start"]) == ("2025-12-14T14:33:10.529Z", "2025-12-14T14:28:15.000Z")


def test_a_system_that_does_not_say_when_it_changes_keeps_the_times_it_was_computed_for() -> None:
    body = answered(snapshots.encode(summary()), AS_OF + 4_000, AS_OF + 4_000)
    assert body["as_of"] == times.to_text(AS_OF)


@given(st.integers(0, 10**9), st.integers(12, 720), st.integers(-5_000, 2_000_000))
def test_a_window_lives_in_the_present_until_something_leaves_it(later_ms: int, slots: int, steady_ms: int) -> None:
    """Here nothing arrives, for the watermark says so; the last slot in which something changes is left alone."""
    window, until = Window(slots * 5), AS_OF + steady_ms
    made = msgspec.structs.replace(summary(window=window), steady_until_ms=until)
    stored = snapshots.encode(made)
    watermark = AS_OF + later_ms
    body, before = answered(stored, watermark, watermark), json.loads(stored[snapshots.HEADER.size :])
    most = min(slot_of(until), slot_of(AS_OF) + snapshots.MOST_STEADY * SLOT_MS) - 1
    shown = max(AS_OF, min(watermark, most))
    assert body["as_of"] == body["window_end"] == times.to_text(shown)
    assert body["window_start"] == times.to_text(window.start_of(shown))
    assert without(body, TIME_FIELDS) == without(before, TIME_FIELDS)
    assert list(body) == FIELDS


def test_a_window_never_goes_back_in_time() -> None:
    stored = snapshots.encode(msgspec.structs.replace(summary(), steady_until_ms=AS_OF + 60_000))
    assert answered(stored, AS_OF - 400)["as_of"] == times.to_text(AS_OF)


def test_a_system_that_is_set_aside_keeps_the_time_of_its_figures() -> None:
    """Events of it wait, whatever the watermark says."""
    stored = snapshots.encode(msgspec.structs.replace(summary(), steady_until_ms=AS_OF + 60_000))
    aside = snapshots.with_verdict(stored, Verdict(Health.UNKNOWN, AS_OF, "set aside"))
    assert answered(aside, AS_OF + 7_000, AS_OF + 7_000)["as_of"] == times.to_text(AS_OF)


def test_a_drained_system_is_unknown_when_the_observer_is_behind() -> None:
    body = answered(snapshots.encode(drained), AS_OF, AS_OF + 15_001)
    assert body["reason"].startswith("the observer is 15.0 s behind")
    assert body["total"] == 0
    assert body["error_rate"] is None


def test_a_new_system_is_unknown_since_it_was_registered_and_has_no_figures() -> None:
    system = System(
        system_id=7,
        name="new",
        description="",
        tags=(),
        window_seconds=60,
        thresholds=Thresholds(),
        created_at=times.to_text(AS_OF),
    )
    body = answered(snapshots.encode(Summary.before_events(system, AS_OF)), AS_OF)
    assert (body["health"], body["since"], body["reason"]) == ("UNKNOWN", times.to_text(AS_OF), "no events yet")
    assert (body["total"], body["error_rate"], body["p95_latency"]) == (0, None, None)
    assert (body["last_event_at"], body["last_ok_at"]) == (None, None)


@given(st.text(max_size=300), st.sampled_from(Health), st.text(max_size=300))
def test_a_verdict_can_be_put_in_place_of_another_again_and_again(one: str, health: Health, other: str) -> None:
    stored = snapshots.encode(summary(reason=one))
    changed = snapshots.with_verdict(stored, Verdict(health, AS_OF + 9, other))
    body, before = answered(changed, AS_OF), json.loads(stored[snapshots.HEADER.size :])
    assert (body["health"], body["since"], body["reason"]) == (health.name, times.to_text(AS_OF + 9), other)
    assert without(body, VERDICT_FIELDS) == without(before, VERDICT_FIELDS)
    assert snapshots.with_verdict(changed, summary(reason=one).verdict) == stored


def test_a_parked_drained_system_still_moves_with_the_watermark() -> None:
    stored = snapshots.with_verdict(snapshots.encode(drained), Verdict(Health.UNKNOWN, AS_OF, "set aside"))
    assert answered(stored, AS_OF + 7_000, AS_OF + 7_000)["as_of"] == times.to_text(AS_OF + 7_000)


@pytest.mark.parametrize("made", [summary(), drained], ids=["with events", "drained"])
@pytest.mark.parametrize("behind_ms", [0, 60_000])
def test_health_and_details_join_to_one_json_object(made: Summary, behind_ms: int) -> None:
    answer = snapshots.answer(snapshots.encode(made), AS_OF, AS_OF + behind_ms, STALE_MS)
    body = json.loads(snapshots.with_details(answer.body, snapshots.encode_details(made)))
    assert list(body) == [*FIELDS, "latency_ms", "stages", "event_types", "late", "clock_skewed"]
    assert list(body["latency_ms"]) == ["min", "mean", "p50", "p90", "p95", "p99", "p999", "max"]


def test_details_name_stages_with_their_own_distribution() -> None:
    details = json.loads(b"{" + snapshots.encode_details(summary()) + b"}")
    assert details["stages"]['sta"ge'] == {
        "total": 3,
        "errors": 0,
        "error_rate": 0.0,
        "latency_ms": {
            "min": 1.0,
            "mean": 2.0,
            "p50": 2.0,
            "p90": 3.0,
            "p95": 3.0,
            "p99": 3.0,
            "p999": 3.0,
            "max": 3.0,
        },
    }


def test_a_fleet_line_takes_another_verdict_and_keeps_its_figures() -> None:
    system = System(
        system_id=7,
        name="weather",
        description="",
        tags=("etl",),
        window_seconds=300,
        thresholds=Thresholds(),
        created_at=times.to_text(AS_OF),
    )
    line = snapshots.fleet_line(summary(), system)
    changed = snapshots.line_with_verdict(line, Verdict(Health.UNKNOWN, AS_OF, "the observer is behind"))
    before, after = json.loads(line), json.loads(changed)
    assert (after["health"], after["since"], after["reason"]) == (
        "UNKNOWN",
        times.to_text(AS_OF),
        "the observer is behind",
    )
    assert without(after, VERDICT_FIELDS) == without(before, VERDICT_FIELDS)
    assert (before["name"], before["system_id"], before["health"], before["tags"]) == ("weather", 7, "OK", ["etl"])
    behind = json.loads(
        snapshots.line_with_verdict(
            line, Verdict(Health.UNKNOWN, AS_OF, "the observer is behind"), observer_behind=True
        )
    )
    assert (before["observer_behind"], after["observer_behind"], behind["observer_behind"]) == (False, False, True)
