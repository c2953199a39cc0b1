"""The slow truth about windows, for tests: plain loops over plain values, with nothing of the product's in them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from lso_core.compute import columns
from lso_core.compute.cells import unpack
from lso_core.compute.fold import Arrival
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK
from lso_core.compute.state import Slot, State
from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.windows import Window

LIFECYCLE = {"start", "heartbeat", "end", "log"}
SLOT_MS = 5_000


class Sent(NamedTuple):
    """One event and when the batch that brought it arrived."""

    at_ms: int
    event: Event

    @property
    def ts_ms(self) -> int:
        return self.at_ms if self.event.ts is None else times.from_text(self.event.ts)

    @property
    def time_ms(self) -> int:
        """Event time as the design has it: min(ts, at)."""
        return min(self.ts_ms, self.at_ms)

    @property
    def lifecycle(self) -> bool:
        return self.event.event_type in LIFECYCLE

    def late(self, window: Window) -> bool:
        return self.time_ms < start_of(self.at_ms, window)


class Truth(NamedTuple):
    """What a window holds, counted one by one."""

    total: int
    errors: int
    latencies: list[float]
    by_stage: dict[str, tuple[int, int, list[float]]]
    event_types: dict[str, int]
    late: int
    clock_skewed: int


def start_of(as_of_ms: int, window: Window) -> int:
    """Start of the oldest slot still in."""
    current = as_of_ms // SLOT_MS * SLOT_MS
    return current - (window.seconds * 1_000 // SLOT_MS - 1) * SLOT_MS


def count(sent: Sequence[Sent], window: Window, as_of_ms: int) -> Truth:
    """Everything in [start of the window, as_of)."""
    start = start_of(as_of_ms, window)
    late = sum(one.late(window) and one.at_ms >= start for one in sent)
    shown = [one for one in sent if not one.late(window) and start <= one.time_ms < as_of_ms]
    counted = [one for one in shown if not one.lifecycle]
    stages = sorted({one.event.stage for one in counted if one.event.stage is not None})
    return Truth(
        len(counted),
        sum(one.event.status == "error" for one in counted),
        sorted(one.event.latency_ms for one in counted if one.event.latency_ms is not None),
        {
            stage: (
                len(own),
                sum(one.event.status == "error" for one in own),
                sorted(one.event.latency_ms for one in own if one.event.latency_ms is not None),
            )
            for stage, own in ((stage, [one for one in counted if one.event.stage == stage]) for stage in stages)
        },
        dict(Counter(one.event.event_type for one in shown)),
        late,
        sum(one.ts_ms > one.at_ms for one in shown),
    )


def percentile(latencies: Sequence[float], per_cent: float) -> float | None:
    """The latency at rank ceil(p/100 * n)."""
    if not latencies:
        return None
    rank = max(1, math.ceil(round(per_cent * len(latencies) / 100, 9)))
    return sorted(latencies)[rank - 1]


def close(found: float | None, exact: float | None) -> bool:
    """Within 0.1 % or 0.5 µs, in milliseconds."""
    if found is None or exact is None:
        return found is exact
    return abs(found - exact) <= max(exact * 0.001, 0.0005) + 1e-9


def arrival(at_ms: int, events: Sequence[Event]) -> Arrival:
    """A batch as folding meets it: cut, packed and unpacked."""
    return Arrival(at_ms, columns.block_of(columns.cut(events)))


def as_values(state: State) -> dict[str, Any]:
    """A state by names, so that two that number them differently compare."""
    meta = state.meta

    def stage(number: int) -> str:
        return "" if not number else meta.stages[number - 1]

    def cells(packed: bytes) -> dict[tuple[str, int], int]:
        keys, counts = unpack(packed)
        pairs = zip(keys.tolist(), counts.tolist(), strict=True)
        return {(stage(key >> INDEX_BITS), key & INDEX_MASK): count for key, count in pairs}

    def slot_values(slot: Slot) -> tuple[Any, ...]:
        return (
            cells(slot.cells),
            cells(slot.error_cells),
            {stage(number): tally for number, tally in slot.stages.items()},
            {meta.event_types[number]: many for number, many in slot.event_types.items()},
            slot.late,
            slot.clock_skewed,
        )

    return {
        "slots": {start: slot_values(slot) for start, slot in state.opened().items()},
        "cells": cells(state.cells),
        "as_of": meta.as_of_ms,
        "last": (meta.last_event_ms, meta.last_counted_ms, meta.last_ok_ms),
    }
