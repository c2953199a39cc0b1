"""Batches that come as Arrow streams: the same rules as JSON's, held against whole columns at once.

As in `compute.batches`, `quick` answers None where it cannot be sure, and `careful` then looks at every event by itself.
pyarrow is an extra and heavy to import, so whoever needs this room imports it then.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from lso_core.compute import columns, reader, scrutiny
from lso_core.compute.arrow import framing
from lso_core.compute.arrow.rows import Members, Rows, members, pack
from lso_core.compute.arrow.sheet import made_plain, read
from lso_core.compute.batches import Post, batch_of, crowded, digest_of, finding_of, sift
from lso_core.compute.columns import BodyKind
from lso_core.compute.outline import outline
from lso_core.model.batches import Batch
from lso_core.model.errors import Finding, InputError
from lso_core.model.events import PAYLOAD_BYTES, Event

__all__ = ["Rows", "careful", "quick"]

_CAPS: Final = reader.Caps(
    messages=framing.MESSAGES,
    metadata_bytes=framing.METADATA_BYTES,
    metadata_pairs=framing.METADATA_PAIRS,
    dictionary_bytes=framing.DICTIONARY_BYTES,
)


def quick(post: Post) -> Batch | None:
    """The batch, or None where it is not certain that every event is good, or there is no kernel."""
    try:
        found = _found(post, post.body)
        if found is None:
            plain = made_plain(post.body, post.most_events)
            found = None if plain is None else _found(post, plain)
        if found is None:
            return None
        if found.parts is None:
            body = _pack(read(post.body, post.most_events), told_latencies=found.told_latencies)
        else:
            body = columns.pack_body(found.parts, BodyKind.PARTS)
    except InputError:
        return None
    return Batch(found.events, found.block, body, found.latest_ts_ms, digest_of(post))


def _found(post: Post, body: bytes) -> reader.Read | None:
    """What the kernel makes of a stream that is the post's, perhaps in other types."""
    most = post.most_events, post.most_containers, len(post.body)
    return reader.read_arrow(body, _CAPS, post.system_id, *most)


def careful(post: Post, *, skip: bool = False) -> Batch:
    """The batch, event by event. Raises InputError as `compute.batches.careful` does."""
    batches = read(post.body, post.most_events)
    rows = list(members(batches))
    if _are_crowded(rows, post.most_containers):
        raise crowded(post)
    kept = sift(_judge(rows, post), len(rows), lambda index: _json(rows[index]), skip=skip)
    found = columns.cut(kept.events)
    latency_ms = np.array([event.latency_ms or 0.0 for event in kept.events])
    told_latencies = np.array_equal(found.latency_us / 1_000, latency_ms)
    return batch_of(post, found, _pack(batches, kept.good, told_latencies=told_latencies), kept.rejects)


def _are_crowded(rows: list[Members], most: int) -> bool:
    """Whether the payloads of all events, of which many may be one text in the body, have too many objects and arrays.

    One over its cap is refused by itself, so none is looked at here that is longer than the cap.
    """
    shown = [memoryview(row["payload"]) for row in rows if "payload" in row]
    payloads = [payload for payload in shown if len(payload) <= PAYLOAD_BYTES]
    if sum(text.count(b"{") + text.count(b"[") for text in map(bytes, payloads)) <= most:
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


def _pack(batches: list[Any], good: list[int] | None = None, *, told_latencies: bool) -> bytes:
    """What the columns do not tell of the events: latencies only where they are not whole microseconds."""
    names = ["run_id", "payload"] if told_latencies else ["run_id", "payload", "latency_ms"]
    return columns.pack_body(pack(batches, names, good), BodyKind.ARROW)
