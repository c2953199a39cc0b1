"""A service under load whose processes can be maltreated, and what must be true of it afterwards."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import httpx
import psutil

from lso_core.store import keys
from tests.chaos.ledger import Ledger
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import event, register
from tests.waiting import wait_for

PARTITIONS: Final = frozenset({0, 3, 5, 10, 15, 20, 25, 30})
"""Where the systems live: even and odd, low and high, so that workers share them however they share."""
SETTLED_S: Final = 30.0


class Scene:
    """Systems in several partitions, pipelines that post to them, and events that show how soon things are counted."""

    def __init__(self, trial: Trial, service: Service, http: httpx.Client) -> None:
        self.trial = trial
        self.service = service
        self.http = http
        registered = [register(http, window_seconds=3_600) for _ in range(32)]
        self.systems = [system for system in registered if system.id % 32 in PARTITIONS]
        self.probes: Counter[int] = Counter()
        """Events that were posted besides the load."""

    def load(self) -> Load:
        return Load(self.service.url, [system.id for system in self.systems])

    def workers(self, count: int = 2) -> list[psutil.Process]:
        """The workers under `lso up`, once there are so many."""

        def enough() -> list[psutil.Process]:
            found = self.service.children("worker")
            return found if len(found) >= count else []

        return wait_for(enough, f"there are {count} workers", SETTLED_S)

    def owners(self) -> Counter[str]:
        """How many partitions each worker holds, by its name."""
        with self.service.redis() as store:
            found = [store.hget(keys.lease(number), "owner") for number in range(32)]
        return Counter(owner.decode() for owner in found if owner)

    def sharers(self) -> list[psutil.Process]:
        """Two workers, once they hold all partitions between them evenly, so that either has something to lose."""
        found = self.workers()
        wait_for(lambda: sorted(self.owners().values()) == [16, 16], "two workers hold 16 leases each", SETTLED_S)
        return found

    def takeover_s(self, disturb: Callable[[], object]) -> float:
        """Seconds from a disturbance until an event that came right after it is counted, in the slowest system."""
        with self.service.redis() as store:
            disturb()
            began = time.monotonic()
            behind = {}
            for system in self.systems:
                entry = system.take([event()])["entries"][1]
                self.probes[system.id] += 1
                behind[system.id] = _id(entry)

            def caught_up() -> bool:
                for system_id in list(behind):
                    cursor = store.hget(keys.state(system_id), "c")
                    if cursor and _id(cursor.decode()) >= behind[system_id]:
                        del behind[system_id]
                return not behind

            wait_for(caught_up, "what came after the disturbance is counted in every system", SETTLED_S)
        return time.monotonic() - began

    def close(self, load: Load) -> Ledger:
        """Counted equals accepted, in answers, counters and streams; what does not agree is noted."""
        ledger = Ledger(self.service, self.systems, load, self.probes)
        for problem in ledger.close():
            self.trial.check(False, problem)
        self.trial.check(not ledger.lost, f"{ledger.lost_events} acknowledged events are lost")
        excess = [ledger.counted[one] - wanted for one, wanted in ledger.wanted.items()]
        self.trial.figures["events"] = sum(ledger.wanted.values())
        self.trial.figures["lost"] = -sum(one for one in excess if one < 0)
        self.trial.figures["double"] = sum(one for one in excess if one > 0)
        return ledger


def metric(http: httpx.Client, name: str) -> float:
    """The sum of a counter over all its labels, as /metrics shows it."""
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _id(text: str) -> tuple[int, int]:
    """An entry's id in its order."""
    ms, _, number = text.partition("-")
    return int(ms), int(number)
