"""Pipelines under way: threads that post batches and retry each until it is taken."""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self
from uuid import uuid4

import httpx

from tests.e2e.systems import Json, events

PATIENCE_S: Final = 30.0
"""How long one batch may be retried before the pipeline calls it lost."""


class Taken(NamedTuple):
    """One batch that was answered with 202."""

    at_s: float
    """When, by the monotonic clock."""
    system_id: int
    entry: str
    events: int


class Load:
    """Posts batches to all systems until the block is left; every batch has an Idempotency-Key."""

    def __init__(
        self,
        url: str,
        systems: Sequence[int],
        *,
        threads: int = 3,
        batch: int = 200,
        body: bytes = b"",
        pause_s: float = 0.01,
    ) -> None:
        self.accepted: Counter[int] = Counter()
        """Events that were answered with 202, by system."""
        self.batches: list[Taken] = []
        """Every batch that was answered with 202, in the order of the answers."""
        self.retries = 0
        self.duplicates = 0
        self.failures: list[str] = []
        self._url = url
        self._systems = systems
        self._body = body or json.dumps({"events": events(batch - batch // 10, batch // 10)}).encode()
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._last_s = [0.0] * threads
        """When each pipeline last had a batch taken."""
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

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

    def taken(self) -> Counter[int]:
        """What has been accepted up to now."""
        with self._lock:
            return Counter(self.accepted)

    def all_taken_since(self, at_s: float) -> bool:
        """Whether every pipeline has had a batch taken since then, so that none still retries one that it began before."""
        return min(self._last_s) > at_s

    def _run(self, number: int) -> None:
        turn = number
        with httpx.Client(base_url=self._url, timeout=5) as http:
            while not self._stop.is_set():
                turn += 1
                if self._deliver(http, self._systems[turn % len(self._systems)]):
                    self._last_s[number] = time.monotonic()
                self._stop.wait(self._pause_s)

    def _deliver(self, http: httpx.Client, system_id: int) -> bool:
        """Post one batch until it is answered; a batch that was begun is finished, also after the stop. Whether it was taken."""
        key, deadline = uuid4().hex, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            status, receipt = self._try(http, system_id, key)
            with self._lock:
                if status == 202:
                    self.accepted[system_id] += receipt["accepted"]
                    self.duplicates += receipt["duplicate"]
                    self.batches.append(Taken(time.monotonic(), system_id, receipt["entries"][0], receipt["accepted"]))
                    return True
                self.retries += 1
                if status not in {0, 429, 503}:
                    self.failures.append(f"status {status}")
                    return False
            self._stop.wait(0.05)
        with self._lock:
            self.failures.append(f"not taken within {PATIENCE_S:.0f} s")
        return False

    def _try(self, http: httpx.Client, system_id: int, key: str) -> tuple[int, Json]:
        """Status (0 where there is no answer), and the receipt where it is 202."""
        try:
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            answer = http.post(f"/systems/{system_id}/events", content=self._body, headers=headers)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json() if answer.status_code == 202 else {}
