"""kill -9 of the embedded Redis: what each fsync policy loses, and how soon everything goes on."""

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import psutil
import redis

from lso_core.store import keys
from tests.chaos.catalogue import fault
from tests.chaos.heavy import heavy_body
from tests.chaos.ledger import Ledger, folded_events, numbers
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, register
from tests.waiting import wait_for

SYSTEMS = 4
BACK_S = 3.0
"""So soon after Redis both API and worker go on."""
FULL_MB_S = 100.0
"""At full load Redis is killed in a second in which so much was acknowledged."""
HOT_BYTES = 64 << 20
"""Little is kept behind the cursor, so that a server that comes back has little to load."""


@fault("kill-redis-always")
def kill_redis_always(trial: Trial) -> None:
    """kill -9 of the embedded Redis, fsync always, at light load and at full: nothing acknowledged is lost."""
    lost = _kill_at_both_loads(trial, "always")
    trial.check(lost == 0, f"{lost} acknowledged events are lost under appendfsync always")


@fault("kill-redis-everysec")
def kill_redis_everysec(trial: Trial) -> None:
    """kill -9 of the embedded Redis, fsync everysec: the loss is counted, and what is left is consistent."""
    _kill_at_both_loads(trial, "everysec")


def _kill_at_both_loads(trial: Trial, policy: str) -> int:
    """Acknowledged events that were lost."""
    environ = {"LSO_REDIS_APPENDFSYNC": policy, "LSO_HOT_BYTES": str(HOT_BYTES)}
    service = trial.start_service(environ=environ)
    with service.client() as http:
        light = [register(http, window_seconds=3_600) for _ in range(SYSTEMS)]
        heavy = [register(http, window_seconds=3_600) for _ in range(SYSTEMS)]
    lost = _Kills(trial, service, light, "light").under(Load(service.url, [one.id for one in light]))
    body = heavy_body(trial.dice)
    load = Load(service.url, [one.id for one in heavy], body=body, threads=4, pause_s=0)
    return lost + _Kills(trial, service, heavy, "full", least_mb_s=trial.size(0.0, FULL_MB_S)).under(load)


class _Kills:
    """A number of kills under one load."""

    def __init__(
        self, trial: Trial, service: Service, systems: Sequence[ObservedSystem], load: str, least_mb_s: float = 0.0
    ) -> None:
        self._trial = trial
        self._service = service
        self._systems = systems
        self._name = load
        self._least_mb_s = least_mb_s
        self._cuts: list[int] = []
        """How many batches had been acknowledged at each kill."""
        self._accepts_s: list[float] = []
        self._folds_s: list[float] = []
        self._rates: list[float] = []
        """MB acknowledged in the second before each kill, as they are in the streams."""

    def under(self, load: Load) -> int:
        """Kill under `load`, close the books, and note the figures; acknowledged events that were lost."""
        with load:
            for _ in range(self._trial.size(1, 20)):
                self._kill(load)
        ledger = Ledger(self._service, self._systems, load)
        for problem in ledger.close():
            self._trial.check(False, f"{self._name} load: {problem}")
        self._note(ledger)
        return ledger.lost_events

    def _kill(self, load: Load) -> None:
        began, before = time.monotonic(), len(load.batches)
        seconds = self._trial.dice.uniform(1.0, self._trial.size(1.5, 2.5))
        wait_for(lambda: len(load.batches) > before + 5, "the load is under way", 30)
        entry_mb, rate = self._entry_bytes() / 1e6, 0.0

        def at_full() -> bool:
            nonlocal rate
            now = time.monotonic()
            rate = entry_mb * sum(now - one.at_s < 1.0 for one in load.batches[before:])
            return now - began > seconds and rate >= self._least_mb_s

        wait_for(at_full, f"{self._least_mb_s} MB/s are acknowledged", 60)
        victim = self._service.store_process()
        with self._service.redis() as store:
            victim.kill()
            self._cuts.append(len(load.batches))
            self._rates.append(rate)
            self._await_return(store, victim, load)

    def _await_return(self, store: redis.Redis, victim: psutil.Process, load: Load) -> None:
        wait_for(lambda: not victim.is_running() and _answers(store), "Redis is back", 60)
        ready, start = time.monotonic(), len(load.batches)
        folded = folded_events(store, self._systems)
        accepts_at = folds_at = 0.0

        def both() -> bool:
            nonlocal accepts_at, folds_at
            accepts_at = accepts_at or (load.batches[start].at_s if len(load.batches) > start else 0.0)
            if not folds_at and folded_events(store, self._systems) > folded:
                folds_at = time.monotonic()
            return bool(accepts_at and folds_at)

        wait_for(both, "API and worker go on", 60)
        self._accepts_s.append(accepts_at - ready)
        self._folds_s.append(folds_at - ready)

    def _note(self, ledger: Ledger) -> None:
        figures, name = self._trial.figures, self._name
        per_kill = self._losses(ledger)
        figures[f"{name}_kills"] = len(self._cuts)
        figures[f"{name}_acknowledged"] = sum(batch.events for batch in ledger.batches)
        figures[f"{name}_lost"] = ledger.lost_events
        figures[f"{name}_lost_batches_worst_kill"] = max(per_kill)
        figures[f"{name}_kills_with_loss"] = sum(loss > 0 for loss in per_kill)
        figures[f"{name}_mb_s"] = round(statistics.median(self._rates), 1)
        figures[f"{name}_mb_s_least"] = round(min(self._rates), 1)
        figures[f"{name}_accepts_after_max_s"] = round(max(self._accepts_s), 2)
        figures[f"{name}_folds_after_max_s"] = round(max(self._folds_s), 2)
        slowest = max(self._accepts_s + self._folds_s)
        self._trial.check(
            slowest < self._trial.size(10 * BACK_S, BACK_S), f"{name} load: going on took {slowest:.1f} s after Redis"
        )

    def _losses(self, ledger: Ledger) -> list[int]:
        """Batches lost at each kill: those that were acknowledged since the kill before."""
        place = {batch: at for at, batch in enumerate(ledger.batches)}
        lost = [place[batch] for batch in ledger.lost]
        edges = [0, *self._cuts]
        return [sum(low <= at < high for at in lost) for low, high in itertools.pairwise(edges)]

    def _entry_bytes(self) -> float:
        """Mean size of an entry in the streams."""
        with self._service.redis() as store:
            sums = [numbers(store, keys.system(one.id), "bytes", "entries") for one in self._systems]
        return sum(size for size, _ in sums) / sum(entries for _, entries in sums)


def _answers(store: redis.Redis) -> bool:
    """Whether the server has loaded its data."""
    try:
        state: Any = store.info("persistence")
    except redis.RedisError:
        return False
    return int(state["loading"]) == 0
