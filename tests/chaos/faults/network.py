"""A bad line between LSO and its Redis."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import redis

from tests.chaos.catalogue import fault
from tests.chaos.ledger import Ledger, folded_events
from tests.chaos.proxy import ByteProxy
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import STOP_S, Service
from tests.e2e.systems import register
from tests.store.backends import find, running
from tests.waiting import wait_for
from worker.schedule import QUEUE, arq_settings

RESUMED_S: Final = 5.0
"""So soon after healing everything goes on."""
LATENCY_S: Final = 0.2
JOB: Final = "sweep"


@fault("network")
def network(trial: Trial) -> None:
    """A black hole, resets, latency and sliced packets between LSO and Redis: it goes on after each, and counts right."""
    name = "redis" if find("redis") is not None else "valkey"
    backend = trial.stack.enter_context(running(name))
    proxy = trial.stack.enter_context(ByteProxy(str(backend.socket), trial.seed).running())
    service = trial.start_service("--workers", "2", redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    store = trial.stack.enter_context(redis.Redis(unix_socket_path=str(backend.socket)))
    line = _Line(trial, service, proxy, store)
    with line.load:
        for _ in range(trial.size(1, 3)):
            line.spoil("black_hole", proxy.swallow, trial.size(2.5, 10.0))
            line.spoil("reset", proxy.reset, trial.size(1.0, 3.0))
            line.spoil("sliced", proxy.slice, trial.size(1.0, 10.0), stays_up=True)
            line.spoil("latency", lambda: proxy.delay(LATENCY_S), trial.size(1.0, 10.0), stays_up=True)
    line.close()
    proxy.swallow()
    began = time.monotonic()
    service.stop()  # fails where it takes longer than STOP_S, or leaves a process behind
    trial.figures["stopped_in_black_hole_s"] = round(time.monotonic() - began, 1)
    trial.check(time.monotonic() - began <= STOP_S, "SIGTERM took too long while nothing got through")


class _Line:
    """A service under load behind a proxy."""

    def __init__(self, trial: Trial, service: Service, proxy: ByteProxy, store: redis.Redis) -> None:
        self._trial = trial
        self._service = service
        self._proxy = proxy
        self._store = store
        """Past the proxy."""
        self._processes = service.lasting()
        with service.client() as http:
            self._systems = [register(http, window_seconds=3_600) for _ in range(8)]
        self.load = Load(service.url, [one.id for one in self._systems])

    def spoil(self, name: str, how: Callable[[], None], seconds: float, *, stays_up: bool = False) -> None:
        """Spoil the line for a while, then see everything go on; where it `stays_up`, also meanwhile."""
        before = len(self.load.batches)
        how()
        _pass(seconds)
        if stays_up:
            self._note(f"{name}_batches", len(self.load.batches) - before)
            self._trial.check(len(self.load.batches) > before, f"{name}: nothing is taken meanwhile")
        start, folded, healed = len(self.load.batches), folded_events(self._store, self._systems), time.monotonic()
        self._proxy.heal()
        wait_for(lambda: len(self.load.batches) > start, f"{name}: batches are taken again", 30)
        self._note(f"{name}_accepts_after_s", round(self.load.batches[start].at_s - healed, 2))
        wait_for(lambda: folded_events(self._store, self._systems) > folded, f"{name}: folding goes on", 30)
        self._note(f"{name}_folds_after_s", round(time.monotonic() - healed, 2))
        asyncio.run(_enqueue(self._store))
        wait_for(lambda: not self._store.zcard(QUEUE), f"{name}: arq takes jobs again", 30)
        self._note(f"{name}_jobs_after_s", round(time.monotonic() - healed, 2))
        wait_for(self._service.is_ready, f"{name}: /readyz answers 200", 30)
        took = time.monotonic() - healed
        self._note(f"{name}_all_after_s", round(took, 2))
        self._trial.check(took < self._trial.size(6 * RESUMED_S, RESUMED_S), f"{name}: going on took {took:.1f} s")

    def close(self) -> None:
        """Counted is what was accepted, and nobody had to be started again."""
        ledger = Ledger(self._service, self._systems, self.load)
        self._trial.check(not ledger.lost, f"{ledger.lost_events} acknowledged events are lost")
        for problem in ledger.close():
            self._trial.check(False, problem)
        self._trial.figures["accepted"] = self.load.accepted.total()
        self._trial.figures["duplicates"] = self.load.duplicates
        alive = self._service.lasting()
        self._trial.check(
            alive == self._processes, f"a process was started again: {self._processes} were there, {alive} are"
        )

    def _note(self, name: str, value: float) -> None:
        """Keep the worst of all rounds."""
        worst = min if name.endswith("_batches") else max
        self._trial.figures[name] = worst(value, self._trial.figures.get(name, value))


def _pass(seconds: float) -> None:
    """Let the trouble last. This is the disturbance itself, not a wait for something."""
    time.sleep(seconds)


async def _enqueue(store: redis.Redis) -> None:
    """Give arq a job, as its timetable would; unless the other one waits still."""
    path = store.connection_pool.connection_kwargs["path"]
    pool = arq_settings(f"unix://{path}")["redis_pool"]
    try:
        await pool.enqueue_job(JOB, _queue_name=QUEUE)
    finally:
        await pool.aclose(close_connection_pool=True)
