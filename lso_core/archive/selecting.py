"""Rollup rows out of files, as few bytes of them as will do, within the limits of who asks.

Not through DuckDB, which takes four times as long to hand lists over as the files take to be read.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lso_core.archive.duck import Limits
from lso_core.archive.rollups import starts_of
from lso_core.model.rollups import Piece
from lso_core.store.history import too_many

CELL_BYTES: Final = 48
"""What one cell of a histogram takes while it is on its way."""


class Selection:
    """Rows, gathered file by file."""

    def __init__(self, columns: Sequence[str], most: int, limits: Limits) -> None:
        """`columns` of them, among which are `number` and `start`; of no more than `most`."""
        self.tables: list[pa.Table] = []
        self._columns = list(columns)
        self._most = most
        self._limits = limits
        self._deadline = limits.deadline
        self._rows = 0
        self._cells = 0

    def add(self, name: str, piece: Piece, numbers: tuple[int, int]) -> None:
        """Take the rows of a file in that piece of time whose numbers are behind the first and up to the second.

        Raises InputError past the most rows, ArchiveError past the time or the memory.
        """
        with pq.ParquetFile(name, memory_map=True, pre_buffer=False) as file:  # what is mapped need not be fetched
            table = file.read_row_groups(self._groups(file.metadata, piece), self._columns, use_threads=False)
        mask = _mask(table, piece, numbers)
        if not mask.all():
            table = table.filter(pa.array(mask))
        self._rows += table.num_rows
        if self._rows > self._most:
            raise too_many(self._rows, self._most)
        self.tables.append(table)

    def _groups(self, file: Any, piece: Piece) -> list[int]:
        """The row groups that may hold rows of that time; their cells are counted."""
        paths = [file.schema.column(at).path for at in range(file.num_columns)]
        start, bucket = paths.index("start"), paths.index("bucket.list.element")
        groups = map(file.row_group, range(file.num_row_groups))
        return [at for at, group in enumerate(groups) if self._wanted(group.column(start), group.column(bucket), piece)]

    def _wanted(self, start: Any, bucket: Any, piece: Piece) -> bool:
        """Whether a row group may hold rows of that time, told by two of its columns."""
        low, high = (round(one.timestamp() * 1_000) for one in (start.statistics.min, start.statistics.max))
        if high < piece.from_ms or low >= piece.to_ms:
            return False
        self._cells += bucket.num_values
        self._limits.check(self._deadline, CELL_BYTES * self._cells)
        return True


def _mask(table: pa.Table, piece: Piece, numbers: tuple[int, int]) -> Any:
    start = starts_of(table["start"])
    number = table["number"].to_numpy()
    in_time = (start >= piece.from_ms) & (start < piece.to_ms)
    return np.asarray(in_time & (number > numbers[0]) & (number <= numbers[1]))
