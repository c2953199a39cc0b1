"""From figures and thresholds to a state and one sentence. The worst finding wins."""

from typing import Final

import msgspec

from lso_core.model import times
from lso_core.model.health import Health, Level, Thresholds
from lso_core.model.snapshots import NO_EVENTS_YET
from lso_core.model.windows import Window


class Measured(msgspec.Struct, frozen=True):
    """What a judgement rests on."""

    total: int
    errors: int
    p95_ms: float | None
    last_counted_ms: int | None
    run_trouble: str | None = None
    """What is wrong with the system's runs, as a sentence."""


class Judgement(msgspec.Struct, frozen=True):
    """A state and its reason, without the time since when."""

    health: Health
    reason: str


def judge(measured: Measured, thresholds: Thresholds, window: Window) -> Judgement:
    """The state of a system with these figures in its window."""
    runs = [] if measured.run_trouble is None else [Judgement(Health.DEGRADED, measured.run_trouble)]
    if not measured.total:
        return runs[0] if runs else Judgement(Health.UNKNOWN, _silence(measured.last_counted_ms, window))
    findings = [
        *_judge_errors(measured, thresholds.error_rate),
        *_judge_latency(measured, thresholds.p95_latency),
        *runs,
    ]
    if not findings:
        return Judgement(Health.OK, _all_well(measured))
    worst = min(findings, key=lambda finding: finding.health)
    if worst.health is Health.UNHEALTHY and measured.total < thresholds.min_events:
        few = f"{worst.reason}; at most DEGRADED with fewer than {thresholds.min_events} events"
        return Judgement(Health.DEGRADED, few)
    return worst


def _silence(last_counted_ms: int | None, window: Window) -> str:
    if last_counted_ms is None:
        return NO_EVENTS_YET
    return f"no events in the last {window.seconds} s; the last one came at {times.to_text(last_counted_ms)}"


def _all_well(measured: Measured) -> str:
    rate = _share(measured.errors, measured.total)
    p95 = "" if measured.p95_ms is None else f", p95 {_number(measured.p95_ms)} ms"
    return f"error rate {rate}{p95}"


def _judge_errors(measured: Measured, level: Level) -> list[Judgement]:
    rate = measured.errors / measured.total
    passed = _passed(rate, level)
    if passed is None:
        return []
    health, limit = passed
    share = _share(measured.errors, measured.total)
    return [Judgement(health, f"error rate {share} is above {_number(limit * 100)} %")]


def _judge_latency(measured: Measured, level: Level) -> list[Judgement]:
    if measured.p95_ms is None:
        return []
    passed = _passed(measured.p95_ms, level)
    if passed is None:
        return []
    health, limit = passed
    return [Judgement(health, f"p95 latency {_number(measured.p95_ms)} ms is above {_number(limit)} ms")]


def _passed(value: float, level: Level) -> tuple[Health, float] | None:
    """The worst limit that `value` is above, with the state it means."""
    if level.crit is not None and value > level.crit:
        return Health.UNHEALTHY, level.crit
    if level.warn is not None and value > level.warn:
        return Health.DEGRADED, level.warn
    return None


_PERCENT_DIGITS: Final = 1


def _share(errors: int, total: int) -> str:
    percent = 100 * errors / total
    digits = _PERCENT_DIGITS if not errors or percent >= 0.05 else 4  # 1 in 100,000 is not 0.0 %
    return f"{percent:.{digits}f} % ({errors} of {total})"


def _number(value: float) -> str:
    """A number as a person writes it: at most three decimals, no trailing zeros."""
    return f"{value:.3f}".rstrip("0").rstrip(".")
