"""How fast a worker folds: from columns alone, from a backlog with 1, 2 and 4 processes, and many quiet systems at once.

    python scripts/bench/fold.py [--rounds 5] [--events 1000000] [--workers 1 2 4] [--systems 1000 10000] [--quiet-seconds 20]
        [--floor 3000000] [--json results.json]

- Columns: decoded columns of 64 batches of 1,000 events are folded into a window that holds as many already, in this process;
  events by processor second, beside a sort of as many integers by numpy, which is the least that grouping them takes.
- Backlog: an LSO's workers are halted while --events arrive, then let go; the clock runs from when the backlog begins to
  shrink until it is empty. Reading, folding and committing are all in it, and Redis is another process on the same cores.
- Quiet: systems that get one event a second each, written through the store, as over HTTP their emitters would take the
  machine. Told is what share of a core the workers use, hence how many systems one core carries, and how old the snapshots
  of a sample are when they are read.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import numpy as np

from lso_core.compute import batches, columns
from lso_core.compute.batches import Post
from lso_core.compute.fold import Arrival, fold
from lso_core.compute.state import Meta, State, from_slots
from lso_core.machine import keep_freed_memory
from lso_core.model import times
from lso_core.model.windows import Window
from lso_core.store.store import Store
from scripts.bench import _cpu, _load, _rates, _requests, _stock, _target
from scripts.bench._target import Service

ENTRIES, BATCH = 64, 1_000
REPEATS = 20
BACKLOG_SYSTEMS = 32
"""One in each partition, so that they can be shared out."""
WINDOW_S = 300
TICK_S = 0.1
SAMPLE = 50
WARM_S = 6.0
"""By then every quiet system has a window to roll."""


class Columns(NamedTuple):
    """Events by processor second."""

    fold: float
    decode_and_fold: float
    sort: float


class Backlog(NamedTuple):
    """What a number of workers made of a backlog."""

    rate: float
    """Events a second."""
    rate_of_core: float
    """Events by processor second of the workers."""


class Quiet(NamedTuple):
    """What a number of quiet systems took."""

    cores: float
    """Processor seconds a second of the workers."""
    redis_cores: float
    sent: float
    """Events a second; less than one a system where the machine did not keep up."""
    age_p50_s: float
    age_max_s: float
    oldest_unfolded_s: float


def main() -> None:
    """Measure, print the tables, keep every round."""
    options = parse()
    machine = _rates.machine()
    keep_freed_memory()  # as a worker does
    from_columns = [columns_round() for _ in range(options.rounds + 1)][1:]
    print(columns_table(from_columns), flush=True)
    backlogs: dict[int, list[Backlog]] = {count: [] for count in options.workers}
    for _ in range(options.rounds if options.workers else 0):
        for count in options.workers:
            backlogs[count].append(backlog_round(count, options.events))
    if backlogs:
        print("\n" + backlog_table(backlogs, options.events), flush=True)
    quiet = {count: quiet_round(count, options.quiet_seconds) for count in options.systems}
    if quiet:
        print("\n" + quiet_table(quiet, options.quiet_seconds), flush=True)
    result = {
        "bench": "fold",
        "machine": machine,
        "options": vars(options),
        "columns": [one._asdict() for one in from_columns],
        "backlogs": {count: [one._asdict() for one in some] for count, some in backlogs.items()},
        "quiet": {count: one._asdict() for count, one in quiet.items()},
    }
    _rates.write_json(options.json, result)
    median = statistics.median(one.fold for one in from_columns)
    _rates.check_floor("events/s of a core from columns", median, options.floor)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="how fast a worker folds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=1_000_000, help="of a backlog")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4], help="processes that work a backlog off")
    parser.add_argument("--systems", type=int, nargs="*", default=[1_000, 10_000], help="with an event a second each")
    parser.add_argument("--quiet-seconds", type=float, default=20, help="how long they are watched")
    parser.add_argument("--floor", type=float, default=0.0, help="fail where a core folds fewer events/s from columns")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


# From columns.


def columns_round() -> Columns:
    """The fold alone, the fold with decoding, and a sort of as many integers."""
    blocks = [_block(number) for number in range(ENTRIES)]
    at_ms = time.time_ns() // 1_000_000
    arrivals = [Arrival(at_ms, columns.read(block)) for block in blocks]
    window = Window(WINDOW_S)
    state = fold(empty_state(at_ms), arrivals, window, at_ms + 1).state
    numbers = np.random.default_rng(1).integers(0, 1 << 40, ENTRIES * BATCH)

    def decode_and_fold() -> None:
        fold(state, [Arrival(at_ms, columns.read(block)) for block in blocks], window, at_ms + 1)

    return Columns(
        _rate(lambda: fold(state, arrivals, window, at_ms + 1)),
        _rate(decode_and_fold),
        _rate(lambda: np.sort(numbers)),
    )


def _block(number: int) -> bytes:
    """The columns of a batch, as the API stores them."""
    body = _requests.as_json(list(_requests.events(1, BATCH, random.Random(number))))
    batch = batches.quick(Post(body, 1, BATCH))
    if batch is None:
        raise SystemExit("a batch is not good")
    return batch.columns


def empty_state(now_ms: int) -> State:
    """The state of a system that is new."""
    return from_slots(Meta(since_ms=now_ms), {})


def _rate(work: Callable[[], object]) -> float:
    """Events by processor second."""
    work()
    began = time.process_time()
    for _ in range(REPEATS):
        work()
    return REPEATS * ENTRIES * BATCH / (time.process_time() - began)


def columns_table(rounds: list[Columns]) -> str:
    """For people."""
    names = ("fold of decoded columns", "decode and fold", "numpy sort of as many integers, for comparison")
    figures = [_rates.Rounds.of([one[at] for one in rounds]) for at in range(len(Columns._fields))]
    rows = [[name, figure.text()] for name, figure in zip(names, figures, strict=True)]
    return _rates.table([f"{ENTRIES} batches of {BATCH:,}", "events by processor second"], rows)


# A backlog.


def backlog_round(workers: int, events: int) -> Backlog:
    """Halt the workers, fill the streams, let go."""
    with _target.service(None, ["--workers", str(workers)]) as lso, tempfile.TemporaryDirectory() as folder:
        places = [
            (one, _target.events_path(one)) for one in (_target.register(lso.url) for _ in range(BACKLOG_SYSTEMS))
        ]
        prepared = _requests.prepare(Path(folder), "json", places, BATCH, 64)
        halted = [pid for pid in _cpu.family(lso.pid) if _cpu.role_of(pid) == "worker"]
        for pid in halted:
            os.kill(pid, signal.SIGSTOP)
        _load.send_each(lso.url, prepared, events // BATCH)
        before, meter = _backlog(lso), _cpu.Meter(lso.pid)
        for pid in halted:
            os.kill(pid, signal.SIGCONT)
        first = _target.wait_for(lambda: one if (one := _backlog(lso)) < before else 0, _target.FOLD_S, 0.001)
        began = time.monotonic()
        seconds = _target.wait_until_folded(lso.url) - began
        return Backlog(first / seconds, before / meter.seconds()["worker"])


def _backlog(lso: Service) -> int:
    return int(_target.get(f"{lso.url}/autoscale")["backlog"]["events"])


def backlog_table(backlogs: dict[int, list[Backlog]], events: int) -> str:
    """For people."""
    one = min(backlogs)
    base = statistics.median(round_.rate for round_ in backlogs[one])
    rows = []
    for count, rounds in backlogs.items():
        rate = _rates.Rounds.of([round_.rate for round_ in rounds])
        of_core = _rates.Rounds.of([round_.rate_of_core for round_ in rounds])
        rows.append([str(count), rate.text(), f"{rate.median / base:.2f}", of_core.text()])
    head = [f"workers, on {_rates.machine()['cores']} cores", "events/s", f"of {one}'s", "events by processor second"]
    return f"A backlog of {events:,} events in batches of {BATCH:,}, {BACKLOG_SYSTEMS} systems\n\n" + _rates.table(
        head, rows
    )


# Quiet systems.


def quiet_round(count: int, seconds: float) -> Quiet:
    """So many systems with an event a second each."""
    with _target.service(None) as lso:
        return asyncio.run(_quiet(lso, count, seconds))


async def _quiet(lso: Service, count: int, seconds: float) -> Quiet:
    async with _stock.store_of(lso) as store:
        systems = await _stock.register(store, count, WINDOW_S)
        feeding = asyncio.create_task(_feed(lso, store, systems, WARM_S + seconds))
        await asyncio.sleep(WARM_S)
        meter, began = _cpu.Meter(lso.pid), time.monotonic()
        ages_s, oldest_s = await _watch(store, systems, began + seconds)
        used, elapsed = meter.seconds(), time.monotonic() - began
        sent = await feeding
    ages_s.sort()
    return Quiet(
        used["worker"] / elapsed, used["redis"] / elapsed, sent, statistics.median(ages_s), ages_s[-1], max(oldest_s)
    )


async def _feed(lso: Service, store: Store, systems: list[int], seconds: float) -> float:
    """An event a second to each system, spread over the second; events a second that were sent."""
    batch = _stock.batch_of([{"event_type": "success", "status": "ok", "latency_ms": 12.5, "stage": "load"}])
    await _stock.append(store, systems[:1], batch)
    feed = _stock.Feed.of(lso, store, systems, batch)
    share = max(1, round(len(systems) * TICK_S))
    began, sent, turn = time.monotonic(), 0, 0
    while time.monotonic() < began + seconds:
        first = (turn * share) % len(systems)
        await asyncio.to_thread(feed.send, first, first + share)
        sent, turn = sent + len(systems[first : first + share]), turn + 1
        await asyncio.sleep(max(0.0, began + turn * TICK_S - time.monotonic()))
    feed.close()
    return sent / (time.monotonic() - began)


async def _watch(store: Store, systems: list[int], end: float) -> tuple[list[float], list[float]]:
    """Ages of snapshots when they are read, and of the oldest event that is not folded, both in seconds."""
    dice, ages_s, oldest_s = random.Random(1), [], []
    while time.monotonic() < end:
        for one in dice.sample(systems, min(SAMPLE, len(systems))):
            answer = msgspec.json.decode((await store.reads.health(one)).body)
            ages_s.append(time.time() - times.from_text(answer["as_of"]) / 1_000)
        oldest_s.append((await store.reads.autoscale()).backlog.oldest_age_s or 0.0)
        await asyncio.sleep(0.5)
    return ages_s, oldest_s


def quiet_table(quiet: dict[int, Quiet], seconds: float) -> str:
    """For people."""
    rows = [
        [
            f"{count:,}",
            f"{one.sent:,.0f}",
            f"{one.cores:.2f}",
            f"{count / one.cores:,.0f}",
            f"{one.redis_cores:.2f}",
            f"{one.age_p50_s:.2f}",
            f"{one.age_max_s:.2f}",
            f"{one.oldest_unfolded_s:.2f}",
        ]
        for count, one in quiet.items()
    ]
    head = [
        "systems",
        "events/s",
        "cores of workers",
        "systems a core",
        "cores of Redis",
        "age p50 s",
        "age max s",
        "oldest unfolded s",
    ]
    return f"Systems with one event a second each, watched for {seconds:g} s\n\n" + _rates.table(head, rows)


if __name__ == "__main__":
    main()
