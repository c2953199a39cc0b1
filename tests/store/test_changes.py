"""What changed since a reader looked: exactly that, in one round trip, and nothing while nobody watches."""

import asyncio
import json

from api.live import Filter, Hub
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.store import keys
from lso_core.telemetry import Telemetry
from tests.store.backends import Backend
from tests.store.rooms import Room, batch
from tests.waiting import eventually

EVERYTHING = [-1] * PARTITIONS


async def look(room: Room, positions: list[int]) -> tuple[dict[int, bytes], list[int]]:
    """What is new, and the positions for the next look."""
    shares = await room.store.reads.changes(positions)
    return {one: line for share in shares for one, line in share.lines.items()}, [share.position for share in shares]


async def test_a_look_is_one_round_trip(room: Room, backend: Backend) -> None:
    backend.needs_one_server("on a cluster it is one to each server")
    await room.store.reads.changes(EVERYTHING)
    before = room.server.round_trips
    await room.store.reads.changes(EVERYTHING)
    assert 1 == room.server.round_trips - before


async def test_only_what_changed_is_read(room: Room) -> None:
    ids = [(await room.system(f"s{at}", tags=("etl",))).system_id for at in range(4)]
    found, positions = await look(room, EVERYTHING)
    assert ids == sorted(found)
    assert (["etl"], False) == tuple(json.loads(found[ids[0]])[name] for name in ("tags", "observer_behind"))
    assert ({}, positions) == await look(room, positions)
    await room.store.ingest.append(ids[2], batch(5), None)
    assert {} == (await look(room, positions))[0]
    await room.fold(ids[2])
    found, positions = await look(room, positions)
    assert (list(found), 5) == ([ids[2]], json.loads(found[ids[2]])["total"])
    assert ({}, positions) == await look(room, positions)


async def test_a_deletion_shows_in_the_number_of_lines(room: Room) -> None:
    kept, lost = await room.systems_of(7, 2)
    _, positions = await look(room, EVERYTHING)
    await room.store.registry.delete(lost)
    share = (await room.store.reads.changes(positions))[7]
    assert ({}, 1, False) == (share.lines, share.size, share.whole)
    whole = (await room.store.reads.changes(EVERYTHING))[7]
    assert ([kept], True) == (list(whole.lines), whole.whole)


async def test_a_store_that_counts_less_than_its_reader_is_read_as_a_whole(room: Room) -> None:
    system_id = (await room.system()).system_id
    p = partition_of(system_id)
    _, positions = await look(room, EVERYTHING)
    positions[p] += 5
    share = (await room.store.reads.changes(positions))[p]
    assert ([system_id], True) == (list(share.lines), share.whole)


async def test_lines_that_were_stored_before_changes_were_counted_are_read(room: Room) -> None:
    system_id = (await room.system()).system_id
    p = partition_of(system_id)
    await room.server.run(("DEL", keys.changes(p)), ("HDEL", keys.stats(p), "changes"))
    assert [system_id] == list((await room.store.reads.changes(EVERYTHING))[p].lines)


async def test_nothing_is_read_while_nobody_watches(room: Room) -> None:
    await room.system()
    hub = Hub(room.store.reads, Telemetry(), 15_000, most=3, linger_s=0.0)
    assert 0 == hub.looks
    viewers = [await hub.join(Filter(), None, gzip=False) for _ in range(3)]
    assert 1 == hub.looks
    await eventually(lambda: hub.looks >= 3, "the reader looks once a second for all of them")
    for viewer in viewers:
        hub.leave(Filter(), viewer)
    reader = hub._looking
    assert reader is not None
    await eventually(reader.done, "the reader ends")
    looks = hub.looks
    viewer = await hub.join(Filter(), None, gzip=False)
    assert looks + 1 == hub.looks
    hub.leave(Filter(), viewer)
    await hub.close()


async def test_viewers_who_come_at_once_share_the_first_look(room: Room) -> None:
    hub = Hub(room.store.reads, Telemetry(), 15_000, most=50)
    await asyncio.gather(*(hub.join(Filter(), None, gzip=False) for _ in range(50)))
    assert 1 == hub.looks
    await hub.close()
