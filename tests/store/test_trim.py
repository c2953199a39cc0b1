"""The hot tier where there is no archive: folded entries stay readable for their time, unfolded ones for ever, and the sums are exact."""

from collections.abc import Callable

import pytest

from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.folding import MARK_BYTES, Folding, Stored, Trimmed
from lso_core.store.server import Server
from tests.store.rooms import Room, batch
from tests.waiting import eventually

NO_CAP = 1 << 50
SIZE = len(batch(5).columns) + len(batch(5).body)


@pytest.fixture
def settings() -> Settings:
    return Settings(archive="off")


async def length(room: Room, system_id: int) -> int:
    return int(await room.server.one(("XLEN", keys.stream(system_id))))


async def bytes_of(room: Room, system_id: int) -> int:
    """What the system's entries weigh, read back one by one."""
    entries = await room.store.reads.entries(system_id, None, 10_000)
    return sum(len(entry.columns) + len(entry.body) for entry in entries)


async def filled(room: Room, name: str = "weather", folded: int = 4, waiting: int = 0, events: int = 5) -> int:
    system_id = (await room.system(name)).system_id
    for _ in range(folded):
        await room.store.ingest.append(system_id, batch(events), None)
        await room.fold(system_id)
    for _ in range(waiting):
        await room.store.ingest.append(system_id, batch(events), None)
    return system_id


async def test_folded_entries_stay_until_they_are_old_enough(room: Room) -> None:
    system_id = await filled(room, folded=3)
    lease = await room.lease_of(system_id)
    assert await room.folding.trim([lease], NO_CAP, pressed=False) == Trimmed(0, 0, more=False)
    assert (await length(room, system_id), (await room.stats(lease.partition))["hot"]) == (3, 3 * SIZE)


@pytest.mark.parametrize("waiting", [0, 3])
async def test_with_no_time_to_keep_everything_folded_goes_and_nothing_else(room: Room, waiting: int) -> None:
    own = Room(room.server, Settings(hot_seconds=0, archive="off"))
    system_id = await filled(own, folded=4, waiting=waiting)
    lease = await own.lease_of(system_id)
    trimmed = await own.folding.trim([lease], NO_CAP, pressed=False)
    assert (trimmed.entries, trimmed.bytes, trimmed.more) == (4, 4 * SIZE, False)
    assert await length(own, system_id) == waiting
    assert (await own.stats(lease.partition))["hot"] == 0
    await own.fold(system_id)
    assert (await own.health(system_id))["total"] == 5 * (4 + waiting)


async def test_entries_older_than_their_time_go_and_younger_stay_until_they_are(room: Room) -> None:
    own = Room(room.server, Settings(hot_seconds=1, archive="off"))
    system_id = await filled(own, folded=1)
    lease = await own.lease_of(system_id)
    [old] = await own.store.reads.entries(system_id, None, 1)

    async def aged() -> bool:
        return await own.now_ms() > old.at_ms + 900

    await eventually(aged, "the first entry is nearly a second old")
    await own.store.ingest.append(system_id, batch(5), None)
    await own.fold(system_id)

    async def trimmed() -> bool:
        found = await own.folding.trim([lease], NO_CAP, pressed=False)
        return found.entries == 1

    await eventually(trimmed, "the first entry is trimmed", 2)
    [left] = await own.store.reads.entries(system_id, None, 9)
    assert left.entry_id != old.entry_id
    assert (await own.stats(lease.partition))["hot"] == SIZE
    await eventually(trimmed, "an idle system's last entry expires without another", 2)
    assert (await length(own, system_id), (await own.stats(lease.partition))["hot"]) == (0, 0)
    assert await own.server.one(("EXISTS", keys.hot(lease.partition))) == 0


async def test_past_the_cap_of_bytes_the_oldest_marks_go_until_it_fits(room: Room) -> None:
    """Marks of 4 MiB are what one step frees, so the folds here are that large."""
    system_id = (await room.system()).system_id
    body = bytes(range(256)) * 4 * 1_024  # 1 MiB that does not compress away
    import random

    chance = random.Random(3)
    sizes = []
    for _ in range(4):
        big = batch(5, body=body[: 1 << 18] + chance.randbytes(MARK_BYTES))
        sizes.append(len(big.columns) + len(big.body))
        await room.store.ingest.append(system_id, big, None)
        await room.fold(system_id)
    lease = await room.lease_of(system_id)
    hot = sum(sizes)
    assert (await room.stats(lease.partition))["hot"] == hot
    trimmed = await room.folding.trim([lease], hot - 1, pressed=False)
    assert (trimmed.entries, trimmed.bytes) == (1, sizes[0])
    trimmed = await room.folding.trim([lease], sizes[3], pressed=False)
    assert (trimmed.entries, trimmed.bytes) == (2, sizes[1] + sizes[2])
    assert (await room.stats(lease.partition))["hot"] == await bytes_of(room, system_id) == sizes[3]
    assert (await room.folding.trim([lease], 0, pressed=False)).entries == 1
    assert (await room.stats(lease.partition))["hot"] == 0


