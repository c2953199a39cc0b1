"""What a pipeline pays for being observed, and what is counted when the server is in trouble.

    python scripts/bench/sdk.py [--cases cost killed trouble] [--url http://127.0.0.1:8000] [--json results.json]

Without --url it starts an LSO of its own in a temporary directory. Every case runs in processes of its own,
through a proxy on loopback that misbehaves for 7 of the 10 seconds in which 100 events are emitted. The naive pipeline
does what people write first: one POST an event, three seconds of patience, errors swallowed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lso_core import client as lso  # noqa: E402 - found through the line above
from scripts.bench import _rates, _target  # noqa: E402
from tests.client.faulty_proxy import (  # noqa: E402
    HANG,
    PASS,
    UNAVAILABLE,
    UNAVAILABLE_RETRY_1,
    Fault,
    FaultyProxy,
    faulty_proxy,
)

EVENTS, RATE = 100, 10.0
FAULT_AFTER_S, FAULT_FOR_S = 1.5, 7.0
SETTLE_S = 30.0
FAULTS: dict[str, Fault | None] = {
    "503": UNAVAILABLE,
    "503, Retry-After 1": UNAVAILABLE_RETRY_1,
    "hangs": HANG,
    "refuses": None,
}
Emit = Callable[[int], None]
REFERENCE = "logging.info(…) to a NullHandler, for comparison"


@dataclass(frozen=True)
class Counted:
    """What the server knows of one system."""

    distinct: int
    duplicates: int
    missing: list[int]


def ask(url: str) -> Any:
    """One GET, as JSON."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
        return json.load(answer)


def numbers(url: str, system: str) -> Counter[int]:
    """How often each `n` is among the system's events."""
    found = ask(f"{url}/systems?name={system}")["items"]
    if not found:
        return Counter()
    counted: Counter[int] = Counter()
    after = ""
    while True:
        page = ask(f"{url}/systems/{found[0]['system_id']}/events?limit=500{after}")
        counted.update(event["payload"]["n"] for event in page["items"] if "n" in (event.get("payload") or {}))
        if not page.get("next"):
            return counted
        after = f"&cursor={page['next']}"


def total(url: str, system: str) -> int:
    """The counted events in the system's window; 0 where there is none."""
    found = ask(f"{url}/systems?name={system}")["items"]
    return int(ask(f"{url}/systems/{found[0]['system_id']}/health")["total"]) if found else 0


def settled(url: str, system: str, expected: int, wait_s: float = SETTLE_S) -> Counted:
    """What was counted once `expected` events are there, or once `wait_s` seconds have gone."""
    deadline = time.monotonic() + wait_s
    while total(url, system) < expected and time.monotonic() < deadline:
        time.sleep(0.2)
    counted, folded = numbers(url, system), total(url, system)
    missing = sorted(set(range(expected)) - set(counted))
    return Counted(len(counted), max(sum(counted.values()), folded) - len(counted), missing)


# Roles that run in processes of their own.


def sdk_emitter(url: str, system: str) -> Emit:
    """One call of the SDK an event."""
    lso.init(url, system=system)
    return lambda number: lso.event("success", latency_ms=12.5, stage="load", n=number)


