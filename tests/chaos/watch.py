"""Somebody who keeps reading and posting while a service is in trouble, and writes down what the answers were."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Final, Self

import httpx

from tests.e2e.systems import ObservedSystem, events
from tests.waiting import wait_for

PAUSE_S: Final = 0.05


class Watch:
    """Reads health, fleet and events of a system in turn until the block is left."""

    def __init__(self, url: str, system: ObservedSystem, timeout_s: float = 5.0) -> None:
        self.answers: Counter[int] = Counter()
        """Reads by status; 0 where there was no answer."""
        self.slowest_s = 0.0
        self._paths = (f"{system.path}/health", "/health", f"{system.path}/events?limit=5", f"{system.path}/metrics")
        self._http = httpx.Client(base_url=url, timeout=timeout_s)
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
        self._http.close()

    @property
    def failed(self) -> int:
        """Reads that were not answered with 200."""
        return self.answers.total() - self.answers[200]

    def _run(self) -> None:
        turn = 0
        while not self._stop.wait(PAUSE_S):
            turn += 1
            began = time.monotonic()
            try:
                status = self._http.get(self._paths[turn % len(self._paths)]).status_code
            except httpx.TransportError:
                status = 0
            self.answers[status] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def refusal(system: ObservedSystem) -> httpx.Response | None:
    """The answer to a small batch where it is not taken; None where it is. A batch without a key is posted once."""
    answer = system.post(events(1))
    return None if answer.status_code == 202 else answer


def first_refusal(system: ObservedSystem, within: float) -> httpx.Response:
    """The first answer to a small batch that is not taken."""
    found = wait_for(lambda: refusal(system), "a batch is refused", within)
    assert found is not None
    return found


def is_told_to_wait(answer: httpx.Response) -> bool:
    """Whether a refusal is a 503 that says after how many seconds to try again."""
    return answer.status_code == 503 and answer.headers.get("Retry-After", "").isdigit()
