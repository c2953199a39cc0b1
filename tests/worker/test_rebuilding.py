"""Rebuilds: they find no difference where there is none, mend what is broken, and say what they could not."""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from lso_core.compute import rollups
from lso_core.compute.state import STATE_FORMAT, decode_meta, encode_meta
from lso_core.model import times
from lso_core.model.errors import NotFoundError
from lso_core.model.events import Event
from lso_core.model.rebuilds import Progress, Rebuild
from lso_core.model.rollups import Piece, Width
from lso_core.model.systems import SystemPatch
from lso_core.model.windows import SLOT_MS, partition_of
from lso_core.store import keys, leases
from lso_core.store.folding import Lease
from tests.store.backends import Backend, running
from tests.store.rooms import Room, batch, batch_of, garbage_batch
from tests.waiting import eventually
from tests.worker.crew import Crew, fold_all
from worker import rebuilding
from worker.folding import Folder
from worker.rebuilding import Rebuilder


@pytest.fixture(scope="module", params=["valkey", "redis"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with running(request.param) as found:
        yield found


async def rebuild(room: Room, folder: Folder, system_id: int) -> Rebuild:
    """Ask, and turn the worker until it answers."""
    await room.store.rebuilds.ask(system_id)
    for _ in range(3):
        await Rebuilder(folder).once()
        found = await room.store.rebuilds.get(system_id)
        if found.progress is not Progress.PENDING:
            return found
        await folder.tend()
    raise AssertionError("the rebuild does not end")


async def window(room: Room, system_id: int) -> dict[str, Any]:
    """What is read of a system: figures and percentiles, without what moves with the clock or the judgement."""
    health = await room.health(system_id)
    metrics = json.loads((await room.store.reads.metrics(system_id)).body)
    return {name: health[name] for name in ("total", "errors", "p95_latency", "last_event_at", "last_ok_at")} | {
        name: metrics[name] for name in ("latency_ms", "stages", "event_types", "late", "clock_skewed")
    }


async def recorded(room: Room, system_id: int) -> list[Any]:
    """What history holds of a system, minute by minute."""
    found = (await room.store.history.read(system_id, [Piece(0, 10**13, Width.MINUTE)], 100_000)).rollups()
    return [(row.start_ms, row.stages, row.event_types, row.revised) for row in rollups.merge(found, Width.MINUTE)]


async def history(room: Room, folder: Folder, system_id: int, dice: random.Random) -> int:
    """Entries of every kind over the window and before it, folded in pieces; how many entries.

    None lies near the window's start, which may move on while the test runs.
    """
    entries = dice.randrange(1, 25)
    for _ in range(entries):
        now_ms = await room.now_ms()
        ages_ms = (
            lambda: dice.randrange(280_000),
            lambda: dice.randrange(320_000, 400_000),
            lambda: -dice.randrange(50_000),
        )
        times_ms = [dice.choice([None, now_ms - dice.choice(ages_ms)()]) for _ in range(60)]
        events = [
            Event(
                dice.choice(["success", "failure", "start", "log", f"t{dice.randrange(20)}"]),
                dice.choice(["ok", "ok", "error"]),
                round(dice.lognormvariate(3, 2), 3),
                ts=None if ts_ms is None else times.to_text(ts_ms),
                stage=dice.choice([None, f"s{dice.randrange(50)}"]),
            )
            for ts_ms in times_ms[: dice.randrange(1, 60)]
        ]
        latest = max((ts_ms for ts_ms in times_ms[: len(events)] if ts_ms is not None), default=None)
        if dice.random() < 0.1:
            await room.store.ingest.append(system_id, garbage_batch(b"nothing of the kind", 3), None)
            entries += 1
        await room.store.ingest.append(system_id, batch_of(events, latest_ts_ms=latest), None)
        if dice.random() < 0.5:
            await fold_all(folder)
    await fold_all(folder)
    return entries


@pytest.mark.parametrize("seed", range(12))
async def test_a_rebuild_of_a_sound_state_finds_no_difference(room: Room, crew: Crew, seed: int) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await history(room, folder, system_id, random.Random(seed))
    before, position = await window(room, system_id), (await room.stored(system_id)).position
    known = await recorded(room, system_id)
    outcome = await rebuild(room, folder, system_id)
    assert (outcome.progress, outcome.different, outcome.kept, outcome.lost) == (Progress.DONE, 0, 0, 0)
    assert outcome.replaced > 0
    after = (await room.stored(system_id)).position
    assert (after.cursor, after.events, after.entries) == (position.cursor, position.events, position.entries)
    assert await window(room, system_id) == before
    assert await recorded(room, system_id) == known


@pytest.mark.parametrize("seed", range(6))
async def test_a_window_that_was_thrown_away_comes_back_whole(room: Room, crew: Crew, seed: int) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await history(room, folder, system_id, random.Random(seed))
    before, known = await window(room, system_id), await recorded(room, system_id)
    await room.server.one(("DEL", keys.state(system_id)))
    await room.server.one(("SET", keys.state(system_id), "not a hash"))
    outcome = await rebuild(room, folder, system_id)
    assert (outcome.progress, outcome.kept, outcome.lost) == (Progress.DONE, 0, 0)
    assert outcome.different == outcome.replaced > 0
    assert await window(room, system_id) == before
    assert await recorded(room, system_id) == known
    await room.store.ingest.append(system_id, batch(7), None)
    await fold_all(folder)
    assert (await window(room, system_id))["total"] == before["total"] + 7


@pytest.mark.parametrize("lost", ["meta", "state"])
async def test_history_goes_on_where_it_was_after_a_state_was_lost(room: Room, crew: Crew, lost: str) -> None:
    """No row is written again, and no number is given twice."""
    folder, system_id = await crew.alone(), (await room.system()).system_id
    long_ago = times.to_text(await room.now_ms() - 3_600_000)

    async def send() -> None:
        await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 1.0), late, late]), None)
        await fold_all(folder)

    late = Event("success", "ok", 1.0, ts=long_ago)
    await send()
    await send()
    if lost == "meta":
        await room.server.one(("HSET", keys.state(system_id), "m", b"garbage"))
    else:
        await room.server.run(("DEL", keys.state(system_id)), ("SET", keys.state(system_id), "garbage"))
    folder._cache.drop(system_id)
    await rebuild(room, folder, system_id)
    await send()
    members = await room.server.one(("ZRANGE", keys.rows(system_id), 0, -1))
    numbers = [int.from_bytes(member[:8], "big") for member in members]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert sum(stages[""].total for _, stages, _, _ in await recorded(room, system_id)) == 9


