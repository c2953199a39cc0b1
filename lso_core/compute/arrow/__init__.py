"""Batches that come as Arrow streams: the same rules as JSON's, held against whole columns at once.

As in `compute.batches`, `quick` answers None where it cannot be sure, and `careful` then looks at every event by itself.
pyarrow is an extra and heavy to import, so whoever needs this room imports it then.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from lso_core.compute import columns, scrutiny
from lso_core.compute.arrow.cutting import DoubtError, Floats, cut
from lso_core.compute.arrow.rows import Members, Rows, members, pack
from lso_core.compute.arrow.sheet import read
from lso_core.compute.batches import Post, batch_of, crowded, finding_of, is_complete, sift
from lso_core.compute.columns import BodyKind, Columns
from lso_core.compute.outline import openings, outline
from lso_core.model.batches import Batch
from lso_core.model.errors import Finding, InputError
from lso_core.model.events import Event

__all__ = ["Rows", "careful", "quick"]


def quick(post: Post) -> Batch | None:
    """The batch, or None where it is not certain that every event is good."""
    if openings(post.body) > post.most_containers:
        return None
    try:
        batches = read(post.body, post.most_events)
        found, latency_ms = cut(batches, post.system_id)
    except (InputError, DoubtError, ValueError):  # also of pyarrow, where a number is beyond its type
        return None
    if not is_complete(found):
        return None
    return batch_of(post, found, _pack(batches, found, latency_ms))


def careful(post: Post, *, skip: bool = False) -> Batch:
    """The batch, event by event. Raises InputError as `compute.batches.careful` does."""
    batches = read(post.body, post.most_events)
    rows = list(members(batches))
    if _are_crowded(rows, post.most_containers):
        raise crowded(post)
    kept = sift(_judge(rows, post), len(rows), lambda index: _json(rows[index]), skip=skip)
    found = columns.cut(kept.events)
    latency_ms = np.array([event.latency_ms for event in kept.events], np.float64)  # None becomes NaN
    body = _pack(batches, found, latency_ms, kept.good)
    return batch_of(post, found, body, kept.rejects)


def _are_crowded(rows: list[Members], most: int) -> bool:
    """Whether the payloads of all events, of which many may be one text in the body, have too many objects and arrays."""
    payloads = [memoryview(row["payload"]) for row in rows if "payload" in row]
    if sum(map(openings, payloads)) <= most:
        return False
    return sum(outline(bytes(payload)).containers for payload in payloads) > most


def _judge(rows: list[Members], post: Post) -> Iterator[Event | list[Finding]]:
    for index, row in enumerate(rows):
        event = scrutiny.read_members(row, post.system_id, post.latest_ms)
        yield event if isinstance(event, Event) else [finding_of(problem, index) for problem in event]


def _json(row: Members) -> bytes:
    """An event as a JSON object; what is no JSON in it as a string."""
    return msgspec.json.encode({name: _value(bytes(memoryview(raw))) for name, raw in row.items()})


def _value(raw: bytes) -> Any:
    try:
        json.loads(raw, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return raw.decode(errors="replace")
    return msgspec.Raw(raw)


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _pack(batches: list[Any], found: Columns, latency_ms: Floats, good: list[int] | None = None) -> bytes:
    """What the columns do not tell of the events: latencies only where they are not whole microseconds."""
    names = ["run_id", "payload"]
    if not np.array_equal(found.latency_us / 1_000, np.where(found.has_latency, latency_ms, 0.0)):
        names.append("latency_ms")
    return columns.pack_body(pack(batches, names, good), BodyKind.ARROW)
