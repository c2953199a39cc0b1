"""The fold loop's steps over many systems: what is right stays right, whatever else goes wrong beside it."""

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lso_core.compute import columns
from lso_core.compute.state import STATE_FORMAT
from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.health import Level, Thresholds
from lso_core.model.systems import SystemPatch
from lso_core.model.windows import SLOT_MS, Window, partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.folding import Peek
from tests.store.rooms import Room, batch, batch_of, garbage_batch
from tests.waiting import eventually
from tests.worker.crew import Crew, fold_all
from worker import folding
from worker.cache import Cache
from worker.folding import READ_ENTRIES, Folder, FoldReport, _in_turn


async def systems(room: Room, count: int) -> list[int]:
    return [(await room.system(f"s{at}")).system_id for at in range(count)]


async def neighbours(room: Room) -> list[int]:
    """Three systems of one partition."""
    return await room.systems_of(7, 3)


async def totals(room: Room, ids: list[int]) -> list[int]:
    return [(await room.health(one))["total"] for one in ids]


async def watermark_is_now(folder: Folder, room: Room, partition: int) -> bool:
    """Tend, and see whether the partition is folded up to the present."""
    before = await room.now_ms()
    await folder.tend()
    return int(await room.server.one(("GET", keys.watermark(partition)))) >= before


async def unpark_now(room: Room, folder: Folder, system_id: int) -> None:
    """Let a parked system's time come."""
    parked = keys.parked(partition_of(system_id))
    assert await room.server.one(("ZSCORE", parked, system_id)) is not None
    await room.server.one(("ZADD", parked, 0, system_id))
    await folder.keep_house()


async def test_nothing_to_do_is_nothing_done(crew: Crew) -> None:
    folder = await crew.alone()
    assert await folder.fold_once() == FoldReport()
    assert await crew.worker("without leases").fold_once() == FoldReport()


async def test_many_systems_fold_in_one_step(room: Room, crew: Crew) -> None:
    folder, ids = await crew.alone(), await systems(room, 50)
    for at, system_id in enumerate(ids):
        for _ in range(3):
            await room.store.ingest.append(system_id, batch(at + 1), None)
    report = await folder.fold_once()
    assert (report.systems, report.entries, report.events) == (50, 150, 3 * sum(range(1, 51)))
    assert (report.fenced, report.parked, report.dead) == (0, 0, 0)
    assert await totals(room, ids) == [3 * (at + 1) for at in range(50)]
    assert (await room.store.reads.backlog()).events == 0


