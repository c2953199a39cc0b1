"""The fenced commit: refused whole, or written whole; and what the outside world sees of it."""

from typing import Any

import msgspec
import pytest

from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.health import Health
from lso_core.model.snapshots import Verdict
from lso_core.model.systems import SystemPatch
from lso_core.model.windows import partition_of
from lso_core.store import keys, leases
from lso_core.store.folding import Commit, Lease, Outcome, Peek
from tests.store.backends import Backend
from tests.store.rooms import Room, batch, batch_of, garbage_batch, parts
from worker.stepping import ROLL_MS, know


async def waiting(room: Room, entries: int = 2) -> int:
    """A system with one folded entry and some that wait."""
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5, errors=1), None)
    await room.fold(system_id)
    for _ in range(entries):
        await room.store.ingest.append(system_id, batch(5), None)
    return system_id


async def group(room: Room, system_id: int) -> tuple[int | None, int | None]:
    """What XINFO GROUPS shows of our group: entries read, and lag."""
    [flat] = await room.server.one(("XINFO", "GROUPS", keys.stream(system_id)))
    found = parts(flat)
    assert (found["name"], found["pending"]) == (b"lso", 0)
    return found.get("entries-read"), found.get("lag")


# -- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [
        ("owner", Outcome.FENCED),
        ("epoch before", Outcome.FENCED),
        ("epoch after", Outcome.FENCED),
        ("cursor", Outcome.MOVED),
        ("cursor of the start", Outcome.MOVED),
        ("token", Outcome.MOVED),
        ("no token", Outcome.MOVED),
        ("system", Outcome.GONE),
    ],
)
async def test_each_fence_alone_refuses_and_nothing_at_all_changes(room: Room, wrong: str, outcome: Outcome) -> None:
    system_id = await waiting(room)
    long_ago = times.to_text(await room.now_ms() - 3_600_000)
    await room.store.ingest.append(system_id, batch_of([Event("success", "ok", 1.0, long_ago, "r")]), None)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    assert commit.rows
    assert commit.runs.watched
    if wrong == "owner":
        lease = msgspec.structs.replace(lease, owner="somebody else")
    elif wrong.startswith("epoch"):
        lease = msgspec.structs.replace(lease, epoch=lease.epoch + (1 if wrong.endswith("after") else -1))
    elif wrong == "system":
        await room.server.one(("DEL", keys.system(system_id)))
    else:
        cases: dict[str, dict[str, Any]] = {
            "cursor": {"cursor": "1-1"},
            "cursor of the start": {"cursor": ""},
            "token": {"token": b"12345678"},
            "no token": {"token": b""},
        }
        before = msgspec.structs.replace(commit.before, **cases[wrong])
        commit = msgspec.structs.replace(commit, before=before)
    everything = await room.everything()
    assert await room.folding.commit([(lease, commit)]) == [(outcome, 0)]
    assert await room.everything() == everything


