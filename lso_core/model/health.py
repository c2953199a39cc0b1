"""How well a system is: the four states, and the thresholds that part them."""

import enum
import math

import msgspec

from lso_core.model.errors import Finding, InputError


class Health(enum.IntEnum):
    """The states, numbered by how much they want attention: the worst sorts first."""

    UNHEALTHY = 0
    DEGRADED = 1
    UNKNOWN = 2
    OK = 3


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one measure; None means no limit. Reaching `warn` is fine, passing it is DEGRADED; likewise `crit`."""

    warn: float | None = None
    crit: float | None = None


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a system may do and still be called well."""

    error_rate: Level = Level(warn=0.05, crit=0.20)
    """Share of counted events with status error, 0 to 1."""
    p95_latency: Level = Level()
    """95th percentile of latency, in milliseconds."""
    min_events: int = 5
    """Below this many counted events in the window a system is at most DEGRADED."""

    def check(self) -> None:
        """Raise InputError that names every threshold that makes no sense."""
        findings = [
            *_check_level("thresholds.error_rate", self.error_rate, 1.0),
            *_check_level("thresholds.p95_latency", self.p95_latency, math.inf),
        ]
        if not 0 <= self.min_events <= 1_000_000:
            findings.append(Finding(None, "thresholds.min_events", "min_events must be from 0 to 1000000"))
        if findings:
            raise InputError("the thresholds make no sense", tuple(findings))


def _check_level(field: str, level: Level, most: float) -> list[Finding]:
    """Findings about one level: both above 0, at most `most`, warn below crit."""
    bound = "" if math.isinf(most) else f" and at most {most:g}"
    findings = [
        Finding(None, f"{field}.{name}", f"{name} must be above 0{bound}, not {value:g}")
        for name, value in (("warn", level.warn), ("crit", level.crit))
        if value is not None and not 0 < value <= most
    ]
    if level.warn is not None and level.crit is not None and level.warn >= level.crit:
        findings.append(Finding(None, field, f"warn ({level.warn:g}) must be below crit ({level.crit:g})"))
    return findings
