"""Who computes long takes turns, and leaves the time to others while these want it."""

import asyncio
import itertools
import time

from api.limits.turns import Turns

WORK_S = 0.1


async def work(turns: Turns) -> tuple[float, float]:
    """When a piece of work began and ended."""
    async with turns:
        began = time.monotonic()
        await asyncio.sleep(WORK_S)
        return began, time.monotonic()


def compute(seconds: float) -> None:
    """Keep this thread's core busy, by its own clock."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_there_is_one_at_a_time() -> None:
    turns = Turns()
    found = sorted(await asyncio.gather(*(work(turns) for _ in range(4))))
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(found))


async def test_where_nothing_else_goes_on_there_is_no_rest() -> None:
    turns = Turns()
    (_, ended), (began, _) = await work(turns), await work(turns)
    assert began - ended < 5 * WORK_S  # a rest would be twelve times as long


async def test_while_the_loop_computes_it_rests_many_times_as_long() -> None:
    turns = Turns()
    await work(turns)
    compute(0.5)
    (_, ended), (began, _) = await work(turns), await work(turns)
    assert began - ended > 5 * WORK_S


async def test_who_gives_up_leaves_the_turn_to_the_next() -> None:
    turns = Turns()
    await work(turns)
    compute(0.5)
    await work(turns)
    impatient = asyncio.create_task(work(turns))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    await asyncio.wait_for(work(turns), 10)
