"""Partitions are shared out evenly, and again as workers come, leave and die."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lso_core.compute import columns
from lso_core.model.windows import PARTITIONS
from lso_core.store import keys, leases
from lso_core.store.folding import Lease
from tests.store.rooms import Room, batch
from tests.waiting import eventually
from tests.worker.crew import Crew, fold_all, held, settle
from worker.folding import Folder
from worker.rebuilding import Rebuilder


async def test_a_worker_alone_holds_everything_at_once(crew: Crew) -> None:
    folder = crew.worker("w1")
    report = await folder.tend()
    assert (report.held, report.taken, report.workers) == (PARTITIONS, PARTITIONS, 1)
    again = await folder.tend()
    assert (again.held, again.taken, again.released, again.lost) == (PARTITIONS, 0, 0, 0)


async def test_two_workers_share_evenly(crew: Crew) -> None:
    assert await settle(await crew.alone("a"), crew.worker("b")) == [16, 16]


async def test_three_workers_share_evenly(crew: Crew) -> None:
    assert await settle(crew.worker("a"), crew.worker("b"), crew.worker("c")) == [10, 11, 11]


async def test_a_third_worker_is_given_its_share_by_both(crew: Crew) -> None:
    one, other = crew.worker("a"), crew.worker("b")
    await settle(one, other)
    third = crew.worker("c")
    assert await settle(one, other, third) == [10, 11, 11]


async def test_more_workers_than_partitions_leave_some_without(crew: Crew) -> None:
    folders = [crew.worker(f"w{at:02d}") for at in range(34)]
    assert await settle(*folders) == [0, 0] + [1] * 32


async def test_when_a_worker_leaves_the_others_take_its_share_at_once(crew: Crew) -> None:
    folders = [crew.worker(name) for name in "abc"]
    await settle(*folders)
    began = time.monotonic()
    await folders[0].leave()
    assert held(folders[0]) == set()
    assert await settle(*folders[1:]) == [16, 16]
    assert time.monotonic() - began < 1.5


async def test_when_a_worker_dies_the_others_take_its_share_within_three_seconds(crew: Crew) -> None:
    dead, alive = crew.worker("a"), crew.worker("b")
    await settle(dead, alive)
    began = time.monotonic()
    assert await settle(alive) == [32]
    assert time.monotonic() - began < 3


async def test_a_dead_workers_events_are_folded_by_another(room: Room, crew: Crew) -> None:
    dead = await crew.alone("dead")
    ids = [(await room.system(f"s{at}")).system_id for at in range(8)]
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    await dead.fold_once()
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
    alive = crew.worker("alive")

    async def folded() -> bool:
        await alive.tend()
        await alive.fold_once()
        return [(await room.health(one))["total"] for one in ids] == [10] * 8

    await eventually(folded, "another worker folds what the dead one left", 4)


async def test_a_worker_that_lost_its_leases_learns_it_and_writes_nothing(room: Room, crew: Crew) -> None:
    """Stopped past its lease, as with SIGSTOP: the other has everything when it goes on."""
    stopped = await crew.alone("stopped")
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await stopped.fold_once()
    await stopped.leave()
    other = await crew.alone("other")
    for partition in range(PARTITIONS):  # what it believed when it was stopped
        stopped._leases[partition] = Lease(partition, "stopped", 1)
    await room.store.ingest.append(system_id, batch(5), None)
    report = await stopped.fold_once()
    assert (report.systems, report.fenced) == (0, 1)
    assert (await fold_all(other)).events == 5
    assert (await room.health(system_id))["total"] == 10
    assert await settle(stopped, other) == [16, 16]


async def test_workers_tell_each_other_how_fast_they_fold(room: Room, crew: Crew) -> None:
    folder = await crew.alone()
    system_id = (await room.system()).system_id
    for _ in range(3):
        await room.store.ingest.append(system_id, batch(1_000), None)
    await fold_all(folder)
    await folder.tend()
    [worker] = (await room.store.reads._lag())[1]
    assert worker.partitions == PARTITIONS
    assert worker.fold_rate > 1_000


# -- two releases at once ----------------------------------------------------------------------------------------


@contextmanager
def newer_release() -> Iterator[None]:
    """What runs meanwhile is of a release that writes and reads one more format of entries, of those with run ids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "FORMAT", columns.FORMAT + 1)
        yield


