"""Single events of record batches: for the careful reading, and for reading them back."""

import bisect
import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from lso_core.compute.arrow.framing import FIELDS
from lso_core.compute.arrow.sheet import column_of
from lso_core.compute.arrow.texts import Texts, is_text, texts_of
from lso_core.compute.columns import CorruptEntryError
from lso_core.model import times
from lso_core.model.events import NAME_BYTES

Members = dict[str, msgspec.Raw]

_KEPT_BYTES: Final = 4 * NAME_BYTES
"""So much of a name that is too long is enough to refuse it."""
_SPACE: Final = b" \t\r\n"
_UNIT_S: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of a timestamp's units make a second."""


def members(batches: list[Any]) -> Iterator[Members]:
    """Of each event the fields that are not null, as JSON."""
    for batch in batches:
        columns = {name: column for name in FIELDS if (column := column_of(batch, name)) is not None}
        readers = {name: _reader(name, column) for name, column in columns.items()}
        for row in range(batch.num_rows):
            found = ((name, read(row)) for name, read in readers.items())
            yield {name: msgspec.Raw(text) for name, text in found if text is not None}


def _reader(name: str, column: Any) -> Any:
    """A function from a row to its JSON, None where it is null."""
    if is_text(column.type):
        texts = texts_of(column)
        return (lambda row: _stripped(texts, row)) if name == "payload" else (lambda row: _quoted(texts, row))
    if pa.types.is_timestamp(column.type):
        numbers = column.cast(pa.int64())
        per_s = _UNIT_S[column.type.unit]
        return lambda row: _time(numbers[row].as_py(), per_s)
    return lambda row: _number(column[row].as_py())


def _stripped(texts: Texts, row: int) -> memoryview | None:
    """A payload as it lies in its buffer, without the white space around it."""
    text = texts.at(row)
    if text is None:
        return None
    begin, end = 0, len(text)
    while begin < end and text[begin] in _SPACE:
        begin += 1
    while end > begin and text[end - 1] in _SPACE:
        end -= 1
    return text[begin:end]


def _quoted(texts: Texts, row: int) -> bytes | None:
    text = texts.at(row)
    return None if text is None else msgspec.json.encode(str(text[:_KEPT_BYTES], "utf-8", "ignore"))


def _time(number: int | None, per_s: int) -> bytes | None:
    if number is None:
        return None
    ms = number * 1_000 // per_s
    is_year = times.EARLIEST_MS <= ms <= times.LATEST_MS
    return msgspec.json.encode(times.to_text(ms) if is_year else "beyond the years 1 to 9999")


def _number(value: float | None) -> bytes | None:
    if value is None:
        return None
    return repr(value).encode() if math.isfinite(value) else msgspec.json.encode(str(value))


class Rows:
    """A stored stream, event by event. Raises CorruptEntryError where it is none."""

    def __init__(self, body: bytes) -> None:
        try:
            self._batches = list(pa.ipc.open_stream(pa.py_buffer(body)))
            for batch in self._batches:
                batch.validate(full=True)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise CorruptEntryError("the Arrow stream cannot be read") from error
        self._starts = list(itertools.accumulate((batch.num_rows for batch in self._batches), initial=0))

    def value(self, index: int, name: str) -> Any:
        """A field of the event at `index`, None where it has none."""
        at = bisect.bisect_right(self._starts, index) - 1
        if not 0 <= at < len(self._batches):
            raise CorruptEntryError("the Arrow stream has fewer events than columns")
        column = column_of(self._batches[at], name)
        return None if column is None else column[index - self._starts[at]].as_py()


def pack(batches: list[Any], names: list[str], good: list[int] | None = None) -> bytes:
    """A stream of these columns, and of these events only where `good` is given."""
    kept = [batch.select([name for name in names if column_of(batch, name) is not None]) for batch in batches]
    if good is not None:
        starts = list(itertools.accumulate((batch.num_rows for batch in batches), initial=0))
        mask = np.zeros(starts[-1], np.bool_)
        mask[good] = True
        edges = itertools.pairwise(starts)
        kept = [batch.filter(pa.array(mask[a:b])) for batch, (a, b) in zip(kept, edges, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, kept[0].schema.remove_metadata()) as writer:
        for batch in kept:
            writer.write_batch(batch.replace_schema_metadata(None))
    packed: bytes = sink.getvalue().to_pybytes()
    return packed
