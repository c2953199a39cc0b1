"""Rollup rows as a Parquet file, and back.

One row of the file is one row of history: exact sums by stage, and the histogram's cells as three lists of one length.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lso_core.archive.tables import TIME, Writing, to_parquet
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.histogram import INDEX_BITS, INDEX_MASK, Int64, sum_cells
from lso_core.compute.packing import Ints, narrow
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.compute.rollups import Rollup
from lso_core.compute.state import Tally
from lso_core.model.rollups import Width

_STAGE: Final = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in (*Tally.__struct_fields__, "revised")),
    ]
)
_TYPE: Final = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("count", pa.int64(), nullable=False)])


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


ROLLUPS: Final = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("start", TIME, nullable=False),
        pa.field("total", pa.int64(), nullable=False),
        pa.field("errors", pa.int64(), nullable=False),
        pa.field("stages", _list(_STAGE), nullable=False),
        pa.field("bucket", _list(pa.int32()), nullable=False),
        pa.field("bucket_stage", _list(pa.int16()), nullable=False),
        pa.field("bucket_count", _list(pa.int64()), nullable=False),
        pa.field("bucket_errors", _list(pa.int64()), nullable=False),
        pa.field("event_types", _list(_TYPE), nullable=False),
        pa.field("packed_bucket", pa.binary(), nullable=False),
        pa.field("packed_count", pa.binary(), nullable=False),
    ]
)
"""`stages` has the sums of each stage, "" being events without one; `bucket` the histogram's indexes in ascending order,
`bucket_stage` the position in `stages`, `bucket_count` how many and `bucket_errors` how many of them failed. Rows of one
start add up. `number` is the last of the rows that a row was made of.

`packed_bucket` and `packed_count` say the same of all stages together: little-endian unsigned numbers, of two bytes, and of
as many as the row's largest count needs (1, 2, 4 or 8). Lists cost four times as much to read, and most questions are about
all stages.
"""

ROWS_A_GROUP: Final = 240
"""Who asks for an hour need not read the day."""
_WRITING: Final = Writing(
    tuple(f"{name}.list.element" for name in ("bucket_stage", "bucket_count", "bucket_errors")),
    ("number", "start", "bucket.list.element"),
)
_CELLS: Final = ("bucket", "bucket_stage", "bucket_count", "bucket_errors")
_SUMS: Final = (*Tally.__struct_fields__, "revised")
_NAMELESS: Final = tuple(f"stages.list.element.{name}" for name in _SUMS)
_PACKED: Final = ("packed_bucket", "packed_count")
TELLING: Final = {
    Detail.NONE: ("number", "start", *_NAMELESS, *_PACKED),
    Detail.STAGE: ("number", "start", "stages", "bucket", "bucket_stage", "bucket_count"),
    Detail.ERRORS: ("number", "start", *_NAMELESS, "bucket", "bucket_count", "bucket_errors"),
}
"""The columns of a file that make those of `compute.rollup_columns`."""
_MOST: Final = (1 << 63) - 1


class Numbered(msgspec.Struct, frozen=True):
    """A row of history and its number."""

    number: int
    row: Rollup


def rollups_file(rows: Sequence[Numbered]) -> bytes:
    """The Parquet file of rows, by time."""
    ordered = sorted(rows, key=lambda one: (one.row.start_ms, one.number))
    return to_parquet(_table(ordered), _WRITING, ROWS_A_GROUP)


def _table(rows: Sequence[Numbered]) -> pa.Table:
    tallies = [list(one.row.stages.values()) for one in rows]
    names = [name for one in rows for name in one.row.stages]
    flat = [tally for some in tallies for tally in some]
    sums = [
        pa.array([min(getattr(tally, name), _MOST) for tally in flat], pa.int64()) for name in Tally.__struct_fields__
    ]
    revised = pa.array([one.row.revised.get(name, 0) for one in rows for name in one.row.stages], pa.int64())
    stages = pa.StructArray.from_arrays([pa.array(names, pa.string()), *sums, revised], fields=list(_STAGE))
    types = [pair for one in rows for pair in one.row.event_types.items()]
    event_types = pa.StructArray.from_arrays(
        [pa.array([name for name, _ in types], pa.string()), pa.array([count for _, count in types], pa.int64())],
        fields=list(_TYPE),
    )
    cells = _offsets([len(one.row.index) for one in rows])
    return pa.table(
        [
            pa.array([one.number for one in rows], pa.int64()),
            pa.array([one.row.start_ms for one in rows], pa.int64()).cast(TIME),
            pa.array([sum(tally.total for tally in some) for some in tallies], pa.int64()),
            pa.array([sum(tally.errors for tally in some) for some in tallies], pa.int64()),
            _lists(_offsets([len(some) for some in tallies]), stages, _STAGE),
            _lists(cells, pa.array(_joined([one.row.index for one in rows]).astype(np.int32)), pa.int32()),
            _lists(cells, pa.array(_joined([one.row.stage for one in rows]).astype(np.int16)), pa.int16()),
            _lists(cells, pa.array(_joined([one.row.count for one in rows]).astype(np.int64)), pa.int64()),
            _lists(cells, pa.array(_joined([one.row.errors for one in rows]).astype(np.int64)), pa.int64()),
            _lists(_offsets([len(one.row.event_types) for one in rows]), event_types, _TYPE),
            *_packed(rows),
        ],
        schema=ROLLUPS,
    )


def _packed(rows: Sequence[Numbered]) -> list[pa.Array]:
    """The cells of all stages together, each row's as bytes."""
    numbers = np.repeat(np.arange(len(rows)), [len(one.row.index) for one in rows])
    keys = numbers << INDEX_BITS | _joined([one.row.index for one in rows]).astype(np.int64)
    keys, counts = sum_cells(keys, _joined([one.row.count for one in rows]).astype(np.int64))
    edges = np.searchsorted(keys, np.arange(len(rows) + 1) << INDEX_BITS).tolist()
    index = (keys & INDEX_MASK).astype("<u2")
    cells = [slice(start, end) for start, end in itertools.pairwise(edges)]
    return [
        pa.array([index[some].tobytes() for some in cells], pa.binary()),
        pa.array([narrow(counts[some]).tobytes() for some in cells], pa.binary()),
    ]


