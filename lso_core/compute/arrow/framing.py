"""What an Arrow stream holds, looked at before the library reads it.

The format lets few bytes stand for very much: compressed buffers, columns without buffers, a flatbuffer whose tables
share their children. So its messages are walked here first, bounded and without making anything of them; what is let
through is small by then: eight flat columns at most, as many rows as a batch may have, plain little-endian buffers
that lie within the body.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from lso_core.compute.batches import refused
from lso_core.model.events import Event

MESSAGES: Final = 256
"""Most messages of one stream: its schema, dictionaries and record batches."""
METADATA_BYTES: Final = 64 * 1024
"""Most bytes that describe one message."""
METADATA_PAIRS: Final = 64
"""Most key-value pairs that may be tied to a schema, a column or a message."""
DICTIONARY_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of dictionaries, each counted once for every record batch that may use it."""
FIELDS: Final = Event.__struct_fields__

_PREFIX: Final = struct.Struct("<Ii")
"""Continuation mark, and length of the metadata; 0 at the stream's end."""
_CONTINUATION: Final = 0xFFFFFFFF
_FILE_MAGIC: Final = b"ARROW1"
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_BIG_ENDIAN: Final = 1
_ALIGNMENT: Final = 8

_I16, _U16, _U8 = struct.Struct("<h"), struct.Struct("<H"), struct.Struct("<B")
_BUFFER: Final = struct.Struct("<qq")
"""Where a buffer of a message begins, and its bytes."""
_I32, _U32, _I64 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q")


def check(body: bytes, most_events: int) -> None:
    """Raise InputError for a stream that is cut off, has bytes to spare, or holds what an event's columns cannot be."""
    rows = batches = work = 0
    dictionaries: dict[int, int] = {}
    for message in _messages(body):
        if message.kind == _DICTIONARY:
            dictionaries[message.dictionary] = dictionaries.get(message.dictionary, 0) + message.length
        elif message.kind == _RECORDS:
            rows, batches, work = rows + message.rows, batches + 1, work + sum(dictionaries.values())
    if work > DICTIONARY_BYTES:
        raise refused(f"{batches} record batches with so large dictionaries are too many; send fewer batches", "")
    if rows > most_events:
        raise refused(f"the batch has {rows} events; the cap is {most_events}", "events")
    if not rows:
        raise refused("the batch has no events", "events")


def _messages(body: bytes) -> Iterator["_Message"]:
    """The messages up to the end-of-stream mark, which must be the body's end."""
    at = 0
    for number in range(MESSAGES + 1):
        if at + _PREFIX.size > len(body):
            end = "without its end-of-stream mark: it is cut off, or its writer was not closed"
            raise refused(f"the Arrow stream ends {end}", "")
        mark, size = _PREFIX.unpack_from(body, at)
        at += _PREFIX.size
        if mark != _CONTINUATION:
            raise refused(_no_stream(body, at - _PREFIX.size), "")
        if size == 0:
            if at != len(body):
                raise refused("the Arrow stream has bytes behind its end", "")
            return
        message = _message(body, at, size)
        if (number == 0) != (message.kind == _SCHEMA):
            raise refused("the Arrow stream must be one schema and then its record batches", "")
        yield message
        at += size + message.length
        if at > len(body):
            raise refused("the Arrow stream is cut off within a message", "")
    raise refused(f"the Arrow stream has more than {MESSAGES} messages, which is the cap", "")


def _no_stream(body: bytes, at: int) -> str:
    if at:
        return f"the Arrow stream is broken at byte {at}"
    if body.startswith(_FILE_MAGIC):
        return "the body is an Arrow file; send the stream format, as pyarrow.ipc.new_stream writes it"
    return "the body is no Arrow stream, as pyarrow.ipc.new_stream writes it"


class _Message:
    """One message, as far as its metadata tells."""

    __slots__ = ("dictionary", "kind", "length", "rows")

    def __init__(self, kind: int, length: int, rows: int, dictionary: int) -> None:
        self.kind = kind
        self.length = length
        """Bytes of the buffers behind the metadata."""
        self.rows = rows
        self.dictionary = dictionary
        """Id of the dictionary, of one."""


def _message(body: bytes, at: int, size: int) -> _Message:
    """The message whose metadata lies at `at`. Raises InputError."""
    if not 0 < size <= METADATA_BYTES:
        raise refused(f"a message of the Arrow stream is described in {size} bytes; the cap is {METADATA_BYTES}", "")
    if at + size > len(body):
        raise refused("the Arrow stream is cut off within a message", "")
    try:
        return _read_message(body[at : at + size])
    except (struct.error, ValueError):  # also of Unicode
        raise refused(f"the Arrow stream is malformed at byte {at}", "") from None


