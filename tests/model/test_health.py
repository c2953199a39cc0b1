"""Thresholds: which make sense, and which finding names the ones that do not."""

import math

import pytest

from lso_core.model.errors import InputError
from lso_core.model.health import Health, Level, Thresholds


def fields_refused(thresholds: Thresholds) -> list[str]:
    """The fields that `check` finds fault with, in its order."""
    try:
        thresholds.check()
    except InputError as error:
        return [finding.field for finding in error.findings]
    return []


def test_the_defaults_are_those_of_the_design_and_make_sense() -> None:
    assert Thresholds() == Thresholds(error_rate=Level(0.05, 0.20), p95_latency=Level(None, None), min_events=5)
    assert fields_refused(Thresholds()) == []


def test_health_sorts_the_worst_first() -> None:
    assert [state.name for state in sorted(Health)] == ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"]


@pytest.mark.parametrize(
    ("level", "refused"),
    [
        (Level(0.1, 0.2), []),
        (Level(0.1, None), []),
        (Level(None, 0.2), []),
        (Level(None, None), []),
        (Level(0.1, 1.0), []),
        (Level(0.2, 0.2), ["thresholds.error_rate"]),
        (Level(0.3, 0.2), ["thresholds.error_rate"]),
        (Level(0.0, 0.2), ["thresholds.error_rate.warn"]),
        (Level(-0.1, 0.2), ["thresholds.error_rate.warn"]),
        (Level(0.1, 1.01), ["thresholds.error_rate.crit"]),
        (Level(None, 0.0), ["thresholds.error_rate.crit"]),
        (Level(math.nan, None), ["thresholds.error_rate.warn"]),
        (Level(None, math.inf), ["thresholds.error_rate.crit"]),
        (Level(0.0, -1.0), ["thresholds.error_rate.warn", "thresholds.error_rate.crit", "thresholds.error_rate"]),
    ],
)
def test_error_rates_are_above_0_at_most_1_and_warn_below_crit(level: Level, refused: list[str]) -> None:
    assert fields_refused(Thresholds(error_rate=level)) == refused


@pytest.mark.parametrize(
    ("level", "refused"),
    [
        (Level(250.0, 1_000.0), []),
        (Level(0.001, None), []),
        (Level(1_000.0, 250.0), ["thresholds.p95_latency"]),
        (Level(0.0, None), ["thresholds.p95_latency.warn"]),
        (Level(None, -5.0), ["thresholds.p95_latency.crit"]),
    ],
)
def test_latency_limits_are_above_0_and_warn_below_crit(level: Level, refused: list[str]) -> None:
    assert fields_refused(Thresholds(p95_latency=level)) == refused


@pytest.mark.parametrize(("count", "refused"), [(0, []), (1_000_000, []), (-1, ["thresholds.min_events"])])
def test_min_events_is_a_count(count: int, refused: list[str]) -> None:
    assert fields_refused(Thresholds(min_events=count)) == refused


def test_every_mistake_is_named_at_once() -> None:
    bad = Thresholds(error_rate=Level(2.0, 0.5), p95_latency=Level(9.0, 3.0), min_events=-1)
    assert fields_refused(bad) == [
        "thresholds.error_rate.warn",
        "thresholds.error_rate",
        "thresholds.p95_latency",
        "thresholds.min_events",
    ]
    with pytest.raises(InputError) as refusal:
        bad.check()
    assert refusal.value.findings[1].message == "warn (2) must be below crit (0.5)"
