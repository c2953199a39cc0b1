"""The loops that call the folder's steps, and what they do when Redis is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import structlog

from lso_core.model.errors import StoreError
from lso_core.telemetry import Telemetry
from worker.folding import Folder, FoldReport
from worker.rebuilding import Rebuilder

log = structlog.get_logger(__name__)

TEND_S: Final = 0.5
"""Leases last four of these."""
HOUSE_S: Final = 1.0
REBUILD_S: Final = 0.5
PACE_S: Final = 0.02
LONGEST_PACE_S: Final = 0.3
RESTS: Final = 3
"""Most of a step's cost does not depend on how much it folds. So a step that did something is followed by a rest of three
times the processor time that it took, within these bounds from begin to begin: the more there is to do, the fewer and
larger the steps. What it waited, for Redis or for others on the machine, makes nobody wait longer."""
LEAST_REST: Final = 1 / 8
"""A rest is at least this part of the time that the steps before it took, however long. Redis serves all by turns, and who never
rests takes half of it, also where appends want more."""
QUIET_PACE_S: Final = 0.03
"""While busy systems rest, quiet ones have steps of their own, so far apart: to look costs a fraction of a millisecond."""
IDLE_S: Final = 0.05
AWAY_S: Final = 0.25
"""How soon to try again when Redis is away."""
STALLED_S: Final = 10.0
"""A fold loop silent for longer is no sign of life, whatever the other loops say."""

Step = Callable[[], Awaitable[float]]
"""Does one thing and says how many seconds to wait before the next."""


class Round(NamedTuple):
    """Steps that together have folded every busy system once."""

    more: int = 0
    took_s: float = 0.0
    used_s: float = 0.0

    def plus(self, report: FoldReport, took_s: float, used_s: float) -> "Round":
        """With one step more, which took so long, and so much processor time."""
        return Round(self.more + report.more, self.took_s + took_s, self.used_s + used_s)


class Loops:
    """Tend, fold and keep house, until told to stop. A loop that fails for another reason than Redis ends them all."""

    def __init__(self, folder: Folder, telemetry: Telemetry) -> None:
        self._folder = folder
        self._rebuilder = Rebuilder(folder)
        self._telemetry = telemetry
        self._stopping = asyncio.Event()
        self._turned = time.monotonic()
        self._busy_from = self._turned
        """When busy systems have their turn again…"""
        self._round = Round()
        """…and what the one before came to so far."""

    async def run(self) -> None:
        """Run until `stop`; then give the leases back. Raises what ended a loop."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._repeat("tend", self._tend))
                group.create_task(self._repeat("fold", self._fold))
                group.create_task(self._repeat("house", self._keep_house))
                group.create_task(self._repeat("rebuild", self._rebuild))
        finally:
            await self._leave()

    def stop(self) -> None:
        """End the loops after their current steps."""
        self._stopping.set()

    async def _repeat(self, name: str, step: Step) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                pause = await step()
                if away:
                    log.info("redis.back", loop=name)
                away = False
            except StoreError as error:
                if not away:
                    log.warning("redis.away", loop=name, error=str(error))
                away, pause = True, AWAY_S
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _tend(self) -> float:
        if time.monotonic() - self._turned > STALLED_S:
            log.error("fold.stalled", seconds=round(time.monotonic() - self._turned, 1))
            return TEND_S  # no sign of life: leases run out and others take over
        report = await self._folder.tend()
        if report.taken or report.released or report.lost:
            log.info(
                "leases.changed",
                held=report.held,
                taken=report.taken,
                released=report.released,
                lost=report.lost,
                workers=report.workers,
            )
        return TEND_S

    async def _fold(self) -> float:
        began, used_s = time.monotonic(), time.thread_time()
        all_at_once = began >= self._busy_from
        report = await self._folder.fold_once(busy=all_at_once)
        used_s = time.thread_time() - used_s
        self._turned = time.monotonic()
        self._count(report)
        if not report.systems and not report.busy:
            self._round = Round()
            return IDLE_S
        took_s = self._turned - began
        if not all_at_once:
            rest_s = max(QUIET_PACE_S, rest_after(Round().plus(report, took_s, used_s)))
            return max(0.0, min(rest_s, self._busy_from - self._turned))
        self._round = self._round.plus(report, took_s, used_s)
        if report.left:
            return 0.0
        rest_s, self._round = rest_after(self._round), Round()
        self._busy_from = self._turned + rest_s
        return min(rest_s, QUIET_PACE_S) if report.busy else rest_s

    def _count(self, report: FoldReport) -> None:
        telemetry = self._telemetry
        telemetry.worker_turns.inc()
        if not report.seconds:
            return
        telemetry.fold_seconds.observe(report.seconds)
        telemetry.folded.inc(report.events)
        telemetry.folded_entries.inc(report.entries)
        telemetry.fenced.inc(report.fenced)
        telemetry.dead_letters.inc(report.dead)

    async def _keep_house(self) -> float:
        trimmed = await self._folder.keep_house()
        if trimmed.lost:
            self._telemetry.archive_lost.inc(trimmed.lost)
            log.warning("hot.lost", events=trimmed.lost)
        return HOUSE_S

    async def _rebuild(self) -> float:
        await self._rebuilder.once()
        return REBUILD_S

    async def _leave(self) -> None:
        try:
            await self._folder.leave()
        except StoreError as error:
            log.warning("leases.not-released", error=str(error))


def rest_after(done: Round) -> float:
    """How long to rest after one or more steps; not at all where they left something to do."""
    if done.more:
        return 0.0
    pace_s = min(LONGEST_PACE_S, max(PACE_S, done.took_s + RESTS * done.used_s))
    return max(LEAST_REST * done.took_s, pace_s - done.took_s)
