"""How many events a second LSO accepts and shows in /health, with everything on this machine.

    python scripts/bench/ingest.py [--url http://127.0.0.1:8000] [--rounds 5] [--events 1000000]
        [--batch 1000] [--format json|ndjson|arrow] [--json results.json]

Without --url it starts an LSO of its own, with its embedded server, in a temporary directory. A round: emitter processes
prepare batches that do not repeat, every field filled, each with an Idempotency-Key; the clock starts; they send them to
several systems over kept-alive connections; the clock stops when /health of every system counts every event. The
emitters' work is thus included, as is the folding. One round before the first is not counted.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _rates, _target
from scripts.bench._emitters import KINDS, Emitters, Plan, Sent

FOLD_S = 120.0


class Round(NamedTuple):
    """What came of one round. Rates are events a second."""

    accepted: float
    """Until the last batch was answered with 202."""
    visible: float
    """Until /health of every system counted every event."""
    megabytes: float
    """Of bodies a second, accepted."""
    post_p50_ms: float
    post_p99_ms: float
    refused: int
    fold_s: float
    """From the last 202 until everything was visible."""


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    with _target.service(options.url, options.service.split()) as url:
        systems = [_target.register(url) for _ in range(options.systems)]
        rounds = [measure(url, systems, options) for _ in range(options.rounds + 1)][1:]
    columns = {name: _rates.Rounds.of([float(getattr(one, name)) for one in rounds]) for name in Round._fields}
    report(columns, options)
    result = {
        "bench": "ingest",
        "machine": machine,
        "options": vars(options),
        "rounds": [one._asdict() for one in rounds],
        "summary": {name: column._asdict() for name, column in columns.items()},
    }
    _rates.write_json(options.json, result)
    if options.floor and columns["visible"].median < options.floor:
        raise SystemExit(f"below the floor of {options.floor:,} events/s")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="events a second, accepted and visible in /health")
    parser.add_argument("--url", help="a running service; without it one is started")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=1_000_000, help="a round")
    parser.add_argument("--batch", type=int, default=1_000, help="events a batch")
    parser.add_argument("--format", choices=list(KINDS), default="json", help="how the batches are written")
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--emitters", type=int, default=2, help="emitter processes")
    parser.add_argument("--connections", type=int, default=4, help="connections of each emitter process")
    parser.add_argument("--floor", type=int, default=0, help="fail where fewer events a second are visible")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def measure(url: str, systems: list[int], options: argparse.Namespace) -> Round:
    """One round."""
    batches = max(options.emitters * options.connections, options.events // options.batch)
    shares = [batches // options.emitters + (number < batches % options.emitters) for number in range(options.emitters)]
    plans = [
        Plan(_target.address_of(url), systems, share, options.batch, options.connections, number, kind=options.format)
        for number, share in enumerate(shares)
    ]
    wanted = Counter({system: _target.total_of(url, system) for system in systems})
    for plan in plans:
        for turn in range(plan.batches):
            wanted[plan.system_of(turn)] += plan.events
    emitters = Emitters(plans)
    began = time.perf_counter()
    sent = emitters.run()
    accepted_s = time.perf_counter() - began
    _target.wait_for(lambda: all(_target.total_of(url, one) == wanted[one] for one in systems), FOLD_S, pause_s=0.002)
    visible_s = time.perf_counter() - began
    return summed_up(sent, accepted_s, visible_s)


def summed_up(sent: list[Sent], accepted_s: float, visible_s: float) -> Round:
    """The figures of a round."""
    events = sum(one.events for one in sent)
    latencies = sorted(latency for one in sent for latency in one.latencies_s)
    return Round(
        accepted=events / accepted_s,
        visible=events / visible_s,
        megabytes=sum(one.body_bytes for one in sent) / accepted_s / 1e6,
        post_p50_ms=statistics.median(latencies) * 1e3,
        post_p99_ms=latencies[int(0.99 * (len(latencies) - 1))] * 1e3,
        refused=sum(one.refused for one in sent),
        fold_s=visible_s - accepted_s,
    )


def report(columns: dict[str, _rates.Rounds], options: argparse.Namespace) -> None:
    """The table for people: medians, and the spread over the rounds in brackets."""
    print(
        f"{options.rounds} rounds of {options.events:,} events, batches of {options.batch:,} as {options.format}, "
        f"{options.systems} systems, "
        f"{options.emitters} emitter processes with {options.connections} connections each\n"
    )
    rows = [
        ["events/s accepted", columns["accepted"].text()],
        ["events/s accepted and visible in /health", columns["visible"].text()],
        ["MB/s of bodies", columns["megabytes"].text()],
        ["POST of a batch, p50 ms", columns["post_p50_ms"].text(1)],
        ["POST of a batch, p99 ms", columns["post_p99_ms"].text(1)],
        ["last 202 to everything visible, s", columns["fold_s"].text(2)],
        ["503 answers a round", columns["refused"].text()],
    ]
    print(_rates.table(["figure", "median (least to most)"], rows))


if __name__ == "__main__":
    main()