def _read_message(metadata: bytes) -> _Message:
    root = _Table(metadata, _look(_U32, metadata, 0))
    kind, length, header = root.number(1, _U8), root.number(3, _I64), root.table(2)
    if header is None or length < 0 or length % _ALIGNMENT or len(metadata) % _ALIGNMENT:
        raise ValueError("no message")
    _check_pairs(root, 4)
    if kind == _SCHEMA:
        _check_schema(metadata)
        return _Message(kind, length, 0, 0)
    if kind not in {_DICTIONARY, _RECORDS}:
        raise ValueError("neither a dictionary nor a record batch")
    records = header if kind == _RECORDS else header.table(1)
    if records is None:
        raise ValueError("a dictionary without values")
    rows = _check_records(records, metadata, length)
    if kind == _DICTIONARY and rows > length:
        raise ValueError("a dictionary of more values than bytes")
    return _Message(kind, length, rows, header.number(0, _I64) if kind == _DICTIONARY else 0)


def _check_records(records: "_Table", metadata: bytes, length: int) -> int:
    """The rows of a record batch whose buffers lie where they may."""
    if records.has(3):
        way = "send the buffers as they are, and the body with Content-Encoding: gzip where it must be small"
        raise refused(f"the Arrow stream has compressed buffers, which are not read here; {way}", "")
    rows = records.number(0, _I64)
    start, count = records.vector(2, _BUFFER.size)
    if rows < 0:
        raise ValueError("fewer rows than none")
    for at, size in _BUFFER.iter_unpack(metadata[start : start + count * _BUFFER.size]):
        if at < 0 or size < 0 or at % _ALIGNMENT or at + size > length:
            raise ValueError("a buffer that is none, or beyond the message")
    return rows


@lru_cache(64)
def _check_schema(metadata: bytes) -> None:
    """Raise InputError for columns that no event has, or that nest. Those of one pipeline are always the same."""
    schema = _Table(metadata, _look(_U32, metadata, 0)).table(2)
    if schema is None or schema.number(0, _I16) == _BIG_ENDIAN:
        raise refused("the Arrow stream is big-endian, which is not read here", "")
    _check_pairs(schema, 2)
    seen: set[str] = set()
    fields = schema.tables(1)
    for field in fields:
        name = field.text(0)
        if name not in FIELDS:
            wish = f"is not a field of an event; those are {', '.join(FIELDS)}"
            raise refused(f'the column "{name[:200]}" {wish}', name[:200])
        if name in seen:
            raise refused(f"there are two columns {name}", name)
        if field.vector(5, 4)[1]:
            raise refused(f"the column {name} nests; {_flat_wish(name)}", name)
        _check_pairs(field, 6)
        seen.add(name)
    for name in ("event_type", "status"):
        if name not in seen:
            raise refused(f"the column {name} is missing", name)


def _flat_wish(name: str) -> str:
    return "send each payload as a string that holds a JSON object" if name == "payload" else "send one value an event"


def _check_pairs(table: "_Table", slot: int) -> None:
    if table.vector(slot, 4)[1] > METADATA_PAIRS:
        raise ValueError("too much metadata")


class _Table:
    """A table of a flatbuffer. A look outside of the buffer raises struct.error."""

    __slots__ = ("_at", "_data", "_slots", "_vtable")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - _look(_I32, data, at)
        self._slots = (_look(_U16, data, self._vtable) - 4) // 2

    def has(self, slot: int) -> bool:
        return self._place(slot) != 0

    def number(self, slot: int, kind: struct.Struct) -> int:
        """A number; 0, as all of them are by default, where it is left out."""
        place = self._place(slot)
        return _look(kind, self._data, place) if place else 0

    def table(self, slot: int) -> "_Table | None":
        place = self._place(slot)
        return _Table(self._data, place + _look(_U32, self._data, place)) if place else None

    def tables(self, slot: int) -> list["_Table"]:
        """The tables of a vector that has no more of them than an event has fields; else those that fit and one more."""
        start, count = self.vector(slot, 4)
        places = range(start, start + 4 * min(count, len(FIELDS) + 1), 4)
        return [_Table(self._data, place + _look(_U32, self._data, place)) for place in places]

    def vector(self, slot: int, width: int) -> tuple[int, int]:
        """Where a vector's elements begin, and how many there are."""
        place = self._place(slot)
        if not place:
            return 0, 0
        start = place + _look(_U32, self._data, place)
        count = _look(_U32, self._data, start)
        if start + 4 + count * width > len(self._data):
            raise struct.error("a vector beyond the buffer")
        return start + 4, count

    def text(self, slot: int) -> str:
        start, count = self.vector(slot, 1)
        return self._data[start : start + count].decode()

    def _place(self, slot: int) -> int:
        """Where a field lies; 0 where it is left out."""
        if slot >= self._slots:
            return 0
        offset = _look(_U16, self._data, self._vtable + 4 + 2 * slot)
        return self._at + offset if offset else 0


def _look(kind: struct.Struct, data: bytes, at: int) -> int:
    if at < 0:  # struct would count from the end
        raise struct.error("a place before the buffer")
    found: int = kind.unpack_from(data, at)[0]
    return found
