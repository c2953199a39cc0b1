"""Rollup rows: they come back from their stored form, and add up the same in whatever pieces they came."""

import random
import struct
import zlib
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.compute import rollups
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.histogram import INDEX_MASK
from lso_core.compute.rollups import ROLLUP_FORMAT, Rollup, decode, encode, merge
from lso_core.compute.state import Tally
from lso_core.model.events import OTHER
from lso_core.model.rollups import MOST_NAMES, NO_STAGE, Width
from tests.compute.test_state import tallies

MINUTE = 60_000
stage_names = st.sampled_from([NO_STAGE, "extract", "load", "Prüfung", OTHER])
starts = st.integers(-1_000, 40_000_000).map(lambda minute: minute * MINUTE)


@st.composite
def rows(draw: st.DrawFn, start_ms: st.SearchStrategy[int] = starts) -> Rollup:
    stages = draw(st.dictionaries(stage_names, tallies, min_size=1, max_size=4))
    places = st.tuples(st.integers(0, INDEX_MASK), st.integers(0, len(stages) - 1))
    cells = sorted(draw(st.dictionaries(places, st.integers(1, 10**10), max_size=30)).items())
    return Rollup(
        draw(start_ms),
        Width.MINUTE,
        stages,
        np.array([index for (index, _), _ in cells], np.int64),
        np.array([stage for (_, stage), _ in cells], np.int64),
        np.array([count for _, count in cells], np.int64),
        np.array([draw(st.integers(0, count)) if draw(st.booleans()) else 0 for _, count in cells], np.int64),
        draw(st.dictionaries(st.sampled_from(["success", "failure", "end"]), st.integers(1, 10**9), max_size=3)),
        {name: draw(st.integers(1, 10**9)) for name in stages if draw(st.booleans())},
    )


def as_values(row: Rollup) -> tuple[object, ...]:
    """A row as plain values, which compare; cells by name."""
    names = list(row.stages)
    cells = zip(row.index.tolist(), row.stage.tolist(), row.count.tolist(), row.errors.tolist(), strict=True)
    return (
        row.start_ms,
        row.width,
        row.stages,
        [(index, names[stage], count, errors) for index, stage, count, errors in cells],
        row.event_types,
        row.revised,
    )


def row(start_ms: int, stages: dict[str, int], *, late: bool = False) -> Rollup:
    """A row in which each stage has so many events of 1 ms, all late or none."""
    index = np.full(len(stages), 1_000, np.int64)
    return Rollup(
        start_ms,
        Width.MINUTE,
        {name: Tally(many, 0, many, many * 1_000, 1_000, 1_000) for name, many in stages.items()},
        index,
        np.arange(len(stages), dtype=np.int64),
        np.array(list(stages.values()), np.int64),
        np.zeros_like(index),
        {f"type-{name}": many for name, many in stages.items()},
        dict(stages) if late else {},
    )


@given(rows())
def test_a_row_comes_back(one: Rollup) -> None:
    assert as_values(decode(encode(one))) == as_values(one)


def test_a_row_of_lifecycle_events_alone_comes_back() -> None:
    one = Rollup(0, Width.HOUR, event_types={"heartbeat": 3})
    assert as_values(decode(encode(one))) == as_values(one)


