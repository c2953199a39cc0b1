"""Redis at its maxmemory, filled by ingest or by somebody else."""

import os
import time
from typing import Final

import httpx
import redis

from tests.chaos.catalogue import fault
from tests.chaos.heavy import heavy_body
from tests.chaos.ledger import Ledger
from tests.chaos.trial import Trial
from tests.chaos.watch import Watch, first_refusal, is_told_to_wait
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import register
from tests.waiting import wait_for

MIB: Final = 1 << 20
MAXMEMORY: Final = 48 * MIB
FOREIGN: Final = "somebody-elses:"
HEALED_S: Final = 30.0


@fault("redis-oom")
def redis_oom(trial: Trial) -> None:
    """Redis out of memory, by ingest and by foreign keys: 503 with Retry-After; reads and folding go on; it heals."""
    environ = {"LSO_REDIS_MAXMEMORY": str(MAXMEMORY), "LSO_BACKLOG_BYTES": str(1 << 40)}
    service = trial.start_service("--workers", "1", environ=environ)
    before = service.lasting()
    with service.client() as http:
        for turn in range(1, trial.size(1, 5) + 1):
            _Filling(trial, service, http, f"by_ingest_{turn}").by_ingest()
            _Filling(trial, service, http, f"by_others_{turn}").by_others()
    after = service.lasting()
    trial.check(
        before == after, f"a process was started again: {before} were there, {after} are; {service.said()[-2_000:]}"
    )


class _Filling:
    """A server that is filled under load, looked at, and relieved."""

    def __init__(self, trial: Trial, service: Service, http: httpx.Client, name: str) -> None:
        self._trial = trial
        self._service = service
        self._name = name
        self._systems = [register(http, window_seconds=3_600) for _ in range(3)]
        self._probe = register(http)
        """Sent what shall be refused; the load's systems count what the load alone sent."""
        (self._worker,) = service.children("worker")

    def by_ingest(self) -> None:
        """Nobody folds until the server is full; then somebody does, which is all it takes."""
        with self._load() as load, Watch(self._service.url, self._systems[0]) as watch:
            self._worker.suspend()
            self._expect_refusal()
            resumed = time.monotonic()
            self._worker.resume()
            self._expect_acceptance(load, resumed)
        self._close(load, watch)

    def by_others(self) -> None:
        """Foreign keys fill the server. What was accepted is folded all the same; more is taken once they are gone."""
        with self._load() as load, Watch(self._service.url, self._systems[0]) as watch, self._service.redis() as store:
            wait_for(lambda: len(load.batches) > 10, "batches are taken", HEALED_S)
            self._worker.suspend()
            wait_for(lambda: _backlog(self._service) > 0, "something waits to be folded", HEALED_S)
            _fill(store)
            self._expect_refusal()
            self._worker.resume()
            wait_for(lambda: _backlog(self._service) == 0, "a full server's backlog is folded", HEALED_S)
            _fill(store)  # also what folding and trimming gave back
            self._expect_refusal()
            freed = time.monotonic()
            _empty(store)
            self._expect_acceptance(load, freed)
        self._close(load, watch)

    def _load(self) -> Load:
        body = heavy_body(self._trial.dice, events=20)
        return Load(self._service.url, [one.id for one in self._systems], body=body)

    def _expect_refusal(self) -> None:
        answer = first_refusal(self._probe, HEALED_S)
        self._trial.check(is_told_to_wait(answer), f"{self._name}: a full server answers {answer.status_code}")
        self._trial.check("out of memory" in answer.text, f"{self._name}: it does not say why: {answer.text}")

    def _expect_acceptance(self, load: Load, since: float) -> None:
        start = len(load.batches)
        wait_for(lambda: len(load.batches) > start + 10, "batches are taken again", HEALED_S)
        self._trial.figures[f"{self._name}_accepts_after_s"] = round(load.batches[start].at_s - since, 2)

    def _close(self, load: Load, watch: Watch) -> None:
        ledger = Ledger(self._service, self._systems, load)
        self._trial.check(not ledger.lost, f"{self._name}: {ledger.lost_events} acknowledged events are lost")
        for problem in ledger.close():
            self._trial.check(False, f"{self._name}: {problem}")
        self._trial.check(watch.failed == 0, f"{self._name}: reads were answered {dict(watch.answers)}")
        self._trial.figures[f"{self._name}_reads"] = watch.answers.total()
        self._trial.figures[f"{self._name}_accepted"] = load.accepted.total()
        self._trial.figures[f"{self._name}_refusals"] = load.retries


def _fill(store: redis.Redis) -> None:
    """Take all memory that is left."""
    for size in (MIB, 64 << 10, 4 << 10):
        try:
            while True:
                store.set(FOREIGN + os.urandom(8).hex(), b"x" * size)
        except redis.exceptions.OutOfMemoryError:
            continue


def _empty(store: redis.Redis) -> None:
    for key in store.scan_iter(match=FOREIGN + "*", count=1_000):
        store.delete(key)


def _backlog(service: Service) -> int:
    """Events that are accepted and not folded."""
    return int(httpx.get(f"{service.url}/autoscale", timeout=10).json()["backlog"]["events"])
