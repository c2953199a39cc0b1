"""Partitions are shared out evenly, and again as workers come, leave and die."""

import time

from lso_core.model.windows import PARTITIONS
from lso_core.store.folding import Lease
from tests.store.rooms import Room, batch
from tests.waiting import eventually
from tests.worker.crew import Crew, fold_all, held, settle


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
