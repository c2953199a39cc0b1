"""Appending: all checks first, then the entry and what counts it, once for a key."""

import asyncio
import time
from collections.abc import Callable

import pytest

from lso_core.model.batches import Receipt, Reject
from lso_core.model.errors import (
    BacklogFullError,
    Finding,
    FutureEventError,
    KeyReuseError,
    NotFoundError,
    RateLimitedError,
    StoreError,
)
from lso_core.model.events import SKEW_MS
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.folding import Outcome
from lso_core.store.ingest import LOOK_BACK, bucket_ms
from lso_core.store.server import Ask, Server
from tests.store.backends import NO_FLAGS, NO_INFO, Backend
from tests.store.rooms import Room, batch
from tests.waiting import eventually


async def entries(room: Room, system_id: int) -> int:
    return int(await room.server.one(("XLEN", keys.stream(system_id))))


async def test_a_batch_becomes_one_entry_and_is_counted(room: Room) -> None:
    system = await room.system()
    before = await room.now_ms()
    receipt = await room.store.ingest.append(system.system_id, batch(7), None)
    assert receipt.entries is not None
    assert receipt == Receipt(7, duplicate=False, entries=(receipt.entries[0], receipt.entries[0]))
    [entry] = await room.store.reads.entries(system.system_id, None, 10)
    assert (entry.entry_id, entry.count, entry.columns) == (receipt.entries[0], 7, batch(7).columns)
    assert before <= entry.at_ms <= await room.now_ms()
    stats = await room.stats(partition_of(system.system_id))
    size = len(batch(7).columns) + len(batch(7).body)
    assert stats == {"added": 7, "events": 7, "entries": 1, "bytes": size}


async def test_nothing_is_stored_for_a_system_that_there_is_not(room: Room) -> None:
    before = await room.everything()
    with pytest.raises(NotFoundError):
        await room.store.ingest.append(99, batch(), b"key")
    assert await room.everything() == before


async def test_appends_of_one_turn_of_the_loop_share_a_round_trip(room: Room) -> None:
    system = await room.system()
    await room.store.ingest.append(system.system_id, batch(), None)
    before = room.server.round_trips
    await asyncio.gather(*(room.store.ingest.append(system.system_id, batch(2), None) for _ in range(20)))
    assert room.server.round_trips - before == 1
    assert await entries(room, system.system_id) == 21


async def test_one_refused_append_does_not_harm_those_beside_it(room: Room) -> None:
    system = await room.system()
    answers = await asyncio.gather(
        *(room.store.ingest.append(one, batch(), None) for one in (system.system_id, 99, system.system_id)),
        return_exceptions=True,
    )
    assert [type(one) for one in answers] == [Receipt, NotFoundError, Receipt]


# -- idempotency -----------------------------------------------------------------------------------------------


async def test_a_retried_batch_is_counted_once(room: Room) -> None:
    system = await room.system()
    first = await room.store.ingest.append(system.system_id, batch(3), b"key")
    before = await room.everything()
    again = await room.store.ingest.append(system.system_id, batch(3), b"key")
    assert again == Receipt(3, duplicate=True, entries=first.entries)
    assert await room.everything() == before


async def test_a_retry_beside_its_original_is_counted_once(connect: Callable[[], Server], settings: Settings) -> None:
    """Many processes, one key, at the same moment."""
    rooms = [Room(connect(), settings) for _ in range(4)]
    system = await rooms[0].system()
    receipts = await asyncio.gather(
        *(room.store.ingest.append(system.system_id, batch(3), b"key") for room in rooms for _ in range(5))
    )
    assert sorted(one.duplicate for one in receipts) == [False] + [True] * 19
    assert len({one.entries for one in receipts}) == 1
    assert await entries(rooms[0], system.system_id) == 1


async def test_a_key_with_another_body_is_refused_and_nothing_stored(room: Room) -> None:
    system = await room.system()
    await room.store.ingest.append(system.system_id, batch(3, digest=b"a" * 16), b"key")
    before = await room.everything()
    with pytest.raises(KeyReuseError):
        await room.store.ingest.append(system.system_id, batch(3, digest=b"b" * 16), b"key")
    assert await room.everything() == before