async def test_without_any_lease_nothing_is_committed(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    commit = await room.prepare(system_id)
    before = await room.everything()
    for lease in (Lease(partition_of(system_id), "w1", 1), Lease(partition_of(system_id), "", 0)):
        assert await room.folding.commit([(lease, commit)]) == [(Outcome.FENCED, 0)]
    assert await room.everything() == before


async def test_a_commit_that_is_sent_twice_counts_once(room: Room) -> None:
    """The answer to the first was lost on the way; its sender tries again."""
    system_id = await waiting(room)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    assert [one for one, _ in await room.folding.commit([(lease, commit)])] == [Outcome.DONE]
    before = await room.everything()
    assert await room.folding.commit([(lease, commit)]) == [(Outcome.MOVED, 0)]
    assert await room.everything() == before
    assert (await room.health(system_id))["total"] == 15


async def test_a_refused_commit_does_not_touch_those_beside_it(room: Room) -> None:
    one, other = await room.system("one"), await room.system("other")
    while partition_of(other.system_id) != partition_of(one.system_id):
        other = await room.system(f"other {other.system_id}")
    for system in (one, other):
        await room.store.ingest.append(system.system_id, batch(5), None)
    lease = await room.lease_of(one.system_id)
    good, bad = await room.prepare(one.system_id), await room.prepare(other.system_id)
    bad = msgspec.structs.replace(bad, before=msgspec.structs.replace(bad.before, cursor="9-9"))
    outcomes = await room.folding.commit([(lease, bad), (lease, good)])
    assert outcomes == [(Outcome.MOVED, 0), (Outcome.DONE, 1)]
    assert [(await room.health(system.system_id))["total"] for system in (one, other)] == [5, 0]


async def test_a_redis_that_came_back_with_an_older_tail_is_noticed_by_the_token(room: Room) -> None:
    """The same cursor was reached twice, by different folds: only the token tells them apart."""
    system_id = await waiting(room)
    lease = await room.lease_of(system_id)
    state = keys.state(system_id)
    older = await room.server.one(("HGETALL", state))
    first, second = await room.prepare(system_id), await room.prepare(system_id)
    await room.folding.commit([(lease, first)])
    after_first = await room.prepare(system_id)
    await room.server.run(("DEL", state), ("HSET", state, *(part for pair in older.items() for part in pair)))
    await room.folding.commit([(lease, second)])
    assert after_first.before.cursor == second.after.cursor
    assert await room.folding.commit([(lease, after_first)]) == [(Outcome.MOVED, 0)]


# -- written -----------------------------------------------------------------------------------------------------


async def test_a_commit_writes_cursor_counters_slots_and_answers(room: Room) -> None:
    system_id = await waiting(room, entries=2)
    assert await room.fold(system_id) is Outcome.DONE
    [last] = await room.store.reads.entries(system_id, None, 1)
    stored = await room.stored(system_id)
    position = stored.position
    assert (position.cursor, position.events, position.entries) == (last.entry_id, 15, 3)
    assert position.at_ms == last.at_ms
    assert know(stored).state.meta.as_of_ms >= last.at_ms
    health = await room.health(system_id)
    assert (health["total"], health["errors"], health["health"]) == (15, 1, "DEGRADED")
    metrics = msgspec.json.decode((await room.store.reads.metrics(system_id)).body)
    assert metrics["event_types"] == {"success": 15}
    assert (await room.store.reads.backlog()).events == 0


async def test_folding_bit_by_bit_gives_what_one_fold_gives(room: Room) -> None:
    one, other = await room.system("one"), await room.system("other")
    for system in (one, other):
        for at in range(6):
            await room.store.ingest.append(system.system_id, batch(at + 1, errors=at % 2), None)
    for _ in range(6):
        assert await room.fold(one.system_id, most=1) is Outcome.DONE
    assert await room.fold(other.system_id) is Outcome.DONE
    figures = ("total", "errors", "error_rate", "p95_latency", "rps", "health", "reason")
    found = [await room.health(system.system_id) for system in (one, other)]
    by_bits, whole = ([one[name] for name in figures] for one in found)
    assert by_bits == whole
    assert (found[0]["total"], found[0]["errors"]) == (21, 3)


async def test_a_commit_without_entries_moves_the_window_and_nothing_else(room: Room) -> None:
    system_id = await waiting(room, entries=0)
    before = (await room.stored(system_id)).position
    stats = await room.stats(partition_of(system_id))
    assert await room.fold(system_id) is Outcome.DONE
    after = (await room.stored(system_id)).position
    assert msgspec.structs.replace(after, token=before.token) == before
    assert after.token != before.token
    assert await room.stats(partition_of(system_id)) == stats


async def test_a_system_leaves_the_ready_set_once_its_stream_is_folded_to_the_end(room: Room) -> None:
    system_id = await waiting(room, entries=3)
    ready, entries = keys.ready(partition_of(system_id)), await room.store.reads.entries(system_id, None, 3)
    for left in (1, 2):
        await room.fold(system_id, most=1)
        assert await room.server.one(("ZSCORE", ready, system_id)) == float(entries[3 - left].at_ms)
    await room.fold(system_id, most=1)
    assert await room.server.one(("ZSCORE", ready, system_id)) is None


async def test_an_entry_that_arrives_between_read_and_commit_keeps_its_system_ready(room: Room) -> None:
    system_id = await waiting(room)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    await room.store.ingest.append(system_id, batch(7), None)
    await room.folding.commit([(lease, commit)])
    now = await room.now_ms()
    assert await room.folding.peek([lease.partition], now, 10) == [Peek(lease.partition, [system_id], [])]
    await room.fold(system_id)
    assert (await room.health(system_id))["total"] == 22


async def test_the_due_set_says_when_the_window_rolls_until_it_is_empty(room: Room) -> None:
    system_id = await waiting(room, entries=0)
    due = keys.due(partition_of(system_id))
    [found] = await room.server.one(("ZRANGE", due, 0, -1, "BYSCORE", "LIMIT", 0, 9)) or [None]
    assert found is None
    score = float(await room.server.one(("ZSCORE", due, system_id)))
    as_of = times.from_text((await room.health(system_id))["as_of"])
    assert as_of < score <= as_of + ROLL_MS
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    await room.folding.commit([(lease, msgspec.structs.replace(commit, due_ms=None))])
    assert await room.server.one(("ZSCORE", due, system_id)) is None


async def test_a_drained_window_leaves_all_but_its_slots(room: Room) -> None:
    system_id = await waiting(room, entries=0)
    before = await room.server.one(("HGETALL", keys.state(system_id)))
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    slots = [field for field in before if field.startswith(b"s")]
    assert slots
    drained = msgspec.structs.replace(commit, due_ms=None, slots={}, dropped=slots)
    assert await room.folding.commit([(lease, drained)]) == [(Outcome.DONE, 1)]
    after = await room.server.one(("HGETALL", keys.state(system_id)))
    moved = {b"t": commit.after.token, b"m": commit.meta}
    assert after == {field: value for field, value in {**before, **moved}.items() if field not in slots}


async def test_a_change_of_the_system_during_a_fold_makes_it_due_again(room: Room) -> None:
    system_id = await waiting(room)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    await room.store.registry.patch(system_id, SystemPatch(window_seconds=600))
    assert await room.folding.commit([(lease, commit)]) == [(Outcome.DONE, 2)]
    assert float(await room.server.one(("ZSCORE", keys.due(lease.partition), system_id))) == 0
    await room.fold(system_id)
    assert (await room.health(system_id))["window_seconds"] == 600


async def test_the_watermark_and_backlog_follow_what_is_folded(room: Room) -> None:
    system_id = await waiting(room, entries=4)
    size = len(batch(5).columns) + len(batch(5).body)
    backlog = await room.store.reads.backlog()
    assert (backlog.entries, backlog.events) == (4, 20)
    assert (await room.stats(partition_of(system_id)))["bytes"] == 4 * size
    await room.fold(system_id, most=3)
    backlog = await room.store.reads.backlog()
    assert (backlog.entries, backlog.events) == (1, 5)
    await room.fold(system_id)
    backlog = await room.store.reads.backlog()
    assert (backlog.entries, backlog.events, backlog.oldest_age_s) == (0, 0, 0.0)
    assert (await room.stats(partition_of(system_id)))["bytes"] == 0


async def test_the_age_of_the_oldest_unfolded_entry_is_its_age(room: Room) -> None:
    """Over several systems, one of which has an id of two digits."""
    ids = [(await room.system(f"s{at}")).system_id for at in range(12)]
    for system_id in (ids[11], ids[2]):
        await room.store.ingest.append(system_id, batch(), None)
    [oldest] = await room.store.reads.entries(ids[11], None, 1)
    before = await room.now_ms()
    age = (await room.store.reads.backlog()).oldest_age_s
    after = await room.now_ms()
    assert before - oldest.at_ms <= age * 1_000 <= after - oldest.at_ms
    autoscale = await room.store.reads.autoscale()
    assert (autoscale.backlog.entries, autoscale.workers, autoscale.desired_workers) == (2, 0, 1)


# -- the group's lag ---------------------------------------------------------------------------------------------


async def test_the_groups_lag_is_exact_before_during_and_after_folding_and_trimming(
    room: Room, backend: Backend
) -> None:
    system_id = (await room.system()).system_id
    for _ in range(6):
        await room.store.ingest.append(system_id, batch(5), None)
    assert (await group(room, system_id))[1] == 6
    for most, read in ((1, 1), (2, 3)):
        await room.fold(system_id, most=most)
        assert await group(room, system_id) == (read, 6 - read)
    lease = await room.lease_of(system_id)
    await room.folding.trim([lease], 0, pressed=True)
    assert await group(room, system_id) == (3, 3)
    await room.fold(system_id)
    assert await group(room, system_id) == (6, 0)
    await room.folding.trim([lease], 0, pressed=True)
    assert await room.server.one(("XLEN", keys.stream(system_id))) == 0
    assert await group(room, system_id) == (6, 0)
    await room.store.ingest.append(system_id, batch(5), None)
    assert await group(room, system_id) == (6, 1)
    await room.fold(system_id)
    assert await group(room, system_id) == (7, 0)


async def test_a_stream_whose_group_somebody_removed_is_folded_all_the_same(room: Room) -> None:
    system_id = await waiting(room)
    await room.server.one(("XGROUP", "DESTROY", keys.stream(system_id), keys.GROUP))
    assert await room.fold(system_id) is Outcome.DONE
    assert (await room.health(system_id))["total"] == 15


# -- what cannot be read -----------------------------------------------------------------------------------------


async def test_an_entry_that_nobody_can_read_goes_to_the_dead_letters_with_the_cursor(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(2), None)
    await room.store.ingest.append(system_id, garbage_batch(b"LSO garbage", 3), None)
    await room.store.ingest.append(system_id, batch(4), None)
    bad = (await room.store.reads.entries(system_id, None, 3))[1]
    commit: Commit = await room.prepare(system_id)
    assert [entry_id for entry_id, _ in commit.dead] == [bad.entry_id]
    assert await room.fold(system_id) is Outcome.DONE
    [(_, letter)] = await room.server.one(("XRANGE", keys.dead_letters(system_id), "-", "+"))
    assert (letter[b"entry"].decode(), letter[b"reason"]) == (bad.entry_id, b"not a block of columns")
    assert (letter[b"c"], letter[b"n"]) == (b"LSO garbage", b"3")
    assert (await room.health(system_id))["total"] == 6
    backlog = await room.store.reads.backlog()
    assert (backlog.entries, backlog.events) == (0, 0)
    assert await group(room, system_id) == (3, 0)


async def test_a_parked_system_says_so_and_holds_nobody_up(room: Room) -> None:
    system_id = await waiting(room)
    before = await room.health(system_id)
    lease = await room.lease_of(system_id)
    verdict = Verdict(Health.UNKNOWN, before_ms := await room.now_ms(), "it cannot be folded")
    assert await room.folding.park(lease, system_id, verdict, 60_000) is Outcome.DONE
    after = await room.health(system_id)
    changed = {"health", "since", "reason"}
    assert (after["health"], after["since"], after["reason"]) == (
        "UNKNOWN",
        times.to_text(before_ms),
        "it cannot be folded",
    )
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    [line] = (await room.store.reads.fleet(None, 10)).lines
    assert msgspec.json.decode(line)["reason"] == "it cannot be folded"
    [held] = await leases.tend(room.server, "w1", {lease.partition}, set())
    assert held.watermark_ms == held.now_ms
    await room.store.ingest.append(system_id, batch(), None)
    assert await room.folding.peek([lease.partition], await room.now_ms() + 10_000, 10) == []
    assert await room.folding.unpark([lease]) == 0


async def test_a_system_that_is_parked_again_is_unknown_since_the_first_time(room: Room) -> None:
    system_id = await waiting(room)
    lease = await room.lease_of(system_id)
    first = await room.now_ms()
    for later in (0, 5_000, 10_000):
        await room.folding.park(lease, system_id, Verdict(Health.UNKNOWN, first + later, f"try {later}"), 0)
        await room.folding.unpark([lease])
    health = await room.health(system_id)
    assert (health["since"], health["reason"]) == (times.to_text(first), "try 10000")


async def test_a_parked_system_comes_back_when_its_time_has_come(room: Room) -> None:
    system_id = await waiting(room)
    lease = await room.lease_of(system_id)
    await room.folding.park(lease, system_id, Verdict(Health.UNKNOWN, 0, "wait"), 0)
    assert await room.folding.unpark([lease]) == 1
    assert await room.folding.peek([lease.partition], await room.now_ms(), 10) == [
        Peek(lease.partition, [system_id], [system_id])
    ]
    assert await room.fold(system_id) is Outcome.DONE
    health = await room.health(system_id)
    assert (health["total"], health["health"]) == (15, "DEGRADED")


@pytest.mark.parametrize("epoch_step", [-1, 1])
async def test_parking_is_fenced_too(room: Room, epoch_step: int) -> None:
    system_id = await waiting(room)
    lease = await room.lease_of(system_id)
    wrong = msgspec.structs.replace(lease, epoch=lease.epoch + epoch_step)
    before = await room.everything()
    assert await room.folding.park(wrong, system_id, Verdict(Health.UNKNOWN, 0, "x"), 0) is Outcome.FENCED
    assert await room.folding.unpark([wrong]) == 0
    assert await room.everything() == before


# -- the list of ready systems -----------------------------------------------------------------------------------


async def ready_at(room: Room, system_id: int) -> int | None:
    score = await room.server.one(("ZSCORE", keys.ready(partition_of(system_id)), system_id))
    return None if score is None else int(score)


async def test_a_commit_of_a_parked_system_puts_it_back_among_the_ready(room: Room) -> None:
    """Its new entries put it on no list while it was set aside."""
    system_id = await waiting(room)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id, most=1)
    await room.folding.park(lease, system_id, commit.summary.verdict, 60_000)
    assert await ready_at(room, system_id) is None
    assert [one for one, _ in await room.folding.commit([(lease, commit)])] == [Outcome.DONE]
    assert await ready_at(room, system_id) == commit.after.at_ms
    assert await room.server.one(("EXISTS", keys.parked(lease.partition))) == 0
    assert await room.fold(system_id) is Outcome.DONE
    assert await ready_at(room, system_id) is None


@pytest.mark.parametrize("parked", [False, True])
async def test_before_the_first_fold_a_system_is_ready_since_its_first_entry(room: Room, parked: bool) -> None:
    system_id = (await room.system()).system_id
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    assert commit.after.at_ms is None
    for _ in range(2):
        await room.store.ingest.append(system_id, batch(1), None)
        await room.server.one(("ZADD", keys.ready(lease.partition), "LT", "XX", await room.now_ms() - 50, system_id))
    first = await ready_at(room, system_id)
    if parked:
        await room.folding.park(lease, system_id, commit.summary.verdict, 60_000)
    assert [one for one, _ in await room.folding.commit([(lease, commit)])] == [Outcome.DONE]
    [newest] = await room.store.reads.entries(system_id, None, 1)
    assert await ready_at(room, system_id) == (int(newest.entry_id.partition("-")[0]) if parked else first)
