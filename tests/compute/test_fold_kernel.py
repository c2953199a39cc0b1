"""The kernels of the fold give, byte for byte, what numpy gives, and refuse what would lead them out of their bounds."""

import struct
import zlib
from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import cells, checksum, columns, grouping, histogram, rollups
from lso_core.compute.columns import Columns, CorruptEntryError, NewerFormatError
from lso_core.compute.fold import Arrival, fold, unwritten
from lso_core.compute.histogram import HIGHEST_US, INDEX_BITS
from lso_core.compute.state import Meta, Slot, State, Tally, encode_meta
from lso_core.compute.summarize import summarize
from lso_core.model import snapshots, times
from lso_core.model.events import Event
from lso_core.model.health import Thresholds
from lso_core.model.systems import System
from lso_core.model.windows import SLOT_MS, Window
from tests.compute.plainly import needs_kernels, plainly

NOW = times.from_text("2025-12-14T14:33:10.529Z")
WINDOW = Window(60)
SYSTEM = System(system_id=1, name="s", description="", tags=(), window_seconds=60, thresholds=Thresholds(),
                created_at=times.to_text(NOW))  # fmt: skip
TYPES = ("success", "failure", "start", "heartbeat", "end", "log", "extra")

latencies = st.one_of(
    st.sampled_from([0, 1, 2_046, 2_047, 2_048, 2_049, 4_095, 4_096, HIGHEST_US - 1, HIGHEST_US]),
    st.integers(0, 60).flatmap(lambda bits: st.integers(0, min(HIGHEST_US, 1 << bits))),
)
offsets = st.one_of(
    st.none(),
    st.integers(-150_000, 60_000),
    st.integers(-60_002, -54_998),
    st.sampled_from([-1, 0, 1, 60_000, times.EARLIEST_MS - NOW, -(1 << 40)]),
)

pytestmark = needs_kernels


@st.composite
def blocks(draw: st.DrawFn, at_ms: int) -> Columns:
    """Columns of up to some hundred events: of few kinds of stages and types, or of more than have names."""
    count = draw(st.one_of(st.integers(0, 8), st.integers(40, 300)))
    chance = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    stages = tuple(f"s{at}" for at in range(draw(st.sampled_from([0, 1, 3, 64, 70, 300]))))
    types = (*TYPES[: draw(st.integers(1, len(TYPES)))], *(f"t{at}" for at in range(draw(st.sampled_from([0, 0, 40])))))
    some, near = draw(st.lists(latencies, min_size=1, max_size=12)), draw(st.lists(offsets, min_size=1, max_size=12))
    offset = [near[at] for at in chance.integers(0, len(near), count)]
    has_ts = np.array([one is not None for one in offset], np.bool_)
    has_latency = chance.random(count) < draw(st.sampled_from([0.0, 0.9, 1.0]))
    latency = np.array([some[at] for at in chance.integers(0, len(some), count)], np.int64)
    return Columns(
        ts_ms=np.array([0 if one is None else at_ms + one for one in offset], np.int64),
        has_ts=has_ts,
        latency_us=np.where(has_latency, latency, 0),
        has_latency=has_latency,
        error=chance.random(count) < draw(st.sampled_from([0.0, 0.1, 1.0])),
        stage=chance.integers(0, len(stages) + 1, count),
        event_type=chance.integers(0, len(types), count),
        stages=stages,
        event_types=types,
    )


@st.composite
def entries(draw: st.DrawFn) -> list[list[tuple[int, bytes]]]:
    """A few steps of a few entries each: (arrival, block)."""
    at, steps = NOW, []
    for _ in range(draw(st.integers(1, 3))):
        step = []
        for _ in range(draw(st.integers(1, 4))):
            at += draw(st.sampled_from([0, 1, 999, 4_471, 5_000, 30_000, 61_000]))
            step.append((at, columns.encode(draw(blocks(at)))))
        steps.append(step)
    return steps


def told(steps: list[list[tuple[int, bytes]]], later_ms: int) -> list[Any]:
    """All that is stored of some steps, as bytes, and in its order."""
    state, found = State(), list[Any]()
    for step in steps:
        arrivals = [Arrival(at, columns.read(block)) for at, block in step]
        folded = fold(state, arrivals, WINDOW, step[-1][0] + 1 + later_ms)
        state, summary = summarize(folded.state, SYSTEM)
        found += [
            list(state.slots.items()),
            encode_meta(state.meta),
            (state.cells, state.sums, state.values, state.packed),
            [rollups.encode(row) for row in folded.rows],
            (list(folded.touched.items()), folded.dropped),
            snapshots.encode(summary),
            snapshots.encode_details(summary),
        ]
    return found


