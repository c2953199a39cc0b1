"""A load of GETs on one URL: wrk where it is installed, else processes of our own, which cost more of the machine."""

import contextlib
import multiprocessing
import socket
import statistics
import time
import urllib.parse
from typing import Any, NamedTuple

from scripts.bench._load import is_whole, rank, run_wrk, tool
from scripts.bench._target import address_of

PROCESSES = 2


class Readings(NamedTuple):
    """What a load of reads came to."""

    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float


def read(url: str, seconds: int, connections: int) -> Readings:
    """Ask again and again on all connections. Ends the program where other answers than 200 come."""
    if tool() != "wrk":
        return _read_by_own(url, seconds, connections)
    told = run_wrk(url, seconds, PROCESSES, connections)
    if told["refused"]:
        raise SystemExit(f"{url} was answered with an error {told['refused']} times")
    return Readings(told["requests"] / told["seconds"], told["p50_ms"], told["p99_ms"])


def _read_by_own(url: str, seconds: int, connections: int) -> Readings:
    context = multiprocessing.get_context("spawn")
    found: Any = context.Queue()
    start = context.Barrier(PROCESSES)
    share = max(1, connections // PROCESSES)
    readers = [context.Process(target=_read, args=(url, seconds, share, start, found)) for _ in range(PROCESSES)]
    for reader in readers:
        reader.start()
    latencies_ms = sorted(latency for _ in readers for latency in found.get())
    for reader in readers:
        reader.join()
    return Readings(len(latencies_ms) / seconds, statistics.median(latencies_ms), rank(latencies_ms, 0.99))


def _read(url: str, seconds: int, connections: int, start: Any, found: Any) -> None:
    """Ask on all connections, then read all answers, over and over; the milliseconds of each go to `found`."""
    path = urllib.parse.urlunsplit(("", "", *urllib.parse.urlsplit(url)[2:]))
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    latencies_ms = []
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(socket.create_connection(address_of(url), timeout=30)) for _ in range(connections)]
        start.wait(60)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            asked = time.monotonic()
            for line in lines:
                line.sendall(request)
            for line in lines:
                _take_answer(line)
                latencies_ms.append((time.monotonic() - asked) * 1e3)
    found.put(latencies_ms)


def _take_answer(line: socket.socket) -> None:
    answer = line.recv(65_536)
    while not is_whole(answer):
        answer += line.recv(65_536)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"an answer was {answer[:200]!r}")
