"""History in Redis: each commit's rows once, read at one moment with what is in no row yet."""

import pytest

from lso_core.compute import rollups
from lso_core.compute.fold import Arrival, fold
from lso_core.compute.rollups import Rollup
from lso_core.model import times
from lso_core.model.errors import BadKeyError, InputError, NotFoundError
from lso_core.model.events import Event
from lso_core.model.rollups import Piece, Width
from lso_core.store import history, keys
from lso_core.store.folding import Outcome
from tests.store.rooms import Room, batch_of
from worker import stepping
from worker.stepping import know

MINUTE = 60_000
EVER = 10**12


def event(at_ms: int, stage: str | None = None) -> Event:
    return Event("success", "ok", 1.0, times.to_text(at_ms), stage=stage)


async def post(room: Room, system_id: int, *events: Event) -> None:
    await room.store.ingest.append(system_id, batch_of(events), None)


async def read(room: Room, system_id: int, from_ms: int = 0, to_ms: int = 4 * EVER, most: int = 1_000) -> list[Rollup]:
    return (await room.store.history.read(system_id, [Piece(from_ms, to_ms, Width.MINUTE)], most)).rollups()


async def totals(room: Room, system_id: int, from_ms: int = 0, to_ms: int = 4 * EVER) -> dict[int, int]:
    """Counted events by minute."""
    merged = rollups.merge(await read(room, system_id, from_ms, to_ms), Width.MINUTE)
    return {row.start_ms: sum(tally.total for tally in row.stages.values()) for row in merged}


async def test_rows_and_the_present_minute_are_one_history(room: Room) -> None:
    system_id = (await room.system()).system_id
    now = await room.now_ms()
    present = now - now % MINUTE
    await post(room, system_id, event(now), event(now, "load"), event(present - 1), event(present - 3 * MINUTE))
    assert await room.fold(system_id) is Outcome.DONE
    await post(room, system_id, event(now), event(present - 1), event(present - 60 * MINUTE))
    assert await room.fold(system_id) is Outcome.DONE
    before = {present - 60 * MINUTE: 1, present - 3 * MINUTE: 1, present - MINUTE: 2}
    found = await totals(room, system_id)
    assert sum(found.values()) == 7
    assert found.items() >= {at: count for at, count in before.items() if at < present - MINUTE}.items()
    assert await totals(room, system_id, present - 3 * MINUTE, present - 2 * MINUTE) == {present - 3 * MINUTE: 1}
    assert sum((await totals(room, system_id, present, present + 10 * MINUTE)).values()) == 3


async def test_a_minute_moves_from_slots_to_rows_in_one_step(room: Room) -> None:
    """The worker's clock is Redis': here the state is moved on by hand, as two minutes later."""
    system_id = (await room.system()).system_id
    now = await room.now_ms()
    await post(room, system_id, *[event(now)] * 3)
    await room.fold(system_id)
    minute = now - now % MINUTE
    before = await read(room, system_id)
    assert [(row.start_ms, row.stages[""].total) for row in before] == [(minute, 3)]
    assert await room.server.one(("ZCARD", keys.rows(system_id))) == 0
    known = know(await room.stored(system_id))
    folded = fold(known.state, list[Arrival](), known.system.window, now + 2 * MINUTE)
    assert [row.start_ms for row in folded.rows] == [minute]
    assert [rollups.encode(row) for row in folded.rows] == [rollups.encode(row) for row in before]


async def test_each_row_has_a_number_of_its_own_from_one_on(room: Room) -> None:
    system_id = (await room.system()).system_id
    long_ago = await room.now_ms() - 60 * MINUTE
    for _ in range(3):
        await post(room, system_id, event(long_ago), event(long_ago - MINUTE))
        await room.fold(system_id)
    members = await room.server.one(("ZRANGE", keys.rows(system_id), 0, -1))
    assert [int.from_bytes(member[:8], "big") for member in members] == [1, 3, 5, 2, 4, 6]
    assert (await room.stored(system_id)).position.rows == 6
    assert [row.revised for row in await read(room, system_id)] == [{"": 1}] * 6


