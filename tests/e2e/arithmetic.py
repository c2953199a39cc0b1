"""The sums that LSO promises, done the plain way: by looking at every event."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

PER_MILLE: Final = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p999": 999}
"""Percentiles in whole thousandths, so that no rank is off by rounding."""
SLOT_MS: Final = 5_000


class Sample(NamedTuple):
    """One event as the pipeline knows it."""

    ts_ms: int
    stage: str
    ok: bool
    latency_ms: float


def within(samples: Iterable[Sample], start_ms: int, end_ms: int) -> list[Sample]:
    """Those in [start, end)."""
    return [sample for sample in samples if start_ms <= sample.ts_ms < end_ms]


def errors(samples: Iterable[Sample]) -> int:
    return sum(not sample.ok for sample in samples)


def at_rank(values: Sequence[float], per_mille: int) -> float:
    """The value at rank ceil(p/100 · n) of n sorted values."""
    rank = -(-per_mille * len(values) // 1_000)
    return values[rank - 1]


def is_close(value_ms: float, exact_ms: float) -> bool:
    """Within 0.1 % or 0.5 µs, whichever is more; the last digits of a float are given away."""
    return abs(value_ms - exact_ms) <= max(0.001 * exact_ms, 0.000_5) + 1e-9


def window_start(as_of_ms: int, window_seconds: int) -> int:
    """Start of the oldest slot in a window, counting the current, unfinished slot."""
    return as_of_ms - as_of_ms % SLOT_MS - (window_seconds * 1_000 - SLOT_MS)
