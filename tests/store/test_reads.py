"""Reading: one round trip for health, the fleet worst first, and what is said when the observer is behind."""

import asyncio
import json
from collections.abc import Callable

import pytest

from lso_core.model import times
from lso_core.model.batches import Backlog
from lso_core.model.errors import InputError
from lso_core.model.health import Health
from lso_core.model.snapshots import Verdict
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys, leases
from lso_core.store import server as server_room
from lso_core.store.leases import Worker
from lso_core.store.reads import desired_workers
from lso_core.store.server import Server
from tests.store.backends import NO_INFO, Backend
from tests.store.rooms import Room, batch

STATES = ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"]


async def fleet_of(room: Room, healths: list[str]) -> dict[int, str]:
    """Systems that are in these states, one partition after the other."""
    found = {}
    for at, health in enumerate(healths):
        system_id = (await room.system(f"s{at}")).system_id
        errors = {"UNHEALTHY": 10, "DEGRADED": 2, "OK": 0}.get(health)
        if errors is not None:
            await room.store.ingest.append(system_id, batch(20, errors=errors), None)
            await room.fold(system_id)
        found[system_id] = health
    return found


async def pages(room: Room, limit: int) -> list[tuple[str, int]]:
    """(health, system) of all lines, page by page."""
    found: list[tuple[str, int]] = []
    cursor = None
    for _ in range(100):
        page = await room.store.reads.fleet(cursor, limit)
        assert len(page.lines) <= limit
        lines = [json.loads(line) for line in page.lines]
        found += [(line["health"], line["system_id"]) for line in lines]
        cursor = page.next
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


def worst_first(states: dict[int, str]) -> list[tuple[str, int]]:
    return sorted(((health, one) for one, health in states.items()), key=lambda pair: (STATES.index(pair[0]), pair[1]))


