"""Events as a Parquet file: the columns, their types, and how an entry's events get into them.

Everything that tells an event is in its row; the system stands in the path. One file is sorted by entry and index.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lso_core.compute import columns, parts
from lso_core.compute.columns import BodyKind, Columns, CorruptEntryError
from lso_core.compute.packing import Ints
from lso_core.model.batches import StoredEntry

ROWS_A_GROUP: Final = 128 * 1024
"""A reader skips or takes so many rows at a time."""
TIME: Final = pa.timestamp("ms", tz="UTC")
_NAME: Final = pa.dictionary(pa.int32(), pa.string())

EVENTS: Final = pa.schema(
    [
        pa.field("time", TIME, nullable=False),
        pa.field("arrived", TIME, nullable=False),
        pa.field("ts", TIME),
        pa.field("event_type", _NAME, nullable=False),
        pa.field("status", _NAME, nullable=False),
        pa.field("latency_ms", pa.float64()),
        pa.field("stage", _NAME),
        pa.field("run_id", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("entry_ms", pa.int64(), nullable=False),
        pa.field("entry_seq", pa.int64(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
    ]
)
"""`time` is when it happened (`ts`, or `arrived` where it has none; `at` is a word of SQL); `payload` is JSON; `entry_ms`-`entry_seq` is
the id of the stream entry that it came in, and `index` its place there."""


class _Rest(msgspec.Struct, gc=False):
    """What the columns do not tell."""

    latency_ms: float | None = None
    run_id: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct):
    events: list[_Rest]


_envelope = msgspec.json.Decoder(_Envelope)
_line = msgspec.json.Decoder(_Rest)


Fields = tuple[pa.Array, pa.Array, pa.Array]
"""`latency_ms`, `run_id` and `payload` of n events."""


class Cut(msgspec.Struct, frozen=True):
    """One entry's events, by column."""

    entry: StoredEntry
    columns: Columns
    latency_ms: pa.Array
    run_id: pa.Array
    payload: pa.Array


class Built(msgspec.Struct, frozen=True):
    """A file that is ready to be written."""

    data: bytes
    events: int
    bare: int
    """Entries whose bodies nobody can read, so that their events have neither run nor payload."""
    lost: int
    """Entries that nobody can read at all; they are in the dead letters since they were folded."""


def events_file(entries: Sequence[StoredEntry]) -> Built:
    """The Parquet file of entries in their order. Raises NewerFormatError where a newer release wrote one."""
    cuts, bare, lost = [], 0, 0
    for entry in entries:
        try:
            cuts.append(_cut(entry))
        except CorruptEntryError:
            try:
                cuts.append(_bare(entry))
                bare += 1
            except CorruptEntryError:
                lost += 1
    table = _table(cuts)
    return Built(to_parquet(table, EVENTS_WRITING), table.num_rows, bare, lost)


