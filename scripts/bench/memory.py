"""What Redis needs of memory: for a raw event in the hot tier, for a system that is idle, active or as busy as can be.

    python scripts/bench/memory.py [--events 500000] [--idle 2000] [--active 100] [--growth 1000 10000] [--json results.json]
        [--ceiling-event 80] [--ceiling-idle 6] [--ceiling-active 100] [--ceiling-busy 8]

Every case has an LSO of its own. `used_memory` before and after tells all there is, the allocator's own rounding included;
MEMORY USAGE of a system's keys tells which of them it is. Sizes do not depend on what else the machine does, so that one
round is enough. The cases:

- hot: events of realistic batches, with a run id a batch and with one an event, JSON and Arrow, and posted one by one;
- idle: registered, heard of once, the window drained, the hot tier expired, its row of history archived;
- active: 5 stages, one event a second, the window of 300 s full, and an hour of rows of history;
- busy: 5 stages and a million events in the window, whose latencies spread as widely as such events' do; and the worst that
  there is, 64 stages and latencies spread evenly over all powers of ten;
- growth: with so many systems, each heard of a moment ago, what one takes.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import redis

from lso_core.model.windows import PARTITIONS
from lso_core.store import keys
from scripts.bench import _cpu, _load, _rates, _requests, _stock, _target
from scripts.bench._target import Service

KIB, MIB = 1024, 1024 * 1024
WINDOW_S = 300
HISTORY_S = 3_600
KEYS = {
    "system": keys.system,
    "stream": keys.stream,
    "state": keys.state,
    "marks": keys.marks,
    "snapshot": keys.snapshot,
    "details": keys.details,
    "rows": keys.rows,
}
BUSY_EVENTS = 1_000_000
BATCH = 10_000
DRAIN_S = 120.0
Stages = Sequence[str]
Latency = Callable[[random.Random], float]


def main() -> None:
    """Measure, print the tables, keep the figures."""
    options = parse()
    machine = _rates.machine()
    hot = {
        "JSON, batches of 1,000, a run id each": hot_bytes("json", 1_000, options.events),
        "JSON, batches of 1,000, a run id an event": hot_bytes("json", 1_000, options.events, own_runs=True),
        "Arrow, batches of 10,000, a run id each": hot_bytes("arrow", 10_000, options.events),
        "JSON, one by one": hot_bytes("json", 1, min(20_000, options.events)),
    }
    print(_rates.table(["raw event in the hot tier", "bytes"], [[name, f"{one:.1f}"] for name, one in hot.items()]))
    systems = {
        "idle: drained, hot tier expired": idle(options.idle),
        "active: 5 stages, 1 event/s, an hour of rows, without its raw events": active(options.active),
        "busy: 5 stages, 1,000,000 events in the window": busy(_stock.STAGES, lambda dice: dice.lognormvariate(3, 1)),
        "the most: 64 stages, latencies of all sizes": busy(
            [f"stage-{n}" for n in range(64)], lambda dice: 10 ** dice.uniform(-3, 8)
        ),
    }
    print("\n" + systems_table(systems), flush=True)
    growth = {count: grown(count) for count in options.growth}
    rows = [[f"{count:,}", f"{size / MIB:,.1f}", f"{size / count / KIB:.2f}"] for count, size in growth.items()]
    print("\n" + _rates.table(["systems, each with one event", "MiB of Redis", "KiB a system"], rows))
    result = {
        "bench": "memory",
        "machine": machine,
        "options": vars(options),
        "hot": hot,
        "systems": systems,
        "growth": growth,
    }
    _rates.write_json(options.json, result)
    check(hot, systems, options)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="memory of Redis by event and system")
    parser.add_argument("--events", type=int, default=500_000, help="in the hot tier")
    parser.add_argument("--idle", type=int, default=2_000, help="idle systems")
    parser.add_argument("--active", type=int, default=100, help="active systems")
    parser.add_argument("--growth", type=int, nargs="*", default=[1_000, 10_000], help="numbers of systems")
    parser.add_argument("--ceiling-event", type=float, default=0.0, help="fail where an event takes more bytes")
    parser.add_argument("--ceiling-idle", type=float, default=0.0, help="fail where an idle system takes more KiB")
    parser.add_argument("--ceiling-active", type=float, default=0.0, help="fail where an active one takes more KiB")
    parser.add_argument("--ceiling-busy", type=float, default=0.0, help="fail where the busiest takes more MiB")
    parser.add_argument("--json", help="file for all figures")
    return parser.parse_args()


def check(hot: dict[str, float], systems: dict[str, _rates.Json], options: argparse.Namespace) -> None:
    """End with a failure where a bound that was asked for is not kept."""
    idle_one, active_one, *busy_ones = systems.values()
    batched = [size for name, size in hot.items() if "batches" in name]
    _rates.check_ceiling("bytes of a raw event", max(batched), options.ceiling_event)
    _rates.check_ceiling("KiB of an idle system", idle_one["bytes"] / KIB, options.ceiling_idle)
    _rates.check_ceiling("KiB of an active system", active_one["bytes"] / KIB, options.ceiling_active)
    _rates.check_ceiling("MiB of a busy system", max(one["bytes"] for one in busy_ones) / MIB, options.ceiling_busy)


# The server.


def server_of(lso: Service) -> redis.Redis:
    """The embedded server."""
    return redis.Redis(unix_socket_path=_target.redis_socket(_cpu.family(lso.pid)))


def used(server: Any) -> int:
    """Bytes that are allocated for data, tables and clients."""
    return int(server.info("memory")["used_memory"])


def key_bytes(server: Any, system_id: int) -> dict[str, int]:
    """Of each of a system's keys."""
    sizes = {name: server.memory_usage(key(system_id), samples=0) for name, key in KEYS.items()}
    return {name: int(size) for name, size in sizes.items() if size}