async def test_reads_that_come_during_a_round_trip_share_the_next(
    room: Room, backend: Backend, connect: Callable[[], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.needs_a_real_server("fakeredis cannot be paused")
    backend.needs_one_server("on a cluster it is one to each server")
    monkeypatch.setattr(server_room, "TOGETHER_S", 60.0)
    ids = [(await room.system(f"s{at}")).system_id for at in range(5)]
    before = room.server.round_trips
    await connect().one(("CLIENT", "PAUSE", 300, "ALL"))
    reads = []
    for one in ids * 2:
        reads.append(asyncio.create_task(room.store.reads.health(one)))
        await asyncio.sleep(0.005)  # a turn of its own, in the middle of the first one's trip
    answers = await asyncio.gather(*reads)
    assert ids * 2 == [json.loads(answer.body)["system_id"] for answer in answers]
    assert room.server.round_trips == before + 2


async def test_a_read_sees_what_was_written_before_it_whoever_else_reads(
    room: Room, connect: Callable[[], Server]
) -> None:
    key, other = keys.watermark(3), connect()
    seen: list[int] = []

    async def read_for_ever() -> None:
        while True:
            _, (value,) = await room.server.get_soon((key,))
            seen.append(int(value or 0))
            await asyncio.sleep(0)

    beside = [asyncio.create_task(read_for_ever()) for _ in range(5)]
    for number in range(1, 101):
        await other.run(("SET", key, number))
        _, (value,) = await room.server.get_soon((key,))
        assert value == b"%d" % number
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    assert seen == sorted(seen)


async def test_health_is_one_round_trip_also_for_many_readers(room: Room, backend: Backend) -> None:
    backend.needs_one_server("on a cluster it is one to each server")
    ids = [(await room.system(f"s{at}")).system_id for at in range(5)]
    before = room.server.round_trips
    await room.store.reads.health(ids[0])
    assert room.server.round_trips - before == 1
    found = await asyncio.gather(*(room.store.reads.health(one) for one in ids * 10))
    assert room.server.round_trips - before == 2
    assert [json.loads(one.body)["system_id"] for one in found] == ids * 10


async def test_readers_of_one_turn_get_each_their_own_answer_or_error(room: Room) -> None:
    system_id = (await room.system()).system_id
    found = await asyncio.gather(
        *(room.store.reads.health(one) for one in (system_id, 77, system_id)), return_exceptions=True
    )
    assert [type(one).__name__ for one in found] == ["Answer", "NotFoundError", "Answer"]


async def test_metrics_are_health_and_the_window_in_full(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(10, latency_ms=8.0), None)
    await room.fold(system_id)
    health = await room.health(system_id)
    metrics = json.loads((await room.store.reads.metrics(system_id)).body)
    assert {name: metrics[name] for name in health} == health
    assert (metrics["latency_ms"]["p50"], metrics["event_types"], metrics["late"]) == (8.0, {"success": 10}, 0)


# -- fleet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 8, 500])
async def test_the_fleet_reads_worst_first_and_completely_whatever_the_page(room: Room, limit: int) -> None:
    states = await fleet_of(room, ["OK", "UNKNOWN", "UNHEALTHY", "DEGRADED", "OK", "UNHEALTHY", "UNKNOWN", "DEGRADED"])
    await room.hold(*range(PARTITIONS))
    assert await pages(room, limit) == worst_first(states)
    assert (await room.store.reads.fleet(None, limit)).counts == dict.fromkeys(STATES, 2)


async def test_an_empty_fleet_has_every_count_and_no_lines(room: Room) -> None:
    page = await room.store.reads.fleet(None, 10)
    assert (page.counts, page.lines, page.next) == (dict.fromkeys(STATES, 0), [], None)


async def test_the_last_full_page_has_no_next(room: Room) -> None:
    await fleet_of(room, ["OK"] * 3)
    await room.hold(*range(PARTITIONS))
    assert (await room.store.reads.fleet(None, 3)).next is None


@pytest.mark.parametrize("limit", [1, 2, 5, 500])
async def test_systems_of_a_partition_that_is_behind_are_unknown_and_in_their_place(room: Room, limit: int) -> None:
    """Partitions fold on their own, so a page mixes fresh and stale ones."""
    healths = ["OK", "UNHEALTHY", "DEGRADED", "OK", "UNHEALTHY", "UNKNOWN", "DEGRADED", "OK", "UNHEALTHY", "DEGRADED"]
    states = await fleet_of(room, healths)
    await room.hold(*range(PARTITIONS))
    stale = {partition_of(one) for one in list(states)[::2]}
    long_ago = await room.now_ms() - 60_000
    await room.server.run(*(("SET", keys.watermark(p), long_ago) for p in sorted(stale)))
    expected = {one: "UNKNOWN" if partition_of(one) in stale else health for one, health in states.items()}
    assert await pages(room, limit) == worst_first(expected)
    page = await room.store.reads.fleet(None, 500)
    assert page.counts == {state: list(expected.values()).count(state) for state in STATES}
    lines = [json.loads(line) for line in page.lines]
    for line in lines:
        if partition_of(line["system_id"]) in stale:
            assert line["reason"].startswith("the observer is 6")
            assert line["since"] == times.to_text(long_ago)
    healthy = next(line for line in lines if line["health"] == "UNHEALTHY")
    assert (healthy["total"], healthy["errors"], healthy["name"]) == (20, 10, f"s{healthy['system_id'] - 1}")


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_with_every_worker_dead_the_whole_fleet_is_unknown(room: Room, limit: int) -> None:
    states = await fleet_of(room, ["OK", "UNHEALTHY", "DEGRADED", "UNKNOWN"] * 3)
    long_ago = await room.now_ms() - 60_000
    await room.server.run(*(("SET", keys.watermark(p), long_ago) for p in range(PARTITIONS)))
    assert await pages(room, limit) == worst_first(dict.fromkeys(states, "UNKNOWN"))


async def test_several_systems_of_a_partition_in_every_state_page_right_also_when_it_is_behind(room: Room) -> None:
    mine = await room.systems_of(9, 7)
    await room.system("elsewhere")
    for at, system_id in enumerate(mine):
        await room.store.ingest.append(system_id, batch(20, errors=(0, 2, 10)[at % 3]), None)
        await room.fold(system_id)
    fresh = [one for one in await pages(room, 2) if one[1] in mine]
    assert [health for health, _ in fresh] == sorted((health for health, _ in fresh), key=STATES.index)
    await room.server.one(("SET", keys.watermark(9), await room.now_ms() - 60_000))
    stale = [one for one in await pages(room, 2) if one[1] in mine]
    assert stale == [("UNKNOWN", one) for one in mine]


async def test_a_system_changes_its_place_with_its_health(room: Room) -> None:
    system_id = (await room.system()).system_id
    seen = []
    for errors in (0, 20, 0):
        await room.store.ingest.append(system_id, batch(20 if not errors else 40, errors=errors), None)
        await room.fold(system_id)
        page = await room.store.reads.fleet(None, 10)
        [line] = [json.loads(one) for one in page.lines]
        assert page.counts == {**dict.fromkeys(STATES, 0), line["health"]: 1}
        seen.append(line["health"])
    assert seen == ["OK", "UNHEALTHY", "UNHEALTHY"]
    await room.folding.park(await room.lease_of(system_id), system_id, Verdict(Health.UNKNOWN, 0, "x"), 0)
    assert (await room.store.reads.fleet(None, 10)).counts == {**dict.fromkeys(STATES, 0), "UNKNOWN": 1}
    await room.fold(system_id)
    assert (await room.store.reads.fleet(None, 10)).counts == {**dict.fromkeys(STATES, 0), "UNHEALTHY": 1}


@pytest.mark.parametrize("cursor", ["", "0", "4" + "0" * 15, "x" * 16, "0" * 17, "-" + "0" * 15, "٣" + "0" * 15])
async def test_a_cursor_that_is_none_is_refused(room: Room, cursor: str) -> None:
    with pytest.raises(InputError):
        await room.store.reads.fleet(cursor, 10)


# -- events, readiness, autoscale ------------------------------------------------------------------------------


async def test_entries_read_newest_first_up_to_an_id(room: Room) -> None:
    system_id = (await room.system()).system_id
    for at in range(4):
        await room.store.ingest.append(system_id, batch(at + 1), None)
    found = await room.store.reads.entries(system_id, None, 3)
    assert [entry.count for entry in found] == [4, 3, 2]
    more = await room.store.reads.entries(system_id, found[-1].entry_id, 3)
    assert [entry.count for entry in more] == [2, 1]
    assert await room.store.reads.entries(77, None, 3) == []


async def test_a_service_without_workers_says_what_it_lacks_and_with_them_is_ready(
    room: Room, backend: Backend
) -> None:
    backend.needs_a_real_server(NO_INFO)
    assert await room.store.reads.readiness() == ["no worker is alive", "32 of 32 partitions are not folded"]
    await leases.beat(room.server, Worker("w1"))
    await room.hold(*range(PARTITIONS))
    assert await room.store.reads.readiness() == []
    await room.server.one(("SET", keys.watermark(4), await room.now_ms() - 16_000))
    assert await room.store.reads.readiness() == ["1 of 32 partitions are not folded"]
    patient = Room(room.server, Settings(stale_after=3_600))
    assert await patient.store.reads.readiness() == []


@pytest.mark.parametrize(
    ("events", "workers", "expected"),
    [
        (0, [], 1),
        (0, [Worker("a", 32, 0.0, 0.0)], 1),
        (300_000, [Worker("a", 32, 10_000.0, 0.0)], 1),
        (300_001, [Worker("a", 32, 10_000.0, 0.0)], 2),
        (0, [Worker("a", 16, 10_000.0, 15_000.0), Worker("b", 16, 20_000.0, 15_000.0)], 2),
        (0, [Worker("a", 16, 10_000.0, 15_000.5), Worker("b", 16, 20_000.0, 15_000.0)], 3),
        (10**12, [Worker("a", 32, 10_000.0, 0.0)], 32),
        (60_000_000, [], 4),
    ],
)
def test_desired_workers_is_the_formula_of_the_design(events: int, workers: list[Worker], expected: int) -> None:
    """clamp(ceil((arrival rate + backlog / 30 s) / measured fold rate of a worker), 1, 32)"""
    assert desired_workers(Backlog(1, events, 0.0), workers) == expected


async def test_autoscale_knows_the_workers_and_the_backlog(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(7), None)
    await leases.beat(room.server, Worker("a", 32, 100.0, 250.0))
    found = await room.store.reads.autoscale()
    assert (found.backlog.entries, found.backlog.events, found.workers, found.desired_workers) == (1, 7, 1, 3)
