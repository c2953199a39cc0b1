"""Slots, windows and partitions: the arithmetic that everything stored relies on."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lso_core.model.rollups import Width
from lso_core.model.windows import PARTITIONS, SLOT_MS, Window, partition_of, slot_of

moments = st.integers(-62_135_596_800_000, 253_402_300_799_999)
windows = st.integers(12, 720).map(lambda slots: Window(slots * SLOT_MS // 1_000))


def test_the_stored_layout_is_32_partitions_and_slots_of_five_seconds() -> None:
    assert (PARTITIONS, SLOT_MS) == (32, 5_000)


@given(moments)
def test_a_slot_begins_at_or_before_every_moment_in_it(time_ms: int) -> None:
    start = slot_of(time_ms)
    assert start % SLOT_MS == 0
    assert 0 <= time_ms - start < SLOT_MS


@given(windows, moments)
def test_a_window_holds_its_number_of_slots_and_the_current_one_among_them(window: Window, as_of_ms: int) -> None:
    start = window.start_of(as_of_ms)
    assert start % SLOT_MS == 0
    assert slot_of(as_of_ms) - start == (window.slots - 1) * SLOT_MS
    assert window.seconds * 1_000 - SLOT_MS <= as_of_ms - start < window.seconds * 1_000


@given(windows, moments, st.integers(0, 10_000_000))
def test_a_window_never_starts_earlier_as_time_goes_on(window: Window, as_of_ms: int, later_ms: int) -> None:
    assert window.start_of(as_of_ms) <= window.start_of(as_of_ms + later_ms)


@given(windows, moments, st.integers(0, 10**15))
def test_a_minute_is_inside_the_window_until_its_turn_comes(window: Window, as_of_ms: int, system_id: int) -> None:
    lag_ms = window.lag_of(system_id)
    assert 0 <= lag_ms < Width.MINUTE
    last_ms = as_of_ms - as_of_ms % Width.MINUTE + Width.MINUTE + lag_ms - 1
    assert window.start_of(last_ms) <= as_of_ms - as_of_ms % Width.MINUTE


def test_systems_take_turns_all_over_a_minute() -> None:
    tenths = Counter(Window().lag_of(32 * number + 5) // 6_000 for number in range(1_000))
    assert len(tenths) == 10
    assert all(80 <= count <= 120 for count in tenths.values())


def test_the_default_window_is_five_minutes() -> None:
    assert Window().seconds == 300
    assert Window().slots == 60
    assert Window().start_of(1_000_004_999) == 1_000_000_000 - 59 * 5_000


def test_a_partition_is_the_id_modulo_32() -> None:
    assert [partition_of(one) for one in (1, 31, 32, 33, 1_000_000)] == [1, 31, 0, 1, 1_000_000 % 32]
