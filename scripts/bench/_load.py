"""A load of prepared POSTs: wrk where it is installed, else processes of our own, which cost more of the machine."""

import contextlib
import json
import math
import multiprocessing
import random
import shutil
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

from scripts.bench._requests import NUMBERS, Prepared, Requests
from scripts.bench._target import address_of

SCRIPT = Path(__file__).with_name("_load.lua")
CONNECTIONS = 16
PROCESSES = 2
"""Of our own; one thread of wrk keeps any of the services busy."""
REFUSED_PAUSE_S = 0.1
"""How long a connection of our own waits after a refusal."""
START_S = 60.0


class Load(NamedTuple):
    """What a load came to."""

    began: float
    """By the monotonic clock."""
    seconds: float
    taken: int
    """Requests that were answered with success."""
    refused: int
    """Answers of 400 and above."""
    p50_ms: float
    p99_ms: float


class Order(NamedTuple):
    """What is to be sent."""

    address: tuple[str, int]
    prepared: Prepared
    seconds: float
    connections: int
    rate: float
    """Requests a second together, or 0 for one right after the other on each connection."""
    first: int
    """The first number to write into the marks."""


def tool() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "own emitters"


def send(url: str, prepared: Prepared, seconds: float, connections: int = CONNECTIONS, *, rate: float = 0.0) -> Load:
    """Send for so long; see Order. Ends the program where connections fail."""
    order = Order(address_of(url), prepared, seconds, connections, rate, random.randrange(NUMBERS))
    return _by_wrk(order) if tool() == "wrk" else _by_own(order)


class Background:
    """A load that goes on while something else is measured."""

    def __init__(self, url: str, prepared: Prepared, seconds: float, *, rate: float) -> None:
        self._loads: list[Load] = []
        self._thread = threading.Thread(target=lambda: self._loads.append(send(url, prepared, seconds, rate=rate)))
        self._thread.start()

    def wait(self) -> Load:
        """What it came to, when it has ended."""
        self._thread.join()
        if not self._loads:
            raise SystemExit("the load failed")
        return self._loads[0]


def send_each(url: str, prepared: Prepared, count: int) -> None:
    """Send exactly so many requests, one after the other; what is refused is sent again until it is taken."""
    requests = Requests(prepared)
    first = random.randrange(NUMBERS)
    with _Line(address_of(url)) as line:
        for turn in range(count):
            request = requests.written(turn, first + turn)
            while (status := line.exchange(request)) == 503:
                time.sleep(REFUSED_PAUSE_S)
            if status >= 400:
                raise SystemExit(f"a request was answered with {status}")


# With wrk.


def _by_wrk(order: Order) -> Load:
    words = (str(order.prepared.requests), str(order.prepared.places), str(order.first), str(order.rate))
    told = run_wrk("http://{}:{}".format(*order.address), order.seconds, 1, order.connections, *words)
    return Load(
        told["ended"] - told["seconds"],
        told["seconds"],
        told["requests"] - told["refused"],
        told["refused"],
        told["p50_ms"],
        told["p99_ms"],
    )


def run_wrk(url: str, seconds: float, threads: int, connections: int, *words: str) -> dict[str, Any]:
    """What our script tells at the end of wrk's run. Without `words` it reads `url` again and again."""
    command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{math.ceil(seconds)}s", "--timeout", "30s"]
    command += ["-s", str(SCRIPT), url, "--", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise SystemExit(f"wrk ended with status {done.returncode}:\n{done.stdout}{done.stderr}") from None
    if told["broken"]:
        raise SystemExit(f"{told['broken']} connections to {url} failed")
    return told


# Without it.


def _by_own(order: Order) -> Load:
    """Processes with a thread for each connection; of each process the numbers are its own."""
    context = multiprocessing.get_context("spawn")
    counts: Any = context.Queue()
    start = context.Barrier(PROCESSES + 1)
    share = order._replace(connections=max(1, order.connections // PROCESSES), rate=order.rate / PROCESSES)
    emitters = [
        context.Process(target=_emit, args=(share._replace(first=order.first + turn), start, counts), daemon=True)
        for turn in range(PROCESSES)
    ]
    for emitter in emitters:
        emitter.start()
    start.wait(START_S)
    began = time.monotonic()
    taken: list[float] = []
    refused = 0
    for _ in emitters:
        latencies, refusals = counts.get(timeout=order.seconds + START_S)
        taken += latencies
        refused += refusals
    seconds = time.monotonic() - began
    for emitter in emitters:
        emitter.join()
    taken.sort()
    return Load(began, seconds, len(taken), refused, statistics.median(taken), rank(taken, 0.99))


def rank(ordered: list[float], share: float) -> float:
    """The value at rank ceil(share · n)."""
    return ordered[math.ceil(share * len(ordered)) - 1]


def _emit(order: Order, start: Any, counts: Any) -> None:
    """One process: milliseconds of each request taken, and how many were refused, to `counts`."""
    turns = _Turns(order)
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(_Line(order.address)) for _ in range(order.connections)]
        threads = [threading.Thread(target=line.send, args=(turns,)) for line in lines]
        start.wait(START_S)
        turns.begin()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts.put(([one for line in lines for one in line.latencies_ms], sum(line.refused for line in lines)))


class _Turns:
    """Hands out requests, each with a number of its own, when they are due."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._requests = Requests(order.prepared)
        self._lock = threading.Lock()
        self._turn = 0
        self._began = 0.0

    def begin(self) -> None:
        self._began = time.monotonic()

    def next(self) -> bytes | None:
        """The next request; None when the time is over."""
        order = self._order
        with self._lock:
            turn = self._turn
            self._turn += 1
        if order.rate:
            time.sleep(max(0.0, self._began + turn / order.rate - time.monotonic()))
        if time.monotonic() - self._began > order.seconds:
            return None
        return self._requests.written(turn, order.first + turn * PROCESSES)


class _Line:
    """One kept-alive connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.latencies_ms: list[float] = []
        self.refused = 0
        self._socket = socket.create_connection(address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, turns: _Turns) -> None:
        """Send one request after the other."""
        while request := turns.next():
            began = time.monotonic()
            if self.exchange(request) < 400:
                self.latencies_ms.append((time.monotonic() - began) * 1e3)
            else:
                self.refused += 1
                time.sleep(REFUSED_PAUSE_S)

    def exchange(self, request: bytes) -> int:
        """Send a request; the status of its answer, read to its end."""
        self._socket.sendall(request)
        answer = b""
        while not is_whole(answer):
            piece = self._socket.recv(65_536)
            if not piece:
                raise SystemExit("the service closed a connection")
            answer += piece
        return int(answer[9:12])


def is_whole(answer: bytes) -> bool:
    """Whether an answer with a Content-Length, or without a body, is complete."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)
