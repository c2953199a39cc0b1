"""The registry: unique names, ids never used twice, and nothing half-done left behind."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from lso_core.model.batches import Reject
from lso_core.model.errors import ConflictError, Finding, InputError, NotFoundError
from lso_core.model.health import Level, Thresholds
from lso_core.model.systems import SystemPatch, SystemSpec
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.folding import Outcome
from lso_core.store.registry import TAKEN_OVER_MS, Record, _install
from lso_core.store.server import Call, Server
from tests.store.rooms import Room, batch


async def reserve(room: Room, spec: SystemSpec, taken_over_ms: int = TAKEN_OVER_MS) -> list[object]:
    """Only the first step of creating a system, as a process that is killed right after it leaves it."""
    spec = msgspec.structs.replace(spec, window_seconds=spec.window_seconds or 300)
    where = (keys.NAMES, keys.RECORDS, keys.LAST_ID, keys.PENDING)
    found: list[object] = await room.server.one(
        Call("reserve", where, (spec.name, msgspec.json.encode(spec), taken_over_ms))
    )
    return found


async def age_record(room: Room, system_id: int, by_ms: int) -> None:
    """Make a record as old as if it had been reserved that much earlier."""
    record = Record.parse(await room.server.one(("HGET", keys.RECORDS, system_id)))
    raw = b"%s %d %d %s" % (
        record.status.encode(),
        record.created_ms - by_ms,
        record.revision,
        msgspec.json.encode(record.spec),
    )
    await room.server.one(("HSET", keys.RECORDS, system_id, raw))


async def names(room: Room, limit: int = 100) -> list[str]:
    return [system.name for system in (await room.store.registry.list(None, limit)).items]


# -- create and read -------------------------------------------------------------------------------------------


async def test_a_created_system_can_be_read_by_id_and_name(room: Room) -> None:
    spec = SystemSpec(name="wéather", description="hourly", tags=("etl", "prod"), window_seconds=600)
    system = await room.store.registry.create(spec)
    assert (system.name, system.description, system.tags, system.window_seconds, system.thresholds) == (
        "wéather",
        "hourly",
        ("etl", "prod"),
        600,
        Thresholds(),
    )
    assert await room.store.registry.get(system.system_id) == system
    assert await room.store.registry.find("wéather") == system
    assert await room.store.registry.find("weather") is None


async def test_a_system_without_a_window_gets_the_servers_default(room: Room) -> None:
    own = Room(room.server, Settings(window_seconds=120))
    assert (await own.system()).window_seconds == 120


async def test_a_new_system_has_an_answer_at_once(room: Room) -> None:
    system = await room.system()
    await room.hold(partition_of(system.system_id))
    health = await room.health(system.system_id)
    assert (health["health"], health["since"], health["reason"]) == ("UNKNOWN", system.created_at, "no events yet")
    assert (await room.store.reads.fleet(None, 10)).counts["UNKNOWN"] == 1


async def test_a_name_is_taken_once_also_in_a_race(connect: Callable[[], Server], settings: Settings) -> None:
    rooms = [Room(connect(), settings) for _ in range(4)]
    found = await asyncio.gather(*(one.system("same") for one in rooms for _ in range(3)), return_exceptions=True)
    [system] = [one for one in found if not isinstance(one, BaseException)]
    conflicts = [one for one in found if isinstance(one, ConflictError)]
    assert (len(conflicts), {one.system_id for one in conflicts}) == (11, {system.system_id})


async def test_a_refused_spec_reserves_nothing(room: Room) -> None:
    with pytest.raises(InputError):
        await room.system("bad", thresholds=Thresholds(error_rate=Level(0.9, 0.1)))
    assert await room.all_keys() == []


async def test_ids_are_never_used_again(room: Room) -> None:
    seen = []
    for _ in range(4):
        system = await room.system()
        seen.append(system.system_id)
        await room.store.registry.delete(system.system_id)
    assert seen == [1, 2, 3, 4]
    assert (await room.system()).system_id == 5


@pytest.mark.parametrize("system_id", [0, 1, 99, 10**14])
async def test_a_system_that_there_is_not_is_not_found(room: Room, system_id: int) -> None:
    registry = room.store.registry
    for attempt in (
        registry.get(system_id),
        registry.require(system_id),
        registry.delete(system_id),
        registry.patch(system_id, SystemPatch(description="x")),
        room.store.reads.health(system_id),
        room.store.reads.metrics(system_id),
    ):
        with pytest.raises(NotFoundError):
            await attempt
    assert await room.all_keys() == []


# -- half-done creation ----------------------------------------------------------------------------------------


async def test_a_reservation_is_not_a_system_yet_but_holds_its_name(room: Room) -> None:
    await reserve(room, SystemSpec(name="half"))
    assert (await names(room), await room.store.registry.find("half")) == ([], None)
    with pytest.raises(NotFoundError):
        await room.store.registry.get(1)
    with pytest.raises(ConflictError):
        await room.system("half")


async def test_the_sweep_completes_a_reservation_that_is_old_enough(room: Room) -> None:
    await reserve(room, SystemSpec(name="half", window_seconds=120))
    now = await room.now_ms()
    assert await room.store.registry.finish_pending(now) == 0
    assert await room.store.registry.finish_pending(now + TAKEN_OVER_MS + 1_000) == 1
    system = await room.store.registry.get(1)
    assert (system.name, system.window_seconds, await names(room)) == ("half", 120, ["half"])
    await room.store.ingest.append(1, batch(3), None)
    assert await room.fold(1) is Outcome.DONE
    assert await room.store.registry.finish_pending(now + 10 * TAKEN_OVER_MS) == 0


async def test_a_repeated_post_takes_an_old_reservation_over(room: Room) -> None:
    await reserve(room, SystemSpec(name="half"))
    await age_record(room, 1, TAKEN_OVER_MS + 1_000)
    assert (await room.system("half")).system_id == 1
    assert await names(room) == ["half"]


async def test_a_reservation_taken_over_after_the_second_step_follows_the_new_post(room: Room) -> None:
    """The first process ended between installing and publishing; its successor asked for another window."""
    [_, _, created, _] = await reserve(room, SystemSpec(name="half", window_seconds=60))
    assert isinstance(created, int)
    record = Record(b"", "C", created, 1, SystemSpec(name="half", window_seconds=60))
    await room.server.one(_install(record.system(1), record))
    await age_record(room, 1, TAKEN_OVER_MS + 1_000)
    system = await room.system("half", window_seconds=600)
    assert (system.system_id, system.window_seconds) == (1, 600)
    assert await room.fold(1) is Outcome.DONE
    assert (await room.health(1))["window_seconds"] == 600


async def test_a_creation_that_resumes_after_its_system_was_deleted_leaves_nothing(room: Room) -> None:
    [_, _, created, _] = await reserve(room, SystemSpec(name="half"))
    assert isinstance(created, int)
    await room.store.registry.finish_pending(await room.now_ms() + TAKEN_OVER_MS + 1_000)
    await room.store.registry.delete(1)
    record = Record(b"", "C", created, 1, SystemSpec(name="half", window_seconds=300))
    with pytest.raises(NotFoundError):
        await room.store.registry._complete_creation(1, record)
    assert await room.keys_of(1) == []
    assert (await room.store.reads.fleet(None, 10)).lines == []


# -- list ------------------------------------------------------------------------------------------------------


async def test_pages_are_newest_first_and_complete(room: Room) -> None:
    for at in range(7):
        await room.system(f"s{at}")
    found, cursor = [], None
    for _ in range(4):
        page = await room.store.registry.list(cursor, 2)
        found.append([system.name for system in page.items])
        cursor = page.next
    assert (found, cursor) == ([["s6", "s5"], ["s4", "s3"], ["s2", "s1"], ["s0"]], None)


async def test_pages_are_stable_while_systems_come_and_go(room: Room) -> None:
    for at in range(6):
        await room.system(f"s{at}")
    first = await room.store.registry.list(None, 3)
    await room.system("new")
    await room.store.registry.delete(first.items[-1].system_id)
    await room.store.registry.delete(2)
    second = await room.store.registry.list(first.next, 3)
    assert [system.name for system in first.items] == ["s5", "s4", "s3"]
    assert ([system.name for system in second.items], second.next) == (["s2", "s0"], None)


async def test_a_full_last_page_has_no_next(room: Room) -> None:
    for at in range(4):
        await room.system(f"s{at}")
    page = await room.store.registry.list(None, 4)
    assert (len(page.items), page.next) == (4, None)
    empty = await room.store.registry.list("1", 4)
    assert (empty.items, empty.next) == ([], None)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "+inf", "1.5", "(5", "1e3", "9" * 16, "٣"])
async def test_a_cursor_that_is_none_is_refused(room: Room, cursor: str) -> None:
    with pytest.raises(InputError):
        await room.store.registry.list(cursor, 3)


# -- patch -----------------------------------------------------------------------------------------------------


async def test_a_rename_frees_the_old_name_and_takes_the_new(room: Room) -> None:
    system = await room.system("old")
    changed = await room.store.registry.patch(system.system_id, SystemPatch(name="new"))
    assert changed == msgspec.structs.replace(system, name="new")
    assert await room.store.registry.find("new") == changed
    assert await room.store.registry.find("old") is None
    assert (await room.system("old")).system_id != system.system_id


async def test_a_rename_to_a_taken_name_changes_nothing(room: Room) -> None:
    one, other = await room.system("one"), await room.system("other")
    before = await room.everything()
    with pytest.raises(ConflictError) as refusal:
        await room.store.registry.patch(one.system_id, SystemPatch(name="other", description="x"))
    assert refusal.value.system_id == other.system_id
    assert await room.everything() == before


async def test_a_refused_patch_changes_nothing(room: Room) -> None:
    system = await room.system()
    before = await room.everything()
    with pytest.raises(InputError):
        await room.store.registry.patch(system.system_id, SystemPatch(window_seconds=61))
    assert await room.everything() == before


async def test_a_changed_system_is_judged_anew_by_the_next_fold(room: Room) -> None:
    system = await room.system()
    await room.store.ingest.append(system.system_id, batch(100, errors=3), None)
    await room.fold(system.system_id)
    before = await room.health(system.system_id)
    strict = Thresholds(error_rate=Level(0.01, 0.02))
    await room.store.registry.patch(system.system_id, SystemPatch(name="n", window_seconds=600, thresholds=strict))
    due = await room.server.one(("ZSCORE", keys.due(partition_of(system.system_id)), system.system_id))
    assert float(due) == 0
    await room.fold(system.system_id)
    after = await room.health(system.system_id)
    assert (before["health"], before["window_seconds"]) == ("OK", 300)
    assert (after["health"], after["window_seconds"], after["total"]) == ("UNHEALTHY", 600, 100)
    [line] = (await room.store.reads.fleet(None, 10)).lines
    assert msgspec.json.decode(line)["name"] == "n"


async def test_patches_of_many_processes_all_arrive(connect: Callable[[], Server], settings: Settings) -> None:
    rooms = [Room(connect(), settings) for _ in range(3)]
    system = await rooms[0].system()
    patches = [
        SystemPatch(description="a description"),
        SystemPatch(tags=("x",)),
        SystemPatch(window_seconds=900),
    ]
    await asyncio.gather(
        *(room.store.registry.patch(system.system_id, patch) for room, patch in zip(rooms, patches, strict=True))
    )
    found = await rooms[0].store.registry.get(system.system_id)
    assert (found.description, found.tags, found.window_seconds) == ("a description", ("x",), 900)
    stored = await rooms[0].stored(system.system_id)
    assert stored.system == found


async def test_a_change_that_never_reached_the_partition_is_completed_by_the_sweep(room: Room) -> None:
    system = await room.system()
    record = Record.parse(await room.server.one(("HGET", keys.RECORDS, system.system_id)))
    spec = msgspec.structs.replace(record.spec, window_seconds=600)
    raw = b"L %d 2 %s" % (record.created_ms, msgspec.json.encode(spec))
    where = (keys.NAMES, keys.RECORDS, keys.PENDING)
    what = (system.system_id, record.raw, raw, record.spec.name, spec.name)
    assert await room.server.one(Call("amend", where, what)) == [b"ok"]
    assert (await room.stored(system.system_id)).system.window_seconds == 300
    now = await room.now_ms()
    assert await room.store.registry.finish_pending(now + TAKEN_OVER_MS + 2_000) == 1
    assert (await room.stored(system.system_id)).system.window_seconds == 600
    assert await room.server.one(("ZCARD", keys.PENDING)) == 0


# -- delete ----------------------------------------------------------------------------------------------------


async def busy(room: Room) -> int:
    """A system with every kind of key that there is."""
    system_id = (await room.system()).system_id
    rejects = (Reject(b"{}", Finding(0, "", "bad")),)
    for at in range(3):
        await room.store.ingest.append(system_id, batch(5, rejects=rejects, run_id=f"r{at}"), b"key %d" % at)
        await room.fold(system_id)
    await room.store.ingest.append(system_id, batch(5), b"unfolded")
    await room.server.one(("HSET", keys.runs(system_id), "settled", "run"))
    return system_id


async def test_a_busy_system_has_every_kind_of_key(room: Room) -> None:
    """Or the next test would not show much."""
    system_id = await busy(room)
    kinds = {key.split("}:")[1].split(":")[0] for key in await room.keys_of(system_id)}
    assert kinds == {
        "system",
        "stream",
        "state",
        "snapshot",
        "details",
        "marks",
        "dead",
        "keys",
        "watched-runs",
        "runs",
        "run-starts",
    }


async def test_delete_removes_every_key_of_the_system_and_no_other(room: Room) -> None:
    await room.system("other")
    before = await room.everything()
    system_id = await busy(room)
    await room.store.registry.delete(system_id)
    assert await room.keys_of(system_id) == []
    after = await room.everything()
    partition = partition_of(system_id)
    left = {key for key in after if key not in before}
    assert left == {keys.lease(partition), keys.watermark(partition), keys.stats(partition)}
    assert {key for key in before if after.get(key) != before[key]} == {keys.LAST_ID}
    stats = await room.stats(partition)
    assert (stats["events"], stats["entries"], stats["bytes"], stats["hot"]) == (0, 0, 0, 0)


async def test_a_deleted_system_is_gone_for_everyone(room: Room) -> None:
    system_id = await busy(room)
    await room.store.registry.delete(system_id)
    for attempt in (
        room.store.registry.get(system_id),
        room.store.registry.delete(system_id),
        room.store.registry.patch(system_id, SystemPatch(description="x")),
        room.store.reads.health(system_id),
        room.store.reads.metrics(system_id),
        room.store.ingest.append(system_id, batch(), b"key 0"),
    ):
        with pytest.raises(NotFoundError):
            await attempt
    assert await room.store.registry.find("weather") is None
    assert (await room.system()).name == "weather"
    assert await room.keys_of(system_id) == []


async def test_a_commit_that_races_a_delete_is_told_so_and_brings_nothing_back(room: Room) -> None:
    system_id = await busy(room)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    await room.store.registry.delete(system_id)
    before = await room.everything()
    assert await room.folding.commit([(lease, commit)]) == [(Outcome.GONE, 0)]
    assert await room.folding.park(lease, system_id, commit.summary.verdict, 5_000) is Outcome.GONE
    assert await room.everything() == before


async def test_many_appends_and_folds_beside_a_delete_leave_no_key(
    connect: Callable[[], Server], settings: Settings
) -> None:
    ingest, worker, owner = (Room(connect(), settings) for _ in range(3))
    system_id = await busy(owner)
    lease = await worker.lease_of(system_id)
    under_way = asyncio.Event()

    async def append_for_ever() -> None:
        at = 0
        while True:
            await ingest.store.ingest.append(system_id, batch(5), b"race %d" % at)
            at += 1
            if at == 20:
                under_way.set()

    async def fold_for_ever() -> None:
        while (await worker.folding.load([system_id])).get(system_id) is not None:
            try:
                commit = await worker.prepare(system_id)
            except KeyError:
                return
            await worker.folding.commit([(lease, commit)])
            await asyncio.sleep(0)  # fakeredis answers without letting anybody else have a turn

    async def delete_soon() -> None:
        await under_way.wait()
        await owner.store.registry.delete(system_id)

    async with asyncio.timeout(10):
        found = await asyncio.gather(append_for_ever(), fold_for_ever(), delete_soon(), return_exceptions=True)
    assert [type(one) for one in found] == [NotFoundError, type(None), type(None)]
    assert await owner.keys_of(system_id) == []
    partition = partition_of(system_id)
    for of in (keys.ready, keys.due, keys.hot, keys.parked, keys.fleet, keys.fleet_lines):
        assert await owner.server.one(("EXISTS", of(partition))) == 0
    stats = await owner.stats(partition)
    assert (stats["events"], stats["entries"], stats["bytes"], stats["hot"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_delete_that_was_cut_short_is_completed_by_the_sweep(room: Room, steps: int) -> None:
    from lso_core.store.registry import _uninstall

    system_id = await busy(room)
    record = Record.parse(await room.server.one(("HGET", keys.RECORDS, system_id)))
    assert await room.store.registry._retire(system_id, record, "mark")
    if steps == 2:
        await room.server.one(_uninstall(system_id, room.settings))
    with pytest.raises(NotFoundError):
        await room.store.registry.get(system_id)
    assert await names(room) == []
    assert await room.store.registry.finish_pending(await room.now_ms() + TAKEN_OVER_MS + 2_000) == 1
    assert await room.keys_of(system_id) == []
    assert (await room.system()).name == "weather"


async def test_a_registry_that_lost_its_latest_ids_gives_none_of_them_to_another_system(room: Room) -> None:
    """As after a failover of its server, which may lose a tail that the partitions' servers still have."""
    kept = await room.system("kept")
    lost = [await room.system(f"lost-{at}") for at in range(2)]
    for one in lost:
        await room.server.run(
            ("HDEL", keys.NAMES, one.name),
            ("HDEL", keys.RECORDS, one.system_id),
            ("ZREM", keys.IDS, one.system_id),
        )
    await room.server.one(("SET", keys.LAST_ID, kept.system_id))
    new = await room.system("new")
    assert new.system_id == lost[-1].system_id + 1
    assert (await room.health(new.system_id))["system_id"] == new.system_id
    again = await room.system("lost-0")
    assert again.system_id == new.system_id + 1
    assert [again.system_id, new.system_id, kept.system_id] == [
        one.system_id for one in (await room.store.registry.list(None, 10)).items
    ]
    assert await room.server.one(("ZCARD", keys.PENDING)) == 0


async def test_what_a_newer_release_adds_to_a_system_is_passed_over(room: Room) -> None:
    system = await room.system("weather")
    raw = await room.server.one(("HGET", keys.RECORDS, system.system_id))
    await room.server.one(("HSET", keys.RECORDS, system.system_id, raw.replace(b'{"name"', b'{"owner":"ops","name"')))
    assert await room.store.registry.get(system.system_id) == system
    assert (await room.store.registry.list(None, 10)).items == [system]
