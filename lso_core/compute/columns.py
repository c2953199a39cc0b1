"""The columns of a batch: what folding needs of its events, packed into one block of a stream entry.

Layout, little-endian: MAGIC, `_HEADER`, a msgpack list of [stages, event types], the columns one after another (a byte of
marks, `ts` as offsets from the batch's smallest, latency in µs, stage and type as positions in those lists), the run ids
where there is something to tell of them (`compute.run_ids`), and a CRC-32 of all before it. Widths are as small as the batch
allows. The lowest three bits of a mark are flags; where they fit, type and stage stand above them and have no column.

In formats before 3 there was no width of three bytes, and marks were flags alone; one of format 1 says nothing of runs, one of
format 2 always does.
"""

import ctypes
import enum
import functools
import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import lz4.block
import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import kernel, run_ids, timestamps
from lso_core.compute.checksum import crc32
from lso_core.compute.packing import TIGHT_WIDTHS, Ints, loosen, narrow, tighten, widen
from lso_core.compute.run_ids import Numbers, RunIds
from lso_core.model.events import Event

Bools = npt.NDArray[np.bool_]

FORMAT: Final = 3
"""Version of the entry's layout. A worker reads this and those before."""
OLDEST_FORMAT: Final = 1
MAGIC: Final = b"LSO"
_HEADER: Final = struct.Struct("<BIqBBBBI")
"""format, count, base of ts, bytes of a ts offset, of a latency, of a stage, of a type, bytes of the names. For stage and type
that stand in the marks: _IN_MARKS, and from which bit on."""
_CRC: Final = struct.Struct("<I")
_PREFIX: Final = len(MAGIC) + _HEADER.size

_HEAD_WORDS: Final = 7
_KEPT_NAMES: Final = 256
"""Names of up to so many bytes are not read anew for each block."""

_ERROR, _HAS_TS, _HAS_LATENCY = 1, 2, 4
_FLAG_BITS: Final = 3
_MARK_BITS: Final = 8
_IN_MARKS: Final = 0x80

_WIDTHS: Final = frozenset(TIGHT_WIDTHS)

_BODY: Final = struct.Struct("<BI")
"""A BodyKind, and the inflated length."""


class BodyKind(enum.IntEnum):
    """How the events are written that are stored for reading back."""

    JSON = 0
    """`{"events": [...]}`"""
    NDJSON = 1
    ARROW = 2
    """An Arrow stream of what the columns do not tell."""
    PARTS = 3
    """`compute.parts`: the same, of JSON or NDJSON."""


_MOST_SHRUNK: Final = 255
"""lz4 cannot make anything smaller than this part; a header that claims more would have us reserve gigabytes."""


class CorruptEntryError(ValueError):
    """The bytes are not a block of columns: cut off, or something else."""


class NewerFormatError(ValueError):
    """The bytes were written by a newer release than this one. `needs`: who can read them, as in `compute.formats`."""

    def __init__(self, message: str, **needs: int) -> None:
        super().__init__(message)
        self.needs = needs


class Columns(msgspec.Struct, frozen=True):
    """n events by column; every array has n elements."""

    ts_ms: Ints
    """Event time since the epoch; 0 where `has_ts` is False."""
    has_ts: Bools
    latency_us: Ints
    """0 where `has_latency` is False."""
    has_latency: Bools
    error: Bools
    stage: Ints
    """0 for none, else 1 + position in `stages`."""
    event_type: Ints
    """Position in `event_types`."""
    stages: tuple[str, ...]
    event_types: tuple[str, ...]
    runs: RunIds | None = None
    """None where nothing is told of run ids; there may be some all the same."""

    def __len__(self) -> int:
        return len(self.ts_ms)

    @property
    def latest_ts_ms(self) -> int | None:
        """The largest `ts`, None where no event has one."""
        return int(self.ts_ms[self.has_ts].max()) if self.has_ts.any() else None


class _Names(msgspec.Struct, frozen=True, array_like=True):
    stages: tuple[str, ...]
    event_types: tuple[str, ...]


_read_names = msgspec.msgpack.Decoder(_Names)


def cut(events: Sequence[Event]) -> Columns:
    """The columns of validated events. Raises ValueError where a `ts` is not an RFC 3339 date-time."""
    stage, stages = _positions([event.stage for event in events], Numbers({None: 0}))
    event_type, event_types = _positions([event.event_type for event in events], Numbers())
    ts_ms, has_ts = _parse_ts([event.ts for event in events])
    latencies = np.array([event.latency_ms for event in events], np.float64)  # None becomes NaN
    has_latency = ~np.isnan(latencies)
    latency_us = to_us(latencies, has_latency)
    error = np.array([event.status == "error" for event in events], np.bool_)
    runs = run_ids.cut([event.run_id for event in events], stage, event_type, event_types)
    return Columns(ts_ms, has_ts, latency_us, has_latency, error, stage, event_type, stages, event_types, runs)


def _positions(names: Sequence[str | None], numbers: Numbers) -> tuple[Ints, tuple[str, ...]]:
    """Each name's number, and the names met."""
    column = np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))
    return column, tuple(name for name in numbers if name is not None)