async def test_a_key_belongs_to_its_system(room: Room) -> None:
    one, other = await room.system("one"), await room.system("other")
    for system in (one, other):
        receipt = await room.store.ingest.append(system.system_id, batch(), b"key")
        assert not receipt.duplicate


async def test_a_duplicate_is_answered_before_any_cap(room: Room) -> None:
    """A retry must learn that it was stored, also when nothing new would be."""
    system = await room.system()
    first = await room.store.ingest.append(system.system_id, batch(5), b"key")
    full = Room(room.server, Settings(backlog_events=1, backlog_bytes=1, idempotency_keys=1, rate_events=1))
    again = await full.store.ingest.append(system.system_id, batch(5, latest_ts_ms=1 << 50), b"key")
    assert again == Receipt(5, duplicate=True, entries=first.entries)


async def test_a_digest_may_hold_any_byte(room: Room) -> None:
    system = await room.system()
    for at, digest in enumerate((b"\x00" * 16, b"\r\n" * 8, b"\xff" * 16, b"1234567890 %d %s ")):
        key = b"key %d" % at
        first = await room.store.ingest.append(system.system_id, batch(2, digest=digest[:16]), key)
        again = await room.store.ingest.append(system.system_id, batch(2, digest=digest[:16]), key)
        assert again == Receipt(2, duplicate=True, entries=first.entries)


async def test_a_batch_of_which_everything_was_rejected_is_remembered_too(room: Room) -> None:
    system = await room.system()
    rejects = (Reject(b'{"status": "fine"}', Finding(0, "status", "no such status")),)
    first = await room.store.ingest.append(system.system_id, batch(0, rejects=rejects), b"key")
    again = await room.store.ingest.append(system.system_id, batch(0, rejects=rejects), b"key")
    assert first == Receipt(0, duplicate=False, entries=None)
    assert again == Receipt(0, duplicate=True, entries=None)
    assert await entries(room, system.system_id) == 0
    assert await room.server.one(("XLEN", keys.dead_letters(system.system_id))) == 1


async def test_rejected_events_go_to_the_dead_letters_with_their_reason(room: Room) -> None:
    system = await room.system()
    rejects = tuple(Reject(b'{"n": %d}' % at, Finding(at, "status", "no such status")) for at in range(3))
    receipt = await room.store.ingest.append(system.system_id, batch(2, rejects=rejects), None)
    assert receipt.accepted == 2
    letters = await room.server.one(("XRANGE", keys.dead_letters(system.system_id), "-", "+"))
    assert [fields[b"event"] for _, fields in letters] == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
    assert b"no such status" in letters[0][1][b"reason"]


async def test_dead_letters_are_capped(room: Room) -> None:
    system = await room.system()
    rejects = tuple(Reject(b"{}", Finding(at, "", "bad")) for at in range(3_000))
    await room.store.ingest.append(system.system_id, batch(0, rejects=rejects), None)
    assert 1_000 <= await room.server.one(("XLEN", keys.dead_letters(system.system_id))) <= 1_200


