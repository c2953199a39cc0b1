"""How long `lso up` takes from its start until /readyz says that it can accept and fold.

    python scripts/bench/start.py [--rounds 7] [--events 1000000] [--ceiling 1.5] [--json results.json]

In turns: with an empty data directory, again with the data of a run that took --events events, and the bare route's server,
which is what Python, Litestar and uvicorn alone take. A round before the first is not counted: it fills the disk's cache.
"""

import argparse
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _bare, _load, _rates, _target
from scripts.bench._requests import prepare

BATCH = 10_000
EMPTY = "lso up, empty data directory"


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    with tempfile.TemporaryDirectory(prefix="lso-bench-", ignore_cleanup_errors=True) as used:
        fill(used, options.events)
        cases: dict[str, Callable[[], float]] = {
            "bare route": bare_s,
            EMPTY: empty_s,
            f"lso up, after {options.events:,} events": lambda: started_s(used),
        }
        rounds = [{name: case() for name, case in cases.items()} for _ in range(options.rounds + 1)][1:]
    columns = {name: _rates.Rounds.of([one[name] for one in rounds]) for name in cases}
    print(f"{options.rounds} rounds\n")
    print(_rates.table(["start", "s until ready"], [[name, one.text(2)] for name, one in columns.items()]))
    _rates.write_json(options.json, {"bench": "start", "machine": machine, "options": vars(options), "rounds": rounds})
    _rates.check_ceiling("the start, s,", columns[EMPTY].median, options.ceiling)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="time until lso up is ready")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=1_000_000, help="in the data directory of the second case")
    parser.add_argument("--ceiling", type=float, default=0.0, help="fail where the start with no data takes longer")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def fill(folder: str, events: int) -> None:
    """Leave the data of so many events."""
    with _target.up(folder) as lso:
        system_id = _target.register(lso.url)
        place = system_id, _target.events_path(system_id)
        _load.send_each(lso.url, prepare(Path(folder), "json", [place], BATCH, 8), events // BATCH)
        _target.wait_until_folded(lso.url)


def empty_s() -> float:
    """Seconds until an LSO without any data is ready."""
    with _target.data_folder() as folder:
        return started_s(folder)


def started_s(folder: str) -> float:
    """Seconds until an LSO with its data in `folder` is ready."""
    began = time.monotonic()
    with _target.up(folder) as lso:
        _target.wait_for(lambda: _is_ready(lso.url), _target.START_S, pause_s=0.005)
        return time.monotonic() - began


def _is_ready(url: str) -> bool:
    try:
        return bool(_target.get(f"{url}/readyz"))
    except urllib.error.HTTPError:
        return False


def bare_s() -> float:
    """Seconds until the bare route answers."""
    began = time.monotonic()
    with _bare.running(1):
        return time.monotonic() - began


if __name__ == "__main__":
    main()
