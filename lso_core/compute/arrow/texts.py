"""Columns of text as arrays of places in their buffers, so that nothing is spelt out that is not asked for."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lso_core.compute.batches import refused
from lso_core.compute.packing import Ints

Bools = npt.NDArray[np.bool_]

VIEW_BYTES = 16 * 1024 * 1024
"""So many bytes, or those of the body, may all columns of string_view have once they are spelt out; views may all show the same."""


class Texts(msgspec.Struct, frozen=True):
    """The texts of a column that was validated in full."""

    data: memoryview
    start: Ints
    length: Ints
    """Bytes; of what is null, anything."""
    valid: Bools

    def at(self, row: int) -> memoryview | None:
        if not self.valid[row]:
            return None
        start = int(self.start[row])
        return self.data[start : start + int(self.length[row])]


def is_text(kind: Any) -> bool:
    """Whether a column of this type holds text, also through a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def texts_of(column: Any) -> Texts:
    """The texts of a column that a Speller has seen."""
    if pa.types.is_dictionary(column.type):
        inner, codes, valid = texts_of(column.dictionary), *codes_of(column)
        if not len(inner.start):
            return Texts(inner.data, np.zeros(len(column), np.int64), np.zeros(len(column), np.int64), valid)
        return Texts(inner.data, inner.start[codes], inner.length[codes], inner.valid[codes] & valid)
    _, places, data = column.buffers()
    if places is None or not len(column):
        return Texts(memoryview(b""), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    kind = np.dtype(np.int64 if pa.types.is_large_string(column.type) else np.int32)
    offsets = np.frombuffer(places, kind, len(column) + 1, column.offset * kind.itemsize).astype(np.int64)
    return Texts(memoryview(b"" if data is None else data), offsets[:-1], np.diff(offsets), valid_of(column))


def codes_of(column: Any) -> tuple[Ints, Bools]:
    """A dictionary column's positions in its dictionary (0 where null), and where it is not null."""
    codes = column.indices
    if codes.null_count:
        codes = codes.fill_null(0)
    return codes.to_numpy(zero_copy_only=False).astype(np.int64), valid_of(column)


def valid_of(column: Any) -> Bools:
    """Where a column is not null, as far as its own rows tell."""
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)


class Speller:
    """Writes columns of one stream without what kernels do not read: string_view, halves of floats."""

    def __init__(self, body_bytes: int) -> None:
        self._most = self._left = max(VIEW_BYTES, body_bytes)

    def spelt_out(self, column: Any) -> Any:
        """The same values. Raises InputError past the cap over all columns."""
        if pa.types.is_float16(column.type):
            return column.cast(pa.float32())
        if pa.types.is_dictionary(column.type) and pa.types.is_string_view(column.type.value_type):
            return pa.DictionaryArray.from_arrays(column.indices, self._texts(column.dictionary))
        return self._texts(column) if pa.types.is_string_view(column.type) else column

    def _texts(self, column: Any) -> Any:
        bitmap, views, *data = column.buffers()
        valid = valid_of(column)
        rows = np.frombuffer(views, np.int32, 4 * len(column), 16 * column.offset).reshape(-1, 4).copy()
        rows[~valid] = 0  # what is null is not validated, and yet summed up by the cast
        self._left -= int(rows[:, 0].sum(dtype=np.int64))
        if self._left < 0:
            raise refused(f"columns of string_view show more than {self._most} bytes, which is the cap", "")
        mask = None if bitmap is None else pa.array(valid).buffers()[1]
        sound = pa.Array.from_buffers(column.type, len(column), [mask, pa.py_buffer(rows.tobytes()), *data])
        return sound.cast(pa.large_string())
