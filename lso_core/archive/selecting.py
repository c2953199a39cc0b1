"""Rollup rows out of files, as few bytes of them as will do, within the limits of who asks.

Not through DuckDB, which takes four times as long to hand lists over as the files take to be read.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lso_core.archive.duck import Limits
from lso_core.archive.rollups import LEAN, WHOLE, rollups_of
from lso_core.archive.tables import TIME
from lso_core.compute.rollups import Rollup
from lso_core.model.rollups import Piece
from lso_core.store.history import too_many

CELL_BYTES: Final = 48
"""What one cell of a histogram takes while it is on its way."""


class Selection:
    """Rows, gathered file by file."""

    def __init__(self, most: int, limits: Limits, *, lean: bool) -> None:
        self.rows: list[Rollup] = []
        self._most = most
        self._limits = limits
        self._deadline = limits.deadline
        self._lean = lean
        self._cells = 0

    def add(self, name: str, piece: Piece, numbers: tuple[int, int]) -> None:
        """Take the rows of a file in that piece of time whose numbers are behind the first and up to the second.

        Raises InputError past the most rows, ArchiveError past the time or the memory.
        """
        with pq.ParquetFile(name, memory_map=True) as file:
            groups = [at for at in range(file.num_row_groups) if self._wanted(file.metadata.row_group(at), piece)]
            table = file.read_row_groups(groups, list(LEAN if self._lean else WHOLE), use_threads=False)
        mask = _mask(table, piece, numbers)
        if not mask.all():
            table = table.filter(pa.array(mask))
        if len(self.rows) + table.num_rows > self._most:
            raise too_many(len(self.rows) + table.num_rows, self._most)
        self.rows += (one.row for one in rollups_of(table, piece.width))

    def _wanted(self, group: Any, piece: Piece) -> bool:
        """Whether a row group may hold rows of that time; its cells are counted then."""
        columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
        statistics = columns["start"].statistics
        low, high = (round(one.timestamp() * 1_000) for one in (statistics.min, statistics.max))
        if high < piece.from_ms or low >= piece.to_ms:
            return False
        self._cells += columns["bucket.list.element"].num_values
        self._limits.check(self._deadline, CELL_BYTES * self._cells)
        return True


def _mask(table: pa.Table, piece: Piece, numbers: tuple[int, int]) -> Any:
    start = table["start"].cast(TIME).cast(pa.int64()).to_numpy()
    number = table["number"].to_numpy()
    in_time = (start >= piece.from_ms) & (start < piece.to_ms)
    return np.asarray(in_time & (number > numbers[0]) & (number <= numbers[1]))
