"""Prepared requests: made once before the clock starts, different each time they are sent.

The same events are written for every service that is measured: as JSON, NDJSON or an Arrow stream for LSO, as Influx line
protocol for its peers. Each request has marks, places of 7 digits, into which the load generator writes a number that never
comes twice: in every event's run id and in the Idempotency-Key, or in every line's time. So no body repeats.
"""

import json
import mmap
import random
import re
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lso_core.model import times

MARK = b"0000000"
"""The places into which the load generator writes a number."""
NUMBERS = 10 ** len(MARK)
_STAND_IN = b"@#MARK@"
SPREAD_S = 60

KINDS = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
    "lines": "text/plain",
}
"""Media types of a batch."""


class Event(NamedTuple):
    """One observation, before it is written."""

    system_id: int
    at_ms: int
    run_id: str
    stage: str
    bad: bool
    latency_ms: float
    rows: int


class Prepared(NamedTuple):
    """Requests in a file, with their places beside it."""

    requests: Path
    places: Path
    events: int
    """A request."""
    body_bytes: float = 0.0
    """Of a request, on average."""


class Requests:
    """Prepared requests, read back."""

    def __init__(self, prepared: Prepared) -> None:
        with prepared.requests.open("rb") as file:
            self._requests = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._places = list(_read_index(prepared.places))

    def written(self, turn: int, number: int) -> bytes:
        """The request whose turn it is, with `number` in its marks."""
        start, length, marks = self._places[turn % len(self._places)]
        request = bytearray(self._requests[start : start + length])
        digits = b"%0*d" % (len(MARK), number % NUMBERS)
        for mark in marks:
            request[mark : mark + len(MARK)] = digits
        return bytes(request)


def _read_index(path: Path) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Of each request its start, its length and its marks."""
    numbers = struct.unpack(f"<{path.stat().st_size // 4}I", path.read_bytes())
    at = 1
    while at < len(numbers):
        start, length, marks = numbers[at : at + 3]
        yield start, length, numbers[at + 3 : at + 3 + marks]
        at += 3 + marks


def events(system_id: int, count: int, dice: random.Random, *, own_runs: bool = False) -> Iterator[Event]:
    """Events of one run, or each of its own, spread over the last minute, or longer where there are many."""
    begun_ms = time.time_ns() // 10_000_000 * 10
    run_id = _run_id(dice)
    # No two of a run in the same hundredth of a second: a time series store would take the second for the first again.
    for hundredths in dice.sample(range(max(SPREAD_S * 100, 2 * count)), count):
        yield Event(
            system_id,
            begun_ms - hundredths * 10 + dice.randrange(10),
            _run_id(dice) if own_runs else run_id,
            dice.choice(("extract", "transform", "load")),
            dice.random() < 0.02,
            round(dice.lognormvariate(3, 1), 3),
            dice.randrange(100_000),
        )


def _run_id(dice: random.Random) -> str:
    return f"{_STAND_IN.decode()}-{uuid.UUID(int=dice.getrandbits(128))!s:.28}"


def as_json(some: Sequence[Event]) -> bytes:
    """A body with every field that an event can have, in the order of the documented example."""
    return b'{"events": [' + b", ".join(map(_object, some)) + b"]}"


def as_ndjson(some: Sequence[Event]) -> bytes:
    """The same, one event a line."""
    return b"\n".join(map(_object, some))


def _object(event: Event) -> bytes:
    return (
        f'{{"system_id": {event.system_id}, "ts": "{times.to_text(event.at_ms)}", '
        f'"run_id": "{event.run_id}", "stage": "{event.stage}", '
        f'"event_type": "{"failure" if event.bad else "success"}", "status": "{"error" if event.bad else "ok"}", '
        f'"latency_ms": {event.latency_ms:.3f}, "payload": {{"rows": {event.rows}}}}}'
    ).encode()


def as_arrow(some: Sequence[Event]) -> bytes:
    """The same as an Arrow stream, as a pipeline would write it that has its events in a table."""
    import pyarrow as pa  # noqa: PLC0415 - only this kind needs it

    columns = {
        "system_id": pa.array([one.system_id for one in some]),
        "ts": pa.array([one.at_ms for one in some], pa.timestamp("ms", tz="UTC")),
        "run_id": pa.array([one.run_id for one in some]).dictionary_encode(),
        "stage": pa.array([one.stage for one in some]).dictionary_encode(),
        "event_type": pa.array(["failure" if one.bad else "success" for one in some]).dictionary_encode(),
        "status": pa.array(["error" if one.bad else "ok" for one in some]).dictionary_encode(),
        "latency_ms": pa.array([one.latency_ms for one in some]),
        "payload": pa.array([json.dumps({"rows": one.rows}) for one in some]),
    }
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def as_lines(some: Sequence[Event]) -> bytes:
    """Influx line protocol with what a percentile needs: the words as tags, the latency as the only field.

    Run id and payload are left out: in a time series store they would be a series each or cannot be kept, and leaving
    them out is to the peers' advantage. Times are nanoseconds, of which the mark takes all below a hundredth of a second.
    """
    return b"\n".join(
        (
            f"events,system={one.system_id},stage={one.stage},event_type={'failure' if one.bad else 'success'},"
            f"status={'error' if one.bad else 'ok'} latency_ms={one.latency_ms:.3f} "
            f"{one.at_ms // 10}{_STAND_IN.decode()}"
        ).encode()
        for one in some
    )


WRITERS: dict[str, Callable[[Sequence[Event]], bytes]] = {
    "json": as_json,
    "ndjson": as_ndjson,
    "arrow": as_arrow,
    "lines": as_lines,
}


def prepare(
    folder: Path, kind: str, places: Sequence[tuple[int, str]], batch: int, count: int, *, own_runs: bool = False
) -> Prepared:
    """`count` requests of `batch` events each, taking turns at the places: systems and the paths that they post to."""
    sizes = []

    def requests() -> Iterator[bytes]:
        for turn in range(count):
            system_id, path = places[turn % len(places)]
            body = WRITERS[kind](
                list(events(system_id, batch, random.Random(f"{folder} {kind} {turn}"), own_runs=own_runs))
            )
            sizes.append(len(body))
            yield request(path, KINDS[kind], body, keyed=kind != "lines")

    return write(folder, requests(), batch)._replace(body_bytes=sum(sizes) / count)


def request(path: str, media_type: str, body: bytes, *, keyed: bool = False) -> bytes:
    """A POST as it goes over the wire, with stand-ins where marks will be."""
    key = f"Idempotency-Key: {uuid.uuid4().hex[:24]}{_STAND_IN.decode()}\r\n" if keyed else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {media_type}\r\n{key}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def write(folder: Path, requests: Iterable[bytes], events_each: int) -> Prepared:
    """Put requests into files, as the load generators read them."""
    name = uuid.uuid4().hex
    prepared = Prepared(folder / f"{name}.requests", folder / f"{name}.index", events_each)
    at, numbers = 0, [0]
    with prepared.requests.open("wb") as out:
        for one in requests:
            marks = [found.start() for found in re.finditer(_STAND_IN, one)]
            numbers += [at, len(one), len(marks), *marks]
            numbers[0] += 1
            at += out.write(one.replace(_STAND_IN, MARK))
    prepared.places.write_bytes(struct.pack(f"<{len(numbers)}I", *numbers))
    return prepared
