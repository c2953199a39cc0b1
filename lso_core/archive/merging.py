"""Small files of one folder to a large one: events one after another, minutes by time, hours and days added up."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lso_core.archive.layout import Kind, Place
from lso_core.archive.rollups import Numbered, rollups_file, rollups_of
from lso_core.archive.tables import EVENTS_WRITING, ROWS_A_GROUP
from lso_core.compute.rollups import merge
from lso_core.model.rollups import Width

WIDTHS: Final = {Kind.MINUTES: Width.MINUTE, Kind.HOURS: Width.HOUR, Kind.DAYS: Width.DAY}


class Share(msgspec.Struct, array_like=True, frozen=True):
    """What to take of a file."""

    name: str
    """To open it by."""
    after: Place
    """Only what comes behind this."""
    whole: bool


def merged(kind: Kind, shares: Sequence[Share]) -> bytes:
    """One file of what many hold. Raises OSError for one that cannot be opened."""
    return _events(shares) if kind is Kind.EVENTS else _rollups(kind, shares)


def _events(shares: Sequence[Share]) -> bytes:
    """A row group at a time, so that a day of any size can be merged."""
    sink = io.BytesIO()
    with pq.ParquetFile(shares[0].name) as first:
        schema = first.schema_arrow
    with pq.ParquetWriter(sink, schema, **EVENTS_WRITING.options()) as writer:
        for table in _groups(shares, schema):
            writer.write_table(table, row_group_size=ROWS_A_GROUP)
    return sink.getvalue()


def _groups(shares: Sequence[Share], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of all files in pieces of a row group each."""
    held: list[pa.Table] = []
    for share in shares:
        with pq.ParquetFile(share.name) as file:
            for batch in file.iter_batches(ROWS_A_GROUP):
                table = pa.Table.from_batches([batch]).cast(schema)
                held.append(table if share.whole else table.filter(_behind(table, share.after)))
                if sum(one.num_rows for one in held) >= ROWS_A_GROUP:
                    yield pa.concat_tables(held)
                    held = []
    if held:
        yield pa.concat_tables(held)


def _behind(table: pa.Table, place: Place) -> Any:
    ms, sequence = table["entry_ms"], table["entry_seq"]
    same = pc.and_(pc.equal(ms, place[0]), pc.greater(sequence, place[1]))
    return pc.or_(pc.greater(ms, place[0]), same)


def _rollups(kind: Kind, shares: Sequence[Share]) -> bytes:
    width = WIDTHS[kind]
    rows = [
        one
        for share in shares
        for one in rollups_of(pq.ParquetFile(share.name).read(), width)
        if share.whole or one.number > share.after[0]
    ]
    if kind is not Kind.MINUTES:
        last = max(one.number for one in rows)
        rows = [Numbered(last, row) for row in merge((one.row for one in rows), width)]
    return rollups_file(rows)
