"""What /stream costs the API: CPU of its process with many viewers, beside the same load with none.

    python scripts/bench/stream.py [--viewers 1000] [--changes 500] [--rounds 5] [--seconds 10] [--plain] [--json results.json]

It starts an LSO of its own. An emitter sends each of `--changes` systems an event a second, so that as many lines of the
fleet change. The viewers are held by a process that reads and throws away, and are served by one more API process, which
has nothing else to do: its CPU time, as the kernel counts it, is what they cost. Each round measures it without viewers and
with them. Time on the CPU and not on the clock: a machine that others use as well makes little difference.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import _rates, _target

EVENT: Final = b'{"events":[{"event_type":"success","status":"ok","latency_ms":12.5}]}'
EMITTERS: Final = 64
"""Connections that the events come over: so many that waiting for answers does not set the pace."""


class Heard(NamedTuple):
    """What the viewers got."""

    received: int
    """Bytes, by all viewers."""
    frames: int
    lines: int
    """Frames and lines are read off one of the viewers; all get the same."""


def main() -> None:
    """Measure, print a table, keep every round."""
    options = parse()
    machine = _rates.machine()
    with (
        _target.service(None, ["--api-processes", "1", *options.service.split()]) as emitted,
        emitting(emitted.url, options),
        _target.second_api() as (viewed, api),
    ):
        rounds = [measure(viewed, api, options) for _ in range(options.rounds + 1)][1:]
    figures = {name: _rates.Rounds.of([one[name] for one in rounds]) for name in rounds[0]}
    print(
        f"{options.rounds} rounds of {options.seconds} s, {options.viewers} viewers, {options.changes} changes/s, "
        f"{'plain' if options.plain else 'gzip'}\n"
    )
    print(_rates.table(["figure", "median (least to most)"], [[name, one.text(3)] for name, one in figures.items()]))
    result = {"bench": "stream", "machine": machine, "options": vars(options), "rounds": rounds}
    _rates.write_json(options.json, result)
    if options.ceiling and figures["cores with viewers"].median > options.ceiling:
        raise SystemExit(f"over the ceiling of {options.ceiling} cores")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="CPU of an API process for viewers of /stream")
    parser.add_argument("--viewers", type=int, default=1_000)
    parser.add_argument("--changes", type=int, default=500, help="systems, each of which changes once a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--plain", action="store_true", help="viewers that read nothing compressed")
    parser.add_argument("--service", default="", help="more options for the service")
    parser.add_argument("--ceiling", type=float, default=0.0, help="fail where it takes more cores")
    parser.add_argument("--json", help="file for every round's figures")
    return parser.parse_args()


def measure(url: str, api: psutil.Process, options: argparse.Namespace) -> dict[str, float]:
    """One round: without viewers, then with them."""
    without = cores(api, options.seconds)
    with viewing(url, options) as heard:
        with_viewers = cores(api, options.seconds)
        got: Heard = heard()
    return {
        "cores without viewers": without,
        "cores with viewers": with_viewers,
        "frames/s to each": got.frames / options.seconds,
        "changed lines/s to each": got.lines / options.seconds,
        "kB/s to each": got.received / options.viewers / options.seconds / 1_000,
    }


def cores(process: psutil.Process, seconds: float) -> float:
    """CPU time a second over a while."""
    before, began = process.cpu_times(), time.perf_counter()
    time.sleep(seconds)
    after, took = process.cpu_times(), time.perf_counter() - began
    return (after.user + after.system - before.user - before.system) / took


@contextlib.contextmanager
def emitting(url: str, options: argparse.Namespace) -> Any:
    """Systems that are each sent an event a second, from a process of its own, as long as the block lasts."""
    systems = [_target.register(url) for _ in range(options.changes)]
    process = multiprocessing.get_context("spawn").Process(target=emit, args=(url, systems), daemon=True)
    process.start()
    try:
        _target.wait_for(lambda: _target.total_of(url, systems[-1]) > 1, 60)
        yield
    finally:
        process.terminate()
        process.join()


def emit(url: str, systems: list[int]) -> None:
    """Send until terminated."""
    asyncio.run(_emit(url, systems))


async def _emit(url: str, systems: list[int]) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(EMITTERS):
            group.create_task(_emit_over_one(url, systems[number::EMITTERS], len(systems[number::EMITTERS])))


async def _emit_over_one(url: str, systems: list[int], a_second: int) -> None:
    reader, writer = await asyncio.open_connection(*_target.address_of(url))
    due, turn = time.perf_counter(), 0
    while True:
        path = f"/systems/{systems[turn % len(systems)]}/events"
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(EVENT)}\r\n\r\n"
        writer.write(head.encode() + EVENT)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        turn, due = turn + 1, due + 1 / a_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


@contextlib.contextmanager
def viewing(url: str, options: argparse.Namespace) -> Any:
    """Viewers in a process of their own; gives a function that says what they heard in the last seconds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=view, args=(url, options.viewers, options.plain, theirs), daemon=True)
    process.start()
    ours.recv()  # all are connected
    ours.send("count")

    def heard() -> Heard:
        ours.send("tell")
        found: Heard = ours.recv()
        return found

    try:
        yield heard
    finally:
        process.terminate()
        process.join()


def view(url: str, viewers: int, plain: bool, pipe: Any) -> None:
    """Hold the viewers until terminated."""
    asyncio.run(_view(url, viewers, plain, pipe))


class _Reader(asyncio.Protocol):
    """A viewer that counts what comes."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)


async def _listen(url: str, lines: list[str]) -> None:
    """One viewer more, who reads what the others throw away."""
    reader, writer = await asyncio.open_connection(*_target.address_of(url), limit=1 << 30)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: bench\r\n\r\n")
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            lines.append(line.decode())


async def _view(url: str, viewers: int, plain: bool, pipe: Any) -> None:
    loop = asyncio.get_running_loop()
    readers: list[_Reader] = []
    lines: list[str] = []
    listening = asyncio.create_task(_listen(url, lines))
    encoding = "" if plain else "Accept-Encoding: gzip\r\n"
    for _ in range(viewers):
        transport, reader = await loop.create_connection(_Reader, *_target.address_of(url))
        transport.write(f"GET /stream HTTP/1.1\r\nHost: bench\r\n{encoding}\r\n".encode())
        readers.append(reader)
    await asyncio.sleep(2)
    pipe.send("all are connected")
    while True:
        word = await loop.run_in_executor(None, pipe.recv)
        if word == "count":
            lines.clear()
            for reader in readers:
                reader.received = 0
        else:
            changed = sum(line.count('"system_id":') for line in lines)
            pipe.send(Heard(sum(reader.received for reader in readers), len(lines), changed))
        if listening.done():
            raise SystemExit("the stream has ended")


if __name__ == "__main__":
    main()
