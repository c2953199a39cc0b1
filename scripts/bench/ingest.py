"""How many events a second LSO accepts and shows in /health, against services that take the same events, on one machine.

    python scripts/bench/ingest.py [--rounds 5] [--seconds 3] [--batch 1000 …] [--format json ndjson arrow]
        [--systems 10 …] [--peers VictoriaMetrics …] [--floor 0.6] [--json results.json] [--url http://127.0.0.1:8000]

Without --url it starts an LSO of its own, with its embedded server, in a temporary directory, and each peer that is
installed beside it. For every batch size and number of systems, rounds: each service in turn, when all others are at rest,
is sent prepared requests for some seconds, on 16 connections and with no pause. All fields of an event are filled, every POST to LSO has an
Idempotency-Key, and no body is sent twice. LSO's clock for `visible` stops when all that was accepted is in /health, and
each round checks that not one event is missing or counted twice; for the peers only what they accept is counted. Ratios are
those of one round, to what VictoriaMetrics accepts. One round before the first is not counted.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _cpu, _load, _peers, _rates, _target
from scripts.bench._peers import Peer
from scripts.bench._requests import KINDS, Prepared, prepare
from scripts.bench._target import Service

PREPARED_EVENTS = 64_000
PREPARED_REQUESTS = 16, 20_000


class Taken(NamedTuple):
    """What one service did in one round. Rates are events a second."""

    accepted: float
    """Until the end of the load."""
    visible: float
    """Until /health showed them all; for a peer the same as accepted."""
    cpu_us: dict[str, float]
    """Processor time an event, by role of process."""
    post_p50_ms: float
    post_p99_ms: float
    refused: int


class Contestant(NamedTuple):
    """A service with what it is sent."""

    name: str
    take: Callable[[], Taken]


def main() -> None:
    """Measure, print a table for each batch size and number of systems, keep every round."""
    options = parse()
    machine = _rates.machine()
    cells = []
    with _target.service(options.url, options.service.split()) as lso, _peers.running(options.peers) as peers:
        for count in options.systems:
            systems = [_target.register(lso.url) for _ in range(count)]
            for batch in options.batch:
                cells.append(measured(lso, peers, systems, batch, options))
                print(shown(cells[-1], options), flush=True)
    result = {"bench": "ingest", "machine": machine, "tool": _load.tool(), "options": vars(options), "cells": cells}
    _rates.write_json(options.json, result)
    ratios = [ratio for cell in cells for name, ratio in ratios_of(cell).items() if name.startswith("LSO")]
    _rates.check_floor("the ratio to VictoriaMetrics", min((one.median for one in ratios), default=0.0), options.floor)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="events a second, accepted and visible in /health")
    parser.add_argument("--url", help="a running service; without it one is started")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load for each service in a round")
    parser.add_argument("--batch", type=int, nargs="+", default=[1_000], help="events a request")
    parser.add_argument("--format", nargs="+", choices=[*KINDS][:3], default=["json"], help="how LSO's are written")
    parser.add_argument("--systems", type=int, nargs="+", default=[10])
    parser.add_argument("--connections", type=int, default=_load.CONNECTIONS)
    parser.add_argument("--peers", nargs="*", choices=_peers.NAMES, default=_peers.NAMES, help="none: LSO alone")
    parser.add_argument("--floor", type=float, default=0.0, help="fail where LSO's ratio to VictoriaMetrics is smaller")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def measured(
    lso: Service, peers: Sequence[Peer], systems: list[int], batch: int, options: argparse.Namespace
) -> _rates.Json:
    """All rounds at one batch size and number of systems."""
    with tempfile.TemporaryDirectory(prefix="lso-bench-") as folder:
        contestants = [lso_with(lso, systems, batch, kind, Path(folder), options) for kind in options.format]
        contestants += [peer_with(peer, systems, batch, Path(folder), options) for peer in peers]
        everybody = [lso.pid, *(peer.pid for peer in peers)]
        rounds = [one_round(contestants, everybody, number) for number in range(options.rounds + 1)][1:]
    return {
        "batch": batch,
        "systems": len(systems),
        "rounds": [{name: taken._asdict() for name, taken in one.items()} for one in rounds],
    }


def one_round(contestants: list[Contestant], everybody: Sequence[int | None], number: int) -> dict[str, Taken]:
    """Each contestant once, beginning with another each time."""
    turn = number % len(contestants)
    done = {}
    for one in (*contestants[turn:], *contestants[:turn]):
        _cpu.settle(everybody)
        done[one.name] = one.take()
    return {one.name: done[one.name] for one in contestants}


def lso_with(
    lso: Service, systems: list[int], batch: int, kind: str, folder: Path, options: argparse.Namespace
) -> Contestant:
    """LSO, taking batches of this kind."""
    requests = bodies(folder, kind, [(one, _target.events_path(one)) for one in systems], batch)
    return Contestant(f"LSO, {kind}", lambda: taken_by_lso(lso, systems, requests, options))


def taken_by_lso(lso: Service, systems: list[int], prepared: Prepared, options: argparse.Namespace) -> Taken:
    """What an LSO does with one load. Ends the program where an event is missing, or counted twice."""
    before, meter = _target.totals(lso.url, systems), _cpu.Meter(lso.pid)
    load = _load.send(lso.url, prepared, options.seconds, options.connections)
    visible_s = _target.wait_until_folded(lso.url) - load.began
    used = meter.seconds()
    counted = _target.totals(lso.url, systems) - before
    # Of the requests that were under way when the load ended nobody heard what became of them. In no rate they count, of LSO
    # as of the peers; but they cost.
    surely, at_most = load.taken * prepared.events, (load.taken + options.connections) * prepared.events
    if not surely <= counted <= at_most:
        raise SystemExit(f"{surely} to {at_most} events were accepted, but /health counts {counted} more than before")
    return _taken(load, prepared, used, visible=surely / visible_s, counted=counted)


def peer_with(peer: Peer, systems: list[int], batch: int, folder: Path, options: argparse.Namespace) -> Contestant:
    """A peer, taking the same events."""
    requests = bodies(folder, peer.kind, [(one, peer.events_path(one)) for one in systems], batch)

    def take() -> Taken:
        meter = _cpu.Meter(peer.pid)
        load = _load.send(peer.url, requests, options.seconds, options.connections)
        accepted = load.taken * batch
        return _taken(load, requests, meter.seconds(), visible=accepted / load.seconds, counted=accepted)

    return Contestant(peer.name, take)


def bodies(folder: Path, kind: str, places: list[tuple[int, str]], batch: int) -> Prepared:
    """Requests with enough different bodies."""
    least, most = PREPARED_REQUESTS
    return prepare(folder, kind, places, batch, max(len(places), least, min(most, PREPARED_EVENTS // batch)))


def _taken(load: _load.Load, prepared: Prepared, used: dict[str, float], *, visible: float, counted: int) -> Taken:
    return Taken(
        accepted=load.taken * prepared.events / load.seconds,
        visible=visible,
        cpu_us={role: seconds / counted * 1e6 for role, seconds in used.items() if seconds},
        post_p50_ms=load.p50_ms,
        post_p99_ms=load.p99_ms,
        refused=load.refused,
    )


def ratios_of(cell: _rates.Json) -> dict[str, _rates.Rounds]:
    """What each service shows or accepts of what VictoriaMetrics accepts in the same round; none without it."""
    rounds = [one for one in cell["rounds"] if _peers.VICTORIA in one]
    if not rounds:
        return {}
    return {
        name: _rates.Rounds.of([one[name]["visible"] / one[_peers.VICTORIA]["accepted"] for one in rounds])
        for name in rounds[0]
        if name != _peers.VICTORIA
    }


def shown(cell: _rates.Json, options: argparse.Namespace) -> str:
    """The table for people: medians, and the spread over the rounds in brackets."""
    head = ["service", "events/s accepted", "events/s visible", f"of {_peers.VICTORIA}", "CPU µs an event"]
    rows, ratios = [], ratios_of(cell)
    for name in cell["rounds"][0]:
        some = [one[name] for one in cell["rounds"]]
        costs = _rates.Rounds.of([sum(one["cpu_us"].values()) for one in some])
        rows.append(
            [
                name,
                _rates.Rounds.of([one["accepted"] for one in some]).text(),
                _rates.Rounds.of([one["visible"] for one in some]).text() if name.startswith("LSO") else "",
                ratios[name].text(2) if name in ratios else "",
                costs.text(2),
                _rates.Rounds.of([one["post_p50_ms"] for one in some]).text(1),
                _rates.Rounds.of([one["post_p99_ms"] for one in some]).text(1),
                f"{sum(one['refused'] for one in some)}",
            ]
        )
    title = (
        f"\nBatches of {cell['batch']:,}, {cell['systems']:,} systems; {options.rounds} rounds of {options.seconds} s for "
        f"each, {options.connections} connections, load by {_load.tool()}\n\n"
    )
    return title + _rates.table([*head, "POST p50 ms", "p99 ms", "503s"], rows)


if __name__ == "__main__":
    main()