def _parse_ts(texts: list[str | None]) -> tuple[Ints, Bools]:
    given = [text for text in texts if text is not None]
    ts_ms = timestamps.parse(given)
    if len(given) == len(texts):
        return ts_ms, np.ones(len(texts), np.bool_)
    has_ts = np.array([text is not None for text in texts], np.bool_)
    all_ms = np.zeros(len(texts), np.int64)
    all_ms[has_ts] = ts_ms
    return all_ms, has_ts


def to_us(latency_ms: npt.NDArray[np.float64], has_latency: Bools) -> Ints:
    """Whole microseconds, to the nearest; 0 where there is no latency."""
    us: Ints = np.rint(np.where(has_latency, latency_ms, 0.0) * 1_000).astype(np.int64)
    return us


def encode(columns: Columns) -> bytes:
    """The columns as one block of bytes."""
    base = int(columns.ts_ms[columns.has_ts].min()) if columns.has_ts.any() else 0
    offsets = np.where(columns.has_ts, columns.ts_ms - base, 0)
    marks = columns.error * np.uint8(_ERROR) | columns.has_ts * np.uint8(_HAS_TS)
    marks |= columns.has_latency * np.uint8(_HAS_LATENCY)
    shift = _FLAG_BITS + max(0, len(columns.event_types) - 1).bit_length()
    packed = [tighten(offsets), tighten(columns.latency_us)]
    if shift + len(columns.stages).bit_length() <= _MARK_BITS:
        marks |= (columns.event_type << _FLAG_BITS | columns.stage << shift).astype(np.uint8)
        packed += (_IN_MARKS | shift, b""), (_IN_MARKS | _FLAG_BITS, b"")
    else:
        packed += ((one.itemsize, one.tobytes()) for one in map(narrow, (columns.stage, columns.event_type)))
    widths, numbers = zip(*packed, strict=True)
    names = msgspec.msgpack.encode((columns.stages, columns.event_types))
    runs = b"" if columns.runs is None else run_ids.encode(columns.runs)
    header = _HEADER.pack(FORMAT, len(columns), base, *widths, len(names))
    block = b"".join((MAGIC, header, names, marks.tobytes(), *numbers, runs))
    return block + _CRC.pack(crc32(block, len(block)))


class Block(msgspec.Struct, frozen=True, gc=False):
    """A block that was found whole, and what is told before its columns."""

    data: bytes
    at: int
    """Where its columns begin."""
    count: int
    base_ms: int
    widths: int
    """Of ts offsets, latencies, stages and types, as the header has them: one byte each, the lowest first."""
    stages: tuple[str, ...]
    event_types: tuple[str, ...]
    runs: RunIds | None

    def __len__(self) -> int:
        return self.count

    def columns(self) -> Columns:
        """The columns, each as an array."""
        flags = np.frombuffer(self.data, np.uint8, self.count, self.at)
        offsets, latency_us, stage, event_type = self.numbers()
        has_ts = (flags & _HAS_TS).astype(np.bool_)
        return Columns(
            ts_ms=np.where(has_ts, offsets + self.base_ms, 0),
            has_ts=has_ts,
            latency_us=latency_us,
            has_latency=(flags & _HAS_LATENCY).astype(np.bool_),
            error=(flags & _ERROR).astype(np.bool_),
            stage=stage,
            event_type=event_type,
            stages=self.stages,
            event_types=self.event_types,
            runs=self.runs,
        )

    def numbers(self) -> list[Ints]:
        """The columns that are not flags."""
        *widths, stage, event_type = self.widths.to_bytes(4, "little")
        if not stage & _IN_MARKS:
            widths += stage, event_type
        ends = itertools.accumulate(widths, lambda at, width: at + width * self.count, initial=self.at + self.count)
        found = [loosen(self.data, width, self.count, at) for width, at in zip(widths, ends, strict=False)]
        if stage & _IN_MARKS:
            marks, shift = widen(self.data, 1, self.count, self.at), stage & ~_IN_MARKS
            found += marks >> shift, marks >> _FLAG_BITS & ((1 << shift - _FLAG_BITS) - 1)
        return found


def block_of(columns: Columns) -> Block:
    """Columns as a block."""
    return read(encode(columns))


def decode(data: bytes) -> Columns:
    """The columns of a block. Raises CorruptEntryError, or NewerFormatError where a newer release wrote it."""
    return read(data).columns()


def read(data: bytes) -> Block:
    """A block, checked. Raises CorruptEntryError, or NewerFormatError where a newer release wrote it."""
    [block] = read_all([data])
    return _read(data) if block is None else block


def read_all(blocks: Sequence[bytes]) -> list[Block | None]:
    """Blocks, checked, many at once; None for one at which `read` has to look closer, and perhaps to say what is wrong."""
    if (compiled := _compiled()) is None:
        return [None] * len(blocks)
    return [_block(data, told) for data, told in zip(blocks, compiled(blocks), strict=True)]