@given(entries(), st.sampled_from([0, 1, 40_000, 200_000]))
@settings(max_examples=60)
def test_what_is_stored_is_the_same_with_and_without_kernels(
    steps: list[list[tuple[int, bytes]]], later_ms: int
) -> None:
    compiled = told(steps, later_ms)
    with plainly():
        assert told(steps, later_ms) == compiled


# -- cells -----------------------------------------------------------------------------------------------------

keys = st.one_of(st.integers(0, 300), st.integers(0, 1 << 23), st.integers(0, (1 << 62)))
counts = st.one_of(st.integers(1, 3), st.integers(1, 70_000), st.integers(1, 1 << 40))
tables = st.lists(st.tuples(keys, counts), max_size=120, unique_by=lambda cell: cell[0]).map(sorted)


def column(cells_: list[tuple[int, int]], at: int) -> histogram.Int64:
    return np.array([cell[at] for cell in cells_], np.int64)


def packed(table: list[tuple[int, int]]) -> bytes:
    return cells.pack(column(table, 0), column(table, 1))


@given(st.lists(st.tuples(st.integers(-(1 << 62), 1 << 62) | st.integers(-3, 30), st.integers(-2, 2)), max_size=200))
def test_cells_in_any_order_are_added_up(table: list[tuple[int, int]]) -> None:
    compiled = histogram.sum_cells(column(table, 0), column(table, 1))
    with plainly():
        plain = histogram.sum_cells(column(table, 0), column(table, 1))
    assert [part.tolist() for part in compiled] == [part.tolist() for part in plain]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=200))
def test_cells_with_two_counts_are_added_up(table: list[tuple[int, int, int]]) -> None:
    args = [np.array([cell[at] for cell in table], np.int64) for at in range(3)]
    compiled = histogram.sum_pairs(*args)
    with plainly():
        plain = histogram.sum_pairs(*args)
    assert [part.tolist() for part in compiled] == [part.tolist() for part in plain]