async def test_a_commit_that_is_refused_writes_no_row(room: Room) -> None:
    system_id = (await room.system()).system_id
    await post(room, system_id, event(await room.now_ms() - 60 * MINUTE))
    stale = await room.prepare(system_id)
    await room.fold(system_id)
    lease = await room.lease_of(system_id)
    assert await room.folding.commit([(lease, stale)]) == [(Outcome.MOVED, 0)]
    assert len(await read(room, system_id)) == 1


async def test_where_rows_cannot_be_written_nothing_is(room: Room) -> None:
    system_id = (await room.system()).system_id
    await post(room, system_id, event(await room.now_ms() - 60 * MINUTE))
    await room.server.one(("SET", keys.rows(system_id), "something else"))
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    before = await room.everything()
    assert await room.folding.commit([(lease, commit)]) == [(Outcome.BROKEN, 0)]
    assert await room.everything() == before
    with pytest.raises(BadKeyError):
        await read(room, system_id)


async def test_a_backfill_over_many_minutes_is_committed_in_parts(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping, "MOST_ROWS", 10)
    system_id = (await room.system()).system_id
    long_ago = await room.now_ms() - 600 * MINUTE
    for entry in range(8):
        await post(room, system_id, *(event(long_ago - (entry * 4 + at) * MINUTE) for at in range(4)))
    counts: list[int] = []
    while sum(counts) < 32:
        commit = await room.prepare(system_id)
        await room.folding.commit([(await room.lease_of(system_id), commit)])
        counts.append(len(commit.rows))
        assert commit.rows
    assert max(counts) <= 10
    assert len(await totals(room, system_id)) == 32


async def test_a_question_that_touches_too_many_rows_is_refused(room: Room) -> None:
    system_id = (await room.system()).system_id
    long_ago = await room.now_ms() - 60 * MINUTE
    await post(room, system_id, *(event(long_ago - at * MINUTE) for at in range(5)))
    await room.fold(system_id)
    assert len(await read(room, system_id, most=5)) == 5
    with pytest.raises(InputError, match="this takes 5 rollup rows; a request may take 200000, of which 4 are left"):
        await read(room, system_id, most=4)


async def test_a_long_history_is_read_in_parts_and_whole(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "READ_ROWS", 3)
    system_id = (await room.system()).system_id
    now = await room.now_ms()
    for at in (7, 7, 7, 7, 100, 3, 2):
        await post(room, system_id, event(now), event(now - at * MINUTE), event(now - (at + 60) * MINUTE))
        await room.fold(system_id)
    found = await room.store.history.read(system_id, [Piece(0, 4 * EVER, Width.MINUTE)], 1_000)
    assert len(found.stretches) > 3
    assert max(len(stretch.members) for stretch in found.stretches) >= 4  # all of one minute
    assert sum(tally.total for row in found.rollups() for tally in row.stages.values()) == 21


async def test_history_says_up_to_when_it_is_whole(room: Room) -> None:
    system_id = (await room.system()).system_id
    await room.lease_of(system_id)
    now = await room.now_ms()
    as_of = (await room.store.history.read(system_id, [Piece(0, EVER, Width.MINUTE)], 10)).as_of_ms
    assert as_of is not None
    assert abs(now - as_of) < 5_000


async def test_history_goes_with_its_system(room: Room) -> None:
    system_id = (await room.system()).system_id
    await post(room, system_id, event(await room.now_ms() - 60 * MINUTE))
    await room.fold(system_id)
    await room.store.registry.delete(system_id)
    assert await room.keys_of(system_id) == []
    with pytest.raises(NotFoundError, match=f"there is no system {system_id}"):
        await read(room, system_id)


async def test_a_system_without_events_has_an_empty_history(room: Room) -> None:
    assert await read(room, (await room.system()).system_id) == []
