"""Histograms: the layout of `hdrhistogram`, the rank rule of the Java and JavaScript libraries, and the traps between."""

import math

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import histogram
from lso_core.compute.histogram import HIGHEST_US, INDEX_BITS, INDEX_MASK, Int64

PERCENTILES = (0.1, 1.0, 25.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0)

# Uniform integers hardly ever are small; latencies mostly are. Powers of two are where buckets begin.
values = st.one_of(
    st.integers(0, HIGHEST_US),
    st.integers(0, 5_000),
    st.integers(0, 39).flatmap(lambda bit: st.integers(max(0, (1 << bit) - 2), min(HIGHEST_US, (1 << bit) + 2))),
    st.sampled_from([0, 1, 1_023, 1_024, 2_047, 2_048, HIGHEST_US - 1, HIGHEST_US]),
)
columns = st.lists(values, min_size=1, max_size=60).map(lambda some: np.array(some, np.int64))
tables = st.dictionaries(st.integers(0, 40), st.integers(1, 9), max_size=12)


def library() -> HdrHistogram:
    return HdrHistogram(histogram.LOWEST_US, HIGHEST_US, histogram.SIGNIFICANT_DIGITS)


REFERENCE = library()


def cells_of(some: list[int]) -> tuple[Int64, Int64]:
    """The sparse histogram of some values, the slow way."""
    index, counts = np.unique(histogram.index_of(np.array(some, np.int64)), return_counts=True)
    return index, counts.astype(np.int64)


def table(counts: dict[int, int]) -> tuple[Int64, Int64]:
    ordered = sorted(counts.items())
    return np.array([key for key, _ in ordered], np.int64), np.array([count for _, count in ordered], np.int64)


def as_dict(cells: tuple[Int64, Int64]) -> dict[int, int]:
    return dict(zip(cells[0].tolist(), cells[1].tolist(), strict=True))


def merged(*some: dict[int, int]) -> dict[int, int]:
    """The sum of tables, key by key."""
    return {key: sum(one.get(key, 0) for one in some) for key in sorted({key for one in some for key in one})}


@given(columns)
@settings(max_examples=300)
def test_the_index_is_that_of_the_library(column: Int64) -> None:
    assert histogram.index_of(column).tolist() == [REFERENCE._counts_index_for(value) for value in column.tolist()]


def test_the_index_is_that_of_the_library_around_every_power_of_two() -> None:
    edges = [(1 << bit) + step for bit in range(40) for step in (-1, 0, 1) if (1 << bit) + step <= HIGHEST_US]
    some = sorted({*range(5_000), *edges, HIGHEST_US})
    found = histogram.index_of(np.array(some, np.int64)).tolist()
    assert found == [REFERENCE._counts_index_for(value) for value in some]


def test_the_highest_value_fits_both_the_library_and_our_packing() -> None:
    highest = int(histogram.index_of(np.array([HIGHEST_US], np.int64))[0])
    assert highest < REFERENCE.counts_len
    assert highest < 1 << INDEX_BITS
    assert (1 << INDEX_BITS) - 1 == INDEX_MASK


@given(columns)
def test_the_highest_value_at_an_index_is_that_of_the_library(column: Int64) -> None:
    found = histogram.highest_at(histogram.index_of(column)).tolist()
    assert found == [REFERENCE.get_highest_equivalent_value(value) for value in column.tolist()]


@given(columns)
def test_the_value_at_an_index_is_within_a_thousandth_above(column: Int64) -> None:
    found = histogram.highest_at(histogram.index_of(column))
    assert (found >= column).all()
    assert (found - column <= column / 1_000).all()


@given(columns)
def test_a_value_at_an_index_has_that_index(column: Int64) -> None:
    index = histogram.index_of(column)
    assert histogram.index_of(histogram.highest_at(index)).tolist() == index.tolist()


@pytest.mark.parametrize(
    ("percentile", "total", "rank"),
    [
        (50.0, 1, 1),
        (50.0, 2, 1),
        (50.0, 3, 2),
        (95.0, 20, 19),
        (95.0, 21, 20),
        (99.0, 60, 60),
        (99.0, 100, 99),
        (99.0, 101, 100),
        (99.9, 1_000, 999),
        (99.9, 1_001, 1_000),
        (99.9, 3_000, 2_997),
        (99.9, 10**9, 999_000_000),
        (0.0, 10, 1),
        (100.0, 10, 10),
    ],
)
def test_the_rank_is_the_next_whole_number(percentile: float, total: int, rank: int) -> None:
    assert histogram.rank_of(percentile, total) == rank