def naive_emitter(url: str, system: str) -> Emit:
    """One POST an event, as people write it first."""
    body = json.dumps({"name": system}).encode()
    made = urllib.request.Request(f"{url}/systems", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(made, timeout=10) as answer:  # noqa: S310
        place = f"{url}/systems/{json.load(answer)['system_id']}/events"

    def emit(number: int) -> None:
        event = {"event_type": "success", "status": "ok", "latency_ms": 12.5, "stage": "load", "payload": {"n": number}}
        data = json.dumps({"events": [event]}).encode()
        request = urllib.request.Request(place, data, {"Content-Type": "application/json"})  # noqa: S310
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310
            answer.read()

    return emit


def control_emitter(_url: str, _system: str) -> Emit:
    """Nothing, in the same loop at the same time: what the machine itself does to a measurement."""
    return lambda _number: None


EMITTERS = {"sdk": sdk_emitter, "naive": naive_emitter, "control": control_emitter}


def emit_steadily(kind: str, url: str, system: str) -> None:
    """100 events at 10 a second; prints how long each call took, in seconds, and in which of them the kernel gave the
    processor to somebody else: waiting for a lock or for the interpreter does not count as that.
    """
    emit = EMITTERS[kind](url, system)
    time.sleep(0.5)  # the burst of starting is over
    print("ready", flush=True)
    spent, interrupted, began = [], [], time.perf_counter()
    for number in range(EVENTS):
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        switches, start = preemptions(), time.perf_counter()
        emit(number)
        spent.append(time.perf_counter() - start)
        interrupted.append(preemptions() > switches)
    print(json.dumps({"spent": spent, "interrupted": interrupted}), flush=True)


def preemptions() -> int:
    """How often the kernel has taken the processor from this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def emit_until_killed(url: str, system: str, spool_dir: str) -> None:
    """Events at 100 a second; prints each number with its time."""
    lso.init(url, system=system, spool_dir=spool_dir)
    for number in range(1_000_000):
        lso.event("success", latency_ms=12.5, n=number)
        print(number, time.monotonic(), flush=True)
        time.sleep(0.01)


def drain(url: str, system: str, spool_dir: str) -> None:
    """A later process with the same spool and nothing of its own to say."""
    client = lso.init(url, system=system, spool_dir=spool_dir)
    deadline = time.monotonic() + SETTLE_S
    while list(Path(spool_dir).glob("*.lso")) and time.monotonic() < deadline:
        time.sleep(0.05)
    client.close()


def cost(url: str, system: str) -> None:
    """Prints microseconds a call, every round of it."""
    lso.init(url, system=system, queue_events=1_000_000)

    def event() -> None:
        lso.event("success", latency_ms=12.5, stage="load", rows=5, table="obs")

    def stage() -> None:
        with lso.stage("load"):
            pass

    @lso.stage("load")
    def decorated() -> None:
        pass

    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())

    def logged() -> None:
        logger.info("load %s", "obs", extra={"latency_ms": 12.5, "rows": 5})

    kinds = {
        "event(…, two payload fields)": event,
        "with stage(…)": stage,
        "@stage(…)": decorated,
        REFERENCE: logged,
    }
    print(json.dumps({name: [per_call_us(call) for _ in range(7)] for name, call in kinds.items()}), flush=True)
    lso.flush(20)


def per_call_us(call: Callable[[], None], calls: int = 3_000) -> tuple[float, float]:
    """Means over one round: the caller's own processor time, and the wall's, in which the sender, the server and whoever
    else shares the machine take their part. Between rounds the queue is emptied, so that sending does not pile up.
    """
    lso.flush(20)
    began, worked = time.perf_counter(), time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - worked) / calls * 1e6, (time.perf_counter() - began) / calls * 1e6


ROLES: dict[str, Callable[..., None]] = {
    "steadily": emit_steadily,
    "until-killed": emit_until_killed,
    "drain": drain,
    "cost": cost,
}


def play(role: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a role in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "--role", role, *arguments], stdout=subprocess.PIPE, text=True)


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    return process.stdout.readline()


# Cases.


def misbehave(proxy: FaultyProxy, fault: Fault | None) -> None:
    """Well for a moment, faulty for 7 s, well again."""
    time.sleep(FAULT_AFTER_S)
    if fault is None:
        proxy.refuse()
    else:
        proxy.fault = fault
    time.sleep(FAULT_FOR_S)
    if fault is None:
        proxy.accept()
    proxy.fault = PASS


def trouble(url: str, kind: str, name: str) -> dict[str, Any]:
    """One row: 100 events while the server has this trouble."""
    host, _, port = url.removeprefix("http://").partition(":")
    system = f"bench-{kind}-{os.getpid()}-{list(FAULTS).index(name)}"
    with faulty_proxy((host, int(port))) as proxy:
        emitter, control = play("steadily", kind, proxy.url, system), play("steadily", "control", "-", "-")
        for process in (emitter, control):
            read_line(process)
        misbehave(proxy, FAULTS[name])
        results = [json.loads(read_line(process)) for process in (emitter, control)]
        for process in (emitter, control):
            process.wait(60)
        counted = settled(url, system, EVENTS, SETTLE_S if kind == "sdk" else 3.0)
    spent, idle = (sorted(result["spent"]) for result in results)
    calls = zip(results[0]["spent"], results[0]["interrupted"], strict=True)
    return {
        "pipeline": kind,
        "server": name,
        "counted": counted.distinct,
        "duplicates": counted.duplicates,
        "p99_ms": spent[98] * 1e3,
        "max_ms": spent[-1] * 1e3,
        "max_uninterrupted_ms": max(took for took, interrupted in calls if not interrupted) * 1e3,
        "interrupted": sum(results[0]["interrupted"]),
        "control_max_ms": idle[-1] * 1e3,
    }


def killed(url: str) -> dict[str, Any]:
    """SIGKILL with a spool while the server refuses; the next process delivers."""
    host, _, port = url.removeprefix("http://").partition(":")
    system = f"bench-killed-{os.getpid()}"
    with tempfile.TemporaryDirectory() as directory, faulty_proxy((host, int(port))) as proxy:
        proxy.refuse()
        emitter = play("until-killed", proxy.url, system, directory)
        emitted = [read_line(emitter).split()]
        while float(emitted[-1][1]) - float(emitted[0][1]) < 5.0:
            emitted.append(read_line(emitter).split())
        emitter.send_signal(signal.SIGKILL)
        end = time.monotonic()
        emitter.wait()
        proxy.accept()
        play("drain", proxy.url, system, directory).wait(60)
        counted = settled(url, system, len(emitted), 5.0)
    missing = [end - float(at) for number, at in emitted if int(number) in counted.missing]
    return {
        "emitted": len(emitted),
        "counted": counted.distinct,
        "duplicates": counted.duplicates,
        "oldest_missing_s": max(missing, default=0.0),
    }


def costs(url: str) -> dict[str, list[list[float]]]:
    process = play("cost", url, f"bench-cost-{os.getpid()}")
    rounds: dict[str, list[list[float]]] = json.loads(read_line(process))
    process.wait(60)
    return rounds


# The page.


def show(results: dict[str, Any]) -> None:
    """The tables of docs/sdk.md."""
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for case, rows in results.items():
        print("\n" + SHOWN[case](rows))


def show_trouble(rows: list[dict[str, Any]]) -> str:
    head = ["pipeline", "the server", "counted", "duplicates", "p99 of a call", "longest call"]
    head += ["… not preempted", "longest of an empty loop"]
    figures = ("p99_ms", "max_ms", "max_uninterrupted_ms", "control_max_ms")
    return _rates.table(
        head,
        [
            [
                *(str(row[name]) for name in ("pipeline", "server", "counted", "duplicates")),
                *(f"{row[name]:.3f} ms" for name in figures),
            ]
            for row in rows
        ],
    )


def show_costs(costs: dict[str, list[list[float]]]) -> str:
    return _rates.table(
        ["µs a call, median of 7 rounds (all rounds)", "the caller's processor time", "wall"],
        [
            [name, spread([own for own, _ in rounds]), spread([wall for _, wall in rounds])]
            for name, rounds in costs.items()
        ],
    )


def show_killed(row: dict[str, Any]) -> str:
    return (
        f"SIGKILL after 5 s without a server: {row['emitted']} emitted, {row['counted']} counted after the next process ran, "
        f"{row['duplicates']} duplicates; the oldest event lost was {row['oldest_missing_s']:.2f} s old."
    )


SHOWN: dict[str, Callable[[Any], str]] = {"cost": show_costs, "killed": show_killed, "trouble": show_trouble}


def spread(values: list[float]) -> str:
    """The median, and everything it is the median of."""
    return f"{statistics.median(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def is_as_promised(results: dict[str, Any]) -> bool:
    """What docs/sdk.md promises of the cases that ran, for the exit status."""
    rows = [row for row in results.get("trouble", []) if row["pipeline"] == "sdk"]
    exact = all(row["counted"] == EVENTS and row["duplicates"] == 0 for row in rows)
    quick = all(row["p99_ms"] < 1 and row["max_uninterrupted_ms"] <= row["control_max_ms"] + 5 for row in rows)
    ours = [rounds for name, rounds in results.get("cost", {}).items() if name != REFERENCE]
    cheap = all(statistics.median(own for own, _ in rounds) <= 10 for rounds in ours)
    return exact and quick and cheap and results.get("killed", {}).get("oldest_missing_s", 0.0) < 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running LSO; without it one is started")
    parser.add_argument("--cases", nargs="+", choices=[*SHOWN], default=[*SHOWN], help="trouble takes minutes")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        ROLES[given.role[0]](*given.role[1:])
        return 0
    with _target.service(given.url) as service:
        url = service.url
        run: dict[str, Callable[[], Any]] = {
            "cost": lambda: costs(url),
            "killed": lambda: killed(url),
            "trouble": lambda: [trouble(url, kind, name) for kind in ("sdk", "naive") for name in FAULTS],
        }
        results = {case: run[case]() for case in given.cases}
    show(results)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2))
    return 0 if is_as_promised(results) else 1


if __name__ == "__main__":
    sys.exit(main())