@given(st.lists(rows(st.sampled_from([0, MINUTE, 59 * MINUTE, 60 * MINUTE])), min_size=1, max_size=5))
def test_merged_rows_are_what_a_sum_one_by_one_gives(some: list[Rollup]) -> None:
    for merged in merge(some, Width.HOUR):
        own = [one for one in some if one.start_ms // Width.HOUR * Width.HOUR == merged.start_ms]
        cells: Counter[tuple[int, str]] = Counter()
        errors: Counter[tuple[int, str]] = Counter()
        totals: Counter[str] = Counter()
        types: Counter[str] = Counter()
        late: Counter[str] = Counter()
        for one in own:
            names = list(one.stages)
            for index, stage, count, wrong in zip(one.index, one.stage, one.count, one.errors, strict=True):
                cells[int(index), names[stage]] += int(count)
                errors[int(index), names[stage]] += int(wrong)
            totals.update({name: tally.total for name, tally in one.stages.items()})
            types.update(one.event_types)
            late.update(one.revised)
        _, width, _, found, event_types, revised = as_values(merged)
        assert width == Width.HOUR
        assert found == [(*place, count, errors[place]) for place, count in sorted(cells.items())]
        assert {name: tally.total for name, tally in merged.stages.items()} == totals
        assert {name: tally.errors for name, tally in merged.stages.items()} == {
            name: sum(one.stages[name].errors for one in own if name in one.stages) for name in totals
        }
        assert (event_types, revised) == (types, late)
        assert list(merged.stages) == sorted(merged.stages)


@given(
    st.lists(rows(st.sampled_from([0, MINUTE, 90 * MINUTE])), min_size=1, max_size=6), st.integers(0, 6), st.randoms()
)
def test_the_pieces_and_their_order_do_not_matter(some: list[Rollup], cut: int, chance: random.Random) -> None:
    whole = merge(some, Width.DAY)
    turned = chance.sample(some, len(some))
    pieces = [*merge(turned[:cut], Width.MINUTE), *merge(turned[cut:], Width.HOUR)]
    assert [encode(one) for one in merge(pieces, Width.DAY)] == [encode(one) for one in whole]


def test_widths_are_kept_apart_by_their_starts() -> None:
    some = [row(59 * MINUTE, {"a": 1}), row(60 * MINUTE, {"a": 2}), row(-MINUTE, {"a": 4}, late=True)]
    assert [(one.start_ms, one.stages["a"].total, one.revised) for one in merge(some, Width.HOUR)] == [
        (-60 * MINUTE, 4, {"a": 4}),
        (0, 1, {}),
        (60 * MINUTE, 2, {}),
    ]


def test_past_the_cap_the_names_with_the_fewest_events_go_under_other() -> None:
    some = [row(at * MINUTE, {f"{at}-{n}": 2 + (n == 7) for n in range(60)}) for at in range(20)]
    [hour] = merge(some, Width.HOUR)
    assert len(hour.stages) == MOST_NAMES + 1
    assert {f"{at}-7" for at in range(20)} <= hour.stages.keys()
    assert hour.stages[OTHER].total == 200 * 2
    assert sum(tally.total for tally in hour.stages.values()) == 20 * (60 * 2 + 1) == int(hour.count.sum())
    assert len(hour.event_types) == MOST_NAMES + 1
    assert as_values(decode(encode(hour))) == as_values(hour)


def test_a_sum_that_is_too_large_to_store_is_as_large_as_can_be() -> None:
    full, small = (
        {"a": Tally(1, 0, 1, (1 << 64) - 3, 1, 1)},
        {"a": Tally(1, 0, 1, 4, 4, 4), "b": Tally(1, 0, 1, 1, 1, 1)},
    )
    [hour] = merge([Rollup(0, Width.MINUTE, full), Rollup(MINUTE, Width.MINUTE, small)], Width.HOUR)
    assert [tally.sum_us for tally in decode(encode(hour)).stages.values()] == [(1 << 64) - 1, 1]


def test_an_ordinary_minute_is_small() -> None:
    """60 events in 5 stages, as of an active system: some hundreds of bytes."""
    chance = np.random.default_rng(6)
    cells, counts = np.unique(chance.integers(4_000, 9_000, 60) << 3 | chance.integers(0, 5, 60), return_counts=True)
    stages = {f"stage-{n}": Tally(12, 1, 12, 1_200_000, 10_000, 300_000) for n in range(5)}
    one = Rollup(
        29_000_000 * MINUTE,
        Width.MINUTE,
        stages,
        cells >> 3,
        cells & 7,
        counts,
        counts // 2,
        {"success": 55, "failure": 5},
    )
    assert len(encode(one)) < 450


@given(rows(), st.data())
def test_a_row_that_was_changed_or_cut_is_corrupt(one: Rollup, data: st.DataObject) -> None:
    stored = encode(one)
    with pytest.raises(CorruptEntryError):
        decode(stored[: data.draw(st.integers(0, len(stored) - 1))])
    at = data.draw(st.integers(1, len(stored) - 1))
    with pytest.raises(CorruptEntryError):
        decode(stored[:at] + bytes((stored[at] ^ 1,)) + stored[at + 1 :])


def test_a_row_of_a_newer_release_says_so() -> None:
    with pytest.raises(NewerFormatError, match="rollup format 2"):
        decode(bytes((ROLLUP_FORMAT + 1,)) + encode(Rollup(0, Width.MINUTE))[1:])


@pytest.mark.parametrize(
    ("width", "step_width", "cells", "sums"),
    [(61_000, 1, 0, ({}, {}, {})), (MINUTE, 3, 0, ({}, {}, {})), (MINUTE, 1, 9, ({}, {}, {})), (MINUTE, 1, 0, 5)],
)
def test_a_row_with_a_good_checksum_and_bad_parts_is_corrupt(
    width: int, step_width: int, cells: int, sums: object
) -> None:
    sealed = struct.pack("<qIIBBBB", 0, width, cells, step_width, 0, 1, 0) + msgspec.msgpack.encode(sums)
    with pytest.raises(CorruptEntryError):
        decode(struct.pack("<BI", ROLLUP_FORMAT, zlib.crc32(sealed)) + sealed)


def test_a_cell_of_a_stage_that_is_not_there_is_corrupt() -> None:
    one = row(0, {"a": 1})
    with pytest.raises(CorruptEntryError, match="cell"):
        decode(encode(msgspec.structs.replace(one, stage=one.stage + 1)))


def test_positions_of_stages_fit_their_bits() -> None:
    assert MOST_NAMES + 1 < 1 << rollups.STAGE_BITS
