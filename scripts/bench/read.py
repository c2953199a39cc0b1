"""How fast /systems/{id}/health is read, against a bare Litestar JSON route and against the peers' p95 query.

    python scripts/bench/read.py [--rounds 5] [--seconds 3] [--events 10 100000 10000000] [--peers VictoriaMetrics …]
        [--floor 0.65] [--flat-p50 1.05] [--flat-p99 1.3] [--json results.json] [--url http://127.0.0.1:8000]

Without --url it starts an LSO of its own. The bare route runs beside it: uvicorn, uvloop and httptools with the same
settings and the same number of processes. Each round reads the bare route, the health of systems with so many events in
their windows, and of each peer the 95th percentile over 100,000 events, one after the other when all
others are at rest; the order changes from round to round. A ratio is that of one round, so that a machine which others use
as well spoils all alike. One round before the first is not counted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _bare, _cpu, _load, _peers, _rates, _readers, _target
from scripts.bench._peers import Peer
from scripts.bench._requests import prepare
from scripts.bench._target import Service

BATCH = 10_000
BARE = "bare route"
PEERS_EVENTS = 100_000
PEERS_CONNECTIONS = 4
"""They compute each answer, on all cores at once; more would only wait."""
DISTINCT = 8
"""So many batches are prepared, and sent again with other run ids."""


class Case(NamedTuple):
    """Something that is read."""

    name: str
    url: str
    pids: Sequence[int | None]
    """Of the service that answers."""
    connections: int | None = None
    """Where it must be others than were asked for."""


class Answered(NamedTuple):
    """What one case came to in one round."""

    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Processor time of the service for an answer."""


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    given = ["--api-processes", str(options.processes), *options.service.split()]
    with (
        _target.service(options.url, given) as lso,
        _bare.running(options.processes) as (bare, bare_pids),
        _peers.running(options.peers) as peers,
    ):
        cases = [Case(BARE, bare + _bare.PATH, bare_pids), *(filled(lso, events) for events in options.events)]
        theirs = max((one for one in options.events if one <= PEERS_EVENTS), default=min(options.events))
        cases += [peer_filled(peer, theirs) for peer in peers]
        everybody = [lso.pid, *bare_pids, *(peer.pid for peer in peers)]
        rounds = [one_round(cases, everybody, number, options) for number in range(options.rounds + 1)][1:]
    print(shown(rounds, options))
    print("\n" + flat_text(rounds, options))
    result = {
        "bench": "read",
        "machine": machine,
        "tool": _load.tool(),
        "options": vars(options),
        "rounds": [{name: one._asdict() for name, one in some.items()} for some in rounds],
    }
    _rates.write_json(options.json, result)
    check(rounds, options)


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description="health answers a second against a bare route")
    parser.add_argument("--url", help="a running service; say with --processes how many API processes it has")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--processes", type=int, default=cores, help="server processes of LSO's API and the bare route")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="for each case in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--events", type=int, nargs="+", default=[10, 100_000, 10_000_000], help="in the windows")
    parser.add_argument("--peers", nargs="*", choices=_peers.NAMES, default=_peers.NAMES, help="none: LSO alone")
    parser.add_argument("--floor", type=float, default=0.0, help="fail where the ratio to the bare route is smaller")
    parser.add_argument(
        "--flat-p50", type=float, default=0.0, help="fail where the most events cost more in the median"
    )
    parser.add_argument("--flat-p99", type=float, default=0.0, help="the same for the 99th percentile")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def filled(lso: Service, events: int) -> Case:
    """A system of LSO with so many events in its window, all of them counted."""
    url = lso.url
    system_id = _target.register(url)
    fill(url, "arrow", system_id, _target.events_path(system_id), events)
    _target.wait_until_folded(url)
    if (total := _target.total_of(url, system_id)) != events:
        raise SystemExit(f"{events} events were accepted, but /health counts {total}")
    return Case(name_of(events), f"{url}/systems/{system_id}/health", [lso.pid])


def name_of(events: int) -> str:
    """The case of a system with so many events."""
    return f"health, {events:,} events"