# The cases.


def hot_bytes(kind: str, batch: int, events: int, *, own_runs: bool = False) -> float:
    """Bytes of the stream an event."""
    with _target.service(None) as lso, tempfile.TemporaryDirectory() as folder:
        system_id = _target.register(lso.url)
        place = system_id, _target.events_path(system_id)
        count = events // batch
        prepared = _requests.prepare(Path(folder), kind, [place], batch, min(count, 64_000 // batch), own_runs=own_runs)
        _load.send_each(lso.url, prepared, count)
        _target.wait_until_folded(lso.url)
        return key_bytes(server_of(lso), system_id)["stream"] / (count * batch)


def idle(count: int) -> _rates.Json:
    """Bytes of a system of which nothing was heard for longer than its window and the hot tier reach."""
    with _target.service(None, environ={"LSO_HOT_SECONDS": "0"}) as lso:
        server = server_of(lso)
        asyncio.run(heard_of(lso, PARTITIONS, 60, ago_s=50))  # the first of everything makes what is there once for all
        before = used(server)
        systems = asyncio.run(heard_of(lso, count, 60, ago_s=50))
        for of in (keys.due, keys.hot, keys.unfiled):
            _target.wait_for(lambda of=of: all(server.zcard(of(p)) == 0 for p in range(PARTITIONS)), DRAIN_S, 0.5)  # type: ignore[misc]
        return {"bytes": (used(server) - before) / count, "keys": key_bytes(server, systems[count // 2])}


async def heard_of(lso: Service, count: int, window_s: int, ago_s: float) -> list[int]:
    """So many new systems with one event each; their ids."""
    async with _stock.store_of(lso) as store:
        systems = await _stock.register(store, count, window_s)
        await _stock.append(store, systems, _stock.batch_of([_event(ago_s)]))
    return systems


def active(count: int) -> _rates.Json:
    """Bytes of a system, without its stream, that had an event a second for an hour."""
    with _target.service(None) as lso:
        server = server_of(lso)
        fill_windows(lso, PARTITIONS)  # as above
        before = used(server)
        systems = fill_windows(lso, count)
        streams = sum(key_bytes(server, one)["stream"] for one in systems)
        return {"bytes": (used(server) - before - streams) / count, "keys": key_bytes(server, systems[-1])}


def fill_windows(lso: Service, count: int) -> list[int]:
    """So many new systems that had an event of one of five stages each second; their ids.

    It is sent at once: what lies before the window makes the same rows as if it had come in time, but for the note that
    it was late.
    """
    dice = random.Random(count)
    systems = [_target.register(lso.url, WINDOW_S) for _ in range(count)]
    for system_id in systems:
        _post(
            lso,
            system_id,
            [_event(ago_s, _stock.STAGES[ago_s % 5], dice.lognormvariate(3, 1)) for ago_s in range(HISTORY_S)],
        )
    _target.wait_until_folded(lso.url)
    return systems


def busy(stages: Stages, latency: Latency) -> _rates.Json:
    """Bytes of a system, without its stream, with as many events in its window as make a difference."""
    dice = random.Random(2)
    with _target.service(None) as lso:
        server = server_of(lso)
        system_id = _target.register(lso.url, WINDOW_S)
        for events in _busy_batches(stages, latency, dice):
            _post(lso, system_id, events)
        _target.wait_until_folded(lso.url)
        sizes = key_bytes(server, system_id)
        return {"bytes": sum(size for name, size in sizes.items() if name != "stream"), "keys": sizes}


def _busy_batches(stages: Stages, latency: Latency, dice: random.Random) -> Iterator[list[dict[str, Any]]]:
    for _ in range(BUSY_EVENTS // BATCH):
        yield [
            _event(dice.uniform(0, WINDOW_S - 60), stages[number % len(stages)], min(latency(dice), 6e8))
            for number in range(BATCH)
        ]


def _event(ago_s: float, stage: str = "load", latency_ms: float = 12.5) -> dict[str, Any]:
    ts = datetime.now(UTC) - timedelta(seconds=ago_s)
    return {
        "ts": ts.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event_type": "success",
        "status": "ok",
        "stage": stage,
        "latency_ms": round(latency_ms, 3),
    }


def _post(lso: Service, system_id: int, events: list[dict[str, Any]]) -> None:
    _target.post(lso.url + _target.events_path(system_id), json.dumps({"events": events}).encode())


def grown(count: int) -> float:
    """Bytes that so many systems take together, each with one event a moment ago."""
    with _target.service(None) as lso:
        server = server_of(lso)
        before = used(server)
        asyncio.run(heard_of(lso, count, WINDOW_S, ago_s=0))
        _target.wait_until_folded(lso.url)
        return used(server) - before


def systems_table(systems: dict[str, _rates.Json]) -> str:
    """For people."""
    rows = [
        [name, f"{one['bytes'] / KIB:,.2f}", ", ".join(f"{key} {size / KIB:,.2f}" for key, size in one["keys"].items())]
        for name, one in systems.items()
    ]
    return _rates.table(["system", "KiB of Redis", "of one: its keys, KiB"], rows)


if __name__ == "__main__":
    main()
