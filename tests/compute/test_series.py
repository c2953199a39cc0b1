"""Series, distributions and objectives from rows, against a count over the events themselves."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import distribution, histogram, rollups, series
from lso_core.compute.fold import unwritten
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.compute.rollups import Rollup
from lso_core.compute.series import Line
from lso_core.compute.state import Tally
from lso_core.model.rollups import Piece, Width, pieces
from lso_core.model.series import Grid, Metric, metrics_of
from tests.compute.brute import Sent, close, percentile
from tests.compute.test_fold_rows import MINUTE, M, Turn, histories, run

METRICS = metrics_of("total,errors,error_rate,rps,min,mean,max,p50,p95,p99.9,p100")

minutes = st.integers(-200, 200).map(lambda at: M + at * MINUTE)
grids = st.tuples(minutes, st.integers(1, 400), st.sampled_from([1, 2, 7, 60, 1_440])).map(
    lambda drawn: Grid(drawn[0], drawn[0] + drawn[1] * MINUTE, drawn[2] * MINUTE)
)


def rows_of(turns: Sequence[Turn]) -> tuple[list[Rollup], list[tuple[Sent, bool]]]:
    """Everything that is known after some folds, and the counted events with whether each was late."""
    state, rows, sent = run(turns)
    counted = [(one, one.late(window)) for one, window in sent if not one.lifecycle]
    return [*rows, *unwritten(state.meta, state.opened())], counted


def lines(rows: Sequence[Rollup], grid: Grid, metrics: Sequence[Metric], *, by_stage: bool = False) -> list[Line]:
    """The series of some rows."""
    detail = Detail.STAGE if by_stage else Detail.NONE
    return series.lines(RollupColumns.of(rows, detail), grid, metrics, by_stage=by_stage)


def within(rows: Sequence[Rollup], some: Sequence[Piece]) -> list[Rollup]:
    """The rows of each piece, merged to its width, as an archive would have them."""
    return [
        row
        for piece in some
        for row in rollups.merge([one for one in rows if piece.from_ms <= one.start_ms < piece.to_ms], piece.width)
    ]


def check(line: Line, grid: Grid, sent: Sequence[tuple[Sent, bool]]) -> None:
    """Every point of a line is what a count over its events finds."""
    for at, start in enumerate(grid.starts):
        end = min(start + grid.step_ms, grid.to_ms)
        own = [(one, late) for one, late in sent if start <= one.time_ms < end]
        found = {name: values[at] for name, values in line.values.items()}
        assert line.revised[at] == sum(late for _, late in own)
        if not own:
            assert set(found.values()) == {None}
            continue
        errors = sum(one.event.status == "error" for one, _ in own)
        latencies = [one.event.latency_ms or 0 for one, _ in own]
        assert (found["total"], found["errors"]) == (len(own), errors)
        assert found["error_rate"] == errors / len(own)
        assert found["rps"] == pytest.approx(len(own) * 1_000 / (end - start), abs=1e-6)
        assert close(found["min"], min(latencies))
        assert close(found["mean"], math.fsum(latencies) / len(own))
        assert close(found["max"], max(latencies))
        for name, per_cent in (("p50", 50), ("p95", 95), ("p99.9", 99.9), ("p100", 100)):
            assert close(found[name], percentile(latencies, per_cent))


@given(histories(), grids)
@settings(max_examples=25)
def test_every_point_is_what_a_count_over_its_events_finds(turns: list[Turn], grid: Grid) -> None:
    rows, sent = rows_of(turns)
    some = within(rows, grid.pieces)
    [line] = lines(some, grid, METRICS)
    check(line, grid, sent)
    by_stage = lines(some, grid, METRICS, by_stage=True)
    inside = [(one, late) for one, late in sent if grid.from_ms <= one.time_ms < grid.to_ms]
    assert [one.stage for one in by_stage] == sorted({one.event.stage or "" for one, _ in inside})
    for one in by_stage:
        check(one, grid, [(each, late) for each, late in sent if (each.event.stage or "") == one.stage])


@given(histories(), grids, st.sampled_from([None, "", "load", "no such stage"]), st.sampled_from([1, 4, 32, 1_024]))
@settings(max_examples=15)
def test_a_distribution_and_a_heat_map_hold_every_latency_once(
    turns: list[Turn], grid: Grid, stage: str | None, parts: int
) -> None:
    rows, sent = rows_of(turns)
    inside = [one for one, _ in sent if grid.from_ms <= one.time_ms < grid.to_ms]
    own = [one for one in inside if stage is None or (one.event.stage or "") == stage]
    detail = distribution.detail_of(stage)
    us = [round((one.event.latency_ms or 0) * 1_000) for one in own]
    some = within(rows, pieces(grid.from_ms, grid.to_ms))
    whole = distribution.distribution(RollupColumns.of(some, detail), stage)
    assert (whole.tally.total, int(whole.counts.sum())) == (len(own), len(own))
    assert np.repeat(whole.index, whole.counts).tolist() == sorted(histogram.index_of(np.array(us, np.int64)).tolist())
    found = distribution.heat_map(RollupColumns.of(within(rows, grid.pieces), detail), grid, parts, stage)
    counted: dict[tuple[int, int], int] = {}
    for one, value in zip(own, us, strict=True):
        [bucket] = [at for at, low in enumerate(found.low_us) if low <= value <= found.high_us[at]]
        place = (one.time_ms - grid.from_ms) // grid.step_ms, bucket
        counted[place] = counted.get(place, 0) + 1
    assert found.cells == [(*place, count) for place, count in sorted(counted.items())]
    assert all(high < low for high, low in zip(found.high_us, found.low_us[1:], strict=False))


@given(histories(), grids, st.none() | st.floats(0.001, 900_000))
@settings(max_examples=15)
def test_good_events_are_neither_wrong_nor_slow(turns: list[Turn], grid: Grid, latency_ms: float | None) -> None:
    rows, sent = rows_of(turns)
    edges = [*grid.starts, grid.to_ms]
    some = RollupColumns.of(within(rows, grid.pieces), Detail.ERRORS)
    limit_us = None if latency_ms is None else round(latency_ms * 1_000)
    for at, (total, right) in enumerate(distribution.good(some, edges, limit_us)):
        own = [one for one, _ in sent if edges[at] <= one.time_ms < edges[at + 1]]
        well = [one for one in own if one.event.status == "ok"]
        if latency_ms is not None:
            # Latencies of one cell of the histogram with the limit are taken for it.
            surely = sum((one.event.latency_ms or 0) <= latency_ms for one in well)
            perhaps = sum((one.event.latency_ms or 0) <= latency_ms * 1.001 + 0.001 for one in well)
            assert surely <= right <= perhaps
        else:
            assert right == len(well)
        assert total == len(own)


def row(start_ms: int, us: Sequence[int]) -> Rollup:
    index, counts = np.unique(histogram.index_of(np.array(us, np.int64)), return_counts=True)
    tally = Tally(len(us), 0, len(us), sum(us), min(us), max(us))
    zeros = np.zeros_like(index)
    return Rollup(start_ms, Width.MINUTE, {"": tally}, index, zeros, counts, zeros)


def test_percentiles_merge_and_are_not_averaged() -> None:
    """A fast minute with 99 events and a slow one with one: the mean of their p99 would be some 500 ms."""
    grid = Grid(0, 2 * MINUTE, 2 * MINUTE)
    [line] = lines([row(0, [1_000] * 99), row(MINUTE, [1_000_000])], grid, metrics_of("p50,p99,p99.1,p100"))
    assert line.values == {"p50": [1.0], "p99": [1.0], "p99.1": [1_000.0], "p100": [1_000.0]}


def test_a_series_without_rows_is_null_throughout() -> None:
    grid = Grid(0, 3 * MINUTE, MINUTE)
    [line] = lines([], grid, METRICS)
    assert set(map(tuple, line.values.values())) == {(None, None, None)}
    assert lines([], grid, METRICS, by_stage=True) == []
    none = RollupColumns.of([], Detail.NONE)
    assert distribution.heat_map(none, grid, 4).cells == []
    assert distribution.distribution(none).tally.total == 0


def test_a_minute_with_nothing_but_heartbeats_is_null() -> None:
    grid = Grid(0, MINUTE, MINUTE)
    [line] = lines([Rollup(0, Width.MINUTE, event_types={"heartbeat": 9})], grid, metrics_of("total,p50"))
    assert line.values == {"total": [None], "p50": [None]}


def test_the_last_point_may_be_shorter_and_its_rate_is_over_what_there_is_of_it() -> None:
    grid = Grid(0, 3 * MINUTE, 2 * MINUTE)
    [line] = lines([row(0, [1] * 120), row(2 * MINUTE, [1] * 120)], grid, metrics_of("rps"))
    assert line.values == {"rps": [1.0, 2.0]}
