"""Percentiles of points, by both ways, against a count over the values themselves; and the columns that they are of."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import histogram, ranks
from lso_core.compute.cells import NO_CELLS
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.compute.rollups import Rollup
from tests.compute.plainly import needs_kernels, plainly
from tests.compute.test_rollups import rows as rollups

WANTED = (0.00001, 50.0, 95.0, 99.9, 100.0)
INDEX_TYPES = ("<u2", "<i4", "<i8")
COUNT_TYPES = ("<u1", "<u2", "<u4", "<i8", "<u8")

Row = list[tuple[int, int]]
"""Index and count of each cell."""


def rows_of(most_index: int, most_count: int) -> st.SearchStrategy[list[Row]]:
    cells = st.tuples(st.integers(0, most_index), st.integers(0, most_count))
    return st.lists(st.lists(cells, max_size=12).map(sorted), max_size=8)


def columns(rows: list[Row], index_type: str = "<i8", count_type: str = "<i8") -> RollupColumns:
    """Rows of nothing but cells."""
    cells = [cell for row in rows for cell in row]
    zeros = np.zeros(len(rows), np.int64)
    return RollupColumns(
        start_ms=zeros,
        stages=zeros,
        names=[],
        tallies=np.empty((7, 0)),
        cells=np.array([len(row) for row in rows], np.int64),
        index=np.array([index for index, _ in cells], index_type),
        stage=NO_CELLS,
        count=np.array([count for _, count in cells], count_type),
    )


def plain(one: RollupColumns) -> dict[str, Any]:
    """What it says, whatever the types are."""
    return {name: np.asarray(column).tolist() for name, column in msgspec.structs.asdict(one).items()}


def counted(rows: list[Row], place: list[int], places: int) -> list[list[int]]:
    """The values at the ranks, by going through all of them."""
    found = []
    for at in range(places):
        own = sorted(cell for row, where in zip(rows, place, strict=True) if where == at for cell in row)
        total = sum(count for _, count in own)
        found.append([highest(own, int(histogram.rank_of(wanted, total))) if total else 0 for wanted in WANTED])
    return found


def highest(cells: Row, rank: int) -> int:
    for index, count in cells:
        rank -= count
        if rank <= 0:
            return int(histogram.highest_at(np.array([index], np.int64))[0])
    raise AssertionError("the rank is past the last value")


@given(rows_of(histogram.INDEX_MASK, 255), st.data(), st.sampled_from(INDEX_TYPES), st.sampled_from(COUNT_TYPES))
@settings(max_examples=150)
def test_both_ways_find_the_values_at_the_ranks(
    rows: list[Row], data: st.DataObject, index_type: str, count_type: str
) -> None:
    places = data.draw(st.integers(1, 5))
    place = data.draw(st.lists(st.integers(0, places - 1), min_size=len(rows), max_size=len(rows)))
    wanted, given_ = counted(rows, place, places), (columns(rows, index_type, count_type), np.array(place, np.int64))
    assert wanted == ranks.of_rows(WANTED, *given_, places).tolist()
    with plainly():
        assert wanted == ranks.of_rows(WANTED, *given_, places).tolist()


@given(rows_of(200, 1 << 32))
@settings(max_examples=50)
def test_large_counts_are_whole_numbers(rows: list[Row]) -> None:
    place = list(range(len(rows)))
    given_ = columns(rows), np.array(place, np.int64), len(rows)
    assert counted(rows, place, len(rows)) == ranks.of_rows(WANTED, *given_).tolist()


@needs_kernels
def test_rows_whose_cells_are_not_all_there_are_refused() -> None:
    whole, place = columns([[(1, 1), (2, 1)]]), np.zeros(1, np.int64)
    for name, short in (("count", np.array([1])), ("index", np.array([1])), ("cells", np.array([3]))):
        with pytest.raises(ValueError, match="do not have the cells"):
            ranks.of_rows(WANTED, msgspec.structs.replace(whole, **{name: short}), place, 1)
    torn = msgspec.structs.replace(columns([[(1, 1)], [(2, 1)]]), cells=np.array([3, -1]))
    with pytest.raises(ValueError, match="the rows are none"):
        ranks.of_rows(WANTED, torn, np.zeros(2, np.int64), 1)


@given(st.lists(rollups(), max_size=6), st.data(), st.sampled_from(Detail))
@settings(max_examples=50)
def test_joined_columns_are_those_of_all_rows(given_: list[Rollup], data: st.DataObject, detail: Detail) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(given_)), max_size=3)))
    pieces = [given_[start:end] for start, end in zip([0, *cuts], [*cuts, len(given_)], strict=True)]
    joined = RollupColumns.joined(RollupColumns.of(piece, detail) for piece in pieces)
    assert plain(RollupColumns.of(given_, detail)) == plain(joined)


def test_signed_and_unsigned_words_are_joined_without_a_loss() -> None:
    one, other = columns([[(1, (1 << 53) + 1)]], count_type="<i8"), columns([[(1, (1 << 53) + 3)]], count_type="<u8")
    assert RollupColumns.joined([one, other]).count.tolist() == [(1 << 53) + 1, (1 << 53) + 3]