async def test_the_cap_takes_from_the_system_with_the_oldest_entries_first(room: Room) -> None:
    ids = await room.systems_of(1, 2)
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
        await room.fold(system_id)
        [entry] = await room.store.reads.entries(system_id, None, 1)

        async def passed(at_ms: int = entry.at_ms) -> bool:
            return await room.now_ms() > at_ms + 1

        await eventually(passed, "the clock goes on")
    [lease] = await room.hold(1)
    trimmed = await room.folding.trim([lease], SIZE, pressed=False)
    assert (trimmed.entries, [await length(room, system_id) for system_id in ids]) == (1, [0, 1])


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_trimming_never_passes_the_cursor(room: Room, most: int) -> None:
    system_id = await filled(room, folded=0, waiting=5)
    await room.fold(system_id, most=most)
    lease = await room.lease_of(system_id)
    trimmed = await room.folding.trim([lease], 0, pressed=True)
    assert (trimmed.entries, await length(room, system_id)) == (most, 5 - most)
    assert (await room.folding.trim([lease], 0, pressed=True)).entries == 0
    await room.fold(system_id)
    assert (await room.health(system_id))["total"] == 25
    assert (await room.stats(lease.partition))["hot"] == (5 - most) * SIZE


async def test_the_running_sum_of_hot_bytes_is_exact_through_folds_trims_and_deletes(room: Room) -> None:
    own = Room(room.server, Settings(hot_seconds=0, archive="off"))
    shared = await own.systems_of(3, 2)
    for system_id in shared * 4:
        await own.store.ingest.append(system_id, batch(5), None)
    [lease] = await own.hold(3)

    async def sums_hold() -> bool:
        readable = 0
        for system_id in shared:
            cursor = (await own.folding.load([system_id])).get(system_id)
            if not isinstance(cursor, Stored) or not cursor.position.cursor:
                continue
            found = await own.server.one(("XRANGE", keys.stream(system_id), "-", cursor.position.cursor))
            readable += sum(len(fields[b"c"]) + len(fields[b"b"]) for _, fields in found)
        return (await own.stats(lease.partition)).get("hot", 0) == readable

    await own.fold(shared[0], most=2)
    assert await sums_hold()
    await own.fold(shared[1])
    assert await sums_hold()
    await own.folding.trim([lease], NO_CAP, pressed=False)
    assert await sums_hold()
    await own.fold(shared[0])
    assert await sums_hold()
    await own.store.registry.delete(shared[0])
    assert await sums_hold()
    await own.folding.trim([lease], NO_CAP, pressed=False)
    assert (await own.stats(lease.partition))["hot"] == 0


async def test_a_trim_of_many_systems_goes_on_in_steps(room: Room, connect: Callable[[], Server]) -> None:
    own = Room(room.server, Settings(hot_seconds=0, archive="off"))
    system_ids = [(await own.system(f"s{at}")).system_id for at in range(70)]
    for system_id in system_ids:
        await own.store.ingest.append(system_id, batch(1), None)
        await own.fold(system_id)
    leases = await own.hold(*range(32))
    entries, more = 0, True
    while more:
        trimmed = await Folding(connect(), own.settings).trim(leases, NO_CAP, pressed=False)
        entries, more = entries + trimmed.entries, trimmed.more
    assert entries == 70


@pytest.mark.parametrize(
    "spoil",
    [
        lambda one: [("SET", keys.state(one), "x")],
        lambda one: [("HSET", keys.state(one), "c", "nonsense", "a", "1", "b", "9")],
        lambda one: [("HSET", keys.state(one), "a", "yesterday", "c", "1-1", "b", "9")],
        lambda one: [("RPUSH", keys.marks(one), "no mark"), ("HSET", keys.state(one), "b", "9", "c", "1-1", "a", "1")],
        lambda one: [("SET", keys.marks(one), "x"), ("HSET", keys.state(one), "b", "9", "c", "1-1", "a", "1")],
        lambda one: [("SET", keys.stream(one), "x"), ("HSET", keys.state(one), "b", "9", "c", "1-1", "a", "1")],
    ],
    ids=["state", "cursor", "arrival", "mark", "marks", "stream"],
)
async def test_a_key_gone_bad_does_not_end_the_trimming_of_neighbours(
    room: Room, spoil: Callable[[int], list[tuple[str, ...]]]
) -> None:
    bad, good = await room.systems_of(3, 2)
    await room.store.ingest.append(good, batch(5), None)
    await room.fold(good)
    await room.server.run(*spoil(bad), ("ZADD", keys.hot(3), 0, bad))
    trimmed = await room.folding.trim(await room.hold(3), NO_CAP, pressed=True)
    assert (trimmed.entries, trimmed.bytes, trimmed.more) == (1, SIZE, False)
    assert await length(room, good) == 0
    assert await room.server.one(("EXISTS", keys.hot(3))) == 0