async def test_a_long_backlog_is_folded_in_several_steps(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await asyncio.gather(*(room.store.ingest.append(system_id, batch(at % 3 + 1), None) for at in range(5_100)))
    read = [(await folder.fold_once()).entries for _ in range(6)]
    assert [16, 64, 256, 1_024, READ_ENTRIES, 1_740] == read
    assert await totals(room, [system_id]) == [10_200]


async def test_folding_goes_on_from_the_cache_and_from_the_store_alike(room: Room, crew: Crew) -> None:
    first, ids = await crew.alone("a"), await systems(room, 5)
    for turn in range(4):
        for system_id in ids:
            await room.store.ingest.append(system_id, batch(3, errors=turn % 2), None)
        await fold_all(first)
        if turn == 1:
            await first.leave()
            first = await crew.alone("b")
    assert await totals(room, ids) == [12] * 5
    assert [(await room.health(one))["errors"] for one in ids] == [2] * 5


@pytest.mark.parametrize("most_bytes", [0, 1, 15_000])
async def test_a_cache_that_keeps_next_to_nothing_changes_nothing(room: Room, crew: Crew, most_bytes: int) -> None:
    folder, ids = await crew.alone(), await systems(room, 12)
    folder._cache = Cache(most_bytes)
    for turn in range(3):
        for at, system_id in enumerate(ids):
            await room.store.ingest.append(system_id, batch(at + turn + 1), None)
        report = await folder.fold_once()
        assert (report.systems, report.fenced) == (12, 0)
    assert await totals(room, ids) == [3 * at + 6 for at in range(12)]
    assert len(folder._cache) <= 3


# -- poison ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("m", b"garbage", "the stored state of this system cannot be read: "),
        ("m", b"", "the stored state of this system cannot be read: an empty value"),
        ("m", bytes((STATE_FORMAT + 1,)) + b"\x90", "its state was written by a newer release: state format 3"),
        ("slot", b"\x01garbage", "the stored state of this system cannot be read: a slot's checksum does not match"),
        ("slot", bytes((STATE_FORMAT + 1,)), "its state was written by a newer release: state format 3"),
    ],
)
async def test_a_state_that_cannot_be_read_stops_only_its_own_system(
    room: Room, crew: Crew, field: str, value: bytes, reason: str
) -> None:
    first, *others = ids = await neighbours(room)
    folder = await crew.alone("before")
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(folder)
    await folder.leave()
    stored = await room.server.one(("HGETALL", keys.state(first)))
    name = next(one for one in stored if one.startswith(b"s")) if field == "slot" else field.encode()
    await room.server.one(("HSET", keys.state(first), name, value))

    folder = await crew.alone("after")
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    report = await fold_all(folder)
    assert (report.parked, report.events) == (1, 5 * len(others))
    assert await totals(room, ids) == [5] + [10] * len(others)
    health = await room.health(first)
    assert health["health"] == "UNKNOWN"
    assert health["reason"].startswith(reason)
    assert await watermark_is_now(folder, room, 7)

    await room.server.one(("HSET", keys.state(first), name, stored[name]))
    await unpark_now(room, folder, first)
    await fold_all(folder)
    assert await totals(room, ids) == [10] * len(ids)
    assert (await room.health(first))["health"] == "OK"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda one: [("DEL", keys.state(one)), ("SET", keys.state(one), "x")], "the stored state of this system"),
        (
            lambda one: [("HSET", keys.state(one), "n", "many")],
            "the stored state of this system cannot be read: a field",
        ),
        (lambda one: [("DEL", keys.stream(one)), ("SET", keys.stream(one), "x")], "its stream cannot be read: "),
        (lambda one: [("DEL", keys.marks(one)), ("SET", keys.marks(one), "x")], "its state cannot be written: "),
    ],
)
async def test_a_key_that_holds_something_else_stops_only_its_own_system(
    room: Room, crew: Crew, spoil: Callable[[int], list[tuple[str, ...]]], reason: str
) -> None:
    bad, *others = ids = await neighbours(room)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    await room.server.run(*spoil(bad))
    folder = await crew.alone()
    report = await fold_all(folder)
    assert (report.parked, report.events) == (1, 5 * len(others))
    assert await totals(room, others) == [5] * len(others)
    assert (await room.health(bad))["reason"].startswith(reason)
    assert await watermark_is_now(folder, room, 7)


async def test_a_system_whose_snapshot_is_garbage_is_set_aside_all_the_same(room: Room, crew: Crew) -> None:
    bad, *others = ids = await neighbours(room)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    await room.server.run(("SET", keys.snapshot(bad), "x"), ("HSET", keys.state(bad), "m", b"garbage"))
    folder = await crew.alone()
    assert (await fold_all(folder)).parked == 1
    assert await totals(room, others) == [5] * len(others)
    assert await watermark_is_now(folder, room, 7)


async def test_settings_of_a_newer_release_stop_only_their_own_system(room: Room, crew: Crew) -> None:
    folder, (bad, *others) = await crew.alone(), await neighbours(room)
    for system_id in (bad, *others):
        await room.store.ingest.append(system_id, batch(5), None)
    record = await room.server.one(("HGET", keys.system(bad), "record"))
    newer = record.replace(b'"min_events"', b'"p99_latency":{"warn":1},"min_events"')
    await room.server.one(("HSET", keys.system(bad), "record", newer))
    assert ((await fold_all(folder)).parked, await totals(room, [bad, *others])) == (1, [0] + [5] * len(others))
    assert "p99_latency" in (await room.health(bad))["reason"]
    await room.server.one(("HSET", keys.system(bad), "record", record))
    await unpark_now(room, folder, bad)
    await fold_all(folder)
    assert await totals(room, [bad]) == [5]


