"""The sweep: a net under the lists of work. Whatever is taken off them by hand is found again."""

import pytest

from lso_core.model.health import Health
from lso_core.model.snapshots import Verdict
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.folding import Outcome
from tests.store.rooms import Room, batch


async def is_ready(room: Room, system_id: int) -> bool:
    return await room.server.one(("ZSCORE", keys.ready(partition_of(system_id)), system_id)) is not None


async def is_due(room: Room, system_id: int) -> bool:
    return await room.server.one(("ZSCORE", keys.due(partition_of(system_id)), system_id)) is not None


async def test_a_sweep_of_a_healthy_partition_finds_nothing_and_changes_nothing(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await room.fold(system_id)
    await room.store.ingest.append(system_id, batch(5), None)
    before = await room.everything()
    assert [await room.folding.sweep(partition) for partition in range(32)] == [0] * 32
    assert await room.everything() == before


@pytest.mark.parametrize("folded_before", [False, True])
async def test_a_ready_system_that_was_forgotten_is_found(room: Room, folded_before: bool) -> None:
    system_id = (await room.system()).system_id
    if folded_before:
        await room.store.ingest.append(system_id, batch(5), None)
        await room.fold(system_id)
    await room.store.ingest.append(system_id, batch(5), None)
    await room.server.one(("ZREM", keys.ready(partition_of(system_id)), system_id))
    assert await room.folding.sweep(partition_of(system_id)) == 1
    assert await is_ready(room, system_id)
    assert await room.fold(system_id) is Outcome.DONE
    assert (await room.health(system_id))["total"] == (10 if folded_before else 5)
    assert not await is_ready(room, system_id)


@pytest.mark.parametrize("hot_seconds", [0, 3_600])
@pytest.mark.parametrize("trim", [False, True])
async def test_a_window_that_must_roll_and_was_forgotten_is_found(room: Room, hot_seconds: int, trim: bool) -> None:
    """Also where it has a single slot, whatever else its state holds by then."""
    own = Room(room.server, Settings(hot_seconds=hot_seconds))
    system_id = (await own.system()).system_id
    await own.store.ingest.append(system_id, batch(5), None)
    await own.fold(system_id)
    if trim:
        await own.folding.trim([await own.lease_of(system_id)], 0, pressed=True)
    await own.server.one(("ZREM", keys.due(partition_of(system_id)), system_id))
    assert await own.folding.sweep(partition_of(system_id)) == 1
    assert await is_due(own, system_id)


async def test_a_drained_system_is_not_disturbed(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await room.fold(system_id)
    fields = await room.server.one(("HKEYS", keys.state(system_id)))
    slots = [field for field in fields if field.startswith(b"s")]
    await room.server.run(
        ("HDEL", keys.state(system_id), *slots), ("ZREM", keys.due(partition_of(system_id)), system_id)
    )
    assert await room.folding.sweep(partition_of(system_id)) == 0
    await room.folding.trim([await room.lease_of(system_id)], 0, pressed=True)
    assert await room.folding.sweep(partition_of(system_id)) == 0


async def test_a_parked_system_is_left_where_it_is(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await room.folding.park(await room.lease_of(system_id), system_id, Verdict(Health.UNKNOWN, 0, "x"), 60_000)
    assert await room.folding.sweep(partition_of(system_id)) == 0
    assert not await is_ready(room, system_id)


async def test_hundreds_of_forgotten_systems_of_a_partition_are_all_found(room: Room) -> None:
    own = Room(room.server, Settings())
    mine = await own.systems_of(5, 10)
    for system_id in mine:
        await own.store.ingest.append(system_id, batch(1), None)
    await own.server.one(("DEL", keys.ready(5)))
    assert await own.folding.sweep(5) == len(mine) == 10
    assert await own.server.one(("ZCARD", keys.ready(5))) == 10
