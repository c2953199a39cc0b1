"""Rollup rows by column, as they are merged by the thousand: no row of them costs an object."""

import enum
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute.cells import NO_CELLS
from lso_core.compute.histogram import Int64
from lso_core.compute.rollups import Column, Rollup

Floats = npt.NDArray[np.float64]


class Detail(enum.StrEnum):
    """What is told of each cell beside its index and its count."""

    NONE = "none"
    STAGE = "stage"
    ERRORS = "errors"


class RollupColumns(msgspec.Struct, frozen=True):
    """n rows with m tallies and c cells in all, each row's one after another.

    `names` and `stage` are empty unless Detail.STAGE is told, `errors` unless Detail.ERRORS is.
    """

    start_ms: Int64
    """n"""
    stages: Int64
    """n: how many tallies each row has."""
    names: list[str]
    """m: the stage of each tally."""
    tallies: Floats
    """(7, m): the fields of `state.Tally`, and how many events were late. Floats are exact up to 2^53, which no sum of
    ours comes near."""
    cells: Int64
    """n: how many cells each row has."""
    index: Column
    """c: of `compute.histogram`, ascending within a row."""
    stage: Column
    """c: a position in the row's own tallies."""
    count: Column
    """c"""
    errors: Column = NO_CELLS
    """c: how many of the count are those of errors."""

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.start_ms)

    @property
    def tally_of_cells(self) -> Int64:
        """c: the tally that each cell belongs to."""
        first = np.cumsum(self.stages) - self.stages
        found: Int64 = np.repeat(first, self.cells) + self.stage
        return found

    @classmethod
    def of(cls, rows: Sequence[Rollup], detail: Detail) -> "RollupColumns":
        """The columns of some rows."""
        by_stage = detail is Detail.STAGE
        tallies = [
            (*msgspec.structs.astuple(tally), row.revised.get(name, 0))
            for row in rows
            for name, tally in row.stages.items()
        ]
        return cls(
            np.array([row.start_ms for row in rows], np.int64),
            np.array([len(row.stages) for row in rows], np.int64),
            [name for row in rows for name in row.stages] if by_stage else [],
            np.array(tallies, np.float64).reshape(-1, 7).T,
            np.array([len(row.index) for row in rows], np.int64),
            _join(row.index for row in rows),
            _join(row.stage for row in rows) if by_stage else NO_CELLS,
            _join(row.count for row in rows),
            _join(row.errors for row in rows) if detail is Detail.ERRORS else NO_CELLS,
        )

    @classmethod
    def joined(cls, parts: Iterable["RollupColumns"]) -> "RollupColumns":
        """The rows of all parts."""
        some = [part for part in parts if len(part)]
        if len(some) == 1:
            return some[0]
        return cls(
            np.concatenate([NO_CELLS, *(part.start_ms for part in some)]),
            np.concatenate([NO_CELLS, *(part.stages for part in some)]),
            [name for part in some for name in part.names],
            np.concatenate([np.empty((7, 0)), *(part.tallies for part in some)], axis=1),
            np.concatenate([NO_CELLS, *(part.cells for part in some)]),
            _join(part.index for part in some),
            _join(part.stage for part in some),
            _join(part.count for part in some),
            _join(part.errors for part in some),
        )


def _join(columns: Iterable[Column]) -> Column:
    """All columns in one, no wider than the widest of them."""
    some = list(columns) or [NO_CELLS]
    widest = np.result_type(*some)
    # Signed and unsigned words have no type in common but doubles.
    return np.concatenate(some, dtype=np.dtype(np.int64) if widest.kind == "f" else widest, casting="unsafe")