GARBAGE = {
    "state of another type": None,
    "cursor": ("c", b"nonsense"),
    "cursor in no encoding": ("c", b"\xff\xfe"),
    "events": ("n", b"many"),
    "arrival": ("a", b"yesterday"),
    "meta": ("m", b"garbage"),
    "empty meta": ("m", b""),
    "slot": ("slot", b"\x01garbage"),
    "field that is no slot": ("sponge", b"x"),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_unknown_with_a_reason_until_it_is_rebuilt(room: Room, crew: Crew, kind: str) -> None:
    ids = await room.systems_of(7, 3)
    bad, folder = ids[0], await crew.alone("before")
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(5), None)
        await room.store.ingest.append(system_id, batch(4, errors=2), None)
    await fold_all(folder)
    await folder.leave()
    where = keys.state(bad)
    if (garbage := GARBAGE[kind]) is None:
        await room.server.run(("DEL", where), ("SET", where, "garbage"))
    else:
        stored = await room.server.one(("HGETALL", where))
        name = next(f for f in stored if f.startswith(b"s")) if garbage[0] == "slot" else garbage[0]
        await room.server.one(("HSET", where, name, garbage[1]))
    folder = await crew.alone("after")
    for system_id in ids[1:]:
        await room.store.ingest.append(system_id, batch(1), None)
    await room.server.one(("ZADD", keys.due(7), 0, bad))
    report = await fold_all(folder)
    health = await room.health(bad)
    assert (report.parked, health["health"]) == (1, "UNKNOWN")
    assert "cannot be read" in health["reason"]
    assert (await rebuild(room, folder, bad)).progress is Progress.DONE
    await fold_all(folder)
    assert [(await room.health(one))["total"] for one in ids] == [9, 10, 10]
    assert [(await room.health(one))["errors"] for one in ids] == [2, 2, 2]
    stats = await room.stats(7)
    assert (stats["events"], stats["entries"], stats["bytes"]) == (0, 0, 0)
    assert stats["hot"] == sum([(await room.stored(one)).position.bytes for one in ids])


