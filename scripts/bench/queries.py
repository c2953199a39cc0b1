"""What history, archive and people who ask for them cost the ingest.

    python scripts/bench/queries.py [--rounds 5] [--seconds 4] [--clients 16] [--history 5000000] [--systems 20] [--days 30]
        [--floor 0.9] [--json results.json]

Two LSOs: one with LSO_ARCHIVE=off, and one that archives and whose archive holds a history of `--history` events over
`--systems` systems and `--days` days. In every round both in turn are sent batches of 1,000 for some seconds, as by
`ingest.py`; the second also while `--clients` clients ask it for series, histograms, objectives, events and runs of random
systems and spans, one question after another. Told are events a second until all of them are in /health, the ratios within a
round, CPU time without that of the processes that compute answers, how long the questions took, and the most memory that a
process took that serves or computes them.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lso_core.archive.layout import DAY_MS
from lso_core.model import times
from lso_core.store.embedded import socket_path
from scripts.bench import _cpu, _load, _rates, _target
from scripts.bench.archive import Task, make, mark
from scripts.bench.ingest import bodies
from scripts.bench.ingest import taken_by_lso as taken

HOUR_MS: Final = 3_600_000
SPANS_H: Final = (1, 6, 24, 24 * 7, 24 * 30)
INGESTED: Final = 10
WARM_S: Final = 12
"""The archive's job has its turn within that."""


class Asked(NamedTuple):
    """What came of the questions during one load."""

    seconds: list[float]
    refused: int
    most_mb: float


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    with (
        _target.data_folder() as folder,
        _target.service(None, environ={"LSO_ARCHIVE": "off"}) as bare,
        with_history(Path(folder), options) as whole,
        tempfile.TemporaryDirectory(prefix="lso-bench-") as requests,
    ):
        rounds = measured(bare, whole, Path(requests), options)
    print(f"{options.rounds} rounds of {options.seconds} s each, {options.clients} clients that ask\n")
    print(shown(rounds))
    _rates.write_json(
        options.json, {"bench": "queries", "machine": machine, "options": vars(options), "rounds": rounds}
    )
    for what in ("whole", "asked"):
        _rates.check_floor(f"the ratio of {what}", ratio(rounds, what).median, options.floor)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="what history and its readers cost the ingest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=_load.CONNECTIONS)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--history", type=int, default=5_000_000, help="events of it")
    parser.add_argument("--systems", type=int, default=20)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--floor", type=float, default=0.0, help="fail where a ratio is smaller")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


@contextlib.contextmanager
def with_history(folder: Path, options: argparse.Namespace) -> Iterator[_target.Service]:
    """A service on an archive that was made before it."""
    end_ms = int(time.time() * 1_000) // DAY_MS * DAY_MS
    a_day = options.history // options.systems // options.days
    for one in range(1, options.systems + 1):
        make(Task(str(folder / "data" / "archive"), one, end_ms - options.days * DAY_MS, options.days, a_day))
    with _target.up(str(folder)) as service:
        for _ in range(options.systems):
            _target.register(service.url)
        asyncio.run(mark(socket_path((folder / "data").absolute()), options.systems, end_ms))
        yield service


def measured(
    bare: _target.Service, whole: _target.Service, folder: Path, options: argparse.Namespace
) -> list[_rates.Json]:
    """All rounds; the first is not counted."""
    places = {service.url: [_target.register(service.url) for _ in range(INGESTED)] for service in (bare, whole)}
    sent = {}
    for number, (url, systems) in enumerate(places.items()):
        own = folder / str(number)
        own.mkdir()
        sent[url] = bodies(own, "json", [(one, _target.events_path(one)) for one in systems], 1_000)
    rounds = []
    for number in range(options.rounds + 1):
        done: _rates.Json = {}
        order = ["bare", "whole", "asked"]
        for name in order[number % 3 :] + order[: number % 3]:
            service = bare if name == "bare" else whole
            _cpu.settle([bare.pid, whole.pid])
            with asking(whole, options) if name == "asked" else contextlib.nullcontext() as questions:
                done[name] = taken(service, places[service.url], sent[service.url], options)._asdict()
            if questions is not None:
                done["questions"] = questions.result()._asdict()
        rounds.append(done)
        if not number:
            time.sleep(WARM_S)
    return rounds[1:]


