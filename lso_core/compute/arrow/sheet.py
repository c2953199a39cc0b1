"""The record batches of a stream, read once its framing is known to be harmless."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from lso_core.compute.arrow.framing import check
from lso_core.compute.arrow.texts import Speller, is_text
from lso_core.compute.batches import refused

_EXTENSION: Final = b"ARROW:extension:name"
_OPTIONS: Final = pa.ipc.IpcReadOptions(use_threads=False)
_WISHES: Final = {
    "latency_ms": "integers or floats, in milliseconds",
    "system_id": "integers",
    "ts": "timestamps with a time zone, or RFC 3339 strings",
    "payload": "strings, each of which holds a JSON object",
}
"""What a column must hold that is not of names."""


def read(body: bytes, most_events: int) -> list[Any]:
    """The record batches that have rows, validated in full, of types that kernels read. Raises InputError."""
    with _refusing():
        batches = _validated(body, most_events)
        return batches if _is_plain(batches[0]) else _made_plain(batches, len(body))


def made_plain(body: bytes, most_events: int) -> bytes | None:
    """The same events in a stream of types that kernels read; None where it has no others. Raises InputError."""
    with _refusing():
        batches = _validated(body, most_events)
        if _is_plain(batches[0]):
            return None
        plain = _made_plain(batches, len(body))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, plain[0].schema) as writer:
            for batch in plain:
                writer.write_batch(batch)
        made: bytes = sink.getvalue().to_pybytes()
        return made


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, OSError):  # also of Unicode, where a time zone is none
        raise refused("the Arrow stream is malformed", "") from None


def _validated(body: bytes, most_events: int) -> list[Any]:
    check(body, most_events)
    batches = [batch for batch in pa.ipc.open_stream(pa.py_buffer(body), options=_OPTIONS) if batch.num_rows]
    for batch in batches:
        batch.validate(full=True)
    for field in batches[0].schema:
        _check_type(field)
    return batches


def column_of(batch: Any, name: str) -> Any | None:
    """A column; None where there is none, or only nulls without a type."""
    place = batch.schema.get_field_index(name)
    if place < 0:
        return None
    column = batch.column(place)
    return None if pa.types.is_null(column.type) else column


def _is_plain(batch: Any) -> bool:
    return all(_is_plain_type(field.type) and not _is_extended(field) for field in batch.schema)


def _is_plain_type(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return not (isinstance(kind, pa.BaseExtensionType) or pa.types.is_string_view(kind) or pa.types.is_float16(kind))


def _is_extended(field: Any) -> bool:
    """Whether it is of an extension type that the library does not know, and takes for its storage."""
    return field.metadata is not None and _EXTENSION in field.metadata


def _made_plain(batches: list[Any], body_bytes: int) -> list[Any]:
    """The same values without extension types, string_view and halves of floats."""
    speller = Speller(body_bytes)
    return [
        pa.RecordBatch.from_arrays([speller.spelt_out(_stored(one)) for one in batch.columns], batch.schema.names)
        for batch in batches
    ]


def _stored(column: Any) -> Any:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _check_type(field: Any) -> None:
    name, kind = field.name, field.type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_null(kind) or _fits(name, kind):
        return
    if name == "ts" and pa.types.is_timestamp(kind):
        raise refused("the timestamps of the column ts have no time zone; give them one, such as UTC", name)
    raise refused(f"the column {name} must hold {_WISHES.get(name, 'strings')}, not {str(kind)[:100]}", name)


def _fits(name: str, kind: Any) -> bool:
    is_a = pa.types
    if name == "latency_ms":
        return bool(is_a.is_integer(kind) or is_a.is_floating(kind))
    if name == "system_id":
        return bool(is_a.is_integer(kind))
    return is_text(kind) or bool(name == "ts" and is_a.is_timestamp(kind) and kind.tz)
