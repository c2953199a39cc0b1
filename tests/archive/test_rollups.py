"""Rollup rows as Parquet, and back."""

import io
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.archive.building import Order, build
from lso_core.archive.layout import Kind
from lso_core.archive.merging import Share, merged
from lso_core.archive.rollups import ROLLUPS, TELLING, Numbered, columns_of, rollups_file, rollups_of
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.compute.rollups import Rollup, encode, merge
from lso_core.model.rollups import Width
from tests.compute.test_ranks import plain
from tests.compute.test_rollups import as_values, rows


def back(data: bytes, width: Width = Width.MINUTE) -> list[Numbered]:
    return list(rollups_of(pq.read_table(io.BytesIO(data)), width))


@settings(max_examples=15)
@given(st.lists(rows(), max_size=6))
def test_rows_come_back_as_they_were(given_: list[Rollup]) -> None:
    numbered = [Numbered(number, row) for number, row in enumerate(given_, 1)]
    found = sorted(back(rollups_file(numbered)), key=lambda one: one.number)
    assert [(one.number, as_values(one.row)) for one in found] == [(one.number, as_values(one.row)) for one in numbered]


def test_the_types_are_as_they_are_said_to_be() -> None:
    found = pq.read_schema(io.BytesIO(rollups_file([])))
    assert [(field.name, field.type) for field in ROLLUPS] == [(field.name, field.type) for field in found]


@settings(max_examples=15)
@given(st.lists(rows(st.integers(0, 3_000).map(lambda minute: minute * 60_000)), min_size=1, max_size=6))
def test_hours_and_days_are_the_minutes_added_up(given_: list[Rollup]) -> None:
    answer = build(Order(rows=[(number, encode(row)) for number, row in enumerate(given_, 1)]))
    assert (answer.failed, answer.newer) == (None, None)
    for kind, width in ((Kind.HOURS, Width.HOUR), (Kind.DAYS, Width.DAY)):
        found = [one.row for file in answer.files if file.kind is kind for one in back(file.data, width)]
        assert [as_values(row) for row in merge(given_, width)] == [as_values(row) for row in found]
    days = [file.period for file in answer.files if file.kind is Kind.MINUTES]
    assert sorted(set(days)) == days


def test_a_row_that_nobody_can_read_costs_no_other() -> None:
    row = Rollup(0, Width.MINUTE)
    answer = build(Order(rows=[(1, encode(row)), (2, encode(row)[:-1])]))
    assert (1, None) == (answer.unreadable, answer.failed)
    assert 1 == len(back(answer.files[0].data))


@settings(max_examples=15)
@given(st.lists(rows(st.integers(0, 100).map(lambda minute: minute * 60_000)), min_size=2, max_size=6), st.data())
def test_merged_files_hold_what_the_small_ones_did(given_: list[Rollup], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(given_) - 1))
    overlap = data.draw(st.integers(0, cut))
    numbered = [Numbered(number, row) for number, row in enumerate(given_, 1)]
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        one.write_bytes(rollups_file(numbered[:cut]))
        other.write_bytes(rollups_file(numbered[overlap:]))
        shares = [Share(str(one), (0, 0), whole=True), Share(str(other), (cut, 0), whole=False)]
        minutes = back(merged(Kind.MINUTES, shares))
        hours = [one.row for one in back(merged(Kind.HOURS, shares), Width.HOUR)]
    assert sorted(one.number for one in minutes) == list(range(1, len(given_) + 1))
    assert [as_values(row) for row in merge(given_, Width.HOUR)] == [as_values(row) for row in hours]


def test_nothing_stored_is_wider_than_a_spark_reader_takes() -> None:
    """Unsigned and nanosecond types would be."""
    flat = [field.type for field in ROLLUPS if not pa.types.is_list(field.type)]
    assert {pa.int64(), pa.binary(), pa.timestamp("ms", tz="UTC")} == set(flat)


def columns_back(data: bytes, detail: Detail) -> RollupColumns:
    table = pq.ParquetFile(io.BytesIO(data)).read(list(TELLING[detail]))
    return RollupColumns.joined(columns_of(table, detail))


@settings(max_examples=25)
@given(st.lists(rows(), max_size=6), st.sampled_from([Detail.STAGE, Detail.ERRORS]))
def test_columns_come_back_as_those_of_the_rows(given_: list[Rollup], detail: Detail) -> None:
    numbered = [Numbered(number, row) for number, row in enumerate(given_, 1)]
    ordered = [one.row for one in sorted(numbered, key=lambda one: (one.row.start_ms, one.number))]
    wanted = RollupColumns.of(ordered, detail)
    assert plain(wanted) == plain(columns_back(rollups_file(numbered), detail))


@settings(max_examples=25)
@given(st.lists(rows(), max_size=6))
def test_the_packed_cells_say_the_same_of_all_stages_together(given_: list[Rollup]) -> None:
    numbered = [Numbered(number, row) for number, row in enumerate(given_, 1)]
    ordered = [one.row for one in sorted(numbered, key=lambda one: (one.row.start_ms, one.number))]
    found = columns_back(rollups_file(numbered), Detail.NONE)
    wanted = RollupColumns.of([together(row) for row in ordered], Detail.NONE)
    assert plain(wanted) == plain(found)


def together(row: Rollup) -> Rollup:
    """The row with one cell an index, whatever their stages."""
    sums: dict[int, int] = {}
    for index, count in zip(row.index.tolist(), row.count.tolist(), strict=True):
        sums[index] = sums.get(index, 0) + count
    index, count = (np.array([*some], np.int64) for some in (sums.keys(), sums.values()))
    return msgspec.structs.replace(row, index=index, count=count)
