"""Leases: shared out evenly, held by one at a time, with an epoch that grows and a watermark that is true."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys, leases
from lso_core.store.leases import ALIVE_MS, LEASE_MS, Free, Worker, fair_share
from lso_core.store.server import Server
from tests.store.backends import Backend
from tests.store.rooms import Room, batch
from tests.waiting import eventually


@given(st.sets(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=1, max_size=40))
def test_shares_add_up_to_all_partitions_and_differ_by_one_at_most(workers: set[str]) -> None:
    shares = [fair_share(worker, list(workers)) for worker in workers]
    assert sum(shares) == PARTITIONS
    assert max(shares) - min(shares) <= 1


@given(st.sets(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=9), st.text("abc", min_size=1, max_size=4))
def test_a_worker_that_is_not_on_the_list_yet_has_a_share_too(workers: set[str], newcomer: str) -> None:
    assert fair_share(newcomer, list(workers)) == fair_share(newcomer, [*workers, newcomer])


async def test_a_lease_is_taken_once_and_renewed_by_its_holder(room: Room) -> None:
    [taken] = await leases.tend(room.server, "a", set(), {7})
    [renewed] = await leases.tend(room.server, "a", {7}, set())
    assert (taken.epoch, taken.taken) == (1, True)
    assert (renewed.epoch, renewed.taken) == (1, False)
    assert await leases.tend(room.server, "b", set(), {7}) == []
    assert await leases.tend(room.server, "b", {7}, set()) == []
    until = int(await room.server.one(("HGET", keys.lease(7), "until")))
    assert until == renewed.now_ms + LEASE_MS
    assert LEASE_MS == 2_000


async def test_the_epoch_grows_at_each_change_of_owner_and_only_then(room: Room) -> None:
    epochs = []
    for owner in ("a", "a", "b", "a"):
        if await room.server.one(("HGET", keys.lease(3), "owner")) not in {None, owner.encode()}:
            await leases.release(room.server, {"a": "b", "b": "a"}[owner], {3})
        [held] = await leases.tend(room.server, owner, set(), {3})
        epochs.append(held.epoch)
    assert epochs == [1, 1, 2, 3]
    await leases.release(room.server, "a", {3})
    [held] = await leases.tend(room.server, "a", set(), {3})
    assert held.epoch == 4


async def test_a_lease_that_ran_out_goes_to_the_next_within_its_time(room: Room) -> None:
    await leases.tend(room.server, "a", set(), {7})

    async def taken() -> bool:
        return bool(await leases.tend(room.server, "b", set(), {7}))

    await eventually(taken, "the lease of a silent worker runs out", LEASE_MS / 1_000 + 1)
    assert await leases.tend(room.server, "a", {7}, set()) == []
    assert await room.server.one(("HGET", keys.lease(7), "epoch")) == b"2"


async def test_a_lease_is_taken_by_one_of_many_at_once(connect: Callable[[], Server]) -> None:
    servers = [connect() for _ in range(4)]
    found = await asyncio.gather(
        *(leases.tend(server, f"w{at}", set(), set(range(PARTITIONS))) for at, server in enumerate(servers))
    )
    assert sorted(one.partition for held in found for one in held) == list(range(PARTITIONS))


async def test_only_the_holder_can_release(room: Room) -> None:
    await leases.tend(room.server, "a", set(), {1, 2})
    assert await leases.release(room.server, "b", {1, 2, 3}) == 0
    assert await leases.release(room.server, "a", {1, 2, 3}) == 2
    assert await leases.release(room.server, "a", {1, 2, 3}) == 0
    assert await leases.release(room.server, "a", set()) == 0


async def test_free_partitions_are_those_nobody_holds_now(room: Room) -> None:
    await leases.tend(room.server, "a", set(), {0, 1, 2})
    await leases.tend(room.server, "b", set(), {3})
    await leases.release(room.server, "b", {3})
    now = await room.now_ms()
    free = await leases.free(room.server, {5}, now)
    assert [one.partition for one in free] == [3, 4, *range(6, PARTITIONS)]
    assert 0 <= now - free[0].since_ms < 5_000
    assert free[1] == Free(4)
    later = await leases.free(room.server, {5}, now + LEASE_MS + 1)
    assert [one.partition for one in later] == [p for p in range(PARTITIONS) if p != 5]


async def test_what_a_holder_must_be_able_to_read_is_remembered(room: Room) -> None:
    [held] = await leases.tend(room.server, "a", set(), {3})
    assert held.needs == {}
    assert not await leases.leave_to(room.server, "b", 3, {"columns": 9})
    assert await leases.leave_to(room.server, "a", 3, {"columns": 2})
    free = await leases.free(room.server, set(), await room.now_ms())
    assert free[3].needs == {"columns": 2}
    [held] = await leases.tend(room.server, "b", set(), {3})
    assert held.needs == {"columns": 2}
    await leases.release(room.server, "b", {3})
    [held] = await leases.tend(room.server, "c", set(), {3})
    assert held.needs == {"columns": 2}


async def test_a_worker_that_leaves_gives_everything_back_and_is_forgotten(room: Room) -> None:
    await leases.beat(room.server, Worker("a"))
    await leases.beat(room.server, Worker("b"))
    await leases.tend(room.server, "a", set(), {1, 2, 3})
    assert await leases.leave(room.server, "a") == 3
    assert [worker.worker_id for worker in (await leases.live_workers(room.server))[1]] == ["b"]
    assert [held.epoch for held in await leases.tend(room.server, "b", set(), {1, 2, 3})] == [2, 2, 2]


async def test_a_supervisor_releases_for_a_worker_that_died(room: Room, backend: Backend) -> None:
    backend.needs_a_real_server("fakeredis has no URL")
    await leases.beat(room.server, Worker("dead"))
    await leases.tend(room.server, "dead", set(), {1, 2})
    assert await leases.release_worker(backend.url, "dead") == 2
    assert len(await leases.tend(room.server, "b", set(), {1, 2})) == 2


async def test_workers_see_each_other_while_they_beat(room: Room) -> None:
    await leases.beat(room.server, Worker("a", partitions=3, fold_rate=1.5, arrival_rate=2.5))
    now, live = await leases.beat(room.server, Worker("b"))
    assert sorted(live, key=lambda worker: worker.worker_id) == [Worker("a", 3, 1.5, 2.5), Worker("b")]
    assert abs(now - await room.now_ms()) < 1_000


async def test_a_silent_worker_is_not_alive_for_long(room: Room) -> None:
    await leases.beat(room.server, Worker("silent"))
    said = await room.server.one(("HGET", keys.WORKERS, "silent"))
    at_ms = int(said.split(b" ")[0])
    for ago_ms, live in ((ALIVE_MS - 500, ["b", "silent"]), (ALIVE_MS + 1, ["b"]), (61_000, ["b"])):
        older = said.replace(b"%d" % at_ms, b"%d" % (at_ms - ago_ms))
        await room.server.one(("HSET", keys.WORKERS, "silent", older))
        _, found = await leases.beat(room.server, Worker("b"))
        assert sorted(worker.worker_id for worker in found) == live
    assert await room.server.one(("HKEYS", keys.WORKERS)) == [b"b"]


# -- watermark -------------------------------------------------------------------------------------------------


async def test_with_nothing_waiting_the_watermark_is_now_also_when_nothing_arrives(room: Room) -> None:
    marks = []
    for _ in range(3):
        before = await room.now_ms()
        [held] = await leases.tend(room.server, "a", set(), {7})
        assert before <= held.watermark_ms == held.now_ms <= await room.now_ms()
        marks.append(int(await room.server.one(("GET", keys.watermark(7)))))
    assert marks == sorted(marks)


async def test_the_watermark_stands_at_the_first_entry_that_is_not_folded(room: Room) -> None:
    system = await room.system()
    await room.store.ingest.append(system.system_id, batch(), None)
    [entry] = await room.store.reads.entries(system.system_id, None, 1)

    async def held_back() -> bool:
        [held] = await leases.tend(room.server, "w1", set(), {partition_of(system.system_id)})
        assert held.watermark_ms == entry.at_ms
        return held.now_ms > entry.at_ms + 50

    await eventually(held_back, "time goes on")
    await room.fold(system.system_id)
    [held] = await leases.tend(room.server, "w1", {partition_of(system.system_id)}, set())
    assert held.watermark_ms == held.now_ms


async def test_a_half_folded_system_holds_the_watermark_back(room: Room) -> None:
    system = await room.system()
    for _ in range(3):
        await room.store.ingest.append(system.system_id, batch(), None)
    entries = await room.store.reads.entries(system.system_id, None, 3)
    await room.fold(system.system_id, most=1)
    [held] = await leases.tend(room.server, "w1", {partition_of(system.system_id)}, set())
    assert entries[2].at_ms <= held.watermark_ms <= entries[1].at_ms


async def test_nobody_but_the_holder_moves_the_watermark(room: Room) -> None:
    await leases.tend(room.server, "a", set(), {7})
    before = await room.server.one(("GET", keys.watermark(7)))
    await eventually(lambda: later(room, int(before)), "time goes on")
    await leases.tend(room.server, "b", {7}, {7})
    assert await room.server.one(("GET", keys.watermark(7))) == before


async def later(room: Room, ms: int) -> bool:
    return await room.now_ms() > ms + 2


async def test_a_silent_observer_reads_unknown_after_its_time(room: Room) -> None:
    own = Room(room.server, Settings(stale_after=2))
    system = await own.system()
    await own.store.ingest.append(system.system_id, batch(9), None)
    await own.fold(system.system_id)
    fresh = await own.health(system.system_id)

    watermark = keys.watermark(partition_of(system.system_id))
    await own.server.one(("SET", watermark, await own.now_ms() - 2_050))
    stale = await own.health(system.system_id)
    assert stale["reason"].startswith("the observer is 2.")
    verdict = {"health", "since", "reason"}
    assert (fresh["health"], stale["health"]) == ("OK", "UNKNOWN")
    assert {k: v for k, v in fresh.items() if k not in verdict} == {k: v for k, v in stale.items() if k not in verdict}
    await own.hold(partition_of(system.system_id))
    assert (await own.health(system.system_id))["health"] == "OK"


# -- the backlog's running sums --------------------------------------------------------------------------------


@pytest.mark.parametrize("parked", [False, True])
async def test_a_new_holder_counts_the_backlog_afresh(room: Room, parked: bool) -> None:
    """Whatever became of the sums, and whether or not a system is set aside: its entries still wait."""
    system = await room.system()
    partition = partition_of(system.system_id)
    for _ in range(3):
        await room.store.ingest.append(system.system_id, batch(5), None)
    await room.fold(system.system_id, most=1)
    before = await room.stats(partition)
    if parked:
        lease = await room.lease_of(system.system_id)
        verdict = (await room.prepare(system.system_id)).summary.verdict
        await room.folding.park(lease, system.system_id, verdict, 60_000)
    await room.server.one(("HSET", keys.stats(partition), "events", 99, "entries", -9, "bytes", 12))
    await leases.leave(room.server, "w1")
    await leases.tend(room.server, "w2", set(), {partition})
    assert await room.stats(partition) == before
    assert (before["events"], before["entries"]) == (10, 2)


async def test_a_new_holder_counts_the_hot_tier_afresh(room: Room) -> None:
    """Of what is folded, also where a part of it is trimmed and more waits."""
    own = Room(room.server, Settings(hot_seconds=0))
    first, second = await own.systems_of(3, 2)
    for system_id in (first, second, first, second, first):
        await own.store.ingest.append(system_id, batch(5), None)
    await own.fold(first, most=1)
    [lease] = await own.hold(3)
    await own.folding.trim([lease], 0, pressed=True)
    await own.fold(first, most=1)
    await own.fold(second)
    hot = (await own.stats(3))["hot"]
    assert hot == 3 * (len(batch(5).columns) + len(batch(5).body))
    await own.server.one(("HSET", keys.stats(3), "hot", 7))
    await leases.leave(own.server, "w1")
    await leases.tend(own.server, "w2", set(), {3})
    assert (await own.stats(3))["hot"] == hot
