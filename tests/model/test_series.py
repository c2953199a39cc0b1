"""What is asked of history: its metrics, and its stretch of time in whole minutes or hours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.model import times
from lso_core.model.errors import InputError
from lso_core.model.rollups import Width, pieces
from lso_core.model.series import (
    MOST_POINTS,
    MOST_POINTS_IN_ALL,
    Grid,
    check_points,
    duration_of,
    grid_of,
    metrics_of,
)

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = times.from_text("2025-12-14T14:33:10.529Z")


@pytest.mark.parametrize(
    ("name", "percentile"),
    [
        ("p1", 1.0),
        ("p50", 50.0),
        ("p99", 99.0),
        ("p999", 99.9),
        ("p9999", 99.99),
        ("p99.9", 99.9),
        ("p99.5", 99.5),
        ("p0.5", 0.5),
        ("p99.99999", 99.99999),
        ("p100", 100.0),
    ],
)
def test_a_percentile_is_named_as_it_is_read(name: str, percentile: float) -> None:
    [metric] = metrics_of(name)
    assert (metric.name, metric.percentile) == (name, percentile)


@pytest.mark.parametrize(
    "text", ["", "p", "p0", "p0.0", "p101", "p995", "p99.999999", "p050", "P95", "count", "p95,", "p95 ", "total,total"]
)
def test_what_is_no_metric_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        metrics_of(text)
    assert refusal.value.findings[0].field == "metric"


def test_too_many_metrics_are_refused_with_the_cap() -> None:
    assert len(metrics_of(",".join(f"p{n}" for n in range(1, 21)))) == 20
    with pytest.raises(InputError, match="metric names 21; the cap is 20"):
        metrics_of(",".join(f"p{n}" for n in range(1, 22)))


def test_without_from_and_to_it_is_the_last_hour_by_the_minute() -> None:
    end = NOW - NOW % MINUTE + MINUTE
    assert grid_of(None, None, None, NOW) == Grid(end - HOUR, end, MINUTE)


@pytest.mark.parametrize(
    ("from_", "step"),
    [
        ("2025-12-14T08:33:00Z", MINUTE),
        ("2025-12-13T14:33:00Z", 5 * MINUTE),
        ("2025-12-07T14:33:00Z", 30 * MINUTE),
        ("2025-11-14T15:00:00Z", 3 * HOUR),
        ("2024-12-14T15:00:00Z", DAY),
        ("2015-12-14T15:00:00Z", 30 * DAY),
    ],
)
def test_a_step_is_chosen_that_makes_a_chart(from_: str, step: int) -> None:
    grid = grid_of(from_, None, None, NOW)
    assert grid.step_ms == step
    assert 50 <= grid.points <= 500


@pytest.mark.parametrize(
    ("from_", "to", "step", "field", "message"),
    [
        ("2025-12-14T14:00:01Z", None, None, "from", "from must be in whole minutes"),
        ("2025-12-14T14:00:00Z", "2025-12-14T14:10:00.001Z", None, "to", "to must be in whole minutes"),
        ("2025-12-14T14:00:00Z", "2025-12-14T14:10:00Z", "90", "step", "step must be in whole minutes"),
        ("2025-12-14T14:00:00Z", "2025-12-14T14:00:00Z", None, "to", "to must be later than from"),
        ("2025-12-14T14:00:00Z", "2025-12-14T13:00:00Z", None, "to", "to must be later than from"),
        ("2025-12-14", None, None, "from", "from is not an RFC 3339 date-time"),
        (None, "now", None, "to", "to is not an RFC 3339 date-time"),
        (None, None, "0", "step", "step must be a number of seconds, or one with a unit"),
        (None, None, "1w", "step", "step must be a number of seconds, or one with a unit"),
        (
            "2025-11-14T12:01:00Z",
            None,
            None,
            "from",
            "from must be in whole hours where from lies more than 30 days back",
        ),
        ("2025-11-14T12:00:00Z", "2025-11-15T12:30:00Z", None, "to", "to must be in whole hours"),
        ("2025-11-14T12:00:00Z", None, "90m", "step", "step must be in whole hours"),
        ("2025-12-01T00:00:00Z", "2025-12-14T00:00:00Z", "1m", "step", "make 18720 points; the cap is 10000"),
    ],
)
def test_what_is_no_whole_stretch_is_refused_with_the_rule(
    from_: str | None, to: str | None, step: str | None, field: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        grid_of(from_, to, step, NOW)
    assert refusal.value.findings[0].field == field


def test_a_question_for_thirty_days_may_begin_with_any_minute_though_it_takes_a_moment_to_arrive() -> None:
    assert grid_of("2025-11-14T14:33:00Z", "2025-12-14T14:33:00Z", "1h", NOW).points == 720


def test_the_points_of_an_answer_are_capped() -> None:
    grid = Grid(0, 1_000 * MINUTE, MINUTE)
    check_points(MOST_POINTS_IN_ALL // 1_000, grid, "step")
    with pytest.raises(InputError, match="101 lines of 1000 points each; the cap is 100000"):
        check_points(101, grid, "step")
    assert grid.points < MOST_POINTS


@pytest.mark.parametrize(
    ("text", "ms"), [("60", MINUTE), ("90s", 90_000), ("5m", 5 * MINUTE), ("6h", 6 * HOUR), ("30d", 30 * DAY)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, ms: int) -> None:
    assert duration_of("step", text) == ms


minutes = st.integers(-5_000, 5_000).map(lambda at: at * MINUTE)


@given(minutes, st.integers(1, 6_000), st.sampled_from(Width))
def test_pieces_cover_a_stretch_once_and_are_whole_in_their_width(from_ms: int, count: int, widest: Width) -> None:
    to_ms = from_ms + count * MINUTE
    some = pieces(from_ms, to_ms, widest)
    assert [one.from_ms for one in some] == [from_ms, *(one.to_ms for one in some[:-1])]
    assert some[-1].to_ms == to_ms
    for one in some:
        assert one.width <= widest
        assert (one.from_ms % one.width, one.to_ms % one.width) == (0, 0)
    # As wide as may be: of each width but the widest there is less than one of the next, on either side.
    for side in (some, some[::-1]):
        widths = [one.width for one in side]
        assert widths[: widths.index(max(widths)) + 1] == sorted(widths[: widths.index(max(widths)) + 1])
    assert all(one.to_ms - one.from_ms < 60 * HOUR for one in some if one.width < min(widest, Width.DAY))


@pytest.mark.parametrize(
    ("from_ms", "step_ms", "width"),
    [
        (0, DAY, Width.DAY),
        (0, 7 * DAY, Width.DAY),
        (HOUR, DAY, Width.HOUR),
        (0, 90 * MINUTE, Width.MINUTE),
        (MINUTE, DAY, Width.MINUTE),
        (0, 6 * HOUR, Width.HOUR),
    ],
)
def test_a_grid_takes_the_widest_rows_that_stay_in_its_points(from_ms: int, step_ms: int, width: Width) -> None:
    grid = Grid(from_ms, from_ms + 10 * step_ms, step_ms)
    assert {piece.width for piece in grid.pieces} == {width}
