"""Counters of all processes: the sum never falls, whoever dies, and nothing is counted twice when one returns."""

from collections.abc import Callable

from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.counters import GONE_MS
from lso_core.store.server import Call, Server
from lso_core.store.store import Store
from tests.store.backends import NO_INFO, Backend
from tests.store.rooms import Room, batch


async def sums(room: Room) -> dict[str, float]:
    """The summed counters alone, as the collecting script gives them."""
    return await _sums(room.store)


async def _sums(store: Store) -> dict[str, float]:
    import json

    _, gone, living = await store.server.one(
        Call("count", (keys.SAMPLES, keys.SEEN, keys.GONE), ("", "{}", GONE_MS, 0))
    )
    found = {gone[at].decode(): float(gone[at + 1]) for at in range(0, len(gone), 2)}
    for one in living:
        for name, value in json.loads(one).items():
            found[name] = found.get(name, 0.0) + value
    return found


async def take_for_gone(room: Room, process: str) -> None:
    """Make a process as silent as if it had said nothing for longer than is allowed."""
    await room.server.one(("ZADD", keys.SEEN, await room.now_ms() - GONE_MS - 1, process))


def process(connect: Callable[[], Server]) -> Store:
    return Store(connect(), Settings())


async def test_counters_are_summed_over_processes(room: Room, connect: Callable[[], Server]) -> None:
    one, other = process(connect).telemetry, process(connect).telemetry
    await one.publish("1", "api", {"a": 1.0, "b": 2.5})
    await other.publish("2", "worker", {"b": 4.0})
    assert await sums(room) == {"a": 1.0, "b": 6.5}
    await one.publish("1", "api", {"a": 3.0, "b": 2.5})
    assert await sums(room) == {"a": 3.0, "b": 6.5}


async def test_a_process_that_is_gone_leaves_its_counts_behind(room: Room, connect: Callable[[], Server]) -> None:
    one, other = process(connect).telemetry, process(connect).telemetry
    await one.publish("1", "api", {"a": 10.0, "odd": 0.1})
    await other.publish("2", "api", {"a": 5.0})
    await take_for_gone(room, "api:1")
    assert await sums(room) == {"a": 15.0, "odd": 0.1}
    assert await sums(room) == {"a": 15.0, "odd": 0.1}
    assert await room.server.one(("HKEYS", keys.SAMPLES)) == [b"api:2"]
    assert await sums(room) == {"a": 15.0, "odd": 0.1}


async def test_a_process_that_was_taken_for_gone_and_returns_counts_everything_once(
    room: Room, connect: Callable[[], Server]
) -> None:
    one = process(connect).telemetry
    seen = []
    await one.publish("1", "api", {"a": 10.0})
    await take_for_gone(room, "api:1")
    seen.append((await sums(room))["a"])
    for value in (17.0, 18.0, 30.0):
        await one.publish("1", "api", {"a": value})
        seen.append((await sums(room))["a"])
    assert seen == sorted(seen)
    assert seen[-1] == 30.0


async def test_a_process_may_be_taken_for_gone_again_and_again(room: Room, connect: Callable[[], Server]) -> None:
    one = process(connect).telemetry
    seen = []
    for value in range(1, 13):
        await one.publish("1", "api", {"a": float(value)})
        if not value % 3:
            await take_for_gone(room, "api:1")
        seen.append((await sums(room))["a"])
    await one.publish("1", "api", {"a": 13.0})
    await one.publish("1", "api", {"a": 13.0})
    assert seen == sorted(seen)
    assert await sums(room) == {"a": 13.0}


async def test_large_counts_are_kept_exactly(room: Room, connect: Callable[[], Server]) -> None:
    one = process(connect).telemetry
    await one.publish("1", "api", {"events": 2.0**52 + 1})
    await take_for_gone(room, "api:1")
    assert await sums(room) == {"events": 2.0**52 + 1}


async def test_collecting_adds_gauges_that_are_read_now(
    room: Room, connect: Callable[[], Server], backend: Backend
) -> None:
    backend.needs_a_real_server(NO_INFO)
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(9), None)
    await room.hold(*range(32))
    await process(connect).telemetry.publish("1", "api", {"a": 2.0})
    counters, gauges = await room.store.telemetry.collect()
    assert counters == {"a": 2.0}
    assert (gauges["lso_backlog_events"], gauges["lso_backlog_entries"]) == (9.0, 1.0)
    assert gauges["lso_workers"] == 0.0
    assert 0 <= gauges["lso_backlog_oldest_age_seconds"] < 5
    assert 0 <= gauges["lso_watermark_delay_seconds"] < 5
    assert gauges["lso_redis_used_memory_bytes"] > 100_000
