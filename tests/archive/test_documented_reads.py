"""The reads that docs/archive.md shows give what LSO itself says."""

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.dataset as ds
import pytest

from lso_core.archive.building import Order, build
from lso_core.archive.layout import Period, Piece
from lso_core.compute import histogram
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.compute.rollups import Rollup, encode
from lso_core.compute.series import lines
from lso_core.compute.state import Tally
from lso_core.model.rollups import Width
from lso_core.model.series import Grid, metrics_of
from tests.archive.test_tables import BODY, entry

DOC = Path(__file__).resolve().parents[2] / "docs" / "archive.md"
BEGIN = 1_795_687_200_000 // Width.HOUR * Width.HOUR


def minute(number: int, chance: np.random.Generator) -> Rollup:
    us = np.sort(chance.lognormal(10, 2, 200).astype(np.int64) + 1)
    index, count = np.unique(histogram.index_of(us), return_counts=True)
    tally = Tally(200, 0, 200, int(us.sum()), int(us[0]), int(us[-1]))
    zeros = np.zeros(len(index), np.int64)
    return Rollup(BEGIN + number * Width.MINUTE, Width.MINUTE, {"load": tally}, index, zeros, count, zeros)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one system: some events, and three hours of rollups."""
    root = tmp_path_factory.mktemp("docs") / "data" / "archive"
    chance = np.random.default_rng(1)
    orders = Order([entry(BODY, 1)]), Order(rows=[(at, encode(minute(at, chance))) for at in range(1, 181)])
    for order in orders:
        for file in build(order).files:
            path = root / Piece(file.kind, 3, Period(file.period), (0, 0), (180, 0)).path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
    return root


def statements() -> list[str]:
    """The SQL of the page."""
    [block] = re.findall(r"```sql\n(.*?)```", DOC.read_text(), re.DOTALL)
    return [one for one in block.split(";") if one.strip()]


def run(archive: Path, sql: str) -> list[Any]:
    rows: list[Any] = duckdb.execute(sql.replace("data/archive", str(archive))).fetchall()
    return rows


def test_events_by_the_hour(archive: Path) -> None:
    found = run(archive, statements()[0].replace("2026-11-20", "2026-11-01"))
    assert [(3, 1, 0), (3, 2, 1)] == [(system, events, errors) for system, _, events, errors in found]


def test_the_percentile_of_the_page_is_that_of_lso(archive: Path) -> None:
    rows = [minute(at, chance) for chance in (np.random.default_rng(1),) for at in range(1, 181)]
    grid = Grid(BEGIN, BEGIN + 4 * Width.HOUR, Width.HOUR)
    [line] = lines(RollupColumns.of(rows, Detail.NONE), grid, metrics_of("p95"))
    found = [p95 for _, p95 in run(archive, statements()[1])]
    highest = [
        max(tally.max_us for row in rows if Width.HOUR.start_of(row.start_ms) == start for tally in row.stages.values())
        for start in grid.starts
    ]
    assert line.values["p95"] == pytest.approx(
        [min(p95, most / 1_000) for p95, most in zip(found, highest, strict=True)]
    )


def test_pyarrow_reads_the_folder_as_a_table(archive: Path) -> None:
    events = ds.dataset(archive / "events", format="parquet", partitioning="hive")
    found = events.to_table(filter=(ds.field("system_id") == 3) & (ds.field("status") == "error"))
    assert ["extract"] == found["stage"].to_pylist()
    hours = ds.dataset(archive / "hours", format="parquet", partitioning="hive").to_table()
    assert 180 * 200 == sum(hours["total"].to_pylist())
