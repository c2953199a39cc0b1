"""A process that computes beside another one."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from lso_core.aside import Aside
from tests.asides import NICE
from tests.waiting import has_ended, wait_for


@pytest.fixture
async def aside() -> AsyncIterator[Aside]:
    one = Aside("tests.asides", {"TOLD": "something"})
    yield one
    await one.close()


async def pid_of(aside: Aside) -> int:
    return int((await aside.ask(b"who")).split()[0])


async def test_each_gets_the_answer_to_his_own_frame(aside: Aside) -> None:
    frames = [os.urandom(size) for size in (1, 0, 3_000_000, 70_000)]
    assert await asyncio.gather(*map(aside.ask, frames)) == frames


async def test_it_leaves_the_cores_to_others_and_knows_what_it_was_told(aside: Aside) -> None:
    _, priority, group, told = (await aside.ask(b"who")).decode().split()
    assert (int(priority), told) == (os.getpriority(os.PRIO_PROCESS, 0) + NICE, "something")
    assert int(group) == NICE, "among sessions, too"


async def test_one_that_dies_is_an_error_and_the_next_frame_starts_another(aside: Aside) -> None:
    first = await pid_of(aside)
    with pytest.raises(EOFError):
        await aside.ask(b"die")
    assert await aside.ask(b"again") == b"again"
    assert await pid_of(aside) != first


async def test_who_gives_up_gets_nobody_elses_answer(aside: Aside) -> None:
    await aside.ask(b"")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(aside.ask(b"sleep"), 0.2)
    assert await aside.ask(b"mine") == b"mine"


async def test_without_work_it_goes_and_comes_back(aside: Aside) -> None:
    first = psutil.Process(await pid_of(aside))
    await aside.rest(3_600)
    assert first.is_running()
    await aside.rest(-1)
    assert not first.is_running()
    assert await aside.ask(b"again") == b"again"


PARENT = """
import asyncio, sys
from lso_core.aside import Aside

async def main():
    aside = Aside("tests.asides")
    print((await aside.ask(b"who")).decode(), flush=True)
    await aside.ask(b"sleep")

asyncio.run(main())
"""


def test_it_ends_with_its_parent_however_that_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline().split()[0]))
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: has_ended(child), "the child outlives its parent")
