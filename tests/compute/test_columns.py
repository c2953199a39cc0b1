"""Columns: what is cut from events comes back from their block, and no damaged block is taken for a good one."""

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from lso_core.compute import columns
from lso_core.compute.columns import BodyKind, Columns, CorruptEntryError, NewerFormatError
from lso_core.model import times
from lso_core.model.events import LATENCY_MS_MAX, Event

names = st.sampled_from(["extract", "load", "é", "a b", "x" * 200])
instants = st.one_of(
    st.none(),
    st.integers(-62_135_596_800_000, 253_402_300_799_999).map(times.to_text),
    st.sampled_from(["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "2025-12-14T16:33:10.5+02:00"]),
)
events = st.builds(
    Event,
    event_type=names,
    status=st.sampled_from(["ok", "error"]),
    latency_ms=st.one_of(
        st.none(), st.floats(0, 10_000), st.floats(0, LATENCY_MS_MAX), st.sampled_from([0, 0.0005, LATENCY_MS_MAX])
    ),
    ts=instants,
    stage=st.one_of(st.none(), names),
)

events_of_runs = st.builds(
    Event,
    event_type=st.sampled_from(["start", "heartbeat", "end", "log", "success", "failure"]),
    status=st.sampled_from(["ok", "error"]),
    latency_ms=st.one_of(st.none(), st.integers(0, 5).map(float)),
    run_id=st.one_of(st.none(), st.sampled_from(["r1", "r2", "é"])),
    stage=st.one_of(st.none(), st.just("load")),
)

EVENT = Event("success", "ok", 12.0, "2025-12-14T14:33:10.529Z", stage="extract")


def as_rows(block: Columns) -> list[tuple[int | None, int | None, bool, str | None, str]]:
    """Time, latency in µs, error, stage and type of every event, by name."""
    return [
        (
            int(block.ts_ms[at]) if block.has_ts[at] else None,
            int(block.latency_us[at]) if block.has_latency[at] else None,
            bool(block.error[at]),
            block.stages[int(block.stage[at]) - 1] if block.stage[at] else None,
            block.event_types[int(block.event_type[at])],
        )
        for at in range(len(block))
    ]


def expected_row(event: Event) -> tuple[int | None, int | None, bool, str | None, str]:
    return (
        None if event.ts is None else times.from_text(event.ts),
        None if event.latency_ms is None else round(event.latency_ms * 1_000),
        event.status == "error",
        event.stage,
        event.event_type,
    )


def sealed(block: bytes) -> bytes:
    """A block whose checksum is right, whatever else is wrong with it."""
    return block[:-4] + struct.pack("<I", zlib.crc32(block[:-4]))


@given(st.lists(events, min_size=1, max_size=40))
def test_columns_come_back_from_their_block(some: list[Event]) -> None:
    cut = columns.cut(some)
    back = columns.decode(columns.encode(cut))
    assert as_rows(back) == as_rows(cut) == [expected_row(event) for event in some]
    assert (len(back), back.latest_ts_ms) == (len(some), cut.latest_ts_ms)


@given(st.lists(events, min_size=1, max_size=20))
def test_absent_times_and_latencies_are_zero_behind_their_flags(some: list[Event]) -> None:
    back = columns.decode(columns.encode(columns.cut(some)))
    assert not back.ts_ms[~back.has_ts].any()
    assert not back.latency_us[~back.has_latency].any()


def test_one_event_makes_a_small_block() -> None:
    block = columns.encode(columns.cut([EVENT]))
    assert as_rows(columns.decode(block)) == [expected_row(EVENT)]
    assert len(block) < 80


def test_ten_thousand_events_make_a_block_of_less_than_ten_bytes_each() -> None:
    some = [
        Event("success", "ok", at % 997 / 7, times.to_text(1_765_722_790_000 + at), stage=f"s{at % 3}")
        for at in range(10_000)
    ]
    block = columns.encode(columns.cut(some))
    assert as_rows(columns.decode(block)) == [expected_row(event) for event in some]
    assert len(block) < 100_000


def test_no_events_are_an_empty_block() -> None:
    back = columns.decode(columns.encode(columns.cut([])))
    assert (len(back), back.latest_ts_ms) == (0, None)


def test_the_first_and_the_last_year_fit_one_block() -> None:
    some = [Event("a", "ok", 1.0, "0001-01-01T00:00:00.000Z"), Event("a", "ok", 1.0, "9999-12-31T23:59:59.999Z")]
    back = columns.decode(columns.encode(columns.cut(some)))
    assert back.ts_ms.tolist() == [-62_135_596_800_000, 253_402_300_799_999]
    assert back.latest_ts_ms == 253_402_300_799_999


def test_an_absent_time_beside_an_early_one_is_not_the_epoch() -> None:
    some = [Event("a", "ok", 1.0, "1969-07-20T20:17:40.000Z"), Event("a", "ok", 1.0, None)]
    back = columns.decode(columns.encode(columns.cut(some)))
    assert back.latest_ts_ms == times.from_text("1969-07-20T20:17:40.000Z")


@pytest.mark.parametrize(
    ("latency_ms", "latency_us"),
    [(0, 0), (0.0004, 0), (0.0006, 1), (0.001, 1), (12, 12_000), (12.3456, 12_346), (LATENCY_MS_MAX, 604_800_000_000)],
)
def test_a_latency_is_kept_to_the_nearest_microsecond(latency_ms: float, latency_us: int) -> None:
    assert columns.cut([Event("a", "ok", latency_ms)]).latency_us.tolist() == [latency_us]


@given(st.lists(st.floats(0, LATENCY_MS_MAX), min_size=1, max_size=30))
def test_a_latency_is_off_by_half_a_microsecond_at_most(latencies: list[float]) -> None:
    found = columns.cut([Event("a", "ok", one) for one in latencies]).latency_us
    # Half a microsecond, and what a double cannot hold of seven days in microseconds.
    assert (np.abs(found - np.array(latencies) * 1_000) <= 0.5 + 1e-4).all()


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        columns.cut([EVENT, Event("a", "ok", 1.0, "yesterday")])


BLOCK = columns.encode(
    columns.cut([EVENT, Event("error", "error", 0.25, None, stage="load"), Event("log", "ok"), EVENT])
)


@pytest.mark.parametrize("length", range(len(BLOCK)))
def test_a_block_cut_off_anywhere_is_corrupt(length: int) -> None:
    with pytest.raises(CorruptEntryError):
        columns.decode(BLOCK[:length])


@pytest.mark.parametrize("at", range(len(BLOCK)))
def test_a_block_with_any_byte_flipped_is_not_read(at: int) -> None:
    for bits in (0x01, 0x80, 0xFF):
        damaged = bytearray(BLOCK)
        damaged[at] ^= bits
        with pytest.raises((CorruptEntryError, NewerFormatError)):
            columns.decode(bytes(damaged))


@pytest.mark.parametrize("garbage", [b"", b"LSO", b"\x00" * 40, b"LSO" + b"\x00" * 40, BLOCK + b"\x00", b"{}" * 30])
def test_something_else_is_corrupt(garbage: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        columns.decode(garbage)


def test_a_block_of_a_newer_release_says_so_whatever_follows() -> None:
    newer = BLOCK[:3] + bytes((columns.FORMAT + 1,)) + BLOCK[4:]
    for block in (newer, sealed(newer), newer + b"more", newer[:40]):
        with pytest.raises(NewerFormatError, match=f"format {columns.FORMAT + 1}"):
            columns.decode(block)


@pytest.mark.parametrize("width", [0, 3, 5, 7, 9, 255])
def test_a_width_that_there_is_not_is_corrupt_also_with_a_right_checksum(width: int) -> None:
    for at in range(16, 20):  # behind magic, format, count and base
        damaged = bytearray(BLOCK)
        damaged[at] = width
        with pytest.raises(CorruptEntryError):
            columns.decode(sealed(bytes(damaged)))


@pytest.mark.parametrize("names", [3, 40])
def test_a_position_beyond_the_names_is_corrupt(names: int) -> None:
    """Few names stand in the marks, many have columns of their own."""
    events = [Event(f"type {at}", "ok", 1.0, stage=f"stage {at}") for at in range(names)]
    cut = columns.cut(events)
    assert cut.stages == columns.decode(columns.encode(cut)).stages
    for wrong in (structs.replace(cut, stage=cut.stage + 1), structs.replace(cut, event_type=cut.event_type + 1)):
        with pytest.raises(CorruptEntryError):
            columns.decode(columns.encode(wrong))


@pytest.mark.parametrize(("most", "width"), [(255, 1), (65_535, 2), (65_536, 3), ((1 << 24) - 1, 3), (1 << 24, 4)])
def test_numbers_take_as_few_bytes_as_they_need(most: int, width: int) -> None:
    cut = columns.cut([Event("a", "ok", us / 1_000) for us in (0, 1, most)])
    block = columns.encode(cut)
    assert [0, 1, most] == columns.decode(block).latency_us.tolist()
    assert len(columns.encode(columns.cut([Event("a", "ok", 0.0)] * 3))) + 3 * (width - 1) == len(block)


def test_names_that_are_none_are_corrupt_also_with_a_right_checksum() -> None:
    block = columns.encode(columns.cut([Event("abcdefgh", "ok", 1.0)]))
    for garbage in (b"\xff" * 8, b"abc\xff\xfe\xfdgh"):
        with pytest.raises(CorruptEntryError):
            columns.decode(sealed(block.replace(b"abcdefgh", garbage)))
    lists_off = block.index(b"\xa8abcdefgh")
    with pytest.raises(CorruptEntryError):
        columns.decode(sealed(block[:lists_off] + b"\xc1" + block[lists_off + 1 :]))


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers()), max_size=20), st.sampled_from(BodyKind))
def test_a_body_comes_back_as_it_was(body: list[dict[str, int]], kind: BodyKind) -> None:
    text = json.dumps(body).encode()
    assert columns.unpack_body(columns.pack_body(text, kind)) == (text, kind)


def test_a_damaged_body_is_corrupt() -> None:
    packed = columns.pack_body(b'{"event_type": "success"}' * 50, BodyKind.JSON)
    for damaged in (
        b"",
        packed[:3],
        packed[:5],
        packed[:-3],
        b"\x00\x05\x00\x00\x00" + packed[5:],
        packed[:5] + b"\xff" * 30,
    ):
        with pytest.raises(CorruptEntryError):
            columns.unpack_body(damaged)
