"""Every table of docs/performance.md, as Markdown on standard output, in about half an hour.

    python scripts/bench/all.py [--only ingest read …] [--folder results/] >tables.md

Ready to be pasted, with the command that made each. The machine should have nothing else to do. Each bench keeps every round in a JSON file of the folder. At the end stands
which of the targets were missed; then the exit status is 1. A bench that fails otherwise is told as well, and the others run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _rates, _target


class Bench(NamedTuple):
    """A program with the options that make its table."""

    name: str
    title: str
    options: str


BENCHES = (
    Bench("ingest", "Events in", "--format json ndjson --rounds 3 --floor 1.0"),
    Bench("ingest", "Arrow", "--format arrow --batch 10000 --rounds 3 --peers VictoriaMetrics --floor 3.0"),
    Bench("ingest", "Sizes of batches", "--batch 1 10 100 10000 --rounds 2 --seconds 2 --peers VictoriaMetrics"),
    Bench("ingest", "Numbers of systems", "--systems 1 1000 --rounds 2 --seconds 2 --peers VictoriaMetrics"),
    Bench("single", "Single events", "--rounds 5 --seconds 2 --floor 0.6"),
    Bench("read", "Health out", "--rounds 5 --seconds 2 --floor 0.65 --flat-p50 1.05 --flat-p99 1.3"),
    Bench("fresh", "Freshness", "--rounds 3 --seconds 6 --ceiling-p50 50 --ceiling-p99 250"),
    Bench("fold", "Folding", "--rounds 3 --floor 3000000"),
    Bench(
        "memory",
        "Memory",
        "--events 200000 --ceiling-event 80 --ceiling-idle 6 --ceiling-active 100 --ceiling-busy 8",
    ),
    Bench("history", "History", "--rounds 5"),
    Bench("start", "Start", "--rounds 5 --ceiling 1.5"),
    Bench("runs", "Run ids and runs", "--rounds 7"),
    Bench("stages", "Where the time goes", "--format json"),
    Bench("stages", "Where the time goes with Arrow", "--format arrow --batch 10000"),
    Bench("stream", "Who watches", "--rounds 3 --seconds 8 --changes 500"),
    Bench("dashboard", "The dashboard", "--rounds 3 --seconds 6"),
    Bench("sdk", "What a pipeline pays", "--cases cost"),
    Bench("queries", "Who asks for history", "--rounds 5 --floor 0.9"),
    Bench("archive", "The archive", "--rounds 5"),
)


def main() -> None:
    """Run them one after the other."""
    options = parse()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="lso-bench-results-"))
    folder.mkdir(parents=True, exist_ok=True)
    machine, began, failures = _rates.machine(), time.monotonic(), []
    print(f"```json\n{json.dumps(machine, indent=1)}\n```")
    for number, bench in enumerate(BENCHES):
        if bench.name in options.only:
            failures += run(bench, folder / f"{number:02d}-{bench.name}.json")
    print(f"\n{time.monotonic() - began:.0f} s in all; every round is in {folder}", file=sys.stderr)
    for failure in failures:
        print(failure, file=sys.stderr)
    raise SystemExit(bool(failures))


def parse() -> argparse.Namespace:
    """The command line."""
    names = list(dict.fromkeys(bench.name for bench in BENCHES))
    parser = argparse.ArgumentParser(description="every bench, with its targets")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--folder", help="where the JSON files go")
    return parser.parse_args()


def run(bench: Bench, result: Path) -> list[str]:
    """Print one bench's section; what it missed."""
    words = ["scripts/bench/" + bench.name + ".py", *bench.options.split()]
    print(f"\n## {bench.title}\n\n```sh\n.venv/bin/python {' '.join(words)}\n```\n", flush=True)
    done = subprocess.run(
        [sys.executable, *words, "--json", str(result)], cwd=_target.ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout.strip(), flush=True)
    if done.returncode == 0:
        return []
    said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return [f"{bench.title}: {said[-1]}"]


if __name__ == "__main__":
    main()
