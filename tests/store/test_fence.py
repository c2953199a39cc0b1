"""The fence, step by step: A is paused between load and commit, B takes over and commits, A resumes.

And the test of this test: with the product's own commit less its two fences, the same story counts twice.
"""

from collections.abc import Callable

import pytest

from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store import keys, leases
from lso_core.store.folding import Commit, Lease, Outcome
from lso_core.store.server import Server
from tests.control.scripts import without_fences
from tests.store.rooms import Room, batch, batch_of


async def story(a: Room, b: Room) -> tuple[int, Outcome, int]:
    """Events accepted; what became of A's commit; and the total when everything is folded."""
    system_id = (await a.system()).system_id
    lease_a = await a.lease_of(system_id)
    await a.store.ingest.append(system_id, batch(1), None)
    paused: Commit = await a.prepare(system_id)

    # B sees what A saw and what came since, in another slot of the window.
    earlier = times.to_text(await a.now_ms() - 60_000)
    await b.store.ingest.append(system_id, batch_of([Event("success", "ok", 1.0, earlier) for _ in range(50)]), None)
    await leases.leave(a.server, a.worker_id)
    assert await b.fold(system_id) is Outcome.DONE
    assert (await b.health(system_id))["total"] == 51

    [(outcome, _)] = await a.folding.commit([(lease_a, paused)])
    assert await b.fold(system_id) is Outcome.DONE
    return 51, outcome, int((await b.health(system_id))["total"])


@pytest.fixture
def pair(connect: Callable[[], Server], settings: Settings) -> tuple[Room, Room]:
    return Room(connect(), settings, "a"), Room(connect(), settings, "b")


async def test_a_worker_that_was_paused_past_its_lease_is_refused(pair: tuple[Room, Room]) -> None:
    accepted, outcome, total = await story(*pair)
    assert (outcome, total) == (Outcome.FENCED, accepted)


async def test_without_the_fences_the_same_story_counts_twice(pair: tuple[Room, Room]) -> None:
    a, b = pair
    for room in pair:
        without_fences(room.server)
    accepted, outcome, total = await story(a, b)
    assert (outcome, total) == (Outcome.DONE, accepted + 50)


async def test_a_commit_of_nothing_doubles_everything_without_the_fences_and_nothing_with_them(
    pair: tuple[Room, Room],
) -> None:
    """A read an empty stream, so its commit puts the cursor back to the beginning."""
    for fenced in (True, False):
        a, b = pair
        if not fenced:
            for room in pair:
                without_fences(room.server)
        system_id = (await a.system(f"fenced {fenced}")).system_id
        lease = await a.lease_of(system_id)
        paused = await a.prepare(system_id)
        await b.store.ingest.append(system_id, batch(40), None)
        await leases.leave(a.server, a.worker_id)
        await b.fold(system_id)
        await a.folding.commit([(lease, paused)])
        await b.fold(system_id)
        assert (await b.health(system_id))["total"] == (40 if fenced else 80)
        await leases.leave(b.server, b.worker_id)


async def test_the_same_worker_is_refused_under_its_older_epoch(pair: tuple[Room, Room]) -> None:
    """A lost its lease and has it again; what it prepared under the old one is stale all the same."""
    a, b = pair
    system_id = (await a.system()).system_id
    await a.store.ingest.append(system_id, batch(5), None)
    older, paused = await a.lease_of(system_id), await a.prepare(system_id)
    await leases.leave(a.server, a.worker_id)
    await b.lease_of(system_id)
    await leases.leave(b.server, b.worker_id)
    newer = await a.lease_of(system_id)
    assert newer.epoch == older.epoch + 2
    assert await a.folding.commit([(older, paused)]) == [(Outcome.FENCED, 0)]
    assert [one for one, _ in await a.folding.commit([(newer, paused)])] == [Outcome.DONE]
    assert (await a.health(system_id))["total"] == 5


async def test_a_worker_whose_lease_merely_ran_out_may_commit_until_somebody_takes_it(room: Room) -> None:
    """The epoch is the fence, not the clock: nobody else has written meanwhile."""
    system_id = (await room.system()).system_id
    await room.store.ingest.append(system_id, batch(5), None)
    lease, commit = await room.lease_of(system_id), await room.prepare(system_id)
    await room.server.one(("HSET", keys.lease(lease.partition), "until", 1))
    assert [one for one, _ in await room.folding.commit([(lease, commit)])] == [Outcome.DONE]


async def test_trimming_is_fenced_too(pair: tuple[Room, Room]) -> None:
    a, b = pair
    system_id = (await a.system()).system_id
    await a.store.ingest.append(system_id, batch(5), None)
    await a.fold(system_id)
    older = await a.lease_of(system_id)
    await leases.leave(a.server, a.worker_id)
    await b.lease_of(system_id)
    before = await b.everything()
    for lease in (older, Lease(partition_of(system_id), "b", older.epoch), Lease(older.partition, "", 0)):
        trimmed = await a.folding.trim([lease], 0, pressed=True)
        assert (trimmed.entries, trimmed.bytes, trimmed.more) == (0, 0, False)
    assert await b.everything() == before
