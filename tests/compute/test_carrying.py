"""Windows are carried on to the same bytes by the kernel and by numpy, and what is not as it should be harms nobody else."""

import random
from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lso_core.compute import carrying, cells, columns
from lso_core.compute.carrying import Carried, Passage, carry
from lso_core.compute.columns import Columns
from lso_core.compute.grouping import Entry, Tables
from lso_core.compute.histogram import HIGHEST_US, INDEX_BITS
from lso_core.compute.state import MOST_US, Meta, Slot, State, Sums, Tally, encode_sums, from_slots
from lso_core.model import times
from lso_core.model.windows import SLOT_MS, slot_of
from tests.compute.plainly import needs_kernels, plainly
from tests.compute.test_state import tallies

NOW = slot_of(times.from_text("2025-12-14T14:33:10.529Z"))
STAGES, TYPES = 3, 4
TABLES = Tables(bytes(range(STAGES)), bytes(number << 1 | (number == TYPES - 1) for number in range(TYPES)))
"""The last type is that of lifecycle events."""

indexes = st.integers(0, 40) | st.sampled_from([254, 255, 256, 511, 2_047, 20_000, (1 << INDEX_BITS) - 1])
keys = st.builds(lambda stage, index: stage << INDEX_BITS | index, st.integers(0, STAGES - 1), indexes)
counts = st.integers(1, 3) | st.sampled_from([254, 255, 256, 65_534, 65_535, 65_536, (1 << 32) - 1, 1 << 32])
tables = st.dictionaries(keys, counts, max_size=60)


def packed(table: dict[int, int]) -> bytes:
    ordered = sorted(table.items())
    return cells.pack(*(np.array([cell[at] for cell in ordered], np.int64) for at in (0, 1)))


