"""How fast events are archived, how small they get, and how fast months of history are read back.

    python scripts/bench/archive.py [--rounds 5] [--events 100000000 --systems 100 --days 30] [--json results.json]

First the building of Parquet files from entries as the API stores them, in CPU time of one process. Then a history of
`--events` events is made: rollups of minutes, hours and days are written as the archive's job writes them, from drawn
latencies, without posting the events one by one. Then a service is started on it and asked for a series of p95 by the
hour over all of it: of one system, and of all systems (up to a request's cap) in one request.
"""

import argparse
import asyncio
import contextlib
import math
import multiprocessing
import random
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from lso_core.archive.files import LocalFiles
from lso_core.archive.layout import DAY_MS, Kind, Period, Piece
from lso_core.archive.rollups import Numbered, rollups_file
from lso_core.archive.tables import events_file
from lso_core.compute import batches, histogram
from lso_core.compute.batches import Post
from lso_core.compute.rollups import Rollup, merge
from lso_core.compute.state import Tally
from lso_core.model import times
from lso_core.model.batches import StoredEntry
from lso_core.model.rollups import Width
from lso_core.store import keys
from lso_core.store.embedded import socket_path
from lso_core.store.server import Server
from scripts.bench import _cpu, _rates, _target
from scripts.bench._requests import as_json
from scripts.bench._requests import events as drawn

ENTRIES: Final = 200
BATCH: Final = 1_000
STAGES: Final = ("extract", "load", "transform")
MINUTES: Final = 1_440
MOST: Final = 100
"""Most systems in one request."""


class Task(NamedTuple):
    """One system's history to make."""

    folder: str
    system_id: int
    begin_ms: int
    days: int
    events_a_day: int


def main() -> None:
    """Measure, print, keep every round."""
    options = parse()
    result: dict[str, Any] = {"bench": "archive", "machine": _rates.machine(), "options": vars(options)}
    result["building"] = building(options.rounds)
    if options.events:
        with kept(options.folder) as folder:
            result["history"] = history(folder, options)
    _rates.write_json(options.json, result)


@contextlib.contextmanager
def kept(folder: str | None) -> Iterator[Path]:
    """A folder for the history, which stays where it was named."""
    if folder is not None:
        yield Path(folder)
        return
    with _target.data_folder() as made:
        yield Path(made)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="archive throughput, bytes an event, and reading history back")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000_000, help="of history; 0 leaves that part out")
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2, help="that make the history")
    parser.add_argument("--folder", help="where to make it, or where it was made before; it stays there")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def building(rounds: int) -> dict[str, Any]:
    """Events a second of CPU time, and bytes an event as stored in Redis and in the file."""
    entries = list(_entries())
    events = sum(entry.count for entry in entries)
    rates, data = [], b""
    for _ in range(rounds + 1):
        began = time.process_time()
        data = events_file(entries).data
        rates.append(events / (time.process_time() - began))
    stored = sum(len(entry.columns) + len(entry.body) for entry in entries)
    found = _rates.Rounds.of(rates[1:])
    print(
        f"building files of {events:,} events: {found.text()} events/s a core; "
        f"{len(data) / events:.1f} bytes an event on disk, {stored / events:.1f} in Redis"
    )
    return {"rates": rates[1:], "disk_bytes": len(data) / events, "redis_bytes": stored / events}


def _entries() -> Any:
    """Entries of batches as `scripts/bench/ingest.py` sends them."""
    dice = random.Random(1)
    for number in range(ENTRIES):
        body = as_json(list(drawn(1, BATCH, dice)))
        taken = batches.quick(Post(body, 1, BATCH, ndjson=False, keyed=False))
        if taken is None:
            raise SystemExit("the batch is not taken as it is sent")
        at_ms = 1_795_687_200_000 + number * 1_000
        yield StoredEntry(f"{at_ms}-0", at_ms, taken.count, taken.columns, taken.body)


