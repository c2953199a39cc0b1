"""How soon after its 202 an event is visible in /health, at shares of the highest rate.

    python scripts/bench/fresh.py [--url http://127.0.0.1:8000] [--rounds 3] [--seconds 8] [--json results.json]

Without --url it starts an LSO of its own. First a round without pauses finds the rate that this machine takes. Then, at
each share of it, emitters send batches at an even pace while a probe posts single events to a system of its own and reads
that system's health again and again until the event counts: that time, from the answer to the POST on, is what is shown.
"""

import argparse
import http.client
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _rates, _target
from scripts.bench._emitters import Emitters, Plan

EMITTERS = 2
CONNECTIONS = 4
SYSTEMS = 8
PROBE_EVERY_S = 0.02
POLL_S = 0.001
WITHIN_S = 30.0
EVENT = json.dumps({"events": [{"event_type": "success", "status": "ok", "latency_ms": 1}]})


class Round(NamedTuple):
    """What one round at one share showed."""

    rate: float
    """Events a second that were accepted meanwhile."""
    p50_ms: float
    p99_ms: float
    probes: int


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    with _target.service(options.url, options.service.split()) as url:
        systems = [_target.register(url) for _ in range(SYSTEMS)]
        highest = max(rate_of(url, systems, options) for _ in range(2))
        rounds: dict[float, list[Round]] = {share: [] for share in options.shares}
        for _ in range(options.rounds):
            for share in options.shares:
                rounds[share].append(measure(url, systems, share * highest, options))
    report(rounds, highest, options)
    result = {
        "bench": "fresh",
        "machine": machine,
        "options": vars(options),
        "highest": highest,
        "rounds": {str(share): [one._asdict() for one in some] for share, some in rounds.items()},
    }
    _rates.write_json(options.json, result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="time from 202 to visible in /health")
    parser.add_argument("--url", help="a running service; without it one is started")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of each share in a round")
    parser.add_argument("--batch", type=int, default=1_000, help="events a batch")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 0.9], help="of the highest rate")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def plans(url: str, systems: list[int], batches: int, events: int, every_s: float) -> list[Plan]:
    """The same for each emitter process."""
    address = _target.address_of(url)
    return [Plan(address, systems, batches, events, CONNECTIONS, number, every_s) for number in range(EMITTERS)]


def rate_of(url: str, systems: list[int], options: argparse.Namespace) -> float:
    """Events a second that are taken when nobody waits."""
    emitters = Emitters(plans(url, systems, 500_000 // options.batch // EMITTERS, options.batch, 0))
    began = time.perf_counter()
    sent = emitters.run()
    rate = sum(one.events for one in sent) / (time.perf_counter() - began)
    time.sleep(1)  # what is not folded yet does not belong to the next round
    return rate


def measure(url: str, systems: list[int], rate: float, options: argparse.Namespace) -> Round:
    """One round at `rate` events a second."""
    every_s = options.batch * EMITTERS * CONNECTIONS / rate
    batches = max(1, round(options.seconds / every_s)) * CONNECTIONS
    emitters = Emitters(plans(url, systems, batches, options.batch, every_s))
    probe = Probe(url)
    began = time.perf_counter()
    emitters.start()
    delays_ms = sorted(probe.until(began + options.seconds))
    sent = emitters.finish()
    seconds = time.perf_counter() - began
    p99 = delays_ms[math.ceil(0.99 * len(delays_ms)) - 1]
    return Round(sum(one.events for one in sent) / seconds, statistics.median(delays_ms), p99, len(delays_ms))


class Probe:
    """One system of its own, one event after the other, each followed until it counts."""

    def __init__(self, url: str) -> None:
        self._system = _target.register(url)
        self._http = http.client.HTTPConnection(*_target.address_of(url), timeout=30)
        self._total = 0

    def until(self, end: float) -> list[float]:
        """Delays in milliseconds."""
        delays = []
        while time.perf_counter() < end:
            delays.append(self._delay_s() * 1e3)
            time.sleep(PROBE_EVERY_S)
        return delays

    def _delay_s(self) -> float:
        self._ask("POST", f"/systems/{self._system}/events", EVENT)
        self._total += 1
        began = time.perf_counter()
        while self._ask("GET", f"/systems/{self._system}/health")["total"] < self._total:
            if time.perf_counter() - began > WITHIN_S:
                raise SystemExit(f"an event was not visible within {WITHIN_S:.0f} s")
            time.sleep(POLL_S)
        return time.perf_counter() - began

    def _ask(self, method: str, path: str, body: str | None = None) -> _target.Json:
        self._http.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        read = dict(json.load(answer))
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} was answered with {answer.status}: {read}")
        return read


def report(rounds: dict[float, list[Round]], highest: float, options: argparse.Namespace) -> None:
    """The table for people: medians over the rounds, and their spread in brackets."""
    print(f"{options.rounds} rounds of {options.seconds:g} s at each share of {highest:,.0f} events/s\n")
    rows = [
        [
            f"{share:.0%}",
            _rates.Rounds.of([one.rate for one in some]).text(),
            _rates.Rounds.of([one.p50_ms for one in some]).text(1),
            _rates.Rounds.of([one.p99_ms for one in some]).text(1),
        ]
        for share, some in rounds.items()
    ]
    print(_rates.table(["load", "events/s", "202 to visible, p50 ms", "p99 ms"], rows))


if __name__ == "__main__":
    main()
