"""What history costs where it is written, and how fast it is merged where it is read. CPU time, in this one process.

    python scripts/bench/history.py [--rounds 5] [--days 30] [--systems 100] [--json results.json]

Writing: a system with 5 stages over simulated hours, an entry at a time. A fold that carries `as_of` into another minute
makes a row, the others make none; what a row takes is the difference. Reading: rows of hours, as an archive hands them
out in bytes, decoded and merged to p95 at a step of an hour, by one system and by many.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lso_core.compute import histogram, rollups
from lso_core.compute.columns import Columns, block_of
from lso_core.compute.fold import Arrival, fold
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.compute.rollups import Rollup
from lso_core.compute.series import lines
from lso_core.compute.state import State, Tally
from lso_core.model.rollups import Width
from lso_core.model.series import Grid, metrics_of
from lso_core.model.windows import Window
from scripts.bench import _rates

STAGES = tuple(f"stage-{number}" for number in range(5))
START_MS = 1_765_584_000_000
"""A midnight."""
EVENTS_AN_HOUR = 1_389
"""A hundred million events are so many for each of a hundred systems in each of 720 hours."""


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    rounds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, value in measure(options).items():
            rounds.setdefault(name, []).append(value)
    for name, values in rounds.items():
        print(f"{name:<52} {statistics.median(values):12.2f}   ({min(values):.2f} to {max(values):.2f})")
    _rates.write_json(
        options.json, {"bench": "history", "machine": machine, "options": vars(options), "rounds": rounds}
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="cost of rollup rows, and speed of merging them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--json", help="write every round to this file")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One round: figures by their names."""
    quiet, minutes = folds(1, 1_200), folds(50, 600)
    stored = hours(options.days)
    grid = Grid(START_MS, START_MS + options.days * Width.DAY, Width.HOUR)
    one = cpu_s(lambda: p95(stored, grid))
    many = cpu_s(lambda: [p95(stored, grid) for _ in range(options.systems)])
    return {
        "fold of 1 event, no row (µs)": quiet[0],
        "fold of 1 event that ends a minute (µs)": quiet[1],
        "fold of 50 events, no row (µs)": minutes[0],
        "fold of 50 events that ends a minute (µs)": minutes[1],
        "row of 60 events, 5 stages (bytes)": quiet[2],
        "row of an hour (bytes)": statistics.mean(map(len, stored)),
        f"p95 by the hour over {options.days} days, 1 system (ms)": 1_000 * one,
        f"the same, {options.systems} systems, {options.systems * len(stored):,} rows (ms)": 1_000 * many,
    }


def folds(events: int, count: int) -> tuple[float, float, float]:
    """CPU µs of a fold that makes no row and of one that does, with its row's encoding; and a row's bytes."""
    chance, state, window = np.random.default_rng(events), State(), Window(300)
    times: dict[bool, list[float]] = {False: [], True: []}
    sizes: list[int] = []
    for second in range(count):
        at_ms = START_MS + 1_000 * second
        arrivals = [Arrival(at_ms, block_of(columns(chance, events, at_ms)))]
        began = time.process_time_ns()
        folded = fold(state, arrivals, window, at_ms + 1)
        encoded = [rollups.encode(row) for row in folded.rows]
        times[bool(encoded)].append((time.process_time_ns() - began) / 1_000)
        state, sizes = folded.state, sizes + [len(row) for row in encoded]
    return statistics.median(times[False]), statistics.median(times[True]), statistics.mean(sizes[1:])


def columns(chance: np.random.Generator, count: int, at_ms: int) -> Columns:
    """Events of the last second in five stages, one in twenty an error."""
    return Columns(
        ts_ms=at_ms - chance.integers(0, 1_000, count),
        has_ts=np.ones(count, np.bool_),
        latency_us=chance.lognormal(10, 1, count).astype(np.int64),
        has_latency=np.ones(count, np.bool_),
        error=chance.random(count) < 0.05,
        stage=1 + chance.integers(0, len(STAGES), count),
        event_type=np.zeros(count, np.int64),
        stages=STAGES,
        event_types=("success",),
    )


def hours(days: int) -> list[bytes]:
    """Rows of hours, as they are stored."""
    chance = np.random.default_rng(days)
    return [rollups.encode(hour(chance, START_MS + at * Width.HOUR)) for at in range(24 * days)]


def hour(chance: np.random.Generator, start_ms: int) -> Rollup:
    """A row of EVENTS_AN_HOUR events in five stages."""
    latency = chance.lognormal(10, 1, EVENTS_AN_HOUR).astype(np.int64)
    stage, error = chance.integers(0, len(STAGES), EVENTS_AN_HOUR), chance.random(EVENTS_AN_HOUR) < 0.05
    packed = histogram.index_of(latency) << rollups.STAGE_BITS | stage
    cells, where, count = np.unique(packed, return_inverse=True, return_counts=True)
    errors = np.bincount(where, error, len(cells)).astype(np.int64)
    tallies = {name: tally(latency[stage == number], error[stage == number]) for number, name in enumerate(STAGES)}
    return Rollup(
        start_ms,
        Width.HOUR,
        tallies,
        cells >> rollups.STAGE_BITS,
        cells & rollups.STAGE_MASK,
        count,
        errors,
        {"success": EVENTS_AN_HOUR},
    )


def tally(latency: Any, error: Any) -> Tally:
    """The exact sums over some events."""
    return Tally(
        len(latency), int(error.sum()), len(latency), int(latency.sum()), int(latency.min()), int(latency.max())
    )


def p95(stored: list[bytes], grid: Grid) -> int:
    """What a series of one system takes: its rows decoded and merged."""
    rows = RollupColumns.of([rollups.decode(row) for row in stored], Detail.NONE)
    [line] = lines(rows, grid, metrics_of("p95"))
    return len(line.revised)


def cpu_s(run: Callable[[], object]) -> float:
    """CPU time of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    main()
