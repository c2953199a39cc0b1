"""A request's body read by a kernel: one pass over its bytes (`native/events.c`), or, where it is an Arrow stream, over the
columns that lie in it (`native/stream.c`, `native/arrow.c`), from there to what is stored.

It takes what is certain to be good, which is nearly everything that pipelines send, and answers None for the rest: names
with escapes, numbers of more digits than it knows to the last bit, and all that is wrong.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from lso_core.compute import columns, kernel, run_ids
from lso_core.model.events import LATENCY_MS_MAX, LIFECYCLE, NAME_BYTES, PAYLOAD_BYTES, PAYLOAD_DEPTH
from lso_core.model.runs import LIFE, MAKERS, OUTCOMES

_MOST: Final = (1 << 63) - 1


class _Word(ctypes.Structure):
    """`struct word`: a name that means something as an event type."""

    _fields_ = (("text", ctypes.c_char * 14), ("length", ctypes.c_uint8), ("kinds", ctypes.c_uint8))


class _Rules(ctypes.Structure):
    """`struct rules`"""

    _fields_ = (
        ("latency_ms_max", ctypes.c_double),
        ("name_bytes", ctypes.c_int64),
        ("payload_bytes", ctypes.c_int64),
        ("payload_depth", ctypes.c_int64),
        ("runs_own", ctypes.c_double),
        ("runs_few", ctypes.c_int64),
        ("runs_repeated", ctypes.c_int64),
        ("runs_sample", ctypes.c_int64),
        ("runs_most_outcomes", ctypes.c_int64),
        ("columns_format", ctypes.c_int64),
        ("word_count", ctypes.c_int64),
        ("words", _Word * 16),
    )


class _Post(ctypes.Structure):
    """`struct post`"""

    _fields_ = (
        ("system_id", ctypes.c_int64),
        ("most_events", ctypes.c_int64),
        ("most_containers", ctypes.c_int64),
        ("most_parts", ctypes.c_int64),
        ("lines", ctypes.c_int64),
    )


class _Batch(ctypes.Structure):
    """`struct batch`"""

    _fields_ = (
        ("events", ctypes.c_int64),
        ("latest_ts_ms", ctypes.c_int64),
        ("has_ts", ctypes.c_int64),
        ("told_latencies", ctypes.c_int64),
        ("block", kernel.Bytes),
        ("parts", kernel.Bytes),
    )


class Caps(ctypes.Structure):
    """`struct caps`: what an Arrow stream may hold."""

    _fields_ = (
        ("messages", ctypes.c_int64),
        ("metadata_bytes", ctypes.c_int64),
        ("metadata_pairs", ctypes.c_int64),
        ("dictionary_bytes", ctypes.c_int64),
    )


class Read(NamedTuple):
    """The events of a body."""

    events: int
    block: bytes
    """As `columns.encode` gives it."""
    parts: bytes | None
    """`compute.parts`, as they are stored before they are compressed; None where they cannot tell these events."""
    latest_ts_ms: int | None
    told_latencies: bool
    """Whether the columns' whole microseconds tell every latency exactly."""


class _Functions(NamedTuple):
    read: Callable[..., Any]
    read_arrow: Callable[..., Any]
    free: Callable[..., Any]


def read(body: bytes, system_id: int, most_events: int, most_containers: int, *, lines: bool) -> Read | None:
    """The events of a body; None where it is not certain that all are good, or there is no kernel."""
    functions = _functions()
    if functions is None or not 0 <= system_id <= _MOST:
        return None
    post = _Post(system_id, min(most_events, _MOST), min(most_containers, _MOST), _MOST, lines)
    # Behind `bytes` there always is the zero that it wants.
    return _told(functions, lambda batch: functions.read(body, len(body), _rules(), post, batch))


def read_arrow(
    body: bytes, caps: Caps, system_id: int, most_events: int, most_containers: int, most_parts: int
) -> Read | None:
    """As `read`, of an Arrow stream. There are no parts of more than about so many bytes."""
    functions = _functions()
    if functions is None or not 0 <= system_id <= _MOST:
        return None
    post = _Post(system_id, min(most_events, _MOST), min(most_containers, _MOST), most_parts)
    return _told(functions, lambda batch: functions.read_arrow(body, len(body), caps, _rules(), post, batch))


def _told(functions: _Functions, read: Callable[[_Batch], Any]) -> Read | None:
    batch = _Batch()
    if not read(batch):
        return None
    block, parts = batch.block, batch.parts
    try:
        return Read(
            batch.events,
            ctypes.string_at(block.data, block.used),
            ctypes.string_at(parts.data, parts.used) if parts.used else None,
            batch.latest_ts_ms if batch.has_ts else None,
            bool(batch.told_latencies),
        )
    finally:
        functions.free(batch)


@functools.cache
def _functions() -> _Functions | None:
    body, rest = (ctypes.c_char_p, ctypes.c_size_t), [*map(ctypes.POINTER, (_Rules, _Post, _Batch))]
    read = kernel.function("lso_read", *body, *rest, result=ctypes.c_int)
    read_arrow = kernel.function("lso_read_arrow", *body, ctypes.POINTER(Caps), *rest, result=ctypes.c_int)
    free = kernel.function("lso_free", ctypes.POINTER(_Batch), result=None)
    if read is None or read_arrow is None or free is None:
        return None
    return _Functions(read, read_arrow, free)


@functools.cache
def _rules() -> _Rules:
    """What is written down once, in Python."""
    kinds = (LIFECYCLE, LIFE, LIFE & MAKERS, OUTCOMES)
    words = [
        _Word(name.encode(), len(name), sum(1 << bit for bit, kind in enumerate(kinds) if name in kind))
        for name in sorted(frozenset().union(*kinds))
    ]
    return _Rules(
        latency_ms_max=LATENCY_MS_MAX,
        name_bytes=NAME_BYTES,
        payload_bytes=PAYLOAD_BYTES,
        payload_depth=PAYLOAD_DEPTH,
        runs_own=run_ids.OWN,
        runs_few=run_ids.FEW,
        runs_repeated=run_ids.REPEATED,
        runs_sample=run_ids.SAMPLE,
        runs_most_outcomes=run_ids.MOST_OUTCOMES,
        columns_format=columns.FORMAT,
        word_count=len(words),
        words=(_Word * 16)(*words),
    )
