"""A Redis that is there and does not answer."""

import threading
import time
from types import TracebackType
from typing import Self

import httpx
import psutil

from lso_core.store.breaker import STALLED_S
from tests.chaos.catalogue import fault
from tests.chaos.ledger import Ledger
from tests.chaos.scene import metric
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.systems import register
from tests.waiting import wait_for

READERS = 50
AT_ONCE_S = 0.5
"""Twice that in the short form, which runs beside other tests."""
BACK_S = 3.0


@fault("redis-hangs")
def redis_hangs(trial: Trial) -> None:
    """SIGSTOP of Redis under load: requests are refused at once instead of piling up, and go on when it does."""
    service = trial.start_service("--api-processes", "1")
    with service.client() as http:
        systems = [register(http, window_seconds=3_600) for _ in range(4)]
        with Load(service.url, [one.id for one in systems]) as load, _Readers(service.url, systems[0].path) as readers:
            wait_for(lambda: len(load.batches) > 20, "the load is under way", 20)
            for _ in range(trial.size(1, 10)):
                _hang(trial, service.store_process(), http, readers, load)
        wait_for(
            lambda: metric(http, "lso_redis_circuit_opens_total") > 0, "/metrics says that the circuit was open", 10
        )
        trial.figures["refused"] = int(metric(http, "lso_redis_circuit_refused_total"))
        ledger = Ledger(service, systems, load)
        for problem in ledger.close():
            trial.check(False, problem)
        trial.figures["events"] = load.accepted.total()
        trial.figures["lost"] = ledger.lost_events


def _hang(trial: Trial, store: psutil.Process, http: httpx.Client, readers: "_Readers", load: Load) -> None:
    store.suspend()
    stopped = time.monotonic()
    wait_for(lambda: metric(http, "lso_redis_circuits_open") == 1, "/metrics says that Redis does not answer", 10)
    trial.check(http.get("/readyz").status_code == 503, "/readyz says that it is ready")
    wait_for(lambda: time.monotonic() - stopped > STALLED_S + 1.0, "everybody who asked before waits or was refused")
    readers.begin()
    time.sleep(trial.size(3.0, 4.0))
    waits = readers.answers()
    store.resume()
    resumed, before = time.monotonic(), len(load.batches)
    wait_for(lambda: len(load.batches) > before, "batches are taken again", 20)
    back_s = time.monotonic() - resumed
    # A pipeline has patience for a few hangs, not for one after the other with hardly time for an answer between them.
    wait_for(lambda: load.all_taken_since(resumed), "every pipeline's batch is taken", 20)
    late = sum(wait > trial.size(2, 1) * AT_ONCE_S for wait in waits)
    trial.figures["answers_while_hung"] = int(trial.figures.get("answers_while_hung", 0)) + len(waits)
    trial.figures["answer_p50_ms"] = round(1_000 * sorted(waits)[len(waits) // 2], 1)
    trial.figures["back_max_s"] = max(float(trial.figures.get("back_max_s", 0)), round(back_s, 2))
    trial.check(
        late <= len(waits) / trial.size(20, 200), f"{late} of {len(waits)} requests waited for a Redis that hangs"
    )
    trial.check(back_s < trial.size(3 * BACK_S, BACK_S), f"batches were taken again only after {back_s:.1f} s")


class _Readers:
    """Clients that ask for one system's health, one request after the other, until the block is left."""

    def __init__(self, url: str, path: str) -> None:
        self._url = url
        self._path = path
        self._waits: list[tuple[float, float]] = []
        self._since = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(READERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def begin(self) -> None:
        """From now on: who asked before may have done so before anybody knew, and waits for an answer."""
        self._since = time.monotonic()

    def answers(self) -> list[float]:
        """How long each answer took that was asked for since then, in seconds."""
        return [took for began, took in list(self._waits) if began >= self._since]

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as http:
            while not self._stop.wait(0.1):
                began = time.monotonic()
                http.get(f"{self._path}/health")
                self._waits.append((began, time.monotonic() - began))
