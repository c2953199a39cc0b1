"""Entries that no worker can read, among those that it can."""

import asyncio
import struct
import zlib
from typing import Final

from lso_core.compute import columns
from lso_core.model.batches import Batch
from lso_core.settings import Settings
from lso_core.store.ingest import Ingest
from lso_core.store.server import Server
from tests.chaos.catalogue import fault
from tests.chaos.trial import Trial
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, event, register
from tests.store.rooms import batch
from tests.waiting import wait_for

BATCH: Final = 200
BAD: Final = 30
SETTLED_S: Final = 30.0


@fault("poison-entries")
def poison_entries(trial: Trial) -> None:
    """Unreadable entries: exactly those become dead letters; a system of which most are unreadable is parked alone."""
    service = trial.start_service()
    with service.client() as http:
        some, most, none = (register(http, window_seconds=3_600) for _ in range(3))
        wanted = asyncio.run(_send(trial, service, some, trial.size(10_000, 100_000)))
        asyncio.run(_flood(service, most))
        none.take([event()])
        none.health_with(total=1, within=SETTLED_S)
        some.health_with(total=wanted, within=SETTLED_S)
        parked = most.health_with(health="UNKNOWN", within=SETTLED_S)
        wait_for(lambda: "cannot be read" in str(most.health()["reason"]), "the parked system says why", SETTLED_S)
        letters = http.get("/dead-letters", params={"system_id": some.id, "limit": 500}).json()["items"]
        buried = http.get("/dead-letters", params={"system_id": most.id, "limit": 500}).json()["items"]
        trial.check({one["kind"] for one in letters} == {"entry"}, "something else is among the dead letters")
        trial.check(len(letters) == BAD, f"{len(letters)} entries are dead letters, not {BAD}")
        trial.check(len(buried) < 100, f"{len(buried)} entries of the parked system are buried")
        trial.check(some.health()["total"] == wanted, "the readable entries are not counted exactly")
        trial.check(parked["total"] == 0, "the parked system counts what cannot be read")
        trial.figures.update(events=wanted, poisoned=BAD, dead_letters=len(letters), parked_with_letters=len(buried))


async def _send(trial: Trial, service: Service, system: ObservedSystem, events: int) -> int:
    """Good entries, and bad ones at random places among them; how many events are good."""
    async with _Ingest(service) as ingest:
        places = set(trial.dice.sample(range(events // BATCH), BAD))
        for number in range(events // BATCH):
            sent = batch(BATCH)
            await ingest.append(system.id, sent, None)
            if number in places:
                await ingest.append(system.id, _spoilt(trial, sent), None)
    return events // BATCH * BATCH


async def _flood(service: Service, system: ObservedSystem) -> None:
    """Nothing but bad entries."""
    async with _Ingest(service) as ingest:
        for _ in range(150):
            await ingest.append(system.id, Batch(5, b"nothing of the kind", b"", None, b""), None)


def _spoilt(trial: Trial, sent: Batch) -> Batch:
    """Cut off, with a flipped bit, of a format before the first, or something else altogether."""
    block = sent.columns
    at = trial.dice.randrange(len(columns.MAGIC) + 1, len(block))
    unknown = columns.MAGIC + struct.pack("<B", 0) + block[len(columns.MAGIC) + 1 : -4]
    spoilt = trial.dice.choice(
        [
            block[:at],
            block[:at] + bytes([block[at] ^ 0x10]) + block[at + 1 :],
            unknown + struct.pack("<I", zlib.crc32(unknown)),
            b"LSO",
        ]
    )
    return Batch(sent.count, spoilt, sent.body, None, b"")


class _Ingest:
    """The way in for entries that the API would not make."""

    def __init__(self, service: Service) -> None:
        self._server = Server.connect(service.store_url)

    async def __aenter__(self) -> Ingest:
        return Ingest(self._server, Settings())

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()
