"""Where the processor time of an event goes: microseconds by process and stage, over the whole way from POST to snapshot.

    python scripts/bench/stages.py [--format json ndjson arrow] [--batch 1000] [--seconds 6] [--systems 10] [--leaves 20]
        [--json results.json]

It starts an LSO of its own under load. Each process' user and system time comes from the kernel; what of it belongs to a
stage, from a sampler in every Python process that counts stacks by the processor time used (`sampler/sitecustomize.py`);
what Redis does, from its own command statistics, in which a script's commands are counted in the script too. Idle time and
other load are in none of it, so that two runs agree where wall clocks do not. --leaves tells the functions that cost most.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import redis

from scripts.bench import _cpu, _load, _rates, _target
from scripts.bench._requests import KINDS, prepare

SAMPLER = Path(__file__).with_name("sampler")
WARM_S = 2
STAGES = (
    ("compute/timestamps.py", "decode: times"),
    ("compute/columns.py:pack_body", "compress body"),
    ("compute/columns.py:unpack_body", "decompress body"),
    ("compute/columns.py:cut", "cut columns"),
    ("compute/columns.py", "columns, to and from bytes"),
    ("compute/packing.py", "columns, to and from bytes"),
    ("compute/state.py", "slots, to and from bytes"),
    ("compute/summarize.py", "summarize"),
    ("compute/classify.py", "summarize"),
    ("model/snapshots.py", "summarize"),
    ("compute/fold.py", "fold"),
    ("compute/grouping.py", "fold"),
    ("compute/carrying.py", "fold"),
    ("compute/cells.py", "slots, to and from bytes"),
    ("compute/rollups.py", "rows of history"),
    ("compute/runs.py", "runs"),
    ("compute/histogram.py", "fold: histograms"),
    ("lso_core/compute/", "decode and validate"),
    ("store/folding.py:commit", "Redis client: commit"),
    ("store/folding.py:read", "Redis client: read"),
    ("store/folding.py", "Redis client: other"),
    ("store/ingest.py", "Redis client: append"),
    ("/redis/", "Redis client: other"),
    ("lso_core/store/", "Redis client: other"),
    ("/uvicorn/", "HTTP"),
    ("/litestar/", "HTTP"),
    ("lso_core/cli/", "HTTP"),
    ("/api/", "HTTP"),
    ("/worker/", "worker's own"),
)
"""Part of a place (file:function), and the stage that it stands for. The innermost place of a stack that is known decides."""
REDIS_STAGES = ("Redis client: commit", "Redis client: read", "Redis client: append")
"""Where the innermost place is the client's, the call that it serves says more."""


def main() -> None:
    """Measure, print a table for each kind of batch, keep the figures."""
    options = parse()
    machine = _rates.machine()
    profiles = {}
    for kind in options.format:
        profiles[kind] = profile(kind, options)
        print(shown(kind, profiles[kind], options), flush=True)
    _rates.write_json(
        options.json, {"bench": "stages", "machine": machine, "options": vars(options), "profiles": profiles}
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="processor time an event by process and stage")
    parser.add_argument("--service", default="", help='options for the service that is started, as in "--workers 2"')
    parser.add_argument("--format", nargs="+", choices=[*KINDS][:3], default=["json"], help="how batches are written")
    parser.add_argument("--batch", type=int, default=1_000, help="events a batch")
    parser.add_argument("--systems", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=6, help="of load")
    parser.add_argument("--leaves", type=int, default=0, help="how many functions of each role to tell")
    parser.add_argument("--json", help="file for all figures")
    return parser.parse_args()


