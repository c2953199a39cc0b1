"""Emitter processes: each prepares its requests before the clock starts and sends them over kept-alive connections."""

import contextlib
import json
import multiprocessing
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple, Self

REFUSED_PAUSE_S = 0.1
"""How long an emitter waits after a 503 before it sends the batch again."""
PREPARE_S = 600.0


KINDS = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
}
"""Media types of a batch."""


class Plan(NamedTuple):
    """What one emitter process is to send."""

    address: tuple[str, int]
    systems: Sequence[int]
    batches: int
    events: int
    """A batch."""
    connections: int
    number: int
    """Of the process; it takes turns at the systems from there on."""
    every_s: float = 0.0
    """Each connection sends a batch this often, or one right after the other."""
    kind: str = "json"
    """How a batch is written: one of KINDS."""

    def system_of(self, turn: int) -> int:
        """The system that a batch goes to."""
        return self.systems[(self.number + turn) % len(self.systems)]


class Sent(NamedTuple):
    """What an emitter process did."""

    events: int
    body_bytes: int
    refused: int
    """503 answers; each was sent again."""
    latencies_s: list[float]
    """Of each POST that was taken, from its first byte out to its answer."""


class Emitters:
    """Processes that have prepared everything and wait for the start."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        context = multiprocessing.get_context("spawn")
        self._start = context.Barrier(len(plans) + 1)
        self._sent: Any = context.Queue()
        self._processes = [context.Process(target=_emit, args=(plan, self._start, self._sent)) for plan in plans]
        for process in self._processes:
            process.start()
        self._start.wait(PREPARE_S)  # all are prepared

    def run(self) -> list[Sent]:
        """Let them send everything; what each did, when the last has ended."""
        self.start()
        return self.finish()

    def start(self) -> None:
        """Let them begin."""
        self._start.wait()

    def finish(self) -> list[Sent]:
        """What each did, when the last has ended."""
        sent = [self._sent.get() for _ in self._processes]
        for process in self._processes:
            process.join()
        return sent


def _emit(plan: Plan, start: Barrier, sent: Any) -> None:
    requests = [_request(plan, turn) for turn in range(plan.batches)]
    shares = [requests[number :: plan.connections] for number in range(plan.connections)]
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(_Line(plan.address)) for _ in shares]
        done: list[Sent] = []
        threads = [
            threading.Thread(target=lambda line=line, share=share: done.append(line.deliver(share, plan)))
            for line, share in zip(lines, shares, strict=True)
        ]
        start.wait(PREPARE_S)
        start.wait()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sent.put(
        Sent(
            sum(one.events for one in done),
            sum(one.body_bytes for one in done),
            sum(one.refused for one in done),
            [latency for one in done for latency in one.latencies_s],
        )
    )


def _request(plan: Plan, turn: int) -> bytes:
    """One POST as it goes over the wire; no two are alike."""
    system_id = plan.system_of(turn)
    write = {"json": batch, "ndjson": lines, "arrow": stream}[plan.kind]
    body = write(system_id, plan.events, random.Random(f"{plan.number} {turn} {os.getpid()}"))
    head = (
        f"POST /systems/{system_id}/events HTTP/1.1\r\nHost: bench\r\nContent-Type: {KINDS[plan.kind]}\r\n"
        f"Idempotency-Key: {uuid.uuid4().hex}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def batch(system_id: int, count: int, dice: random.Random) -> bytes:
    """A body of `count` events with every field that an event can have, in the order of the documented example."""
    return b'{"events": [' + b", ".join(_events(system_id, count, dice)) + b"]}"


def lines(system_id: int, count: int, dice: random.Random) -> bytes:
    """The same, one event a line."""
    return b"\n".join(_events(system_id, count, dice))


def stream(system_id: int, count: int, dice: random.Random) -> bytes:
    """The same as an Arrow stream, as a pipeline would write it that has its events in a table."""
    import pyarrow as pa  # noqa: PLC0415 - only this kind needs it

    events = [json.loads(event) for event in _events(system_id, count, dice)]
    columns = {name: pa.array([event[name] for event in events]) for name in events[0]}
    columns |= {name: columns[name].dictionary_encode() for name in ("run_id", "stage", "event_type", "status")}
    columns["ts"] = pa.array([datetime.fromisoformat(event["ts"]) for event in events], pa.timestamp("ms", tz="UTC"))
    columns["payload"] = pa.array([json.dumps(event["payload"]) for event in events])
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _events(system_id: int, count: int, dice: random.Random) -> list[bytes]:
    begun = datetime.now(UTC)
    run = uuid.UUID(int=dice.getrandbits(128))
    events = []
    for _ in range(count):
        ts = (begun - timedelta(milliseconds=dice.randrange(60_000))).isoformat(timespec="milliseconds")[:-6]
        bad = dice.random() < 0.02
        events.append(
            f'{{"system_id": {system_id}, "ts": "{ts}Z", "run_id": "{run}", '
            f'"stage": "{dice.choice(("extract", "transform", "load"))}", '
            f'"event_type": "{"failure" if bad else "success"}", "status": "{"error" if bad else "ok"}", '
            f'"latency_ms": {dice.lognormvariate(3, 1):.3f}, "payload": {{"rows": {dice.randrange(100_000)}}}}}'
        )
    return [event.encode() for event in events]


class _Line:
    """One kept-alive connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def deliver(self, requests: Sequence[bytes], plan: Plan) -> Sent:
        """Send one request after the other, each when it is due and until it is taken."""
        latencies: list[float] = []
        refused = 0
        first = time.perf_counter()
        for turn, request in enumerate(requests):
            time.sleep(max(0.0, first + turn * plan.every_s - time.perf_counter()))
            began = time.perf_counter()
            while (status := self._exchange(request)) == 503:
                refused += 1
                time.sleep(REFUSED_PAUSE_S)
            if status != 202:
                raise SystemExit(f"a batch was answered with {status}")
            latencies.append(time.perf_counter() - began)
        return Sent(plan.events * len(requests), sum(map(len, requests)), refused, latencies)

    def _exchange(self, request: bytes) -> int:
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
    """Whether an answer with a Content-Length is complete."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)