@given(st.sampled_from([500, 900, 950, 990, 999]), st.integers(1, 10**12))
def test_the_rank_is_exact_in_whole_numbers(per_mille: int, total: int) -> None:
    assert histogram.rank_of(per_mille / 10, total) == -(-per_mille * total // 1_000)


@given(st.lists(values, min_size=1, max_size=200))
def test_percentiles_are_those_of_the_sorted_values_within_a_thousandth(some: list[int]) -> None:
    ordered = sorted(some)
    found = histogram.values_at(PERCENTILES, *cells_of(some))
    for percentile, value in zip(PERCENTILES, found, strict=True):
        exact = ordered[math.ceil(round(percentile * len(some) / 100, 9)) - 1]
        assert exact <= value <= exact * 1.001


@given(st.lists(st.lists(values, min_size=1, max_size=50), min_size=1, max_size=6))
def test_percentiles_of_many_histograms_at_once_are_those_of_each(many: list[list[int]]) -> None:
    cells = [cells_of(some) for some in many]
    bounds = np.cumsum([0, *(len(index) for index, _ in cells)])
    index, counts = (np.concatenate(column) for column in zip(*cells, strict=True))
    expected = [histogram.values_at(PERCENTILES, *one) for one in cells]
    assert expected == histogram.values_of_each(PERCENTILES, index, counts, bounds)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30).map(sorted))
def test_runs_of_equal_values_have_starts_and_lengths(ordered: list[int]) -> None:
    starts = histogram.starts_of(np.array(ordered))
    lengths = histogram.lengths_of(starts, len(ordered))
    assert [(one, ordered.count(one)) for one in dict.fromkeys(ordered)] == [
        (ordered[start], length) for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def test_the_99th_percentile_of_60_values_is_the_largest() -> None:
    """ceil(0.99 * 60) is 60. The library rounds to 59 and answers with the second largest."""
    some = [10] * 59 + [5_000_000]
    assert histogram.values_at((99.0,), *cells_of(some)) == [REFERENCE.get_highest_equivalent_value(5_000_000)]
    theirs = library()
    for value in some:
        theirs.record_value(value)
    assert theirs.get_value_at_percentile(99.0) == 10


@given(tables, tables, tables)
def test_adding_tables_is_associative_and_commutative_and_the_sum(
    one: dict[int, int], two: dict[int, int], three: dict[int, int]
) -> None:
    a, b, c = table(one), table(two), table(three)
    left = histogram.add_cells(*histogram.add_cells(*a, *b), *c)
    right = histogram.add_cells(*a, *histogram.add_cells(*b, *c))
    turned = histogram.add_cells(*c, *histogram.add_cells(*b, *a))
    assert as_dict(left) == as_dict(right) == as_dict(turned) == merged(one, two, three)
    assert left[0].tolist() == sorted(left[0].tolist())


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 3)), max_size=30))
def test_summing_cells_in_any_order_leaves_no_zero_and_ascends(cells: list[tuple[int, int]]) -> None:
    keys = np.array([key for key, _ in cells], np.int64)
    counts = np.array([count for _, count in cells], np.int64)
    summed = as_dict(histogram.sum_cells(keys, counts))
    expected = merged(*({key: count} for key, count in cells))
    if cells and (counts != 0).all():
        assert summed == {key: count for key, count in expected.items() if count}
    assert list(summed) == sorted(summed)


@given(tables, tables)
def test_what_was_added_can_be_taken_off_again(one: dict[int, int], two: dict[int, int]) -> None:
    both = histogram.add_cells(*table(one), *table(two))
    keys, counts = table(two)
    assert as_dict(histogram.sum_cells(np.concatenate((both[0], keys)), np.concatenate((both[1], -counts)))) == one


@given(st.lists(values, min_size=1, max_size=50), st.lists(values, min_size=1, max_size=50))
def test_a_merged_histogram_answers_as_the_histogram_of_all_values(some: list[int], others: list[int]) -> None:
    joined = histogram.add_cells(*cells_of(some), *cells_of(others))
    assert histogram.values_at(PERCENTILES, *joined) == histogram.values_at(PERCENTILES, *cells_of(some + others))


# -- the traps of the library, each the reason why we count ourselves ---------------------------------------------


def test_trap_the_library_refuses_a_value_out_of_range_without_a_word() -> None:
    theirs = library()
    assert theirs.record_value(1 << 41) is False
    assert theirs.record_value(-1) is False
    assert theirs.get_total_count() == 0


def test_trap_an_empty_histogram_of_the_library_answers_0_for_every_percentile() -> None:
    assert [library().get_value_at_percentile(percentile) for percentile in PERCENTILES] == [0] * len(PERCENTILES)


def test_trap_adding_an_empty_histogram_of_the_library_sets_the_minimum_to_0() -> None:
    theirs = library()
    theirs.record_value(500)
    assert theirs.get_min_value() == 500
    theirs.add(library())
    assert theirs.get_min_value() == 0


def test_trap_the_library_converts_other_shapes_in_silence_or_raises() -> None:
    fine, coarse, small = library(), HdrHistogram(1, HIGHEST_US, 1), HdrHistogram(1, 10_000, 3)
    fine.record_value(1_234_567)
    coarse.add(fine)
    assert coarse.get_total_count() == 1
    assert abs(coarse.get_value_at_percentile(100) - 1_234_567) > 1_234
    with pytest.raises(IndexError):
        small.add(fine)