def profile(kind: str, options: argparse.Namespace) -> _rates.Json:
    """Microseconds an event: of each role, by stage, by function, and of Redis by command."""
    with tempfile.TemporaryDirectory(prefix="lso-bench-") as name:
        folder = Path(name)
        environ = {"BENCH_SAMPLES": name, "PYTHONPATH": str(SAMPLER)}
        with _target.service(None, options.service.split(), environ) as lso:
            systems = [_target.register(lso.url) for _ in range(options.systems)]
            places = [(one, _target.events_path(one)) for one in systems]
            prepared = prepare(folder, kind, places, options.batch, max(len(places), 64_000 // options.batch))
            roles = {pid: _cpu.role_of(pid) for pid in _cpu.family(lso.pid)}
            server = redis.Redis(unix_socket_path=_target.redis_socket([*roles]))
            _load.send(lso.url, prepared, WARM_S)
            _target.wait_until_folded(lso.url)
            take_samples(folder, roles)
            server.config_resetstat()
            before, meter = _target.totals(lso.url, systems), _cpu.Meter(lso.pid)
            _load.send(lso.url, prepared, options.seconds)
            _target.wait_until_folded(lso.url)
            used = meter.seconds()
            commands: Any = server.info("commandstats")
            samples = take_samples(folder, roles)
            events = _target.totals(lso.url, systems) - before
    return {
        "events": events,
        "us": {role: seconds / events * 1e6 for role, seconds in used.items()},
        "stages": {role: shares(counts, used[role] / events * 1e6, stage_of) for role, counts in samples.items()},
        "functions": {role: shares(counts, used[role] / events * 1e6, leaf_of) for role, counts in samples.items()},
        "commands": {name.removeprefix("cmdstat_"): one["usec"] / events for name, one in commands.items()},
    }


def take_samples(folder: Path, roles: dict[int, str]) -> dict[str, Counter[tuple[str, ...]]]:
    """The stacks that every Python process has counted since the last time, by role."""
    found: dict[str, Counter[tuple[str, ...]]] = {}
    for pid, role in roles.items():
        if role not in ("api", "worker"):
            continue
        file = folder / f"{pid}.json"
        os.kill(pid, signal.SIGUSR2)
        _target.wait_for(file.exists, _target.START_S)
        counts = found.setdefault(role, Counter())
        counts.update({tuple(stack): count for count, stack in json.loads(file.read_text(encoding="utf-8"))})
        file.unlink()
    return found


def shares(counts: Counter[tuple[str, ...]], total_us: float, name_of: Any) -> dict[str, float]:
    """Microseconds by name of the stacks, most first."""
    named: Counter[str] = Counter()
    for stack, count in counts.items():
        named[name_of(stack)] += count
    return {name: total_us * count / counts.total() for name, count in named.most_common()}


def stage_of(stack: tuple[str, ...]) -> str:
    """The stage that a stack, innermost first, belongs to."""
    known = [stage for place in stack for part, stage in STAGES if part in place]
    if not known:
        return "loop and interpreter"
    if known[0].startswith("Redis client"):
        return next((stage for stage in known if stage in REDIS_STAGES), known[0])
    return known[0]


def leaf_of(stack: tuple[str, ...]) -> str:
    """The innermost function and its caller."""
    return " < ".join(place.rpartition("/")[2] for place in stack[:2])


def shown(kind: str, found: _rates.Json, options: argparse.Namespace) -> str:
    """The table for people."""
    rows = []
    for role, total in sorted(found["us"].items(), key=lambda one: -one[1]):
        rows += [[f"**{role}**", "", f"**{total:.3f}**"]]
        rows += [["", stage, f"{cost:.3f}"] for stage, cost in found["stages"].get(role, {}).items()]
        if role == "redis":
            most = sorted(found["commands"].items(), key=lambda one: -one[1])[:5]
            rows += [["", f"`{name}`, wall", f"{cost:.3f}"] for name, cost in most]
    total = sum(found["us"].values())
    rows.append(["all", "", f"{total:.3f}"])
    title = f"\nBatches of {options.batch:,} as {kind}, {options.systems} systems, {found['events']:,} events\n\n"
    text = title + _rates.table(["process", "stage", "CPU µs an event"], rows)
    for role, functions in found["functions"].items():
        lines = [f"    {cost:.3f} {name}" for name, cost in [*functions.items()][: options.leaves]]
        text += "\n\n" + "\n".join([f"    {role}", *lines]) if lines else ""
    return text


if __name__ == "__main__":
    main()