async def test_entries_that_nobody_can_read_are_set_aside_and_the_rest_is_counted(room: Room, crew: Crew) -> None:
    folder, (bad, *others) = await crew.alone(), await neighbours(room)
    good = columns.encode(columns.cut([Event("success", "ok", 1.0)] * 3))
    for garbage in (b"", b"LSO", good[:-1], good[:9] + b"\xff" + good[10:], b"\x00" * 100):
        await room.store.ingest.append(bad, garbage_batch(garbage, 3), None)
        await room.store.ingest.append(bad, batch(2), None)
    for system_id in others:
        await room.store.ingest.append(system_id, batch(5), None)
    report = await fold_all(folder)
    assert (report.dead, report.parked, report.entries) == (5, 0, 10 + len(others))
    assert await totals(room, [bad, *others]) == [10] + [5] * len(others)
    assert await room.server.one(("XLEN", keys.dead_letters(bad))) == 5
    backlog = await room.store.reads.backlog()
    assert (backlog.entries, backlog.events) == (0, 0)
    assert await watermark_is_now(folder, room, 7)


async def forget_names(room: Room, system_id: int) -> None:
    """Leave slots whose numbers nobody knows the names of."""
    await room.server.one(("HDEL", keys.state(system_id), "m"))


async def arrive_at_no_time(room: Room, system_id: int) -> None:
    fields = dict((await room.server.one(("XRANGE", keys.stream(system_id), "-", "+")))[0][1])
    entry = ("at", 1 << 63, "n", fields[b"n"], "c", fields[b"c"], "b", fields[b"b"])
    last = await room.server.one(("XADD", keys.stream(system_id), "*", *entry))
    await room.server.one(("HSET", keys.system(system_id), "last", last))


@pytest.mark.parametrize("spoil", [forget_names, arrive_at_no_time])
async def test_what_fails_in_the_middle_of_a_fold_that_systems_share_is_the_trouble_of_one(
    room: Room, crew: Crew, spoil: Callable[[Room, int], Awaitable[None]]
) -> None:
    bad, *others = ids = await neighbours(room)
    before = times.to_text(await room.now_ms() - 200_000)  # of a minute that is over, so that rows are made of it
    for system_id in ids:
        await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 1.0, before)]), None)
    folder = await crew.alone()
    await fold_all(folder)
    with folder.holding_back(bad):  # so that its state is read anew
        await spoil(room, bad)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    report = await fold_all(folder)
    assert (report.parked, report.events) == (1, 5 * len(others))
    assert await totals(room, others) == [6] * len(others)
    assert (await room.health(bad))["reason"] == "LSO failed to fold its events; see the worker's log"
    assert await watermark_is_now(folder, room, 7)


async def test_an_entry_without_its_fields_is_set_aside_too(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(2), None)
    stream = keys.stream(system_id)
    last = b""
    for fields in (("x", "y"), ("at", "soon", "n", "1", "c", "c", "b", "b"), ("at", "1", "n", "-5", "c", "", "b", "")):
        last = await room.server.one(("XADD", stream, "*", *fields))
    await room.server.one(("HSET", keys.system(system_id), "last", last))
    report = await fold_all(folder)
    assert (report.dead, report.parked) == (3, 0)
    assert await totals(room, [system_id]) == [2]


async def test_entries_of_a_newer_release_wait_and_hold_nobody_up(room: Room, crew: Crew) -> None:
    folder, (bad, *others) = await crew.alone(), await neighbours(room)
    good = batch(4)
    newer = good.columns[:3] + bytes((columns.FORMAT + 1,)) + good.columns[4:]
    await room.store.ingest.append(bad, batch(3), None)
    await room.store.ingest.append(bad, garbage_batch(newer, 4), None)
    await room.store.ingest.append(bad, batch(2), None)
    for system_id in others:
        await room.store.ingest.append(system_id, batch(5), None)
    report = await fold_all(folder)
    assert (report.parked, report.dead, report.entries) == (1, 0, 1 + len(others))
    assert await totals(room, [bad, *others]) == [3] + [5] * len(others)
    health = await room.health(bad)
    assert (health["health"], health["reason"]) == (
        "UNKNOWN",
        f"its entries were written by a newer release: format {columns.FORMAT + 1}; this release reads up to {columns.FORMAT}",
    )
    assert await watermark_is_now(folder, room, 7)
    assert (await room.store.reads.backlog()).events == 6
    await unpark_now(room, folder, bad)
    again = await fold_all(folder)
    assert (again.parked, again.events) == (1, 0)
    assert (await room.health(bad))["since"] == health["since"]

    # The release that wrote them is here: as it reads them, they are entries like any other.
    entries = await room.server.one(("XRANGE", keys.stream(bad), "-", "+"))
    await room.server.run(
        ("DEL", keys.stream(bad)),
        *(
            ("XADD", keys.stream(bad), entry_id, "at", fields[b"at"], "n", fields[b"n"], "b", fields[b"b"], "c",
             good.columns if fields[b"c"] == newer else fields[b"c"])
            for entry_id, fields in entries
        ),
    )  # fmt: skip
    await unpark_now(room, folder, bad)
    await fold_all(folder)
    assert await totals(room, [bad]) == [9]
    assert (await room.health(bad))["health"] == "OK"
    assert (await room.store.reads.backlog()).events == 0


