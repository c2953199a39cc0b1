"""What run ids cost an event: cutting, packing and unpacking columns, and folding runs. Processor nanoseconds, in this process.

    python scripts/bench/runs.py [--rounds 7] [--json results.json]

- Ids: batches of 1,000 events without ids, with one, with 200 that repeat, with one of its own each (in a stage, so that
  none makes a run), and with as many outcomes without a stage, each of which makes one. `cut`, `encode` and `decode` are
  those of the columns as a whole; `plan` looks through 64 batches for runs, while 200 others are open.
- One run: every event belongs to a run that is open; `payloads` reads them back, `fold` adds them up.
- Many runs: a start and an end each, 1,000 in a batch; by run.
"""

import argparse
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import numpy as np

from lso_core.compute import columns, runs
from lso_core.compute.columns import BodyKind, Columns
from lso_core.compute.fold import Arrival
from lso_core.compute.readback import said
from lso_core.compute.run_events import Piece
from lso_core.compute.runs import Plan, Run, Runs
from lso_core.model import times
from lso_core.model.batches import StoredEntry
from lso_core.model.events import Event
from lso_core.model.runs import Limits
from scripts.bench import _rates

BATCH, ENTRIES, OPEN = 1_000, 64, 200
AT_MS: Final = times.from_text("2025-12-14T14:33:10.529Z")
STAGES: Final = ("extract", "transform", "load")


class Costs(NamedTuple):
    """Nanoseconds an event."""

    cut: float
    encode: float
    decode: float
    plan: float


def main() -> None:
    """Measure, print tables, keep every figure."""
    parser = argparse.ArgumentParser(description="what run ids and runs cost an event")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args()
    ids = {name: costs_of(events, options.rounds) for name, events in batches().items()}
    one, many = one_run(options.rounds), many_runs(options.rounds)
    rows = [[name, *(f"{ns:,.1f}" for ns in costs)] for name, costs in ids.items()]
    print(_rates.table(["ns an event", *Costs._fields], rows) + "\n")
    print(
        _rates.table(["one run that is open", "ns an event"], [[name, f"{ns:,.0f}"] for name, ns in one.items()]) + "\n"
    )
    print(_rates.table(["many runs", "µs a run"], [[name, f"{ns / 1e3:,.1f}"] for name, ns in many.items()]))
    result = {"ids": {name: costs._asdict() for name, costs in ids.items()}, "one run": one, "many runs": many}
    _rates.write_json(options.json, {"bench": "runs", "machine": _rates.machine(), **result})


def batches() -> dict[str, list[Event]]:
    """A batch of each kind."""
    dice = random.Random(1)
    names = [str(uuid.UUID(int=dice.getrandbits(128))) for _ in range(BATCH)]
    return {
        "no ids": [_event(dice, None, dice.choice(STAGES)) for _ in range(BATCH)],
        "one id": [_event(dice, names[0], dice.choice(STAGES)) for _ in range(BATCH)],
        "200 ids": [_event(dice, names[at % 200], dice.choice(STAGES)) for at in range(BATCH)],
        "each its own": [_event(dice, name, dice.choice(STAGES)) for name in names],
        "each a run of its own": [_event(dice, name, None) for name in names],
    }


def _event(dice: random.Random, run_id: str | None, stage: str | None) -> Event:
    ts = times.to_text(AT_MS - dice.randrange(60_000))
    return Event("success", "ok", dice.lognormvariate(3, 1), ts, run_id, stage, None, {"rows": dice.randrange(100_000)})


def costs_of(events: list[Event], rounds: int) -> Costs:
    """The figures for batches of such events."""
    cut = columns.cut(events)
    block = columns.encode(cut)
    arrivals = [Arrival(AT_MS, columns.read(block), f"{at}-0") for at in range(ENTRIES)]
    under_way = Runs({f"open {at}": Run(f"open {at}") for at in range(OPEN)})
    return Costs(
        _ns(lambda: columns.cut(events), rounds) / BATCH,
        _ns(lambda: columns.encode(cut), rounds) / BATCH,
        _ns(lambda: columns.decode(block), rounds) / BATCH,
        _ns(lambda: runs.plan(under_way, arrivals), rounds) / BATCH / ENTRIES,
    )


def one_run(rounds: int) -> dict[str, float]:
    """Every event of every batch belongs to one run."""
    entries = [_entry(at, batches()["one id"]) for at in range(4)]
    pieces = [Piece(entry.entry_id, AT_MS, cut, said(entry, cut, np.arange(BATCH))) for entry, cut in entries]
    [run_id] = {run_id for piece in pieces if piece.columns.runs for run_id in piece.columns.runs.ids}
    before = Runs({run_id: Run(run_id, starts=(0,), first_ms=0, last_ms=0)})
    planned = _planned(before, [Arrival(AT_MS, columns.block_of(cut), entry.entry_id) for entry, cut in entries])
    events = BATCH * len(entries)
    return {
        "payloads": _ns(lambda: [said(entry, cut, np.arange(BATCH)) for entry, cut in entries], rounds) / events,
        "fold": _ns(lambda: runs.fold(before, planned, pieces, [], {}), rounds) / events,
    }


def _planned(before: Runs, arrivals: list[Arrival]) -> Plan:
    planned = runs.plan(before, arrivals)
    if planned is None:
        raise SystemExit("the batches tell of no run")
    return planned


def _entry(number: int, events: list[Event]) -> tuple[StoredEntry, Columns]:
    body = columns.pack_body(msgspec.json.encode({"events": events}), BodyKind.JSON)
    entry = StoredEntry(f"{AT_MS}-{number}", AT_MS, len(events), b"", body)
    return entry, columns.decode(columns.encode(columns.cut(events)))


def many_runs(rounds: int) -> dict[str, float]:
    """A start and an end of each run."""
    ts = times.to_text(AT_MS)
    events = [Event(kind, "ok", None, ts, f"run {at}") for at in range(BATCH) for kind in ("start", "end")]
    entry, cut = _entry(0, events)
    planned = _planned(Runs(), [Arrival(AT_MS, columns.block_of(cut), entry.entry_id)])
    piece = Piece(entry.entry_id, AT_MS, cut)
    folded = runs.fold(Runs(), planned, [piece], [], {})
    stored = list(folded.watched.values())
    return {
        "fold": _ns(lambda: runs.fold(Runs(), planned, [piece], [], {}), rounds) / BATCH,
        "carry on in time": _ns(lambda: runs.advance(Runs(), folded, AT_MS + 1, Limits()), rounds) / BATCH,
        "pack": _ns(lambda: [runs.encode_run(run) for run in stored], rounds) / BATCH,
    }


def _ns(work: Callable[[], object], rounds: int) -> float:
    """Processor nanoseconds of one call: the least of several rounds, each as long as a fiftieth of a second.

    The least and no median: whatever else the machine does only ever adds, by caches and by cores that share a unit.
    """
    began = time.process_time()
    work()
    turns = max(1, int(0.02 / max(1e-6, time.process_time() - began)))
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(turns):
            work()
        found.append((time.process_time() - began) / turns)
    return min(found) * 1e9


if __name__ == "__main__":
    main()
