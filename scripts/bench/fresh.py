"""How soon after its 202 an event is visible in /health, at shares of the highest rate.

    python scripts/bench/fresh.py [--rounds 3] [--seconds 8] [--shares 0.1 0.5 0.9] [--ceiling-p50 50] [--ceiling-p99 250]
        [--json results.json] [--url http://127.0.0.1:8000]

Without --url it starts an LSO of its own. First two loads without pauses find the rate that is accepted and visible on this
machine. Then, at each share of it, batches come at an even pace while a probe posts single events to a system of its own
and reads that system's health again and again until the event counts: that time, from the answer to the POST on, is shown.
Beside it stands the time that the probe's reads take themselves, without which no event can be seen.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _load, _rates, _target
from scripts.bench._requests import Prepared, prepare

SYSTEMS = 10
PREPARED = 64
HALF = 0.5
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
    read_p50_ms: float
    probes: int


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    with _target.service(options.url, options.service.split()) as lso, tempfile.TemporaryDirectory() as folder:
        places = [(one, _target.events_path(one)) for one in (_target.register(lso.url) for _ in range(SYSTEMS))]
        prepared = prepare(Path(folder), "json", places, options.batch, PREPARED)
        highest = statistics.median(rate_of(lso.url, prepared) for _ in range(3))
        rounds: dict[float, list[Round]] = {share: [] for share in options.shares}
        for _ in range(options.rounds):
            for share in options.shares:
                rounds[share].append(measure(lso.url, prepared, share * highest, options.seconds))
    print(shown(rounds, highest, options))
    result = {
        "bench": "fresh",
        "machine": machine,
        "tool": _load.tool(),
        "options": vars(options),
        "highest": highest,
        "rounds": {str(share): [one._asdict() for one in some] for share, some in rounds.items()},
    }
    _rates.write_json(options.json, result)
    if HALF in rounds:
        half = rounds[HALF]
        _rates.check_ceiling(
            "p50 at half load, ms,", statistics.median(one.p50_ms for one in half), options.ceiling_p50
        )
        _rates.check_ceiling(
            "p99 at half load, ms,", statistics.median(one.p99_ms for one in half), options.ceiling_p99
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="time from 202 to visible in /health")
    parser.add_argument("--url", help="a running service; without it one is started")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of each share in a round")
    parser.add_argument("--batch", type=int, default=1_000, help="events a batch")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, HALF, 0.9], help="of the highest rate")
    parser.add_argument("--ceiling-p50", type=float, default=0.0, help="fail where p50 at half load, in ms, is larger")
    parser.add_argument("--ceiling-p99", type=float, default=0.0, help="the same for p99")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def rate_of(url: str, prepared: Prepared) -> float:
    """Events a second that are accepted and visible when nobody waits."""
    load = _load.send(url, prepared, 3)
    return load.taken * prepared.events / (_target.wait_until_folded(url) - load.began)


def measure(url: str, prepared: Prepared, rate: float, seconds: float) -> Round:
    """One round at `rate` events a second."""
    _target.wait_until_folded(url)
    probe = Probe(url)
    load = _load.Background(url, prepared, seconds, rate=rate / prepared.events)
    delays_ms = sorted(probe.until(time.monotonic() + seconds))
    sent = load.wait()
    return Round(
        sent.taken * prepared.events / sent.seconds,
        statistics.median(delays_ms),
        _load.rank(delays_ms, 0.99),
        statistics.median(probe.reads_ms),
        len(delays_ms),
    )


class Probe:
    """One system of its own, one event after the other, each followed until it counts."""

    def __init__(self, url: str) -> None:
        self.reads_ms: list[float] = []
        self._system = _target.register(url)
        self._http = http.client.HTTPConnection(*_target.address_of(url), timeout=30)
        self._total = 0

    def until(self, end: float) -> list[float]:
        """Delays in milliseconds."""
        delays = []
        while time.monotonic() < end:
            delays.append(self._delay_s() * 1e3)
            time.sleep(PROBE_EVERY_S)
        return delays

    def _delay_s(self) -> float:
        self._ask("POST", f"/systems/{self._system}/events", EVENT)
        self._total += 1
        began = time.monotonic()
        while not self._is_visible():
            if time.monotonic() - began > WITHIN_S:
                raise SystemExit(f"an event was not visible within {WITHIN_S:.0f} s")
            time.sleep(POLL_S)
        return time.monotonic() - began

    def _is_visible(self) -> bool:
        began = time.monotonic()
        total = self._ask("GET", f"/systems/{self._system}/health")["total"]
        self.reads_ms.append((time.monotonic() - began) * 1e3)
        return bool(total >= self._total)

    def _ask(self, method: str, path: str, body: str | None = None) -> _target.Json:
        self._http.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        read = dict(json.load(answer))
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} was answered with {answer.status}: {read}")
        return read


def shown(rounds: dict[float, list[Round]], highest: float, options: argparse.Namespace) -> str:
    """The table for people: medians over the rounds, and their spread in brackets."""
    rows = [
        [
            f"{share:.0%}",
            _rates.Rounds.of([one.rate for one in some]).text(),
            _rates.Rounds.of([one.p50_ms for one in some]).text(1),
            _rates.Rounds.of([one.p99_ms for one in some]).text(1),
            _rates.Rounds.of([one.read_p50_ms for one in some]).text(1),
        ]
        for share, some in rounds.items()
    ]
    title = (
        f"{options.rounds} rounds of {options.seconds:g} s at each share of {highest:,.0f} events/s, batches of "
        f"{options.batch:,}, load by {_load.tool()}\n\n"
    )
    return title + _rates.table(["load", "events/s", "202 to visible, p50 ms", "p99 ms", "a read alone, p50 ms"], rows)


if __name__ == "__main__":
    main()