def to_parquet(table: pa.Table, how: "Writing", rows_a_group: int = ROWS_A_GROUP) -> bytes:
    """A table as a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=rows_a_group, **how.options())
    data: bytes = sink.getvalue().to_pybytes()
    return data


class Writing(msgspec.Struct, frozen=True):
    """How the columns of a file are stored; all of them in zstd."""

    names: tuple[str, ...]
    """Few values, each stored once and numbered."""
    steps: tuple[str, ...]
    """Mostly a little more than the one before, so that differences are stored."""
    ranged: tuple[str, ...] | None = None
    """Those of which the least and the most are told, so that readers can skip what they do not want; None for all."""
    level: int = 3

    def options(self) -> dict[str, Any]:
        """As pyarrow takes them."""
        return {
            "compression": "zstd",
            "compression_level": self.level,
            "use_dictionary": list(self.names),
            "write_statistics": True if self.ranged is None else list(self.ranged),
            "column_encoding": dict.fromkeys(self.steps, "DELTA_BINARY_PACKED"),
            "write_page_checksum": True,
            "store_schema": False,
        }


EVENTS_WRITING: Final = Writing(
    ("event_type", "status", "stage", "run_id"),
    ("time", "arrived", "ts", "entry_ms", "entry_seq", "index"),
    ranged=tuple(name for name in EVENTS.names if name != "payload"),
    level=1,  # as small as 3, in three quarters of the time
)


def _cut(entry: StoredEntry) -> Cut:
    """Raises CorruptEntryError where it was not folded either, and NewerFormatError."""
    cut = columns.decode(entry.columns)
    body, kind = columns.unpack_body(entry.body)
    return Cut(entry, cut, *_READERS[kind](body, cut))


def _bare(entry: StoredEntry) -> Cut:
    """An entry whose body cannot be read: its events were counted all the same, and their columns tell most of them."""
    cut = columns.decode(entry.columns)
    return Cut(entry, cut, _exact(cut), pa.nulls(len(cut), pa.string()), pa.nulls(len(cut), pa.string()))


def _exact(cut: Columns) -> pa.Array:
    """Latencies as far as whole microseconds tell them."""
    return pa.array(cut.latency_us / 1_000, pa.float64(), mask=~cut.has_latency)


def _of_json(body: bytes, cut: Columns) -> Fields:
    return _of_rest(lambda: _envelope.decode(body).events, cut)


def _of_ndjson(body: bytes, cut: Columns) -> Fields:
    return _of_rest(lambda: _line.decode_lines(body), cut)


def _of_rest(decode: Callable[[], list[_Rest]], cut: Columns) -> Fields:
    try:
        rest = decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptEntryError("the body cannot be read") from error
    if len(rest) != len(cut):
        raise CorruptEntryError("the body has another number of events than the columns")
    latency = pa.array([one.latency_ms for one in rest], pa.float64())
    return latency, pa.array([one.run_id for one in rest], pa.string()), _payloads([one.payload for one in rest])


def _payloads(raws: Sequence[msgspec.Raw]) -> pa.Array:
    texts = map(bytes, raws)
    return pa.array([None if text == b"null" else text for text in texts], pa.binary()).cast(pa.string())


def _of_parts(body: bytes, cut: Columns) -> Fields:
    """Fields of a body in parts, which leaves out what the columns tell."""
    rows = parts.Rows(body, len(cut))
    told = rows.latencies_ms
    latency = pc.coalesce(pa.array(told, mask=np.isnan(told)), _exact(cut)) if len(told) else _exact(cut)
    return latency, _texts(rows.run_ids), _texts(rows.payloads)


def _texts(found: parts.Texts) -> pa.Array:
    """Raises CorruptEntryError where they are not UTF-8."""
    given = pa.py_buffer(np.packbits(found.given, bitorder="little"))
    array = pa.StringArray.from_buffers(len(found.given), pa.py_buffer(found.bounds), pa.py_buffer(found.data), given)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise CorruptEntryError("the texts of the events cannot be read") from error
    return array


def _of_arrow(body: bytes, cut: Columns) -> Fields:
    """Fields of an Arrow body, which leaves out the same."""
    try:
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all().combine_chunks()
        table.validate(full=True)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise CorruptEntryError("the Arrow stream cannot be read") from error
    if table.num_rows != len(cut):
        raise CorruptEntryError("the Arrow stream has another number of events than the columns")
    latency = _column(table, "latency_ms", pa.float64())
    payload = pc.utf8_trim(_column(table, "payload", pa.string()), " \t\r\n")
    return pc.coalesce(latency, _exact(cut)), _column(table, "run_id", pa.string()), payload


_READERS: Final[dict[BodyKind, Callable[[bytes, Columns], Fields]]] = {
    BodyKind.JSON: _of_json,
    BodyKind.NDJSON: _of_ndjson,
    BodyKind.ARROW: _of_arrow,
    BodyKind.PARTS: _of_parts,
}
"""Every kind there is: one that was missing here would lose its payloads."""


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, kind)
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pa.concat_arrays(column.cast(kind).chunks) if column.num_chunks else pa.nulls(0, kind)


def _table(cuts: Sequence[Cut]) -> pa.Table:
    counts = [len(cut.columns) for cut in cuts]

    def spread(values: list[int]) -> Ints:
        return np.repeat(np.array(values, np.int64), counts)

    def joined(name: str) -> Any:
        parts = [getattr(cut.columns, name) for cut in cuts]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    at, ts, has_ts = spread([cut.entry.at_ms for cut in cuts]), joined("ts_ms"), joined("has_ts").astype(np.bool_)
    ids = [cut.entry.entry_id.split("-") for cut in cuts]
    *begins, _ = itertools.accumulate(counts, initial=0)
    error = joined("error").astype(np.int32)
    return pa.table(
        [
            _times(np.where(has_ts, ts, at)),
            _times(at),
            _times(ts, ~has_ts),
            _names([(cut.columns.event_type, cut.columns.event_types, 0) for cut in cuts]),
            pa.DictionaryArray.from_arrays(pa.array(error), ["ok", "error"]),
            _concat([cut.latency_ms for cut in cuts], pa.float64()),
            _names([(cut.columns.stage, cut.columns.stages, 1) for cut in cuts]),
            _concat([cut.run_id for cut in cuts], pa.string()),
            _concat([cut.payload for cut in cuts], pa.string()),
            spread([int(ms) for ms, _ in ids]),
            spread([int(sequence) for _, sequence in ids]),
            (np.arange(len(at)) - spread(begins)).astype(np.int32),
        ],
        schema=EVENTS,
    )


def _times(ms: Ints, mask: Any = None) -> pa.Array:
    return pa.array(ms, pa.int64(), mask=mask).cast(TIME)


def _concat(parts: list[pa.Array], kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays([pa.nulls(0, kind), *parts])


def _names(parts: list[tuple[Ints, tuple[str, ...], int]]) -> pa.Array:
    """Names of many entries in one dictionary. Each part has its positions, its names, and the position of the first."""
    known: dict[str, int] = {}
    columns_ = []
    for positions, names, first in parts:
        numbers = [-1] * first + [known.setdefault(name, len(known)) for name in names]
        columns_.append(np.array(numbers, np.int64)[positions])
    joined = np.concatenate(columns_) if columns_ else np.empty(0, np.int64)
    indices = pa.array(joined.astype(np.int32), mask=joined < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(known), pa.string()))
