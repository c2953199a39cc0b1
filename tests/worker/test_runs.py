"""Runs on a real server: what a worker reads beside the columns, what a commit keeps, and who is woken by a deadline."""

import random
from typing import Any

import msgspec
import pytest

from lso_core.compute import runs
from lso_core.compute.runs import SETTLED_MS, Run
from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.rebuilds import Progress
from lso_core.model.runs import RunState
from lso_core.model.systems import SystemPatch
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.runs import RunWrites
from tests.store.rooms import Room, batch_of
from tests.worker.crew import Crew, fold_all
from tests.worker.test_rebuilding import rebuild
from worker.run_reading import LOOK_BACK


def of_run(kind: str, run_id: str = "r", ms: int | None = None, at_ms: int = 0, **more: Any) -> Event:
    status = more.pop("status", "error" if kind == "failure" else "ok")
    return Event(
        kind, status, more.pop("latency_ms", None), None if ms is None else times.to_text(at_ms + ms), run_id, **more
    )


async def send(room: Room, system_id: int, *events: Event) -> None:
    await room.store.ingest.append(system_id, batch_of(events), None)


async def known(room: Room, system_id: int) -> dict[str, Run]:
    """All runs by id, as readers find them."""
    ids = [run_id for run_id, _ in await room.store.runs.starts(system_id, None, None)]
    found = (await room.store.runs.get(system_id, ids)).runs
    assert None not in found
    return {run.run_id: run for run in (runs.decode_run(raw) for raw in found if raw is not None)}


async def settled(room: Room, system_id: int) -> set[str]:
    return {one.decode() for one in await room.server.one(("HKEYS", keys.runs(system_id)))}


async def test_what_came_before_a_run_was_known_is_looked_up(room: Room, crew: Crew) -> None:
    folder, system_id, now = await crew.alone(), (await room.system()).system_id, await room.now_ms()
    await send(room, system_id, of_run("success", ms=-9_000, at_ms=now, stage="a", latency_ms=5.0, payload={"rows": 3}))
    await fold_all(folder)
    assert await known(room, system_id) == {}
    for _ in range(LOOK_BACK - 1):
        await send(room, system_id, of_run("log", "other"))
    await fold_all(folder)
    await send(room, system_id, of_run("end", ms=-1_000, at_ms=now))
    await fold_all(folder)
    run = (await known(room, system_id))["r"]
    assert (run.state, run.started_ms, run.stages["a"].sums[0]) == (RunState.SUCCESS, now - 9_005, 3)


async def test_a_worker_that_knows_nothing_goes_on_with_runs_under_way(room: Room, crew: Crew) -> None:
    system_id, now = (await room.system()).system_id, await room.now_ms()
    story = [
        of_run("start", ms=-9_000, at_ms=now),
        of_run("success", ms=-8_000, at_ms=now, stage="a", latency_ms=5.0, payload={"rows": 3}),
        of_run("failure", ms=-7_000, at_ms=now, stage="b", latency_ms=5.0, payload={"error": "full"}),
        of_run("end", ms=-6_000, at_ms=now),
    ]
    for turn, one in enumerate((*story, *story)):  # each comes twice
        folder = await crew.alone(f"w{turn}")
        await send(room, system_id, one)
        await fold_all(folder)
        await folder.leave()
    run = (await known(room, system_id))["r"]
    assert (run.state, run.attempts, run.duration_us) == (RunState.SUCCESS, 1, 3_000_000)
    assert [run.stages[name].events for name in ("", "a", "b")] == [2, 1, 1]
    assert (run.stages["a"].sums[0], run.error) == (3, (now - 7_000, "full"))