def _offsets(lengths: list[int]) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int32))


def _lists(offsets: pa.Array, values: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.ListArray.from_arrays(offsets, values, type=_list(kind))


def _joined(parts: list[Int64]) -> Int64:
    return np.concatenate([np.empty(0, np.int64), *parts])


def rollups_of(table: pa.Table, width: Width) -> Iterator[Numbered]:
    """The rows of a table of all columns, in its order."""
    for batch in table.to_batches():
        yield from _rows(batch, width)


def _rows(batch: pa.RecordBatch, width: Width) -> Iterator[Numbered]:
    numbers = batch.column("number").to_pylist()
    starts = starts_of(batch.column("start")).tolist()
    stages, types = batch.column("stages"), batch.column("event_types")
    stage_names, revised = (_field(stages, name).to_pylist() for name in ("name", "revised"))
    sums = (_field(stages, name).to_pylist() for name in Tally.__struct_fields__)
    tallies = [Tally(*values) for values in zip(*sums, strict=True)]
    type_names, type_counts = (_field(types, name).to_pylist() for name in ("name", "count"))
    stage_at, type_at, cell_at = (_starts(lists) for lists in (stages, types, batch.column("bucket")))
    index, stage, count, errors = (_field(batch.column(name)).to_numpy() for name in _CELLS)
    for at, number in enumerate(numbers):
        some, these, cells = (slice(edges[at], edges[at + 1]) for edges in (stage_at, type_at, cell_at))
        row = Rollup(
            starts[at],
            width,
            dict(zip(stage_names[some], tallies[some], strict=True)),
            index[cells],
            stage[cells],
            count[cells],
            errors[cells],
            dict(zip(type_names[these], type_counts[these], strict=True)),
            {name: late for name, late in zip(stage_names[some], revised[some], strict=True) if late},
        )
        yield Numbered(number, row)


def columns_of(table: pa.Table, detail: Detail) -> Iterator[RollupColumns]:
    """The rows of a table of the columns TELLING that, by column, in its order and in pieces."""
    return (_columns(batch, detail) for batch in table.to_batches())


def _columns(batch: pa.RecordBatch, detail: Detail) -> RollupColumns:
    stages = batch.column("stages")
    flat = stages.flatten()
    tallies = np.array([flat.field(name).to_numpy() for name in _SUMS], np.float64)
    names = flat.field("name").to_pylist() if detail is Detail.STAGE else []
    cells = _cells_packed(batch) if detail is Detail.NONE else _cells_listed(batch)
    return RollupColumns(starts_of(batch.column("start")), np.diff(_starts(stages)), names, tallies, *cells)


def starts_of(column: pa.Array | pa.ChunkedArray) -> Ints:
    """Milliseconds since the epoch, as numbers; DuckDB tells microseconds."""
    found: Ints = column.cast(TIME).cast(pa.int64()).to_numpy()
    return found


def _cells_listed(batch: pa.RecordBatch) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """How many each row has, and their index, stage, count and errors, as far as the batch tells them."""
    there = set(batch.schema.names)
    index, stage, count, errors = (
        _field(batch.column(name)).to_numpy() if name in there else NO_CELLS for name in _CELLS
    )
    return np.diff(_starts(batch.column("bucket"))), index, stage, count, errors


def _cells_packed(batch: pa.RecordBatch) -> tuple[Ints, Ints, Ints, Ints]:
    """The first of them, of all stages together."""
    sizes, lengths = (pc.binary_length(batch.column(name)).to_numpy().astype(np.int64) for name in _PACKED)
    index, data = (_bytes(batch.column(name)) for name in _PACKED)
    cells = sizes // 2
    return cells, index.view("<u2"), NO_CELLS, _counts(data, lengths, cells)


def _counts(data: "npt.NDArray[np.uint8]", lengths: Ints, cells: Ints) -> Ints:
    """The counts of all rows, which are in so many bytes each, of which each has so many cells."""
    widths = lengths // np.maximum(cells, 1)
    used = np.unique(widths[cells > 0]).tolist() or [1]
    if len(used) == 1:
        return data.view(f"<u{used[0]}")
    found = np.empty(cells.sum(), f"<u{used[-1]}")
    for width in used:
        own = widths == width
        found[np.repeat(own, cells)] = data[np.repeat(own, lengths)].view(f"<u{width}")
    return found


def _bytes(column: pa.Array) -> "npt.NDArray[np.uint8]":
    """The bytes of all rows, one after another."""
    _, offsets, data = column.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]


def _starts(lists: pa.Array) -> list[int]:
    """Where each list begins in the values behind them, and where the last one ends."""
    offsets: Any = lists.offsets.to_numpy()
    edges: list[int] = (offsets - offsets[0]).tolist() if len(lists) else [0]
    return edges


def _field(lists: pa.Array, name: str | None = None) -> pa.Array:
    """The values behind lists, or a field of them where they are structs."""
    values = lists.flatten()
    return values if name is None else values.field(name)