async def test_a_slot_of_which_events_were_trimmed_is_kept(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    old = times.to_text(await room.now_ms() - 4 * SLOT_MS)
    for _ in range(3):
        await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 5.0, ts=old)]), None)
    await room.store.ingest.append(system_id, batch(2), None)
    await fold_all(folder)
    first, second = (await room.server.one(("XRANGE", keys.stream(system_id), "-", "+", "COUNT", 2)))[:2]
    await room.server.one(("XTRIM", keys.stream(system_id), "MINID", second[0]))
    assert first[0] != second[0]
    before = await window(room, system_id)
    outcome = await rebuild(room, folder, system_id)
    assert outcome.progress is Progress.DONE
    assert (outcome.kept >= 1, outcome.different, outcome.lost) == (True, 0, 0)
    assert await window(room, system_id) == before


async def test_a_longer_window_is_filled_from_what_is_still_there(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system(window_seconds=60)).system_id
    old = times.to_text(await room.now_ms() - 200_000)
    await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 5.0, ts=old)] * 3), None)
    await room.store.ingest.append(system_id, batch(2), None)
    await fold_all(folder)
    await room.store.registry.patch(system_id, SystemPatch(window_seconds=300))
    await fold_all(folder)
    assert (await room.health(system_id))["total"] == 2
    assert (await rebuild(room, folder, system_id)).different > 0
    assert (await room.health(system_id))["total"] == 5


