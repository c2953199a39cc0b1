"""What the columns of a batch do not tell of its events, field by field: a sixth of the bytes that the events had.

Kept for reading back. The rest of an event is in the columns; written out as JSON once more it would cost more to
compress than the batch to read, and most of the hot tier.
"""

import math
from typing import TypeVar

import msgspec
import numpy as np

from lso_core.compute.columns import CorruptEntryError

Told = TypeVar("Told")

_raws = msgspec.json.Decoder(list[msgspec.Raw])
_NONE = msgspec.Raw(b"null")


class Parts(msgspec.Struct, frozen=True, array_like=True):
    """The fields of n events; stored as MessagePack, which `native/parts.c` writes."""

    run_ids: bytes = b""
    """One after another, or one that all have."""
    run_id_bytes: int = 0
    """Length of each; 0 where all have the same, or none has one."""
    payloads: bytes = b""
    """A JSON array of them, null where an event has none; empty where no event has one."""
    latencies_ms: bytes = b""
    """Doubles, little-endian, NaN for none; empty where the columns' microseconds tell them exactly."""


_read = msgspec.msgpack.Decoder(Parts)


class Rows:
    """Stored parts, event by event. Raises CorruptEntryError where they are none."""

    def __init__(self, body: bytes, count: int) -> None:
        try:
            self._parts = parts = _read.decode(body)
            self._payloads = _raws.decode(parts.payloads) if parts.payloads else []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptEntryError("the parts of the events cannot be read") from error
        if len(self._payloads) not in {0, count} or len(parts.latencies_ms) not in {0, 8 * count}:
            raise CorruptEntryError("there are not as many parts as events")
        if parts.run_id_bytes and len(parts.run_ids) != parts.run_id_bytes * count:
            raise CorruptEntryError("there are not as many run ids as events")
        self._latencies_ms = np.frombuffer(parts.latencies_ms, "<f8")

    def payloads_as(self, decoder: "msgspec.json.Decoder[list[Told]]") -> list[Told]:
        """All payloads, as a decoder of their array tells them; empty where no event has one."""
        return decoder.decode(self._parts.payloads) if self._parts.payloads else []

    def run_id(self, index: int) -> str | None:
        """None where the event has none."""
        ids, width = self._parts.run_ids, self._parts.run_id_bytes
        text = ids[index * width : (index + 1) * width] if width else ids
        return text.decode(errors="replace") or None

    def payload(self, index: int) -> msgspec.Raw:
        """As it came; null where there was none."""
        return self._payloads[index] if self._payloads else _NONE

    def latency_ms(self, index: int) -> float | None:
        """None where the columns tell it, also that there is none."""
        value = float(self._latencies_ms[index]) if len(self._latencies_ms) else math.nan
        return None if math.isnan(value) else value