def _block(data: bytes, told: list[int]) -> Block | None:
    at, count, base, widths, most_stage, most_type, end = told
    try:
        names = _names(data[_PREFIX:at])
        runs = _runs(data, data[len(MAGIC)], end, count)
    except (ValueError, IndexError):
        return None
    if most_stage > len(names.stages) or (count and most_type >= len(names.event_types)):
        return None
    return Block(data, at, count, base, widths, names.stages, names.event_types, runs)


def _read(data: bytes) -> Block:
    if len(data) < _PREFIX + _CRC.size or not data.startswith(MAGIC):
        raise CorruptEntryError("not a block of columns")
    version, count, base, *widths, names_length = _HEADER.unpack_from(data, len(MAGIC))
    if version > FORMAT:
        raise NewerFormatError(f"format {version}; this release reads up to {FORMAT}", columns=version)
    if version < OLDEST_FORMAT:
        raise CorruptEntryError(f"format {version}, which there never was")
    at = _PREFIX + names_length
    end = at + count * (1 + sum(width for width in widths if not width & _IN_MARKS))
    if len(data) < end + _CRC.size:
        raise CorruptEntryError("the block is cut off")
    if crc32(data, len(data) - _CRC.size) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise CorruptEntryError("the checksum does not match")
    own = widths[:2] if _stand_in_marks(*widths[2:]) else widths
    if not _WIDTHS.issuperset(own):
        raise CorruptEntryError(f"a column has a width of {max(set(own) - _WIDTHS)} bytes")
    try:
        names = _names(data[_PREFIX:at])
        runs = _runs(data, version, end, count)
    except ValueError as error:  # also of msgspec and of Unicode
        raise CorruptEntryError("the names or the run ids cannot be read") from error
    block = Block(data, at, count, base, int.from_bytes(widths, "little"), names.stages, names.event_types, runs)
    *_, stage, event_type = block.numbers()
    if count and (int(stage.max()) > len(names.stages) or int(event_type.max()) >= len(names.event_types)):
        raise CorruptEntryError("a position beyond the names")
    return block


def _stand_in_marks(stage: int, event_type: int) -> bool:
    """Whether these are no widths, but say where stage and type are in the marks."""
    return event_type == _IN_MARKS | _FLAG_BITS and _IN_MARKS | _FLAG_BITS <= stage <= _IN_MARKS | _MARK_BITS


def _runs(data: bytes, version: int, end: int, count: int) -> RunIds | None:
    """The run ids of a block whose columns end there. Raises ValueError."""
    is_at_end = len(data) == end + _CRC.size
    if version == 1 and not is_at_end:
        raise ValueError("bytes to spare")
    if is_at_end and version != 2:
        return None
    return run_ids.decode(memoryview(data)[end : -_CRC.size], count)


@functools.lru_cache(maxsize=10_000)
def _known_names(data: bytes) -> _Names:
    return _read_names.decode(data)


def _names(data: bytes) -> _Names:
    """The names of a block. Most blocks of a system have the same. Raises ValueError."""
    return _known_names(data) if len(data) <= _KEPT_NAMES else _read_names.decode(data)


@functools.cache
def _compiled() -> Callable[[Sequence[bytes]], list[list[int]]] | None:
    """What a kernel finds of blocks; layouts are those of native/fold.h."""
    if kernel.trouble() is not None:
        return None
    texts, number = ctypes.POINTER(ctypes.c_char_p), ctypes.c_int64
    arguments = (number, texts, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    run: Any = kernel.function("lso_heads", *arguments, result=None)

    def heads(blocks: Sequence[bytes]) -> list[list[int]]:
        found = np.empty((len(blocks), _HEAD_WORDS), np.int64)
        run(len(blocks), *kernel.texts(blocks), OLDEST_FORMAT, FORMAT, kernel.address(found))
        told: list[list[int]] = found.tolist()
        return told

    return heads


def pack_body(body: bytes, kind: BodyKind) -> bytes:
    """The request's events as they are stored for reading back: an lz4 block behind a small header."""
    packed: bytes = lz4.block.compress(body, mode="fast", store_size=False)
    return _BODY.pack(kind, len(body)) + packed


def inflated(data: bytes) -> int:
    """How many bytes `unpack_body` gives, or would if it could."""
    return int(_BODY.unpack_from(data)[1]) if len(data) >= _BODY.size else 0


def unpack_body(data: bytes) -> tuple[bytes, BodyKind]:
    """What `pack_body` was given. Raises CorruptEntryError, or NewerFormatError where a newer release wrote it."""
    try:
        kind, length = _BODY.unpack_from(data)
        if kind > max(BodyKind):
            raise NewerFormatError(f"a body of kind {kind}; this release reads up to {max(BodyKind)}")
        if length > len(data) * _MOST_SHRUNK:
            raise CorruptEntryError("the body claims to be longer than it can be")
        return lz4.block.decompress(memoryview(data)[_BODY.size :], uncompressed_size=length), BodyKind(kind)
    except (struct.error, lz4.block.LZ4BlockError) as error:
        raise CorruptEntryError("the body cannot be unpacked") from error