async def test_a_deadline_wakes_a_system_that_nothing_comes_for(room: Room, crew: Crew) -> None:
    folder = await crew.alone()
    system_id = (await room.system(max_runtime_seconds=3_600)).system_id
    now = await room.now_ms()
    await send(room, system_id, of_run("start", ms=-3_599_000, at_ms=now))  # late: its window holds one late event
    await fold_all(folder)
    due = float(await room.server.one(("ZSCORE", keys.due(partition_of(system_id)), system_id)))
    assert due == now + 1_000
    await room.server.one(("ZREM", keys.due(partition_of(system_id)), system_id))
    assert await room.folding.sweep(partition_of(system_id)) == 1  # put back where it was forgotten
    assert (await known(room, system_id))["r"].state is RunState.RUNNING
    await room.store.registry.patch(system_id, SystemPatch(max_runtime_seconds=60))
    await fold_all(folder)
    assert (await known(room, system_id))["r"].state is RunState.TIMED_OUT
    health = await room.health(system_id)
    assert (health["health"], health["reason"][:35]) == ("DEGRADED", "run r has not ended within 60 s; it")


async def test_a_commit_that_is_refused_leaves_runs_as_they_were(room: Room) -> None:
    system_id = (await room.system()).system_id
    await send(room, system_id, of_run("start"))
    before = await room.prepare(system_id)
    assert [run[0] for run in before.runs.watched] == ["r"]
    stolen = msgspec.structs.replace(await room.lease_of(system_id), owner="somebody")
    [(outcome, _)] = await room.folding.commit([(stolen, before)])
    assert outcome.name == "FENCED"
    assert await room.server.one(("EXISTS", keys.watched_runs(system_id), keys.run_starts(system_id))) == 0
    lease = await room.lease_of(system_id)
    assert [(await room.folding.commit([(lease, before)]))[0][0].name for _ in range(2)] == ["DONE", "MOVED"]
    assert (await known(room, system_id)).keys() == {"r"}


def stored(run_id: str, start_ms: int) -> tuple[str, int, bytes]:
    """A run as a commit takes it, open and with a sign of life far from now."""
    return run_id, start_ms, runs.encode_run(Run(run_id, started_ms=start_ms, last_ms=10**13))


@pytest.mark.parametrize("settings", [Settings(runs_kept=3, runs_seconds=3_600)])
async def test_ended_runs_are_kept_up_to_a_number_and_an_age(room: Room) -> None:
    system_id, now = (await room.system()).system_id, await room.now_ms()
    lease = await room.lease_of(system_id)

    async def commit(wanted: RunWrites) -> set[str]:
        prepared = msgspec.structs.replace(await room.prepare(system_id), runs=wanted)
        assert [one.name for one, _ in await room.folding.commit([(lease, prepared)])] == ["DONE"]
        assert (await known(room, system_id)).keys() == await settled(room, system_id) | {
            one.decode() for one in await room.server.one(("HKEYS", keys.watched_runs(system_id)))
        }
        return await settled(room, system_id)

    await commit(RunWrites(watched=[stored("open", now - 1_000_000), stored("old", 5)]))
    assert await commit(RunWrites(settled=[stored("a", now), stored("b", now + 1)])) == {"a", "b"}
    assert await commit(RunWrites(settled=[stored(one, now + 10) for one in "cde"])) == {"c", "d", "e"}
    assert await commit(RunWrites(settled=[stored("older", now - 5_000_000)])) == {"c", "d", "e"}
    assert await commit(RunWrites(watched=[stored("c", now + 10)])) == {"d", "e"}
    assert await commit(RunWrites(settled=[stored("old", 5)])) == {"d", "e"}  # too old as soon as it settles


