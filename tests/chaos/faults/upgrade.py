"""Two releases at once, as in a rolling upgrade."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Final

from lso_core.compute import columns
from lso_core.settings import Settings
from lso_core.store.ingest import Ingest
from lso_core.store.server import Server
from tests.chaos.catalogue import fault
from tests.chaos.controls import Controls, controls
from tests.chaos.trial import Trial
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, event, register
from tests.store.rooms import batch

BATCH: Final = 100
SETTLED_S: Final = 30.0
HANDOVER_S: Final = 12.0
"""A system that waits is tried every 5 s; then its partition changes hands."""


@fault("newer-format")
def newer_format(trial: Trial) -> None:
    """Entries that only a newer worker reads: left to it where one is alive, else their systems wait alone; all counted."""
    service = trial.start_service("--workers", "1")
    with service.client() as http, controls(trial, service, beside=True) as crew:
        newer, plain = ([register(http, window_seconds=3_600) for _ in range(trial.size(2, 20))] for _ in range(2))
        story = _Story(trial, service, newer, plain)
        story.send()
        story.all_counted(plain)
        for system in newer:
            reason = system.health_with(health="UNKNOWN", total=0, within=SETTLED_S)["reason"]
            trial.check("written by a newer release" in str(reason), f"the reason is {reason!r}")
        handovers = [_handover(story, crew) for _ in range(trial.size(1, 10))]
        letters = sum(len(http.get("/dead-letters", params={"system_id": one.id}).json()["items"]) for one in newer)
        trial.check(letters == 0, f"{letters} entries of the newer release are dead letters")
        trial.figures.update(
            newer=len(newer),
            plain=len(plain),
            events=story.sent * len(newer + plain),
            handovers=len(handovers),
            longest_handover_s=round(max(handovers), 2),
        )


class _Story:
    """What was sent, to systems that are written to by a newer release and to others."""

    def __init__(
        self, trial: Trial, service: Service, newer: list[ObservedSystem], plain: list[ObservedSystem]
    ) -> None:
        self.trial = trial
        self.newer = newer
        self.plain = plain
        self.sent = 0
        """Events, to each system."""
        self._service = service

    def send(self) -> None:
        """A batch to each system."""
        asyncio.run(self._append())
        for system in self.plain:
            system.take([event() for _ in range(BATCH)])
        self.sent += BATCH

    async def _append(self) -> None:
        server = Server.connect(self._service.store_url)
        with _newer_release():
            written = batch(BATCH, run_id="a run")
        for system in self.newer:
            await Ingest(server, Settings()).append(system.id, written, None)
        await server.close()

    def all_counted(self, systems: list[ObservedSystem]) -> None:
        """Wait until everything sent to `systems` is counted, and no more."""
        for system in systems:
            found = system.health_with(total=self.sent, within=SETTLED_S)
            self.trial.check(found["health"] == "OK", f"system {system.id} reads {found['health']}: {found['reason']}")


def _handover(story: _Story, crew: Controls) -> float:
    """A newer worker comes, folds what waits, and is killed; the seconds until what waited is counted."""
    process = crew.start("--newer")
    began = time.monotonic()
    story.all_counted(story.newer)
    took = time.monotonic() - began
    story.trial.check(took <= HANDOVER_S, f"what waited was counted {took:.1f} s after a newer worker came")
    for _ in range(story.trial.size(3, 10)):
        story.send()
        story.all_counted(story.newer + story.plain)
    process.kill()
    story.send()
    story.all_counted(story.plain)
    for system in story.newer:
        system.health_with(health="UNKNOWN", total=story.sent - BATCH, within=SETTLED_S)
    return took


@contextlib.contextmanager
def _newer_release() -> Iterator[None]:
    """What is written meanwhile, with run ids, is of one format more."""
    columns.FORMAT += 1  # type: ignore[misc]
    try:
        yield
    finally:
        columns.FORMAT -= 1  # type: ignore[misc]