class Questions:
    """Clients that ask, each one question after another, until told to stop."""

    def __init__(self, service: _target.Service, options: argparse.Namespace) -> None:
        self._url = service.url
        self._options = options
        self._ending = threading.Event()
        self._seconds: list[float] = []
        self._refused = 0
        self._most = 0
        answering = (one for one in _cpu.family(service.pid) if _cpu.role_of(one) in {"api", "aside"})
        self._answering = [psutil.Process(one) for one in answering]
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(options.clients)]

    def start(self) -> None:
        """Begin."""
        for thread in (*self._threads, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    def stop(self) -> None:
        """Wait until the last answer is there."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def result(self) -> Asked:
        """What came of it."""
        return Asked(self._seconds, self._refused, self._most / 1e6)

    def _watch(self) -> None:
        while not self._ending.wait(0.2):
            self._most = max(self._most, *(one.memory_info().rss for one in self._answering))

    def _ask(self, number: int) -> None:
        dice = random.Random(number)
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                _target.text(self._url + question(dice, self._options.systems))
            except urllib.error.HTTPError as error:
                if error.code not in {429, 503}:
                    raise
                self._refused += 1
                time.sleep(1)
                continue
            self._seconds.append(time.monotonic() - began)


@contextlib.contextmanager
def asking(service: _target.Service, options: argparse.Namespace) -> Iterator[Questions]:
    """Questions for as long as the block lasts."""
    questions = Questions(service, options)
    questions.start()
    try:
        yield questions
    finally:
        questions.stop()


def question(dice: random.Random, systems: int) -> str:
    """Path and query of a question that a dashboard or a person may have."""
    hours = dice.choice(SPANS_H)
    to_ms = int(time.time() * 1_000) // HOUR_MS * HOUR_MS
    span = {"from": times.to_text(to_ms - hours * HOUR_MS), "to": times.to_text(to_ms)}
    system = dice.randint(1, systems)
    step = str(60 if hours <= 6 else 3_600)
    some = ",".join(map(str, dice.sample(range(1, systems + 1), min(10, systems))))
    path, query = dice.choice(
        (
            (f"/systems/{system}/series", {**span, "metric": "p50,p95,p99,error_rate", "step": step}),
            (f"/systems/{system}/series", {**span, "metric": "p95", "step": step, "by": "stage"}),
            ("/series", {**span, "systems": some, "metric": "p95", "step": "3600"}),
            (f"/systems/{system}/histogram", span),
            (f"/systems/{system}/slo", {"objective": "99.5", "latency_ms": "2000", "window": f"{hours}h"}),
            (f"/systems/{systems + dice.randint(1, INGESTED)}/events", {"limit": "100"}),
            (f"/systems/{system}/runs", {"limit": "50"}),
        )
    )
    return f"{path}?{urllib.parse.urlencode(query)}"


def ratio(rounds: list[_rates.Json], what: str) -> _rates.Rounds:
    """All of it on to archive off, or asked to all of it on, in each round."""
    base = "bare" if what == "whole" else "whole"
    return _rates.Rounds.of([one[what]["visible"] / one[base]["visible"] for one in rounds])


def shown(rounds: list[_rates.Json]) -> str:
    """The table for people."""
    names = {"bare": "archive off", "whole": "everything on", "asked": "everything on, and asked"}
    rows: list[list[Any]] = []
    for name, title in names.items():
        visible = _rates.Rounds.of([one[name]["visible"] for one in rounds])
        cpu = _rates.Rounds.of(
            [sum(used for role, used in one[name]["cpu_us"].items() if role != "aside") for one in rounds]
        )
        rows.append([title, visible.text(), "" if name == "bare" else ratio(rounds, name).text(2), cpu.text(2)])
    took = sorted(second for one in rounds for second in one["questions"]["seconds"])
    refused = sum(one["questions"]["refused"] for one in rounds)
    most = max(one["questions"]["most_mb"] for one in rounds)
    about = (
        f"\n{len(took):,} questions were answered, p50 {took[len(took) // 2]:.2f} s, p99 {took[int(len(took) * 0.99)]:.2f} s; "
        f"{refused} were refused; an API process, or the one that computes for it, took {most:.0f} MB at most."
        if took
        else "\nNo question was answered."
    )
    return _rates.table(["ingest", "events/s visible", "of the one before", "CPU µs an event"], rows) + about


if __name__ == "__main__":
    main()