async def test_what_a_newer_release_wrote_is_not_broken(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(folder)
    newer = bytes((STATE_FORMAT + 1,)) + b"\x90"
    await room.server.one(("HSET", keys.state(system_id), "m", newer))
    outcome = await rebuild(room, folder, system_id)
    assert (outcome.progress, outcome.reason) == (Progress.FAILED, "state format 3; this release reads up to 2")
    assert await room.server.one(("HGET", keys.state(system_id), "m")) == newer


async def test_marks_gone_bad_are_thrown_away(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(folder)
    await room.server.run(("DEL", keys.marks(system_id)), ("SET", keys.marks(system_id), "garbage"))
    assert (await rebuild(room, folder, system_id)).progress is Progress.DONE
    assert await room.server.one(("EXISTS", keys.marks(system_id))) == 0


async def test_a_stream_gone_bad_is_said(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(folder)
    await room.server.run(("DEL", keys.stream(system_id)), ("SET", keys.stream(system_id), "garbage"))
    outcome = await rebuild(room, folder, system_id)
    assert outcome.progress is Progress.FAILED
    assert outcome.reason


async def test_a_system_that_is_gone_leaves_nothing_behind(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.rebuilds.ask(system_id)
    await room.store.registry.delete(system_id)
    assert await Rebuilder(folder).once() == 0
    await room.store.rebuilds.end(Rebuild(system_id, Progress.DONE))  # of one that was done before it was gone
    with pytest.raises(NotFoundError, match="no rebuild"):
        await room.store.rebuilds.get(system_id)
    with pytest.raises(NotFoundError, match="no system"):
        await room.store.rebuilds.ask(system_id)
    assert await room.server.one(("EXISTS", keys.rebuilds(partition_of(system_id)))) == 0


async def test_only_the_holder_of_the_lease_rebuilds(room: Room, crew: Crew) -> None:
    holder, other = await crew.alone("holder"), crew.worker("other")
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    await fold_all(holder)
    await room.store.rebuilds.ask(system_id)
    assert await Rebuilder(other).once() == 0
    other._leases.update(holder.held())  # believes so, and is fenced
    other._leases = {p: type(one)(p, "other", one.epoch) for p, one in other._leases.items()}
    assert await Rebuilder(other).once() == 0
    assert await Rebuilder(holder).once() == 1


# -- while others go on ------------------------------------------------------------------------------------------


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are read one by one, and every system takes long."""
    monkeypatch.setattr(rebuilding, "READ_BYTES", 1)
    monkeypatch.setattr(rebuilding, "LONG_S", 0.0)


async def long_stream(room: Room, folder: Folder, system_id: int, entries: int = 200) -> None:
    for _ in range(entries):
        await room.store.ingest.append(system_id, batch(2), None)
    await fold_all(folder)


async def under_way(room: Room, folder: Folder, system_id: int) -> "asyncio.Task[int]":
    """A rebuild that has begun: the system is set aside for it."""
    await room.store.rebuilds.ask(system_id)
    task = asyncio.create_task(Rebuilder(folder).once())

    async def begun() -> bool:
        return await room.server.one(("ZSCORE", keys.parked(partition_of(system_id)), system_id)) is not None

    await eventually(begun, "the rebuild is under way")
    return task


@pytest.mark.usefixtures("in_small_pieces")
async def test_neighbours_are_folded_and_current_during_a_long_rebuild(room: Room, crew: Crew) -> None:
    ids, folder = await room.systems_of(7, 3), await crew.alone()
    await long_stream(room, folder, ids[0])
    task = await under_way(room, folder, ids[0])
    for system_id in ids:
        await room.store.ingest.append(system_id, batch(3), None)
    await fold_all(folder)
    await folder.tend()
    assert not task.done()
    assert [(await room.health(one))["total"] for one in ids] == [400, 3, 3]
    assert [(await room.health(one))["health"] for one in ids] == ["UNKNOWN", "OK", "OK"]
    assert "computed again" in (await room.health(ids[0]))["reason"]
    watermark, now_ms = int(await room.server.one(("GET", keys.watermark(7)))), await room.now_ms()
    assert now_ms - watermark < 1_000
    assert await task == 1
    outcome = await room.store.rebuilds.get(ids[0])
    assert (outcome.progress, outcome.different) == (Progress.DONE, 0)
    await fold_all(folder)
    assert ((await room.health(ids[0]))["total"], (await room.health(ids[0]))["health"]) == (403, "OK")


@pytest.mark.usefixtures("in_small_pieces")
async def test_entries_that_are_trimmed_during_a_rebuild_are_not_missed(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await long_stream(room, folder, system_id)
    before = await window(room, system_id)
    task = await under_way(room, folder, system_id)
    await room.folding.trim(list(folder.held().values()), 0, pressed=True)
    assert not task.done()
    assert await task == 1
    outcome = await room.store.rebuilds.get(system_id)
    assert (outcome.progress, outcome.different, outcome.lost) == (Progress.DONE, 0, 0)
    assert outcome.kept > 0
    await fold_all(folder)
    assert await window(room, system_id) == before


@pytest.mark.usefixtures("in_small_pieces")
async def test_a_rebuild_whose_lease_goes_is_done_by_whoever_has_it_then(room: Room, crew: Crew) -> None:
    holder, next_one = await crew.alone("holder"), crew.worker("next")
    system_id = (await room.system()).system_id
    await long_stream(room, holder, system_id)
    before = await window(room, system_id)
    task = await under_way(room, holder, system_id)
    await leases.release(room.server, "holder", set(holder.held()))
    taken = await leases.tend(room.server, "next", set(), set(holder.held()))
    assert len(taken) == len(holder.held())
    with_token = (await room.stored(system_id)).position
    assert await task == 0
    assert (await room.stored(system_id)).position == with_token
    assert (await room.store.rebuilds.get(system_id)).progress is Progress.PENDING
    next_one._leases = {one.partition: Lease(one.partition, "next", one.epoch) for one in taken}
    assert await Rebuilder(next_one).once() == 1
    assert (await room.store.rebuilds.get(system_id)).different == 0
    assert await window(room, system_id) == before


async def test_a_fold_under_way_when_a_rebuild_begins_costs_it_one_more_try(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    for turn in range(10):
        await room.store.ingest.append(system_id, batch(5), None)
        await room.store.rebuilds.ask(system_id)
        await asyncio.gather(folder.fold_once(), Rebuilder(folder).once())
        await fold_all(folder)
        assert (await room.store.rebuilds.get(system_id)).progress is Progress.DONE
        assert (await room.health(system_id))["total"] == 5 * (turn + 1)


async def test_a_system_without_events_stays_as_it_was(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    assert await rebuild(room, folder, system_id) == Rebuild(system_id, Progress.DONE)
    assert (await room.health(system_id))["as_of"] >= (await room.store.registry.get(system_id)).created_at


@pytest.mark.parametrize("trimmed", [False, True])
async def test_numbers_without_a_name_are_computed_again_or_given_up(room: Room, crew: Crew, trimmed: bool) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 5.0, stage="load")]), None)
    await fold_all(folder)
    before, stored = await window(room, system_id), await room.stored(system_id)
    assert stored.meta is not None
    nameless = msgspec.structs.replace(decode_meta(stored.meta), event_types=(), stages=())
    await room.server.one(("HSET", keys.state(system_id), "m", encode_meta(nameless)))
    if trimmed:
        await room.folding.trim(list(folder.held().values()), 0, pressed=True)
    outcome = await rebuild(room, folder, system_id)
    assert (outcome.progress, outcome.replaced, outcome.lost) == (Progress.DONE, 1 - trimmed, trimmed)
    after = await window(room, system_id)
    assert after["total"] == 1 - trimmed
    assert trimmed or after == before