@given(tables, tables)
def test_two_tables_are_added_up(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    args = column(one, 0), column(one, 1), column(other, 0), column(other, 1)
    compiled = histogram.add_cells(*args)
    with plainly():
        plain = histogram.add_cells(*args)
    assert [part.tolist() for part in compiled] == [part.tolist() for part in plain]


cells_of_stages = st.dictionaries(
    st.integers(0, (66 << INDEX_BITS) - 1) | st.integers(0, 40), st.integers(1, 10**9), min_size=1, max_size=200
)


@given(cells_of_stages, st.lists(st.floats(0, 100), min_size=1, max_size=6).map(sorted))
def test_percentiles_are_the_same_with_and_without_kernels(table: dict[int, int], wanted: list[float]) -> None:
    ordered = sorted(table.items())
    args = tuple(wanted), packed(ordered)
    compiled = cells.percentiles(*args)
    with plainly():
        assert cells.percentiles(*args) == compiled


@given(st.binary(min_size=1, max_size=300), st.integers(0, 9_000), st.integers(0, (1 << 32) - 1))
def test_a_checksum_is_that_of_zlib(some: bytes, size: int, before: int) -> None:
    data = some * (size // len(some) + 1)
    for part in (len(data), size, len(data) + 9):
        assert checksum.crc32(data, part, before) == zlib.crc32(data[:part], before)


# -- bounds ----------------------------------------------------------------------------------------------------


def test_cells_that_are_cut_off_or_of_no_width_are_refused() -> None:
    whole = packed([(3, 1), (900, 2), (40_000, 300)])
    for wrong in (
        whole[:-1],
        whole + b"\0",
        whole[:4] + b"\3" + whole[5:],
        whole[:3],
        struct.pack("<IBB", 1 << 31, 8, 8),
    ):
        with pytest.raises(ValueError, match="not packed"):
            cells.percentiles((50.0,), wrong)


def test_a_row_is_not_made_of_slots_that_are_not_as_they_should_be() -> None:
    good = Slot(packed([(1 << INDEX_BITS | 7, 2)]), cells.EMPTY, {1: Tally(2, 0, 2, 6, 3, 3)}, {0: 2})
    meta = Meta(stages=("a",), event_types=("x",))
    (row,) = unwritten(meta, {0: good})
    assert (row.index.tolist(), row.stage.tolist(), row.count.tolist(), row.errors.tolist()) == ([7], [0], [2], [0])
    for wrong in (good.cells[:-1], packed([(2 << INDEX_BITS, 1)])):
        for slot in (msgspec.structs.replace(good, cells=wrong), msgspec.structs.replace(good, error_cells=wrong)):
            with pytest.raises(ValueError, match="not packed"):
                unwritten(meta, {0: slot})


def alike(count: int, stages: tuple[str, ...], event_types: tuple[str, ...]) -> Columns:
    """So many events with nothing but zeros."""
    numbers = (np.zeros(count, np.int64) for _ in range(4))
    flags = (np.zeros(count, np.bool_) for _ in range(3))
    return Columns(
        next(numbers),
        next(flags),
        next(numbers),
        next(flags),
        next(flags),
        next(numbers),
        next(numbers),
        stages,
        event_types,
    )


def entry(block: columns.Block) -> grouping.Entry:
    return grouping.Entry(NOW, WINDOW.start_of(NOW), block, grouping.Tables(b"\0\1\2\3", b"\0\2\4"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 1 << 31},
        {"count": 102},
        {"at": 1 << 40},
        {"at": -8},
        {"widths": 0x05010101},
        {"widths": 0x83830105},
        {"widths": 0x08080808},
        {"widths": 0x83010101},
        {"widths": 0x01830101},
        {"widths": 0x83820101},
        {"widths": 0x83890101},
        {"widths": 0x84840101},
        {"data": b""},
    ],
)
def test_a_block_that_is_not_as_it_was_told_is_refused(wrong: dict[str, Any]) -> None:
    good = columns.block_of(alike(100, (), ("a",)))
    assert grouping.Compiled([entry(good)]).by_slot(NOW // SLOT_MS).seen.latest == NOW
    bad = msgspec.structs.replace(good, **wrong)
    if bad.count < 1 << 20:
        with pytest.raises(ValueError, match="not as it was told"):
            grouping.Compiled([entry(bad)]).by_slot(NOW // SLOT_MS)


@pytest.mark.parametrize("name", ["stage", "event_type"])
@pytest.mark.parametrize("width", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_a_position_beyond_the_names_is_found_wherever_it_is(name: str, width: type[np.unsignedinteger[Any]]) -> None:
    """In columns of their own, as more names than these have."""
    names = tuple(f"name {at}" for at in range(32))
    for place in range(40):
        cut = alike(40, names, names)
        getattr(cut, name)[place] = min(np.iinfo(width).max, np.iinfo(np.int64).max)
        wrong = columns.encode(cut)
        assert np.dtype(width).itemsize == wrong[18 if name == "stage" else 19]
        for way in (plainly, nullcontext):
            with way(), pytest.raises(CorruptEntryError, match="beyond the names"):
                columns.read(wrong)


@pytest.mark.parametrize("names", [(3, 3), (14, 2), (1, 13), (0, 5), (30, 1)])
def test_a_position_beyond_the_names_is_found_in_the_marks(names: tuple[int, int]) -> None:
    """Each byte of marks that there can be, where the names do not fill their bits."""
    stages, types = (tuple(f"name {at}" for at in range(count)) for count in names)
    good = columns.encode(alike(1, stages, types))
    at, shift = 24 + int.from_bytes(good[20:24], "little"), good[18] & 0x0F
    assert good[19] == 0x83
    for mark in range(256):
        block = good[:at] + bytes((mark,)) + good[at + 1 : -4]
        block += zlib.crc32(block).to_bytes(4, "little")
        is_good = mark >> shift <= len(stages) and (mark & (1 << shift) - 1) >> 3 < len(types)
        for way in (plainly, nullcontext):
            with way(), nullcontext() if is_good else pytest.raises(CorruptEntryError, match="beyond the names"):
                columns.read(block)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_stands_behind_the_columns_is_read_as_its_format_has_it(version: int) -> None:
    """Format 1 says nothing of runs, format 2 always does."""
    events = [Event("start", "ok", None, run_id="r1"), Event("success", "ok", 1.0)]
    for has_runs in (True, False):
        cut = columns.cut(events if has_runs else events[1:])
        block = columns.encode(cut)
        block = block[:3] + bytes((version,)) + block[4:-4]
        block += zlib.crc32(block).to_bytes(4, "little")
        is_good = version == 3 or has_runs == (version == 2)
        for way in (plainly, nullcontext):
            with way(), nullcontext() if is_good else pytest.raises(CorruptEntryError):
                assert has_runs == (columns.decode(block).runs is not None)


def test_blocks_are_read_together_as_each_by_itself_and_a_bad_one_spoils_no_other() -> None:
    good = [columns.encode(alike(count, ("a", "b"), ("x",))) for count in (0, 1, 3, 40, 70_000)]
    runs = columns.encode(columns.cut([Event("start", "ok", run_id="r", ts="2026-01-01T00:00:00Z")]))
    damaged = []
    for at in range(len(good[2]) - 4):
        for bits in (1, 0x80, 0xFF):
            wrong = bytearray(good[2][:-4])
            wrong[at] ^= bits
            damaged.append(bytes(wrong) + zlib.crc32(wrong).to_bytes(4, "little"))
    blocks = [*good, runs, *damaged, good[2][:-1], b"", runs]
    for block, found in zip(blocks, columns.read_all(blocks), strict=True):
        try:
            with plainly():
                plain = columns.read(block)
        except (CorruptEntryError, NewerFormatError):
            assert found is None
        else:
            assert found is not None
            assert columns.encode(found.columns()) == columns.encode(plain.columns())
