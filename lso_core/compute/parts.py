"""What the columns of a batch do not tell of its events, field by field: a sixth of the bytes that the events had.

Kept for reading back. The rest of an event is in the columns; written out as JSON once more it would cost more to
compress than the batch to read, and most of the hot tier.
"""

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import kernel
from lso_core.compute.columns import CorruptEntryError
from lso_core.model.events import PAYLOAD_DEPTH

Told = TypeVar("Told")
Bools = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]

_raws = msgspec.json.Decoder(list[msgspec.Raw])
_NONE: Final = msgspec.Raw(b"null")


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


class Texts(msgspec.Struct, frozen=True):
    """n texts, UTF-8, one after another."""

    data: bytes
    bounds: Int32
    """n + 1: where each begins, and the last ends."""
    given: Bools
    """n: False where there is no text."""

    def __getitem__(self, index: int) -> bytes | None:
        return self.data[self.bounds[index] : self.bounds[index + 1]] if self.given[index] else None


class Rows:
    """Stored parts of `count` events, event by event or all at once. Raises CorruptEntryError where they are none."""

    def __init__(self, body: bytes, count: int) -> None:
        try:
            self._parts = parts = _read.decode(body)
            self.payloads = _payloads(parts.payloads, count)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptEntryError("the parts of the events cannot be read") from error
        if len(self.payloads.given) != count or len(parts.latencies_ms) not in {0, 8 * count}:
            raise CorruptEntryError("there are not as many parts as events")
        if parts.run_id_bytes and len(parts.run_ids) != parts.run_id_bytes * count:
            raise CorruptEntryError("there are not as many run ids as events")
        self._count = count
        self.latencies_ms = np.frombuffer(parts.latencies_ms, "<f8")
        """NaN where there is none, or empty where the columns tell them all."""

    @property
    def run_ids(self) -> Texts:
        """The run ids of all."""
        ids, width, count = self._parts.run_ids, self._parts.run_id_bytes, self._count
        if not width:
            ids, width = ids * count, len(ids)
        return Texts(ids, np.arange(count + 1, dtype=np.int32) * width, np.full(count, bool(width)))

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
        text = self.payloads[index]
        return _NONE if text is None else msgspec.Raw(text)

    def latency_ms(self, index: int) -> float | None:
        """None where the columns tell it, also that there is none."""
        value = float(self.latencies_ms[index]) if len(self.latencies_ms) else math.nan
        return None if math.isnan(value) else value


def _payloads(stored: bytes, count: int) -> Texts:
    """The payloads of `count` events, or of as many as there are. Raises what msgspec does where they are none."""
    if not stored:
        return Texts(b"", np.zeros(count + 1, np.int32), np.zeros(count, np.bool_))
    split = _compiled()
    found = None if split is None else split(stored, count)
    if found is not None:
        return found
    return _joined([None if raw == _NONE else bytes(raw) for raw in _raws.decode(stored)])


def _joined(texts: Sequence[bytes | None]) -> Texts:
    whole = [text or b"" for text in texts]
    bounds = np.fromiter(itertools.accumulate(map(len, whole), initial=0), np.int32, len(whole) + 1)
    return Texts(b"".join(whole), bounds, np.array([text is not None for text in texts], np.bool_))


@functools.cache
def _compiled() -> Callable[[bytes, int], Texts | None] | None:
    """`_payloads` by a kernel; None where it cannot be certain."""
    if kernel.trouble() is not None:
        return None
    text, number, address = ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p
    arguments = (text, number, number, ctypes.c_int, address, address, address)
    run: Any = kernel.function("lso_split_payloads", *arguments, result=number)

    def split(stored: bytes, count: int) -> Texts | None:
        packed, bounds = np.empty(len(stored), np.uint8), np.zeros(count + 1, np.int32)
        given = np.empty(count, np.bool_)
        told = stored, len(stored), count, PAYLOAD_DEPTH
        used = run(*told, kernel.address(packed), kernel.address(bounds[1:]), kernel.address(given))
        return None if used < 0 else Texts(packed[:used].tobytes(), bounds, given)

    return split
