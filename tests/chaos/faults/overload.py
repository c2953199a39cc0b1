"""More events than can be folded."""

import math
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from tests.chaos.catalogue import fault
from tests.chaos.ledger import Ledger, folded_events
from tests.chaos.lines import Line
from tests.chaos.scene import metric
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, register
from tests.waiting import wait_for

MIB: Final = 1 << 20
BACKLOG: Final = 4 * MIB
P99_MS: Final = 250.0
REFUSED_S: Final = 30.0


@fault("overload")
def overload(trial: Trial) -> None:
    """Twice what folding can take: memory stays bounded, ingest answers 503 past the cap, health is read as ever."""
    seconds = trial.size(4, 60)
    service = trial.start_service(
        "--workers", "1", environ={"LSO_BACKLOG_BYTES": str(BACKLOG), "LSO_HOT_BYTES": str(BACKLOG)}
    )
    with service.client() as http:
        systems = [register(http, window_seconds=3_600) for _ in range(4)]
        load = Load(service.url, [one.id for one in systems], threads=4, batch=2_000, pause_s=0)
        reader = _Reader(service, systems[0])
        with load, reader:
            time.sleep(1.5)
            throttle = _Throttle(service, systems, load.accepted.total() / 1.5 / 2)
            with throttle:
                most = _watch(trial, service, load, seconds)
        ledger = Ledger(service, systems, load)
        for problem in ledger.close():
            trial.check(False, problem)
        refused = wait_for(lambda: int(metric(http, "lso_batches_refused_total")), "refusals are counted", REFUSED_S)
    p99 = sorted(reader.took_ms)[math.ceil(0.99 * len(reader.took_ms)) - 1]
    trial.figures.update(
        seconds=seconds,
        accepted=load.accepted.total(),
        refused_batches=refused,
        lost=ledger.lost_events,
        redis_max_mib=round(most / MIB),
        health_reads=len(reader.took_ms),
        health_p99_ms=round(p99, 1),
    )
    trial.check(most < 8 * BACKLOG, f"Redis took {most / MIB:.0f} MiB for a backlog of {BACKLOG / MIB:.0f}")
    trial.check(p99 < trial.size(8 * P99_MS, P99_MS), f"the 99th percentile of a health read was {p99:.0f} ms")


def _watch(trial: Trial, service: Service, load: Load, seconds: float) -> int:
    """Let it go on for so long, and until something is refused; the most memory that Redis used meanwhile."""
    most, until = 0, time.monotonic() + seconds
    with service.redis() as store:
        while time.monotonic() < until or (not load.retries and time.monotonic() < until + REFUSED_S):
            most = max(most, int(store.info("memory")["used_memory"]))
            time.sleep(0.2)
    return most


class _Throttle:
    """Lets a worker fold so many events a second, by stopping it in between."""

    def __init__(self, service: Service, systems: Sequence[ObservedSystem], rate: float) -> None:
        (self._worker,) = service.children("worker")
        self._service = service
        self._systems = systems
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._service.redis() as store:
            first, began = folded_events(store, self._systems), time.monotonic()
            while not self._stop.wait(0.02):
                allowed = first + self._rate * (time.monotonic() - began)
                if folded_events(store, self._systems) > allowed:
                    self._worker.suspend()
                else:
                    self._worker.resume()
            self._worker.resume()


class _Reader:
    """Reads one system's health again and again."""

    def __init__(self, service: Service, system: ObservedSystem) -> None:
        self.took_ms: list[float] = []
        self._service = service
        self._path = f"{system.path}/health"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Line(self._service.address) as line:
            while not self._stop.wait(0.01):
                began = time.perf_counter()
                status, _ = line.get(self._path)
                assert status == 200
                self.took_ms.append((time.perf_counter() - began) * 1_000)