def peer_filled(peer: Peer, events: int) -> Case:
    """A system of a peer with so many events."""
    fill(peer.url, peer.kind, events, peer.events_path(events), events)
    if peer.flush_path:
        _target.text(peer.url + peer.flush_path)
    url = peer.url + peer.p95_path(events)
    if '"result":[]' in (answer := _target.text(url)):
        raise SystemExit(f"{peer.name} knows nothing of what it took: {answer}")
    return Case(f"{peer.name}, p95 of {events:,} events", url, [peer.pid], PEERS_CONNECTIONS)


def fill(url: str, kind: str, system_id: int, path: str, events: int) -> None:
    """Send so many events to a system, in the fewest batches that there can be."""
    batch = min(BATCH, events)
    with _target.data_folder() as folder:
        prepared = prepare(Path(folder), kind, [(system_id, path)], batch, min(DISTINCT, events // batch))
        _load.send_each(url, prepared, events // batch)


def one_round(
    cases: list[Case], everybody: Sequence[int | None], number: int, options: argparse.Namespace
) -> dict[str, Answered]:
    """Each case once, beginning with another each time."""
    turn = number % len(cases)
    done = {}
    for case in (*cases[turn:], *cases[:turn]):
        _cpu.settle(everybody)
        done[case.name] = answered(case, options)
    return {case.name: done[case.name] for case in cases}


def answered(case: Case, options: argparse.Namespace) -> Answered:
    """Read one case for a while."""
    meters = [_cpu.Meter(pid) for pid in case.pids]
    found = _readers.read(case.url, options.seconds, case.connections or options.connections)
    used_s = sum(sum(meter.seconds().values()) for meter in meters)
    return Answered(*found, cpu_us=used_s / max(1.0, found.rate * options.seconds) * 1e6)


def ratio(rounds: list[dict[str, Answered]], name: str, to: str, figure: str = "rate") -> _rates.Rounds:
    """A figure of one case to that of another, over the rounds."""
    return _rates.Rounds.of([getattr(one[name], figure) / getattr(one[to], figure) for one in rounds])


def shown(rounds: list[dict[str, Answered]], options: argparse.Namespace) -> str:
    """The table for people: medians, and the spread over the rounds in brackets."""
    rows = [
        [
            name,
            _rates.Rounds.of([one[name].rate for one in rounds]).text(),
            "1" if name == BARE else ratio(rounds, name, BARE).text(2),
            _rates.Rounds.of([one[name].p50_ms for one in rounds]).text(2),
            _rates.Rounds.of([one[name].p99_ms for one in rounds]).text(2),
            _rates.Rounds.of([one[name].cpu_us for one in rounds]).text(),
        ]
        for name in rounds[0]
    ]
    title = (
        f"{options.rounds} rounds of {options.seconds} s each, {options.connections} connections ({PEERS_CONNECTIONS} to "
        f"the peers), {options.processes} server processes, load by {_load.tool()}\n\n"
    )
    return title + _rates.table(
        ["answer", "requests/s", "of the bare route", "p50 ms", "p99 ms", "CPU µs an answer"], rows
    )


def flat(rounds: list[dict[str, Answered]], options: argparse.Namespace) -> tuple[_rates.Rounds, _rates.Rounds]:
    """Median and 99th percentile at the most events, to those at the fewest."""
    few, many = name_of(min(options.events)), name_of(max(options.events))
    return ratio(rounds, many, few, "p50_ms"), ratio(rounds, many, few, "p99_ms")


def flat_text(rounds: list[dict[str, Answered]], options: argparse.Namespace) -> str:
    """The same in a sentence."""
    p50, p99 = flat(rounds, options)
    return f"Time of an answer at {max(options.events):,} events to that at {min(options.events):,}: p50 {p50.text(3)}, p99 {p99.text(3)}"


def check(rounds: list[dict[str, Answered]], options: argparse.Namespace) -> None:
    """End with a failure where a bound that was asked for is not kept."""
    slowest = min(ratio(rounds, name_of(events), BARE).median for events in options.events)
    _rates.check_floor("the ratio to the bare route", slowest, options.floor)
    p50, p99 = flat(rounds, options)
    _rates.check_ceiling("p50 at the most events to that at the fewest", p50.median, options.flat_p50)
    _rates.check_ceiling("p99 at the most events to that at the fewest", p99.median, options.flat_p99)


if __name__ == "__main__":
    main()
