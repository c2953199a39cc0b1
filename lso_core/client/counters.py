"""What became of the events."""

from __future__ import annotations

import threading

LOSSES = ("queue_full", "invalid", "refused", "expired", "spool_full", "lost_at_exit")
"""Why an event can be lost: no room in memory; not an event the server takes; refused by the server; of unknown fate
for longer than the server remembers keys; oldest in a full spool; unsent at the end of a process without a spool."""


class Counters:
    """Counts of one client in one process. `queue_full` is counted by the queue and merged in by whoever reads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        self._reported: dict[str, int] = {}

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def get(self, name: str) -> int:
        return self._counts.get(name, 0)

    def lost(self, queue_full: int) -> dict[str, int]:
        """Every loss so far, by reason."""
        with self._lock:
            counted = {reason: self._counts.get(reason, 0) for reason in LOSSES}
        counted["queue_full"] += queue_full
        return {reason: number for reason, number in counted.items() if number}

    def unreported(self, queue_full: int) -> dict[str, int]:
        """Losses since the last call: what the next report has to say."""
        lost = self.lost(queue_full)
        news = {reason: number - self._reported.get(reason, 0) for reason, number in lost.items()}
        self._reported = lost
        return {reason: number for reason, number in news.items() if number > 0}
