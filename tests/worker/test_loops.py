"""The loops and jobs around the folder: events show within a second, and a stop gives everything back."""

import asyncio

import pytest

from lso_core.model.windows import partition_of
from lso_core.store import keys, leases
from lso_core.telemetry import Telemetry
from tests.store.rooms import Room, batch
from tests.waiting import eventually
from tests.worker.crew import Crew
from worker.folding import Folder, FoldReport
from worker.jobs.sweep import sweep
from worker.loops import Loops, Round, rest_after


async def test_events_show_within_a_second_and_a_stop_gives_the_leases_back(room: Room, crew: Crew) -> None:
    loops = Loops(crew.worker("w1"), Telemetry())
    running = asyncio.create_task(loops.run())
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(50), None)

    async def shown() -> bool:
        return int((await room.health(system_id))["total"]) == 50

    await eventually(shown, "the events show", 1.5)
    watermark = keys.watermark(partition_of(system_id))
    first = int(await room.server.one(("GET", watermark)))

    async def moves() -> bool:
        return int(await room.server.one(("GET", watermark))) > first

    await eventually(moves, "the watermark moves though nothing arrives", 1.0)
    loops.stop()
    async with asyncio.timeout(2):
        await running
    owners = await room.server.run(*(("HGET", keys.lease(partition), "owner") for partition in range(32)))
    assert set(owners) == {b""}
    assert (await leases.live_workers(room.server))[1] == []


async def test_a_loop_that_fails_ends_them_all_and_gives_the_leases_back(room: Room, crew: Crew) -> None:
    """A worker that does not fold must not look alive: its supervisor starts another."""
    folder: Folder = crew.worker("w1")
    running = asyncio.create_task(Loops(folder, Telemetry()).run())

    async def holds() -> bool:
        return len((await leases.live_workers(room.server))[1]) == 1 and len(folder._leases) == 32

    await eventually(holds, "the worker holds its leases", 2)
    folder.store = None  # type: ignore[assignment]
    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await running
    assert (await leases.live_workers(room.server))[1] == []


async def test_the_sweep_finds_forgotten_systems_and_half_done_registrations(room: Room, crew: Crew) -> None:
    ids = [(await room.system(f"s{at}")).system_id for at in range(3)]
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(2), None)
        await room.server.one(("ZREM", keys.ready(partition_of(system_id)), system_id))
    record = b'C 1 1 {"name":"half","window_seconds":60}'
    await room.server.run(
        ("HSET", keys.NAMES, "half", 4),
        ("HSET", keys.RECORDS, 4, record),
        ("SET", keys.LAST_ID, 4),
        ("ZADD", keys.PENDING, 1, 4),
    )
    assert await sweep(room.folding, room.store.registry, await room.now_ms()) == 4
    assert (await room.store.registry.get(4)).name == "half"
    folder = await crew.alone()
    assert (await folder.fold_once()).systems == 3
    assert await sweep(room.folding, room.store.registry, await room.now_ms()) == 0


@pytest.mark.parametrize(
    ("took_s", "used_s", "more", "rest_s"),
    [
        (0.001, 0.001, 0, 0.019),
        (0.01, 0.01, 0, 0.03),
        (0.03, 0.01, 0, 0.03),
        (0.1, 0.1, 0, 0.2),
        (0.4, 0.01, 0, 0.05),
        (0.01, 0.01, 1, 0.0),
    ],
    ids=["short", "in between", "mostly waiting", "long", "longer than the longest pace", "not at the end"],
)
def test_the_rest_after_a_step_grows_with_it_up_to_a_bound(
    took_s: float, used_s: float, more: int, rest_s: float
) -> None:
    assert rest_s == pytest.approx(rest_after(Round(more, took_s, used_s)))


def test_what_the_first_step_of_a_round_left_is_not_forgotten() -> None:
    steps = (FoldReport(systems=1, more=1, left=2), 0.01, 0.01), (FoldReport(systems=2), 0.01, 0.01)
    assert rest_after(Round().plus(*steps[0]).plus(*steps[1])) == 0
    assert rest_after(Round().plus(*steps[1])) > 0
