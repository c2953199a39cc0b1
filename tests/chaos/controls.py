"""Workers with faults built in (`tests/control/worker.py`) in place of the service's own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from lso_core.store import keys
from tests.chaos.trial import Trial
from tests.e2e.service import ROOT, Service
from tests.waiting import wait_for

TAKEN_S: Final = 20.0


class Controls:
    """Control workers that fold instead of a service's own worker, which is stopped for good, or `beside` it."""

    def __init__(self, trial: Trial, service: Service, *, beside: bool = False) -> None:
        self._service = service
        self._folder = trial.folder
        self._running: list[subprocess.Popen[bytes]] = []
        if not beside:
            (own,) = service.children("worker")
            own.suspend()

    def start(self, *flags: str) -> psutil.Process:
        """A control worker, once it holds partitions."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LSO_")}
        log = self._folder / f"control-{len(self._running)}.log"
        with log.open("wb") as said:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.control.worker", *flags],
                cwd=ROOT,
                env={**inherited, "LSO_REDIS_URL": self._service.store_url},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self._running.append(started)

        def holds() -> bool:
            assert started.poll() is None, f"a control worker ended:\n{_tail(log)}"
            return self.held(started.pid) > 0

        wait_for(holds, "the control worker holds partitions", TAKEN_S)
        return psutil.Process(started.pid)

    def held(self, pid: int) -> int:
        """How many partitions a control worker holds."""
        with self._service.redis() as store:
            return sum(_owner(store, number) == f"control-{pid}" for number in range(32))

    def end(self) -> None:
        """kill -9 of all that are left."""
        for one in self._running:
            one.kill()
            one.wait()


@contextlib.contextmanager
def controls(trial: Trial, service: Service, *, beside: bool = False) -> Iterator[Controls]:
    """Control workers; none outlives the block."""
    crew = Controls(trial, service, beside=beside)
    try:
        yield crew
    finally:
        crew.end()


def _owner(store: redis.Redis, partition: int) -> str:
    found: Any = store.hget(keys.lease(partition), "owner")
    return found.decode() if isinstance(found, bytes) else ""


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2_000:]