slots = st.builds(
    Slot,
    tables.map(packed),
    tables.map(packed),
    st.dictionaries(st.integers(0, STAGES + 1), tallies, max_size=STAGES),
    st.dictionaries(st.integers(0, TYPES), st.integers(0, 2) | st.integers(1, 10**9), max_size=TYPES),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
windows = st.dictionaries(st.integers(-12, 0).map(lambda back: NOW + back * SLOT_MS), slots, max_size=5)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    found = []
    for _ in range(draw(st.integers(0, 3))):
        at_ms = NOW + draw(st.integers(0, 2 * SLOT_MS))
        count = draw(st.integers(0, 6) | st.integers(40, 90))
        chance = np.random.default_rng(draw(st.integers(0, 1 << 32)))
        some = draw(st.lists(st.sampled_from([0, 1, 254, 255, 256, 4_096, HIGHEST_US]), min_size=1, max_size=4))
        has_latency = chance.random(count) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        latency = chance.choice(np.array(some, np.int64), count)
        cut = Columns(
            ts_ms=at_ms - chance.integers(-SLOT_MS, 13 * SLOT_MS, count),
            has_ts=chance.random(count) < draw(st.sampled_from([0.0, 0.9])),
            latency_us=np.where(has_latency, latency, 0),
            has_latency=has_latency,
            error=chance.random(count) < draw(st.sampled_from([0.0, 0.3])),
            stage=chance.integers(0, STAGES, count),
            event_type=chance.integers(0, TYPES, count),
            stages=tuple(f"s{at}" for at in range(STAGES - 1)),
            event_types=tuple(f"t{at}" for at in range(TYPES)),
        )
        found.append(Entry(at_ms, at_ms - 8 * SLOT_MS, columns.block_of(cut), TABLES))
    return found


passages = st.builds(
    lambda slots, some, first, over: Passage(
        from_slots(Meta(), slots), some, NOW + first * SLOT_MS, NOW + over * SLOT_MS
    ),
    windows,
    entries(),
    st.integers(-12, 3),
    st.integers(-12, 3),
)

FULL = from_slots(Meta(), {NOW: Slot(packed({1: 255}), packed({}), {0: Tally(255, 0, 255, 255, 1, 1)}, {0: 255})})


@needs_kernels
@given(st.lists(passages, max_size=4))
@settings(max_examples=30)
def test_windows_are_the_same_with_and_without_the_kernel(some: list[Passage]) -> None:
    compiled = carry(some)
    with plainly():
        assert carry(some) == compiled
    for passage, found in zip(some, compiled, strict=True):
        assert isinstance(found, Carried)
        before, after = passage.state, found.state(passage.state, Meta())
        assert after.slots.keys() == (before.slots.keys() - found.gone) | found.slots.keys()
        assert after.packed == sum(map(len, after.slots.values()))


@given(windows, st.integers(-12, 1))
def test_rolling_leaves_what_was_never_rolled_in(kept: dict[int, Slot], first: int) -> None:
    start_ms = NOW + first * SLOT_MS
    kept = {start: named(slot) for start, slot in kept.items()}
    fresh = from_slots(Meta(), {start: slot for start, slot in kept.items() if start >= start_ms})

    def roll() -> State:
        before = from_slots(Meta(), kept)
        [found] = carry([Passage(before, [], start_ms, start_ms)])
        assert isinstance(found, Carried)
        return found.state(before, Meta())

    rolled = [roll()]
    with plainly():
        rolled.append(roll())
    for found in rolled:
        assert (found.slots, found.cells, found.packed) == (fresh.slots, fresh.cells, fresh.packed)
        assert (found.summed(), found.values) == (fresh.summed(), fresh.values)


def named(slot: Slot) -> Slot:
    """A slot as events make it: without numbers that it only holds."""
    return msgspec.structs.replace(
        slot,
        stages={number: tally for number, tally in slot.stages.items() if tally.total},
        event_types={number: count for number, count in slot.event_types.items() if count},
    )


def event(latency_us: int) -> Entry:
    """One event of the first type, without a stage."""
    one = np.ones(1, np.int64)
    cut = Columns(0 * one, one < 0, latency_us * one, one > 0, one < 0, 0 * one, 0 * one, (), ("t0",))
    return Entry(NOW, NOW - SLOT_MS, columns.block_of(cut), TABLES)


def test_a_count_grows_beyond_its_width() -> None:
    [found] = carry([Passage(FULL, [event(1), event(1)], NOW, NOW)])
    assert isinstance(found, Carried)
    assert found.cells == packed({1: 257})
    assert found.slots[NOW][5:].startswith(packed({1: 257}))


@pytest.mark.parametrize("way", [nullcontext, pytest.param(plainly, marks=needs_kernels)])
def test_a_sum_that_is_full_is_told_as_the_most_there_is_and_right_again_when_it_fits(way: Any) -> None:
    most = Slot(stages={0: Tally(1, 0, 1, MOST_US, 1, 1)})
    with way():
        full = from_slots(Meta(), {NOW - SLOT_MS: most, NOW: Slot(stages={0: Tally(2, 0, 2, 7, 3, 4)})})
        assert full.summed().stages == {0: Tally(3, 0, 3, MOST_US, 1, 4)}
        [found] = carry([Passage(full, [event(9)], NOW, NOW)])
    assert isinstance(found, Carried)
    assert found.state(full, Meta()).summed().stages == {0: Tally(3, 0, 3, 16, 3, 9)}


def test_a_state_that_is_not_as_it_should_be_is_refused_and_the_others_go_on() -> None:
    value, gone = FULL.slots[NOW], {NOW - SLOT_MS: FULL.slots[NOW]}
    wrong = [
        msgspec.structs.replace(FULL, slots={NOW: value[:20]}),
        msgspec.structs.replace(FULL, slots={NOW: value[:3]}),
        msgspec.structs.replace(FULL, slots={NOW: b"\x07" + value[1:]}),
        msgspec.structs.replace(FULL, slots={NOW: value + b"\0"}),
        msgspec.structs.replace(FULL, cells=FULL.cells[:-1]),
        msgspec.structs.replace(FULL, sums=FULL.sums[:-1]),
        msgspec.structs.replace(FULL, sums=b""),
        msgspec.structs.replace(FULL, slots=gone, sums=encode_sums(Sums({}, {}, 0, 0))),
        msgspec.structs.replace(FULL, slots=gone, cells=packed({})),
        msgspec.structs.replace(FULL, slots=gone, sums=encode_sums(Sums({0: Tally(300, 0, 0, 0, 0, 0)}, {}, 0, 0))),
        msgspec.structs.replace(FULL, sums=encode_sums(Sums({}, dict.fromkeys(range(300), 1), 0, 0))),
    ]
    good = Passage(FULL, [event(1)], NOW, NOW)
    found = carry([good, *(Passage(one, [event(1)], NOW, NOW) for one in wrong), good])
    assert found[0] == found[-1]
    assert isinstance(found[0], Carried)
    unheard_of = Passage(FULL, [event(1)._replace(at_ms=1 << 63)], NOW, NOW)
    _, far, _ = carry([good, unheard_of, good])
    assert isinstance(far, Exception)
    if carrying._compiled() is not None:
        assert all(isinstance(one, ValueError) for one in found[1:-1])


@needs_kernels
@example(1_524)
@example(4_116)
@given(st.integers(0, 1 << 32))
def test_a_damaged_state_is_refused_or_carried_on_but_nothing_beyond_it_is_touched(seed: int) -> None:
    """What the sanitizers watch."""
    chance = random.Random(seed)
    slot = Slot(
        packed({1: 3, 700: 300, 1 << INDEX_BITS: 1}), packed({1: 2}), {0: Tally(303, 2, 303, 9, 1, 9)}, {0: 303}
    )
    whole = from_slots(Meta(), {NOW - at * SLOT_MS: slot for at in range(3)})

    def damaged(data: bytes) -> bytes:
        some = bytearray(data)
        for _ in range(chance.choice((0, 1, 1, 3))):
            some[chance.randrange(len(some))] = chance.randrange(256)
        return bytes(some[: chance.choice((len(some), len(some), chance.randrange(len(some))))])

    slots = {start: damaged(value) for start, value in whole.slots.items()}
    state = State(Meta(), slots, damaged(whole.cells), damaged(whole.sums))
    found = carry([Passage(state, [event(5)], NOW - chance.randrange(3) * SLOT_MS, NOW), Passage(FULL, [], NOW, NOW)])
    assert isinstance(found[0], Carried | ValueError)
    assert isinstance(found[1], Carried)