async def test_a_parked_systems_new_events_wait_too_and_come_in_with_the_rest(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.server.one(("HSET", keys.state(system_id), "m", b"garbage"))
    await room.store.ingest.append(system_id, batch(5), None)
    assert (await fold_all(folder)).parked == 1
    await room.store.ingest.append(system_id, batch(6), None)
    assert await folder.fold_once() == FoldReport()
    await room.server.one(("HDEL", keys.state(system_id), "m"))
    await unpark_now(room, folder, system_id)
    assert (await fold_all(folder)).events == 11
    assert await totals(room, [system_id]) == [11]


async def test_a_ts_in_the_first_year_does_not_stop_its_system(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    some = [Event("success", "ok", 1.0, "0001-01-01T00:00:00.000Z")]
    await room.store.ingest.append(system_id, batch_of(some, latest_ts_ms=-62_135_596_800_000), None)
    report = await fold_all(folder)
    assert (report.parked, report.events) == (0, 1)
    health = await room.health(system_id)
    assert (health["total"], health["last_event_at"]) == (0, "0001-01-01T00:00:00.000Z")


# -- Redis and others change what was read ------------------------------------------------------------------------


async def test_a_redis_that_came_back_with_an_older_state_is_survived(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(folder)
    kept = (keys.state(system_id), keys.stats(partition_of(system_id)), keys.ready(partition_of(system_id)))
    older = await room.server.run(*(("DUMP", key) for key in kept[:2]))
    await room.store.ingest.append(system_id, batch(6), None)
    await fold_all(folder)
    await room.store.ingest.append(system_id, batch(7), None)
    for key, dumped in zip(kept[:2], older, strict=True):
        await room.server.one(("RESTORE", key, 0, dumped, "REPLACE"))
    report = await folder.fold_once()
    assert (report.systems, report.fenced) == (0, 1)
    await fold_all(folder)
    assert await totals(room, [system_id]) == [18]


async def test_a_deleted_systems_work_is_dropped_and_its_cache_forgotten(room: Room, crew: Crew) -> None:
    folder, ids = await crew.alone(), await systems(room, 3)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(folder)
    await room.store.ingest.append(ids[1], batch(5), None)
    await room.store.registry.delete(ids[1])
    await room.server.one(("ZADD", keys.ready(partition_of(ids[1])), 1, ids[1]))  # as a peek just before would have it
    for _ in range(2):  # once with what it knows of the system, once to find that there is none
        report = await folder.fold_once()
        assert (report.systems, report.fenced, report.parked) == (0, 0, 0)
    assert await room.keys_of(ids[1]) == []
    assert await folder.fold_once() == FoldReport()


async def test_a_changed_window_and_thresholds_show_after_the_next_folds(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(100, errors=3), None)
    await fold_all(folder)
    assert (await room.health(system_id))["health"] == "OK"
    strict = Thresholds(error_rate=Level(0.01, 0.02))
    await room.store.registry.patch(system_id, SystemPatch(thresholds=strict, window_seconds=600))
    await fold_all(folder)
    health = await room.health(system_id)
    assert (health["health"], health["window_seconds"], health["rps"]) == ("UNHEALTHY", 600, round(100 / 600, 6))
    start, end = (times.from_text(health[name]) for name in ("window_start", "window_end"))
    assert start == Window(600).start_of(end)


async def test_a_shorter_window_drops_what_is_out_of_it(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    old = times.to_text(await room.now_ms() - 120_000)
    some = [Event("success", "ok", 1.0, old)] * 3 + [Event("success", "ok", 1.0)]
    await room.store.ingest.append(system_id, batch_of(some), None)
    await fold_all(folder)
    assert await totals(room, [system_id]) == [4]
    await room.store.registry.patch(system_id, SystemPatch(window_seconds=60))
    await fold_all(folder)
    assert await totals(room, [system_id]) == [1]


async def test_a_system_of_which_most_cannot_be_read_is_parked_alone_and_nothing_more_is_buried(
    room: Room, crew: Crew
) -> None:
    """However the entries come, one by one or all at once: past half of the latest 100 it stops."""
    folder, (bad, good) = await crew.alone(), await systems(room, 2)
    for turn in range(200):
        sent = batch(1) if turn % 5 == 0 else garbage_batch(b"LSO garbage", 1)
        await room.store.ingest.append(bad, sent, None)
        await room.store.ingest.append(good, batch(1), None)
        if turn < 90:
            await folder.fold_once()
    await fold_all(folder)
    assert await totals(room, [good]) == [200]
    answer = await room.health(bad)
    assert answer["health"] == "UNKNOWN"
    assert re.search(r"its events are not buried but wait: 80 of 100 entries cannot be read", answer["reason"])
    buried = await room.server.one(("XLEN", keys.dead_letters(bad)))
    assert 51 <= buried < 100
    await room.server.one(("ZADD", keys.parked(partition_of(bad)), 1, bad))
    await folder.keep_house()
    report = await fold_all(folder)
    assert (report.parked, report.dead) == (1, 0)
    assert await room.server.one(("XLEN", keys.dead_letters(bad))) == buried


# -- rolling -------------------------------------------------------------------------------------------------------


async def test_a_window_rolls_without_new_events_and_leaves_the_due_set_when_it_is_empty(
    room: Room, crew: Crew
) -> None:
    """The events lie in the oldest slot of their window, so they leave it at the next slot."""
    folder, system_id = await crew.alone(), (await room.system(window_seconds=60)).system_id
    now = await room.now_ms()
    oldest = Window(60).start_of(now)
    await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 1.0, times.to_text(oldest))] * 9), None)
    await fold_all(folder)
    before = await room.health(system_id)
    due = keys.due(partition_of(system_id))
    if before["total"] == 0:
        pytest.skip("the slot ended between the clock and the append")
    assert (before["health"], await room.server.one(("ZCARD", due))) == ("OK", 1)

    async def drained() -> bool:
        await folder.tend()
        await folder.fold_once()
        return int(await room.server.one(("ZCARD", due))) == 0

    await eventually(drained, "the window rolls to nothing", 2 * SLOT_MS / 1_000 + 1.5)
    after = await room.health(system_id)
    assert (after["health"], after["total"], after["error_rate"], after["p95_latency"]) == ("UNKNOWN", 0, None, None)
    assert after["reason"] == f"no events in the last 60 s; the last one came at {times.to_text(oldest)}"
    assert after["last_ok_at"] == after["last_event_at"] == times.to_text(oldest)
    assert await folder.fold_once() == FoldReport()
    assert {name for name in await room.server.one(("HKEYS", keys.state(system_id))) if name.startswith(b"s")} == set()

    async def moves_on() -> bool:
        await folder.tend()
        later = await room.health(system_id)
        assert (later["since"], later["reason"]) == (after["since"], after["reason"])
        return str(later["as_of"]) > str(after["as_of"])

    await eventually(moves_on, "a drained system's times go on with the watermark", 2)