async def turn_both(old: Folder, new: Folder) -> None:
    """A turn of each."""
    await old.tend()
    await old.fold_once()
    with newer_release():
        await new.tend()
        await new.fold_once()


async def test_what_a_newer_release_wrote_is_left_to_a_worker_that_reads_it(room: Room, crew: Crew) -> None:
    ids = await room.systems_of(7, 3)
    old = await crew.alone("old")
    with newer_release():
        new = crew.worker("new")
        await settle(old, new)
        await room.store.ingest.append(ids[0], batch(5, run_id="r"), None)
    assert 7 in held(old)
    await room.store.ingest.append(ids[1], batch(4), None)

    async def folded() -> bool:
        await turn_both(old, new)
        return [(await room.health(one))["total"] for one in ids] == [5, 4, 0]

    await eventually(folded, "the newer worker folds what only it can read", 4)
    assert 7 in held(new)
    assert 7 not in held(old)
    assert (await room.health(ids[0]))["health"] == "OK"
    for _ in range(4):  # the old one does not take it again, and all else is shared out
        await turn_both(old, new)
    assert (7 in held(new), len(held(old)), len(held(new))) == (True, 16, 16)


async def test_with_nobody_to_read_it_a_newer_releases_system_waits_alone_until_one_comes(
    room: Room, crew: Crew
) -> None:
    ids = await room.systems_of(7, 2)
    old = await crew.alone("old")
    with newer_release():
        await room.store.ingest.append(ids[0], batch(5, run_id="r"), None)
    await room.store.ingest.append(ids[1], batch(4), None)
    await fold_all(old)
    waiting = await room.health(ids[0])
    assert (waiting["health"], waiting["total"]) == ("UNKNOWN", 0)
    assert waiting["reason"].startswith("its entries were written by a newer release: format")
    assert (await room.health(ids[1]))["total"] == 4
    with newer_release():
        new = crew.worker("new")

    async def folded() -> bool:
        await room.server.one(("ZADD", keys.parked(7), "XX", 0, ids[0]))  # its next try is due
        await old.keep_house()
        await turn_both(old, new)
        return bool((await room.health(ids[0]))["total"] == 5)

    await eventually(folded, "a newer worker that comes folds it", 6)
    assert 7 in held(new)
    with newer_release():
        await new.leave()
        await room.store.ingest.append(ids[0], batch(5, run_id="r"), None)
    await room.store.ingest.append(ids[1], batch(4), None)
    assert await settle(old) == [32]
    await fold_all(old)
    assert [(await room.health(one))["total"] for one in ids] == [5, 8]
    assert (await room.health(ids[0]))["health"] == "UNKNOWN"


async def test_a_rebuild_of_what_a_newer_release_wrote_is_left_to_it(room: Room, crew: Crew) -> None:
    system_id = (await room.systems_of(7, 1))[0]
    old = await crew.alone("old")
    with newer_release():
        new = crew.worker("new")
        await new.tend()
        await room.store.ingest.append(system_id, batch(5, run_id="r"), None)
        await old.tend()
    await old.leave()
    with newer_release():
        await new.tend()
        assert (await fold_all(new)).events == 5
        await new.tend()
        await leases.release(room.server, "new", {7})
    await leases.tend(room.server, "old", set(), {7})
    [renewed] = await leases.tend(room.server, "old", {7}, set())
    old._leases = {7: Lease(7, "old", renewed.epoch)}
    await room.store.rebuilds.ask(system_id)
    assert await Rebuilder(old).once() == 0
    assert held(old) == set()
    with newer_release():
        await eventually(lambda: has(new, 7), "the newer worker takes the partition")
        assert await Rebuilder(new).once() == 1
    assert (await room.store.rebuilds.get(system_id)).different == 0


async def has(folder: Folder, partition: int) -> bool:
    """Tend, and see whether a worker holds a partition by now."""
    await folder.tend()
    return partition in held(folder)
