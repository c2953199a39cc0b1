"""States: they come back from their stored form, and what cannot be read says so in one of two ways."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.compute import cells, state
from lso_core.compute.cells import pack
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.histogram import HIGHEST_US, INDEX_BITS
from lso_core.compute.state import STATE_FORMAT, Meta, Slot, Tally
from lso_core.model.events import STAGES
from lso_core.model.health import Health

moments = st.one_of(st.none(), st.integers(-62_135_596_800_000, 253_402_300_799_999))
tallies = st.one_of(
    st.builds(
        Tally,
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.integers(1, 10**9),
        st.integers(0, 10**18),
        st.integers(0, 20) | st.integers(0, HIGHEST_US),
        st.integers(0, 20) | st.integers(0, HIGHEST_US),
    ),
    st.integers(0, 10**9).map(lambda total: Tally(total, 0, 0, 0, 0, 0)),
)
tables = st.dictionaries(st.integers(0, ((STAGES + 2) << INDEX_BITS) - 1), st.integers(1, 10**10), max_size=30)
metas = st.builds(
    Meta,
    as_of_ms=st.integers(0, 253_402_300_799_999),
    stages=st.lists(st.text(max_size=20), max_size=5).map(tuple),
    event_types=st.lists(st.text(max_size=20), max_size=5).map(tuple),
    last_event_ms=moments,
    last_counted_ms=moments,
    last_ok_ms=moments,
    health=st.sampled_from(Health),
    since_ms=moments,
    written_ms=st.integers(0, 10**10).map(lambda minute: minute * 60_000),
)


def packed(some: Sequence[tuple[int, int]]) -> bytes:
    keys, counts = ([pair[at] for pair in some] for at in (0, 1))
    return pack(np.array(keys, np.int64), np.array(counts, np.int64))


@st.composite
def slots(draw: st.DrawFn) -> Slot:
    ordered = sorted(draw(tables).items())
    return Slot(
        packed(ordered),
        packed(ordered[::2]),
        draw(st.dictionaries(st.integers(0, STAGES + 1), tallies, max_size=4)),
        draw(st.dictionaries(st.integers(0, 32), st.integers(1, 10**9), max_size=4)),
        draw(st.integers(0, 10**9)),
        draw(st.integers(0, 10**9)),
    )


@given(metas)
def test_a_meta_comes_back(meta: Meta) -> None:
    assert state.decode_meta(state.encode_meta(meta)) == meta


def plus(one: Slot, other: Slot) -> Slot:
    sums = state.NO_SUMS.plus(one).plus(other)
    return Slot(
        cells.add(one.cells, *cells.unpack(other.cells)),
        cells.add(one.error_cells, *cells.unpack(other.error_cells)),
        sums.stages,
        sums.event_types,
        sums.late,
        sums.clock_skewed,
    )


@given(slots())
def test_a_slot_comes_back(slot: Slot) -> None:
    assert state.decode_slot(state.encode_slot(slot)) == slot


@given(slots(), slots(), slots())
def test_slots_add_up_in_any_grouping(one: Slot, two: Slot, three: Slot) -> None:
    assert plus(plus(one, two), three) == plus(one, plus(two, three))


@given(slots(), slots())
def test_slots_add_up_in_any_order(one: Slot, two: Slot) -> None:
    assert plus(one, two) == plus(two, one)


def test_a_tally_without_a_latency_does_not_pull_the_minimum_to_0() -> None:
    timed, untimed = Tally(2, 1, 2, 30, 10, 20), Tally(3, 0, 0, 0, 0, 0)
    assert timed.plus(untimed) == untimed.plus(timed) == Tally(5, 1, 2, 30, 10, 20)


@given(st.integers(-(10**6), 10**9).map(lambda at: at * 5_000))
def test_a_slot_is_found_by_its_field(start: int) -> None:
    field = state.slot_field(start)
    assert field.startswith(b"s")
    assert state.slot_start(field) == start


META = state.encode_meta(Meta(9, ("extract", "é" * 40), ("success",), 1, 2, 3, Health.OK, 4))
SLOT = state.encode_slot(
    Slot(
        packed([(3, 1), (900, 2), (40_000, 300)]),
        packed([(900, 1)]),
        {0: Tally(3, 1, 3, 9, 1, 5)},
        {0: 3},
        1,
        2,
    )
)


@pytest.mark.parametrize("at", range(len(META)))
def test_a_damaged_meta_is_read_or_said_to_be_corrupt_but_raises_nothing_else(at: int) -> None:
    for bits in range(1, 256):
        damaged = bytearray(META)
        damaged[at] ^= bits
        for block in (bytes(damaged), META[:at]):
            try:
                state.decode_meta(block)
            except (CorruptEntryError, NewerFormatError):
                continue


@pytest.mark.parametrize("at", range(len(SLOT)))
def test_a_damaged_slot_is_said_to_be_corrupt(at: int) -> None:
    for bits in range(1, 256):
        damaged = bytearray(SLOT)
        damaged[at] ^= bits
        with pytest.raises((CorruptEntryError, NewerFormatError)):
            state.decode_slot(bytes(damaged))
    with pytest.raises((CorruptEntryError, NewerFormatError)):
        state.decode_slot(SLOT[:at])


@pytest.mark.parametrize("garbage", [b"", b"\x01", b"\x01\xc1", b"\x01" + b"\x00" * 30, b"\x01\x93\x01\x02\x03"])
def test_something_else_is_no_state(garbage: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        state.decode_slot(garbage)
    with pytest.raises(CorruptEntryError):
        state.decode_meta(garbage)


def test_a_meta_of_another_shape_is_corrupt() -> None:
    values: list[Any] = [{}, [], ["x"], [1, 2], [1, [], [], None, None, None, 9], [1, [], [], None, None, None, "OK"]]
    for value in values:
        data = bytes((STATE_FORMAT,)) + msgspec.msgpack.encode(value)
        if value == []:
            assert state.decode_meta(data) == Meta()  # every member has a default
        else:
            with pytest.raises(CorruptEntryError):
                state.decode_meta(data)


def test_sums_of_another_shape_are_corrupt_also_with_a_right_checksum() -> None:
    values: list[Any] = [[], [{}, {}, 1], [{0: [1, 2, 3]}, {}, 0, 0], [{}, {}, "late", 0]]
    for value in values:
        sealed = struct.pack("<IBB", 0, 1, 1) * 2 + msgspec.msgpack.encode(value)
        with pytest.raises(CorruptEntryError):
            state.decode_slot(struct.pack("<BI", STATE_FORMAT, zlib.crc32(sealed, STATE_FORMAT)) + sealed)


def test_a_state_of_a_newer_release_says_so() -> None:
    for decode, data in ((state.decode_meta, META), (state.decode_slot, SLOT)):
        with pytest.raises(NewerFormatError, match=f"state format {STATE_FORMAT + 1}"):
            decode(bytes((STATE_FORMAT + 1,)) + data[1:])


def test_a_slot_from_before_errors_had_cells_is_read_without_them() -> None:
    sums = ({0: [3, 1, 3, 9, 1, 5]}, {0: 3}, 1, 2)
    sealed = struct.pack("<IBB", 2, 2, 1) + struct.pack("<HHBB", 3, 897, 1, 2) + msgspec.msgpack.encode(sums)
    slot = state.decode_slot(struct.pack("<BI", 1, zlib.crc32(sealed)) + sealed)
    assert slot == Slot(packed([(3, 1), (900, 2)]), packed([]), {0: Tally(3, 1, 3, 9, 1, 5)}, {0: 3}, 1, 2)


def test_a_meta_from_before_there_were_rows_has_written_none() -> None:
    meta = state.decode_meta(b"\x01" + msgspec.msgpack.encode([9, ["a"], [], None, None, None, 2, None, [7]]))
    assert (meta.as_of_ms, meta.unreadable, meta.written_ms) == (9, (7,), 0)