def history(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make it, then read it back through a service."""
    end_ms = int(time.time() * 1_000) // DAY_MS * DAY_MS
    begin_ms, began = end_ms - options.days * DAY_MS, time.monotonic()
    a_day = math.ceil(options.events / options.systems / options.days)
    archive = str(folder / "data" / "archive")
    tasks = [Task(archive, one, begin_ms, options.days, a_day) for one in range(1, options.systems + 1)]
    if not LocalFiles(Path(archive)).listing("hours/"):
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            rows = sum(pool.imap_unordered(make, tasks))
        made_s = time.monotonic() - began
        print(f"{rows:,} rows of minutes, made in {made_s:.0f} s by {options.processes} processes")
    sizes = {
        kind.value: sum(found.size for found in LocalFiles(Path(archive)).listing(f"{kind.value}/")) for kind in Kind
    }
    events = a_day * options.days * options.systems
    print(
        f"history of {events:,} events: "
        + ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in sizes.items() if size)
    )
    with _target.up(str(folder), ["--api-processes", "1"]) as service:
        for _ in tasks:
            _target.register(service.url)
        asyncio.run(mark(socket_path((folder / "data").absolute()), len(tasks), end_ms))
        read = {}
        for systems in sorted({1, min(MOST, len(tasks))}):
            read[str(systems)] = _read(service, systems, begin_ms, end_ms, options.rounds)
    return {"events": events, "bytes": sizes, "read": read}


def make(task: Task) -> int:
    """One system's files; how many rows of minutes there are."""
    files = LocalFiles(Path(task.folder))
    dice = np.random.default_rng(task.system_id)
    number, hours, days = 0, list[Numbered](), list[Numbered]()
    for day in range(task.days):
        minutes = _minutes(dice, task.begin_ms + day * DAY_MS, task.events_a_day)
        rows = [Numbered(number + at, row) for at, row in enumerate(minutes, 1)]
        by_hour = merge(minutes, Width.HOUR)
        _write(files, task.system_id, Kind.MINUTES, rows)
        number += len(rows)
        hours += (Numbered(number, row) for row in by_hour)
        days += (Numbered(number, row) for row in merge(by_hour, Width.DAY))
    _write(files, task.system_id, Kind.HOURS, hours)
    _write(files, task.system_id, Kind.DAYS, days)
    return number


def _write(files: LocalFiles, system_id: int, kind: Kind, rows: list[Numbered]) -> None:
    for period in sorted({Period.of(kind, one.row.start_ms) for one in rows}):
        some = [one for one in rows if Period.of(kind, one.row.start_ms) == period]
        ends = (min(one.number for one in some) - 1, 0), (max(one.number for one in some), 0)
        if kind is not Kind.MINUTES:
            ends = (0, 0), ends[1]
        files.write(Piece(kind, system_id, period, *ends).path, rollups_file(some))


def _minutes(dice: np.random.Generator, begin_ms: int, events: int) -> list[Rollup]:
    """The rows of a day's minutes, every stage with latencies of its own."""
    minute, stage = np.sort(dice.integers(0, MINUTES, events)), dice.integers(0, len(STAGES), events)
    us = np.minimum(dice.lognormal(10 + stage, 0.5), 6e11).astype(np.int64) + 1
    error = dice.random(events) < 0.03
    packed = (minute << histogram.INDEX_BITS | histogram.index_of(us)) * len(STAGES) + stage
    cells, where, counts = np.unique(packed, return_inverse=True, return_counts=True)
    bad = np.bincount(where, error, len(cells)).astype(np.int64)
    index = cells // len(STAGES) & histogram.INDEX_MASK
    edges = np.searchsorted(cells // len(STAGES) >> histogram.INDEX_BITS, np.arange(MINUTES + 1)).tolist()
    tallies = _tallies(minute * len(STAGES) + stage, us, error)
    rows = []
    for at in range(MINUTES):
        some = slice(edges[at], edges[at + 1])
        mine = tallies[at]
        if mine:
            places = np.array([list(mine).index(name) if name in mine else 0 for name in STAGES], np.uint8)
            failed = sum(tally.errors for tally in mine.values())
            types = {"success": sum(tally.total for tally in mine.values()) - failed, "failure": failed}
            of = places[cells[some] % len(STAGES)]
            start_ms = begin_ms + at * Width.MINUTE
            rows.append(Rollup(start_ms, Width.MINUTE, mine, index[some], of, counts[some], bad[some], types))
    return rows


def _tallies(place: Any, us: Any, error: Any) -> list[dict[str, Tally]]:
    """The sums of each minute, by stage."""
    order = np.argsort(place, kind="stable")
    place, us, error = place[order], us[order], error[order]
    first = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
    total = np.diff([*first, len(place)])
    sums = (np.add.reduceat(error.astype(np.int64), first), total, np.add.reduceat(us, first))
    ends = (np.minimum.reduceat(us, first), np.maximum.reduceat(us, first))
    found: list[dict[str, Tally]] = [{} for _ in range(MINUTES)]
    columns = (column.tolist() for column in (place[first], total, *sums, *ends))
    for at, *values in zip(*columns, strict=True):
        found[at // len(STAGES)][STAGES[at % len(STAGES)]] = Tally(*values)
    return found


async def mark(socket: Path, systems: int, end_ms: int) -> None:
    """Tell Redis that all of it is archived."""
    server = Server.connect("unix://" + urllib.parse.quote(str(socket)))
    await server.run(*(("HSET", keys.archive(one), "r", 1 << 40, "R", end_ms) for one in range(1, systems + 1)))
    await server.close()


def _read(service: _target.Service, systems: int, begin_ms: int, end_ms: int, rounds: int) -> list[list[float]]:
    """Seconds of each round's answer, and of CPU time of the API process and of what computes for it."""
    query = {"metric": "p95", "from": times.to_text(begin_ms), "to": times.to_text(end_ms), "step": "3600"}
    if systems > 1:
        query["systems"] = ",".join(map(str, range(1, systems + 1)))
    path = "/series" if systems > 1 else "/systems/1/series"
    api = _api(service)
    took = []
    for _ in range(rounds + 1):
        began, meter = time.monotonic(), _cpu.Meter(api.pid)
        answer = _target.get(f"{service.url}{path}?{urllib.parse.urlencode(query)}")
        took.append([time.monotonic() - began, sum(meter.seconds().values())])
        if any(point["p95"] is None for line in answer["series"] for point in line["points"]):
            raise SystemExit("a point has no events")
    wall, cpu = (_rates.Rounds.of([1_000 * one[at] for one in took[1:]]) for at in (0, 1))
    print(
        f"p95 of {systems} system{'s' * (systems > 1)} by the hour over {(end_ms - begin_ms) // DAY_MS} days: "
        f"{wall.text()} ms, of CPU time {cpu.text()} ms, RSS after it {api.memory_info().rss / 1e6:.0f} MB"
    )
    return took


def _api(service: _target.Service) -> psutil.Process:
    """The one API process."""
    below = psutil.Process(service.pid).children(recursive=True)
    return next(one for one in below if "lso api" in " ".join(one.cmdline()))


if __name__ == "__main__":
    main()