async def test_an_unknown_system_is_unknown_since_it_was_registered(room: Room, crew: Crew) -> None:
    folder, system = await crew.alone(), await room.system()
    since = []

    async def look() -> None:
        await fold_all(folder)
        health = await room.health(system.system_id)
        since.append((health["health"], health["since"]))

    await room.store.registry.patch(system.system_id, SystemPatch(description="changed"))
    await look()
    await room.store.ingest.append(system.system_id, batch(event_type="heartbeat"), None)
    await look()
    assert since == [("UNKNOWN", system.created_at)] * 2
    await room.store.ingest.append(system.system_id, batch(9), None)
    await look()
    assert since[-1][0] == "OK"
    assert since[-1][1] > system.created_at
    for _ in range(2):
        await room.store.ingest.append(system.system_id, batch(9), None)
        await look()
    assert since[-1] == since[-3]


# -- housekeeping --------------------------------------------------------------------------------------------------


async def test_keeping_house_trims_what_is_too_old(room: Room, crew: Crew) -> None:
    folder, ids = await crew.alone(settings=Settings(hot_seconds=0, archive="off")), await systems(room, 70)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(2), None)
    await fold_all(folder)
    await room.store.ingest.append(ids[0], batch(3), None)
    trimmed = await folder.keep_house()
    assert (trimmed.entries, trimmed.more) == (70, False)
    assert [await room.server.one(("XLEN", keys.stream(one))) for one in ids] == [1] + [0] * 69
    await fold_all(folder)
    assert await totals(room, ids[:2]) == [5, 2]


