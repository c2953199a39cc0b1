"""A large fleet, a tenth of it active in each second."""

import json
import math
import threading
import time
from datetime import datetime
from typing import Self

from tests.chaos.catalogue import fault
from tests.chaos.lines import Line
from tests.chaos.trial import Trial
from tests.e2e.service import Service
from tests.waiting import wait_for

SENDERS = 4
FRESH_S = 5.0
BODY = json.dumps({"events": [{"event_type": "success", "status": "ok", "latency_ms": 12.5}]}).encode()
DRAINED_S = 90.0


@fault("many-systems")
def many_systems(trial: Trial) -> None:
    """10,000 systems, 1,000 of them active in each second: snapshots stay fresh, and an idle system costs little."""
    count, active = trial.size(400, 10_000), trial.size(40, 1_000)
    # The hot time is an hour by default; one of seconds would have the archive write 10,000 files while it is measured.
    service = trial.start_service(environ={"LSO_WINDOW_SECONDS": "60", "LSO_HOT_SECONDS": "60"})
    before = _used(service)
    ids = _register(service, count)
    trial.figures.update(systems=count, active_a_second=active, bytes_registered=(_used(service) - before) // count)
    with _Senders(service, ids, active) as senders:
        time.sleep(trial.size(4, 30))
        ages = _ages(trial, service, ids, trial.size(4, 40))
    p99 = ages[math.ceil(0.99 * len(ages)) - 1]
    trial.figures.update(
        events=senders.taken,
        events_a_second=round(senders.taken / senders.seconds),
        age_p50_s=round(ages[len(ages) // 2], 2),
        age_p99_s=round(p99, 2),
        age_max_s=round(ages[-1], 2),
    )
    trial.check(not senders.refused, f"{senders.refused} events were refused")
    trial.check(p99 < trial.size(3 * FRESH_S, FRESH_S), f"the 99th percentile of a snapshot's age is {p99:.1f} s")
    if not trial.short:
        wait_for(lambda: _drained(service), "every window is empty again", DRAINED_S)
        trial.figures["bytes_drained"] = (_used(service) - before) // count


def _register(service: Service, count: int) -> list[int]:
    with Line(service.address) as line:
        for number in range(count):
            assert line.post("/systems", json.dumps({"name": f"fleet-{number}"}).encode()) == 201
    with service.redis() as store:
        return [int(one) for one in store.hkeys("lso:{reg}:records")]


class _Senders:
    """Threads that send single events to random systems at an even pace until the block is left."""

    def __init__(self, service: Service, ids: list[int], rate: int) -> None:
        self.taken = 0
        self.refused = 0
        self.seconds = 0.0
        self._service = service
        self._ids = ids
        self._every_s = SENDERS / rate
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._began

    def _send(self, number: int) -> None:
        ids, taken, refused = self._ids[number::SENDERS], 0, 0
        with Line(self._service.address) as line:
            began = time.monotonic()
            while not self._ending.wait(max(0.0, began + (taken + refused) * self._every_s - time.monotonic())):
                status = line.post(f"/systems/{ids[(taken + refused) % len(ids)]}/events", BODY)
                taken, refused = taken + (status == 202), refused + (status != 202)
        with self._lock:
            self.taken += taken
            self.refused += refused


def _ages(trial: Trial, service: Service, ids: list[int], seconds: float) -> list[float]:
    """Ages of the snapshots of random systems that have events, in order."""
    ages = []
    until = time.monotonic() + seconds
    with Line(service.address) as line:
        while time.monotonic() < until:
            status, body = line.get(f"/systems/{trial.dice.choice(ids)}/health")
            assert status == 200, body
            health = json.loads(body)
            if health["total"]:
                ages.append(time.time() - datetime.fromisoformat(health["as_of"]).timestamp())
            time.sleep(0.01)
    return sorted(ages)


def _used(service: Service) -> int:
    with service.redis() as store:
        return int(store.info("memory")["used_memory"])


def _drained(service: Service) -> bool:
    with service.redis() as store:
        return not any(store.exists(f"lso:{{p{number:02d}}}:due") for number in range(32))
