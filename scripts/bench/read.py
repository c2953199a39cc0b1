"""How fast /systems/{id}/health is read, against a bare Litestar JSON route on the same kind of server.

    python scripts/bench/read.py [--url http://127.0.0.1:8000] [--rounds 7] [--seconds 4] [--json results.json]

Without --url it starts an LSO of its own. The bare route runs beside it: uvicorn, uvloop and httptools with the same
settings and the same number of processes. Each round reads the bare route, the health of a system with 10 events in its
window, and that of one with 1,000,000, one after the other; the order changes from round to round. A round's ratio is
that of its own three figures, so that a machine which others use as well spoils all three alike.
"""

import argparse
import os
import random
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _bare, _rates, _readers, _target
from scripts.bench._emitters import batch

BATCH = 10_000


class Case(NamedTuple):
    """Something that is read."""

    name: str
    url: str


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    given = ["--api-processes", str(options.processes), *options.service.split()]
    with _target.service(options.url, given) as url, _bare.running(options.processes) as bare:
        cases = [Case("bare route", bare + _bare.PATH)]
        cases += [
            Case(f"health, {events:,} events", f"{url}/systems/{filled(url, events)}/health")
            for events in (10, options.events)
        ]
        rounds = [measure(cases, number, options) for number in range(options.rounds + 1)][1:]
    rates = {case.name: _rates.Rounds.of([one[case.name] for one in rounds]) for case in cases}
    ratios = {
        case.name: _rates.Rounds.of([one[case.name] / one[cases[0].name] for one in rounds]) for case in cases[1:]
    }
    report(rates, ratios, options)
    result = {
        "bench": "read",
        "machine": machine,
        "options": vars(options),
        "tool": _readers.tool(),
        "rounds": rounds,
        "rates": {name: one._asdict() for name, one in rates.items()},
        "ratios": {name: one._asdict() for name, one in ratios.items()},
    }
    _rates.write_json(options.json, result)
    if options.floor and min(one.median for one in ratios.values()) < options.floor:
        raise SystemExit(f"below the floor of {options.floor} of the bare route")


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description="health answers a second against a bare route")
    parser.add_argument("--url", help="a running service; say with --processes how many API processes it has")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--processes", type=int, default=cores, help="server processes of either side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="for each of the three in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--events", type=int, default=1_000_000, help="in the larger window")
    parser.add_argument("--floor", type=float, default=0.0, help="fail where the ratio is smaller")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def filled(url: str, events: int) -> int:
    """A system with so many events in its window, all of them counted; its id."""
    system_id = _target.register(url)
    dice = random.Random(events)
    for at in range(0, events, BATCH):
        _target.post(f"{url}/systems/{system_id}/events", batch(system_id, min(BATCH, events - at), dice))
    _target.wait_for(lambda: _target.total_of(url, system_id) == events, 120)
    return system_id


def measure(cases: list[Case], number: int, options: argparse.Namespace) -> dict[str, float]:
    """One round, beginning with another case each time."""
    turn = number % len(cases)
    return {
        case.name: _readers.rate(case.url, options.seconds, options.connections)
        for case in (*cases[turn:], *cases[:turn])
    }


def report(rates: dict[str, _rates.Rounds], ratios: dict[str, _rates.Rounds], options: argparse.Namespace) -> None:
    """The table for people: medians, and the spread over the rounds in brackets."""
    print(
        f"{options.rounds} rounds of {options.seconds} s each, {options.connections} connections, "
        f"{options.processes} server processes, load by {_readers.tool()}\n"
    )
    rows = [[name, one.text(), ratios[name].text(2) if name in ratios else "1"] for name, one in rates.items()]
    print(_rates.table(["answer", "requests/s, median (least to most)", "of the bare route"], rows))


if __name__ == "__main__":
    main()