async def test_a_server_that_is_nearly_full_is_trimmed_whatever_the_age(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    for _ in range(3):
        await room.store.ingest.append(system_id, batch(50), None)
    await fold_all(folder)
    assert (await folder.keep_house()).entries == 0
    used = (await room.server.memory())[0].used
    await room.server.one(("CONFIG", "SET", "maxmemory", int(used / 0.9)))
    try:
        assert (await folder.keep_house()).entries == 3
    finally:
        await room.server.one(("CONFIG", "SET", "maxmemory", 0))
    assert await totals(room, [system_id]) == [150]


async def test_the_backlog_the_counters_and_the_groups_lag_agree(room: Room, crew: Crew) -> None:
    folder, ids = await crew.alone(), await systems(room, 6)
    for turn in range(3):
        for at, system_id in enumerate(ids):
            for _ in range(at + 1):
                await room.store.ingest.append(system_id, batch(2), None)
        lag = sum([await lag_of(room, one) for one in ids])
        backlog = await room.store.reads.backlog()
        assert (backlog.entries, backlog.events) == (lag, 2 * lag) == (21, 42)
        if turn:
            await folder.leave()
            folder = await crew.alone(f"w{turn + 1}")
            assert (await room.store.reads.backlog()).entries == 21
        await fold_all(folder)
        assert sum([await lag_of(room, one) for one in ids]) == (await room.store.reads.backlog()).entries == 0


async def lag_of(room: Room, system_id: int) -> int:
    [flat] = await room.server.one(("XINFO", "GROUPS", keys.stream(system_id)))
    found: dict[str, Any] = {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}
    assert found["lag"] is not None
    return int(found["lag"])


async def test_answers_stay_valid_json_through_all_of_it(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system('a "name" \\ é')).system_id
    some = [Event('ty"pe\\', "ok", 1.0, stage="sta\nge é")]
    await room.store.ingest.append(system_id, batch_of(some), None)
    await fold_all(folder)
    metrics = json.loads((await room.store.reads.metrics(system_id)).body)
    assert (metrics["event_types"], list(metrics["stages"])) == ({'ty"pe\\': 1}, ["sta\nge é"])
    [line] = (await room.store.reads.fleet(None, 1)).lines
    assert json.loads(line)["name"] == 'a "name" \\ é'


async def test_one_step_takes_every_system_that_waits_however_large_their_batches(
    room: Room, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STEP_S", 60.0)
    folder, ids = await crew.alone(), await room.systems_of(3, 12)
    for system_id in ids:
        for _ in range(3):
            await room.store.ingest.append(system_id, batch(300), None)
    report = await folder.fold_once()
    assert (len(ids), 0) == (report.systems, report.more)
    assert all([(await room.health(one))["total"] == 900 for one in ids])


async def test_a_quiet_system_does_not_wait_for_its_busy_neighbours(room: Room, crew: Crew) -> None:
    folder, (one, other, quiet) = await crew.alone(), await neighbours(room)
    for events in (50, 70):  # by the second step the sizes of their entries are known
        for system_id in (one, other):
            await room.store.ingest.append(system_id, batch(events, body=random.randbytes(4_000)), None)
        await room.store.ingest.append(quiet, batch(1), None)
        assert (await folder.fold_once()).systems == 3
    order = await room.server.one(("ZRANGE", keys.changes(partition_of(quiet)), 0, -1))
    assert [quiet, one, other] == [int(system_id) for system_id in order]


async def test_a_quiet_system_can_have_a_step_of_its_own(room: Room, crew: Crew) -> None:
    folder, (one, other, quiet) = await crew.alone(), await neighbours(room)

    async def append_to_all() -> None:
        for system_id in (one, other):
            await room.store.ingest.append(system_id, batch(50, body=random.randbytes(4_000)), None)
        await room.store.ingest.append(quiet, batch(1), None)

    await append_to_all()
    await fold_all(folder)  # then the sizes of their entries are known
    await append_to_all()
    report = await folder.fold_once(busy=False)
    assert (report.systems, report.busy, await totals(room, [one, other, quiet])) == (1, 2, [50, 50, 2])
    report = await folder.fold_once(busy=False)
    assert (report.systems, report.busy, report.seconds) == (0, 2, 0.0)
    report = await folder.fold_once()
    assert (report.systems, report.busy, await totals(room, [one, other, quiet])) == (2, 2, [100, 100, 2])


async def test_where_nobody_busy_waits_a_step_takes_more_quiet_systems(
    room: Room, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STEP_SYSTEMS", 3)
    monkeypatch.setattr(folding, "CALM_STEP_SYSTEMS", 9)
    folder, ids = await crew.alone(), await systems(room, 20)
    steps = []
    for _ in range(2):  # none is at hand at first, all are then
        for system_id in ids:
            await room.store.ingest.append(system_id, batch(1), None)
        steps.append([(await folder.fold_once()).systems for _ in range(4)])
    assert [[9, 9, 2, 0]] * 2 == steps
    busy = ids[0]
    await room.store.ingest.append(busy, batch(200, body=random.randbytes(4_000)), None)
    await fold_all(folder)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(200 if system_id == busy else 1), None)
    reports = [await folder.fold_once(busy=False) for _ in range(8)]
    assert [3, 3, 3, 3, 3, 3, 1, 0] == [one.systems for one in reports]
    assert (await folder.fold_once()).systems == 1


async def test_busy_systems_take_turns_however_little_time_a_step_has(
    room: Room, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ids = await crew.alone(), await systems(room, 6)
    large = batch(200, body=random.randbytes(4_000))

    async def append_to_all() -> None:
        for system_id in ids:
            await room.store.ingest.append(system_id, large, None)

    await append_to_all()
    await fold_all(folder)
    monkeypatch.setattr(folding, "STEP_S", 0.0)
    before = await totals(room, ids)
    for left in (4, 2, 0):
        await append_to_all()  # all of them have always more, and must not come before the others for it
        assert (await folder.fold_once()).left == left
    assert all(now > was for was, now in zip(before, await totals(room, ids), strict=True))


async def test_more_entries_than_before_are_read_step_by_step(room: Room, crew: Crew) -> None:
    """They may be larger than the last ones."""
    folder, system_id = await crew.alone(), (await room.system()).system_id
    for _ in range(3):
        await room.store.ingest.append(system_id, batch(1), None)
    assert (await fold_all(folder)).entries == 3
    for _ in range(100):
        await room.store.ingest.append(system_id, batch(1), None)
    read = [(await folder.fold_once()).entries for _ in range(3)]
    assert [16, 64, 20] == read


async def test_commits_that_are_refused_are_told(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(1), None)
    await room.server.one(("HSET", keys.lease(partition_of(system_id)), "epoch", 1_000))
    report = await folder.fold_once()
    assert (report.systems, report.fenced) == (0, 1)
    assert report.seconds > 0


def test_who_is_due_has_turns_among_those_with_entries() -> None:
    peeks = [Peek(1, ready=[1, 33, 65], due=[97, 1]), Peek(2, ready=[2], due=[])]
    assert [1, 2, 97, 33, 65] == list(_in_turn(peeks))