async def test_runs_settle_and_are_found_again(room: Room, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    monkeypatch.setattr(runs, "SETTLED_MS", -1)
    await send(room, system_id, of_run("start"), of_run("end"))
    await fold_all(folder)
    await send(room, system_id, of_run("log", "x"))
    await fold_all(folder)
    assert await settled(room, system_id) == {"r"}
    monkeypatch.setattr(runs, "SETTLED_MS", SETTLED_MS)
    await send(room, system_id, of_run("start"))
    await fold_all(folder)
    assert await settled(room, system_id) == set()
    run = (await known(room, system_id))["r"]
    assert (run.attempts, run.state, run.stages[""].events) == (2, RunState.RUNNING, 3)
    tally = (await room.store.runs.get(system_id, [])).tally
    assert tally is not None
    assert runs.decode_tally(tally).cells.sum() == 0


async def test_a_rebuild_leaves_runs_and_drops_what_cannot_be_read_of_them(room: Room, crew: Crew) -> None:
    folder = await crew.alone()
    system_id = (await room.system(max_runtime_seconds=60)).system_id
    now = await room.now_ms()
    await send(
        room, system_id, *(of_run("start", one, -90_000, at_ms=now) for one in "abc"), of_run("success", latency_ms=1.0)
    )
    await fold_all(folder)
    before = await known(room, system_id)
    outcome = await rebuild(room, folder, system_id)
    assert (outcome.progress, outcome.different) == (Progress.DONE, 0)
    assert await known(room, system_id) == before
    await room.server.one(("HSET", keys.watched_runs(system_id), "b", b"\x01nonsense"))
    folder._cache.drop(system_id)
    await send(room, system_id, of_run("log"))
    assert (await fold_all(folder)).parked == 1
    assert (await rebuild(room, folder, system_id)).progress is Progress.DONE
    await fold_all(folder)
    assert (await known(room, system_id)).keys() == {"a", "c", "r"}
    assert (await room.health(system_id))["reason"].startswith("run a has not ended within 60 s")


@pytest.mark.parametrize("kind", [keys.watched_runs, keys.runs, keys.run_starts])
async def test_a_key_of_runs_gone_bad_is_mended_by_a_rebuild(room: Room, crew: Crew, kind: Any) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await room.server.one(("SET", kind(system_id), "nonsense"))
    await send(room, system_id, of_run("start"), of_run("success", "s", latency_ms=1.0))
    assert (await fold_all(folder)).parked == 1
    assert (await rebuild(room, folder, system_id)).progress is Progress.DONE
    await folder.tend()
    await room.server.one(("ZADD", keys.parked(partition_of(system_id)), "XX", 0, system_id))
    await folder.keep_house()
    await fold_all(folder)
    assert (await room.health(system_id))["total"] == 1


async def test_a_deleted_system_leaves_no_runs_behind(room: Room, crew: Crew) -> None:
    folder, system_id = await crew.alone(), (await room.system()).system_id
    await send(room, system_id, *(of_run("start", f"r{at}") for at in range(20)))
    await fold_all(folder)
    assert len(await known(room, system_id)) == 20
    await room.store.registry.delete(system_id)
    await fold_all(folder)
    assert await room.keys_of(system_id) == []


async def test_random_histories_over_several_workers_end_as_one_look_at_all_events(room: Room, crew: Crew) -> None:
    dice, now = random.Random(11), await room.now_ms()
    ids = [f"r{at}" for at in range(6)]
    events = [
        of_run(
            dice.choice(["start", "end", "success", "failure", "heartbeat"]),
            dice.choice(ids),
            -dice.randrange(50_000),
            at_ms=now,
            stage=dice.choice([None, "a", "b"]),
            latency_ms=float(at),
            payload={"rows": at, "error": f"e{at}"},
        )
        for at in range(120)
    ]
    at_once, in_pieces = [(await room.system(name)).system_id for name in ("at once", "in pieces")]
    folder = await crew.alone("one")
    await send(room, at_once, *events)
    await fold_all(folder)
    await folder.leave()
    mixed = [*events, *dice.choices(events, k=30)]
    dice.shuffle(mixed)
    turn = 0
    while mixed:
        folder = await crew.alone(f"turn {(turn := turn + 1)}")
        for _ in range(dice.randrange(1, 4)):
            size = dice.randrange(1, 9)
            if mixed[:size]:
                await send(room, in_pieces, *mixed[:size])
            mixed = mixed[size:]
            if dice.random() < 0.6:
                await fold_all(folder)
        await folder.leave()
    folder = await crew.alone("last")
    await fold_all(folder)
    shown = [
        {
            run_id: (r.state, r.attempts, r.starts, r.ends, r.stages, r.error)
            for run_id, r in (await known(room, one)).items()
        }
        for one in (at_once, in_pieces)
    ]
    assert shown[0].keys() == set(ids)
    assert shown[0] == shown[1]
