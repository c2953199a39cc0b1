"""A load of GETs on one URL: wrk where it is installed, else processes of our own, which cost more of the machine."""

import contextlib
import multiprocessing
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
from typing import Any

from scripts.bench._emitters import is_whole
from scripts.bench._target import address_of

PROCESSES = 2


def tool() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "own readers"


def rate(url: str, seconds: int, connections: int) -> float:
    """Answers of 200 a second. Ends the program where others come."""
    return _rate_by_wrk(url, seconds, connections) if tool() == "wrk" else _rate_by_own(url, seconds, connections)


def _rate_by_wrk(url: str, seconds: int, connections: int) -> float:
    command = ["wrk", "-t", str(PROCESSES), "-c", str(connections), "-d", f"{seconds}s", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{url} gave errors:\n{said}")
    found = re.search(r"Requests/sec:\s*([\d.]+)", said)
    if found is None:
        raise SystemExit(f"wrk said:\n{said}")
    return float(found[1])


def _rate_by_own(url: str, seconds: int, connections: int) -> float:
    context = multiprocessing.get_context("spawn")
    counts: Any = context.Queue()
    start = context.Barrier(PROCESSES)
    share = max(1, connections // PROCESSES)
    readers = [context.Process(target=_read, args=(url, seconds, share, start, counts)) for _ in range(PROCESSES)]
    for reader in readers:
        reader.start()
    total = sum(counts.get() for _ in readers)
    for reader in readers:
        reader.join()
    return float(total)


def _read(url: str, seconds: int, connections: int, start: Any, counts: Any) -> None:
    """Ask on all connections, then read all answers, over and over; the rate goes to `counts`."""
    path = urllib.parse.urlsplit(url).path
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(socket.create_connection(address_of(url), timeout=30)) for _ in range(connections)]
        start.wait(60)
        began, answered = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for line in lines:
                line.sendall(request)
            for line in lines:
                _take_answer(line)
            answered += len(lines)
        counts.put(answered / (time.perf_counter() - began))


def _take_answer(line: socket.socket) -> None:
    answer = line.recv(65_536)
    while not is_whole(answer):
        answer += line.recv(65_536)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"an answer was {answer[:200]!r}")
