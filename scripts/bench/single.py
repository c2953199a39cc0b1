"""How many POSTs of one event LSO takes a second, against a bare Litestar route that takes the same JSON.

    python scripts/bench/single.py [--rounds 5] [--seconds 3] [--floor 0.6] [--json results.json] [--url http://127.0.0.1:8000]

Without --url it starts an LSO of its own. The bare route runs beside it: uvicorn, uvloop and httptools with the same
settings and the same number of processes; it decodes the body, counts, and forgets. Each round sends the same prepared
requests to both, in turns, when the other is at rest; the ratio is that of one round, and that of what LSO had accepted *and*
shown in /health at the end is told beside it. One round before the first is not counted.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _bare, _cpu, _load, _rates, _target
from scripts.bench._requests import Prepared, prepare
from scripts.bench._target import Service

SYSTEMS = 10
PREPARED = 20_000


class Round(NamedTuple):
    """Requests a second of either side, and what else a round shows."""

    bare: float
    accepted: float
    visible: float
    bare_p50_ms: float
    p50_ms: float
    bare_p99_ms: float
    p99_ms: float
    bare_cpu_us: float
    """Processor time a request."""
    cpu_us: float


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    given = ["--api-processes", str(options.processes), *options.service.split()]
    with (
        _target.service(options.url, given) as lso,
        _bare.running(options.processes) as (bare, bare_pids),
        tempfile.TemporaryDirectory(prefix="lso-bench-") as folder,
    ):
        systems = [_target.register(lso.url) for _ in range(SYSTEMS)]
        places = [(one, _target.events_path(one)) for one in systems]
        ours = prepare(Path(folder), "json", places, 1, PREPARED)
        theirs = prepare(Path(folder), "json", [(one, _bare.PATH) for one in systems], 1, PREPARED)
        rounds = [
            one_round(lso, ours, bare, theirs, bare_pids, number, options) for number in range(options.rounds + 1)
        ][1:]
    columns = {name: _rates.Rounds.of([float(getattr(one, name)) for one in rounds]) for name in Round._fields}
    ratio = _rates.Rounds.of([one.accepted / one.bare for one in rounds])
    print(shown(columns, ratio, _rates.Rounds.of([one.visible / one.bare for one in rounds]), options))
    result = {
        "bench": "single",
        "machine": machine,
        "tool": _load.tool(),
        "options": vars(options),
        "rounds": [one._asdict() for one in rounds],
        "ratio": ratio._asdict(),
    }
    _rates.write_json(options.json, result)
    _rates.check_floor("the ratio to the bare route", ratio.median, options.floor)


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description="POSTs of one event a second against a bare route")
    parser.add_argument("--url", help="a running service; say with --processes how many API processes it has")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--processes", type=int, default=cores, help="server processes of either side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="for each side in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--floor", type=float, default=0.0, help="fail where the ratio is smaller")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def one_round(
    lso: Service,
    ours: Prepared,
    bare: str,
    theirs: Prepared,
    bare_pids: list[int],
    number: int,
    options: argparse.Namespace,
) -> Round:
    """Both sides once; the order changes from round to round."""
    results = {}
    for side in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
        _cpu.settle([lso.pid, *bare_pids])
        if side == "ours":
            meter = _cpu.Meter(lso.pid)
            load = _load.send(lso.url, ours, options.seconds, options.connections)
            visible = load.taken / (_target.wait_until_folded(lso.url) - load.began)
            cost_s = sum(meter.seconds().values())
        else:
            meters = [_cpu.Meter(pid) for pid in bare_pids]
            load = _load.send(bare, theirs, options.seconds, options.connections)
            visible = 0.0
            cost_s = sum(sum(meter.seconds().values()) for meter in meters)
        results[side] = load, visible, cost_s / load.taken * 1e6
    (load, visible, cost), (bare_load, _, bare_cost) = results["ours"], results["theirs"]
    return Round(
        bare_load.taken / bare_load.seconds,
        load.taken / load.seconds,
        visible,
        bare_load.p50_ms,
        load.p50_ms,
        bare_load.p99_ms,
        load.p99_ms,
        bare_cost,
        cost,
    )


def shown(
    columns: dict[str, _rates.Rounds], ratio: _rates.Rounds, visible: _rates.Rounds, options: argparse.Namespace
) -> str:
    """The table for people: medians, and the spread over the rounds in brackets."""
    rows = [
        ["bare route", *(columns[name].text(2) for name in ("bare_p50_ms", "bare_p99_ms", "bare_cpu_us"))],
        ["LSO", *(columns[name].text(2) for name in ("p50_ms", "p99_ms", "cpu_us"))],
    ]
    rows[0][1:1] = [columns["bare"].text(), "1"]
    rows[1][1:1] = [columns["accepted"].text(), f"{ratio.text(2)}; visible {visible.text(2)}"]
    title = (
        f"{options.rounds} rounds of {options.seconds} s each, {options.connections} connections, "
        f"{options.processes} server processes, load by {_load.tool()}\n\n"
    )
    head = ["POST of one event", "requests/s", "of the bare route", "p50 ms", "p99 ms", "CPU µs a request"]
    return title + _rates.table(head, rows)


if __name__ == "__main__":
    main()