@pytest.mark.parametrize("seconds", [60, 86_400])
async def test_keys_are_remembered_for_their_time_and_then_forgotten_by_the_bucket(room: Room, seconds: int) -> None:
    own = Room(room.server, Settings(idempotency_seconds=seconds))
    system = await own.system()
    await own.store.ingest.append(system.system_id, batch(), b"key")
    now, length = await own.now_ms(), bucket_ms(own.settings)
    bucket = f"{keys.idempotency(system.system_id)}{now // length}"
    left = await own.server.one(("PTTL", bucket))
    assert length * LOOK_BACK == seconds * 1_000
    assert left == pytest.approx((now // length + 1 + LOOK_BACK) * length - now, abs=500)
    assert left > seconds * 1_000 - 500


async def test_a_key_is_found_in_an_earlier_bucket(room: Room) -> None:
    system = await room.system()
    first = await room.store.ingest.append(system.system_id, batch(), b"key")
    current = await room.now_ms() // bucket_ms(room.settings)
    prefix = keys.idempotency(system.system_id)
    for back, duplicate in ((1, True), (LOOK_BACK, True), (LOOK_BACK + 1, False)):
        [bucket] = [key for key in await room.all_keys() if key.startswith(prefix)]
        await room.server.one(("RENAME", bucket, f"{prefix}{current - back}"))
        again = await room.store.ingest.append(system.system_id, batch(), b"key")
        assert (again.duplicate, again.entries == first.entries) == (duplicate, duplicate)


# -- caps ------------------------------------------------------------------------------------------------------


async def test_too_many_keys_in_a_bucket_are_refused_by_name(room: Room) -> None:
    own = Room(room.server, Settings(idempotency_keys=2))
    system = await own.system()
    for key in (b"1", b"2"):
        await own.store.ingest.append(system.system_id, batch(), key)
    before = await own.everything()
    with pytest.raises(BacklogFullError, match="LSO_IDEMPOTENCY_KEYS"):
        await own.store.ingest.append(system.system_id, batch(), b"3")
    assert await own.everything() == before
    await own.store.ingest.append(system.system_id, batch(), None)


async def test_the_backlog_of_a_system_is_capped_in_events_and_frees_itself_by_folding(room: Room) -> None:
    own = Room(room.server, Settings(backlog_events=10))
    system = await own.system()
    await own.store.ingest.append(system.system_id, batch(6), None)
    await own.store.ingest.append(system.system_id, batch(4), None)
    before = await own.everything()
    with pytest.raises(BacklogFullError, match=r"10 .*LSO_BACKLOG_EVENTS") as refusal:
        await own.store.ingest.append(system.system_id, batch(1), b"key")
    assert refusal.value.retry_after_s == 2
    assert await own.everything() == before
    assert await own.fold(system.system_id) is Outcome.DONE
    await own.store.ingest.append(system.system_id, batch(10), b"key")


async def test_the_backlog_over_all_is_capped_in_bytes(room: Room) -> None:
    size = len(batch(50).columns) + len(batch(50).body)
    own = Room(room.server, Settings(backlog_bytes=2 * size))
    system = await own.system()
    for _ in range(2):
        await own.store.ingest.append(system.system_id, batch(50), None)
    before = await own.everything()
    with pytest.raises(BacklogFullError, match="LSO_BACKLOG_BYTES") as refusal:
        await own.store.ingest.append(system.system_id, batch(50), None)
    assert refusal.value.retry_after_s == 2
    assert await own.everything() == before


async def test_bytes_in_other_partitions_count_once_they_are_learnt(room: Room, backend: Backend) -> None:
    backend.needs_a_real_server(NO_INFO)
    size = len(batch(50).columns) + len(batch(50).body)
    own = Room(room.server, Settings(backlog_bytes=2 * size))
    one, other = await own.system("one"), await own.system("other")
    assert partition_of(one.system_id) != partition_of(other.system_id)
    for _ in range(2):
        await own.store.ingest.append(one.system_id, batch(50), None)
    await own.store.ingest.append(other.system_id, batch(50), None)
    await own.store.ingest.refresh()
    with pytest.raises(BacklogFullError):
        await own.store.ingest.append(other.system_id, batch(50), None)


async def test_a_ts_may_run_ahead_by_a_minute_and_no_further(room: Room) -> None:
    system = await room.system()
    now = await room.now_ms()
    await room.store.ingest.append(system.system_id, batch(latest_ts_ms=now + SKEW_MS), None)
    before = await room.everything()
    with pytest.raises(FutureEventError) as refusal:
        await room.store.ingest.append(system.system_id, batch(latest_ts_ms=now + SKEW_MS + 5_000), b"key")
    assert now + SKEW_MS <= refusal.value.latest_allowed_ms <= await room.now_ms() + SKEW_MS
    assert await room.everything() == before
    await room.store.ingest.append(system.system_id, batch(latest_ts_ms=-62_135_596_800_000), None)


async def test_the_rate_of_a_system_is_limited_and_says_when_to_come_back(room: Room) -> None:
    own = Room(room.server, Settings(rate_events=100))
    system, other = await own.system("fast"), await own.system("other")
    await own.store.ingest.append(system.system_id, batch(100), None)
    with pytest.raises(RateLimitedError, match="LSO_RATE_EVENTS") as refusal:
        await own.store.ingest.append(system.system_id, batch(60), b"key")
    assert refusal.value.retry_after_s == 1
    await own.store.ingest.append(other.system_id, batch(60), None)

    async def passes() -> bool:
        try:
            return not (await own.store.ingest.append(system.system_id, batch(60), b"key")).duplicate
        except RateLimitedError:
            return False

    await eventually(passes, "the rate allows the next batch", 3)


async def test_a_batch_larger_than_the_rate_passes_once_and_leaves_a_debt(room: Room) -> None:
    own = Room(room.server, Settings(rate_events=100))
    system = await own.system()
    assert (await own.store.ingest.append(system.system_id, batch(1_000), None)).accepted == 1_000
    with pytest.raises(RateLimitedError) as refusal:
        await own.store.ingest.append(system.system_id, batch(1), None)
    assert refusal.value.retry_after_s in {9, 10}


async def test_a_full_redis_refuses_new_batches_and_takes_commits(room: Room, backend: Backend) -> None:
    backend.needs_a_real_server(NO_FLAGS)
    system = await room.system()
    await room.store.ingest.append(system.system_id, batch(5), None)
    lease = await room.lease_of(system.system_id)
    await room.server.one(Ask(("CONFIG SET", "maxmemory", "1"), keys.system(system.system_id)))
    try:
        with pytest.raises(StoreError, match="out of memory"):
            await room.store.ingest.append(system.system_id, batch(5), b"key")
        [(outcome, _)] = await room.folding.commit([(lease, await room.prepare(system.system_id))])
        assert outcome is Outcome.DONE
        assert (await room.folding.trim([lease], 0, pressed=True)).entries == 1
        assert any("Redis is full" in one for one in await room.store.reads.readiness())
    finally:
        await room.server.one(Ask(("CONFIG SET", "maxmemory", "0"), keys.system(system.system_id)))
    assert (await room.health(system.system_id))["total"] == 5
    assert await entries(room, system.system_id) == 0


# -- what a fold and the outside world see ---------------------------------------------------------------------


async def test_a_ready_system_stands_there_with_the_arrival_of_its_first_unfolded_entry(room: Room) -> None:
    system = await room.system()
    await room.store.ingest.append(system.system_id, batch(), None)
    [first] = await room.store.reads.entries(system.system_id, None, 1)
    await eventually(lambda: later_than(room, first.at_ms), "the clock goes on")
    await room.store.ingest.append(system.system_id, batch(), None)
    ready = await room.server.one(("ZRANGE", keys.ready(partition_of(system.system_id)), 0, -1, "WITHSCORES"))
    assert ready == [b"%d" % system.system_id, b"%d" % first.at_ms]


async def later_than(room: Room, ms: int) -> bool:
    return await room.now_ms() > ms + 2


async def test_a_batch_of_ten_thousand_events_is_one_entry(room: Room) -> None:
    system = await room.system()
    began = time.monotonic()
    assert (await room.store.ingest.append(system.system_id, batch(10_000), None)).accepted == 10_000
    assert await room.fold(system.system_id) is Outcome.DONE
    assert (await room.health(system.system_id))["total"] == 10_000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["string", "count"])
async def test_a_state_gone_bad_does_not_stop_ingest(room: Room, kind: str) -> None:
    system_id = (await room.system()).system_id
    where = keys.state(system_id)
    await room.server.one(("SET", where, "x") if kind == "string" else ("HSET", where, "n", "many"))
    receipt = await room.store.ingest.append(system_id, batch(3), None)
    assert receipt.accepted == 3
