"""A worker process with a fault built in, for trials: `python -m tests.control.worker --torn`.

--unfenced   commits whoever holds the lease and whatever the state has become
--torn       writes the slots in one round trip and, later, cursor and counters in another
--pause S    waits so long between folding and committing
--dies       is killed (SIGKILL, by itself) after it has folded entries and before it commits them
--no-sweep   has no timetable
--newer      is of a release that reads one more format of entries
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Any

import worker.schedule
from lso_core.compute import columns
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.folding import Commit, Folding, Lease, Outcome
from lso_core.store.server import Server
from tests.control.scripts import without_fences
from worker import main
from worker.folding import Folder, FoldReport
from worker.stepping import Step


def run() -> None:
    """Build the faults in, then work as the product does."""
    parser = argparse.ArgumentParser()
    for flag in ("--unfenced", "--torn", "--dies", "--no-sweep", "--newer"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    asked = parser.parse_args()
    _meddle(asked)
    main.run(Settings.from_env(os.environ), f"control-{os.getpid()}")


def _meddle(asked: argparse.Namespace) -> None:
    if asked.no_sweep:
        worker.schedule.timetable = list
    if asked.newer:
        columns.FORMAT += 1  # type: ignore[misc]
    begin, commit, write = Folder.__init__, Folder._commit, Folding.commit

    def begin_unfenced(self: Folder, server: Server, settings: Settings, worker_id: str) -> None:
        begin(self, server, settings, worker_id)
        without_fences(self.server)

    async def commit_late(self: Folder, steps: list[Step]) -> FoldReport:
        if asked.dies and any(step.events for step in steps):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(asked.pause)
        return await commit(self, steps)

    async def write_torn(self: Folding, commits: Sequence[tuple[Lease, Commit]]) -> list[tuple[Outcome, int]]:
        await self._server.run(*(_slots(one) for _, one in commits if one.slots))
        await asyncio.sleep(asked.pause)
        return await write(self, commits)

    if asked.unfenced:
        Folder.__init__ = begin_unfenced  # type: ignore[method-assign]
    if asked.torn:
        Folding.commit = write_torn  # type: ignore[method-assign]
    else:
        Folder._commit = commit_late  # type: ignore[method-assign]


def _slots(commit: Commit) -> tuple[Any, ...]:
    pairs = (part for pair in commit.slots.items() for part in pair)
    return ("HSET", keys.state(commit.system.system_id), *pairs)


if __name__ == "__main__":
    run()
