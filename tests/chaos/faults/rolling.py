"""A rolling restart: every process ended politely, one after the other, under load."""

import contextlib
import http.client
import signal
import threading
import time
from types import TracebackType
from typing import Self

from tests.chaos.catalogue import fault
from tests.chaos.faults.apis import Pipeline
from tests.chaos.trial import Trial
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, register
from tests.waiting import has_ended, wait_for

CLIENTS = 8
BODY = b'{"events": [{"event_type": "success", "status": "ok", "latency_ms": 1}]}'


@fault("rolling-restart")
def rolling_restart(trial: Trial) -> None:
    """SIGTERM of every API process and worker in turn, under load: no request is lost."""
    service = trial.start_service("--api-processes", "2", "--workers", "2")
    pipeline = Pipeline(service.url, "sdk", "")
    restarts = 0
    with service.client() as http:
        system = register(http, window_seconds=3_600)
    pipeline.start()
    with _Clients(service, system.path) as clients:
        time.sleep(0.5)
        for _ in range(trial.size(1, 10)):
            for role in ("api", "worker"):
                for number in range(2):
                    _restart(service, role, number)
                    restarts += 1
                    time.sleep(0.3)
    pipeline.end()
    with service.client() as http:
        ObservedSystem(http, {"system_id": system.id, "name": system.name}).health_with(total=clients.taken, within=30)
        (found,) = http.get("/systems", params={"name": "sdk"}).json()["items"]
        ObservedSystem(http, found).health_with(total=pipeline.sent, within=30)
    trial.figures.update(
        restarts=restarts,
        requests=clients.taken,
        lost=len(clients.lost),
        events_by_sdk=pipeline.sent,
    )
    trial.check(not clients.lost, f"{len(clients.lost)} requests had no answer: {clients.lost[:3]}")


def _restart(service: Service, role: str, number: int) -> None:
    """End one process politely and wait until another stands in its place."""
    children = wait_for(lambda: found if len(found := service.children(role)) == 2 else [], f"two of {role} run", 20)
    victim = min(children, key=lambda one: one.create_time())
    victim.send_signal(signal.SIGTERM)
    wait_for(lambda: has_ended(victim), f"{role} {number} ends", 20)
    wait_for(lambda: len(service.children(role)) == 2, f"another {role} runs", 20)


class _Clients:
    """Plain HTTP clients on kept-alive connections, without keys: each request is sent once, until the block is left.

    A request that was sent and had no answer is lost, also one sent on a connection that the server had just closed.
    """

    def __init__(self, service: Service, path: str) -> None:
        self.taken = 0
        self.lost: list[str] = []
        self._address = service.address
        self._path = path
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

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

    def _run(self) -> None:
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=20)) as connection:
            self._send(connection)

    def _send(self, connection: http.client.HTTPConnection) -> None:
        while not self._stop.wait(0.005):
            try:
                connection.request("POST", f"{self._path}/events", BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                with self._lock:
                    self.taken += answer.status == 202
                    if answer.status != 202:
                        self.lost.append(f"status {answer.status}")
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                with self._lock:
                    self.lost.append(repr(error))
                connection.close()
