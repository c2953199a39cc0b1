"""What waits in memory. Callers only ever append here; nothing they do waits for the network or the disk."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

QUEUE_BYTES = 32 * 1024 * 1024
"""Most bytes waiting in memory, whatever their number of events."""
CHUNK_BYTES = 1024 * 1024
"""A chunk is full at this size even with few events."""


class Bell:
    """Wakes the one thread that waits for it. Ringing never blocks, also inside a signal handler."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # rung already
            self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a ring, or take one that came before. False when the time is over."""
        return self._lock.acquire(timeout=max(0.0, timeout_s))


class Chunk:
    """Lines that will travel together. `first` is the number, in this process, of the first of them."""

    __slots__ = ("first", "lines", "since", "size")

    def __init__(self, first: int) -> None:
        self.first = first
        self.lines: list[bytes] = []
        self.size = 0
        self.since = time.monotonic()


class EventQueue:
    """Bounded; the newest is refused when it is full. Everything is done in O(1) under a reentrant lock."""

    def __init__(self, max_events: int, chunk_events: int, *bells: Bell) -> None:
        self._max_events = max_events
        self._chunk_events = chunk_events
        self._bells = bells
        self._lock = threading.RLock()
        self._full: deque[Chunk] = deque()
        self._open: Chunk | None = None
        self._size = 0
        self.waiting = 0
        self.accepted = 0
        """Events ever taken in."""
        self.refused = 0
        """Events ever turned away because the queue was full."""

    def offer(self, line: bytes) -> bool:
        """Take the line in, or count it as refused."""
        with self._lock:
            if self.waiting >= self._max_events or self._size + len(line) > QUEUE_BYTES:
                self.refused += 1
                return False
            ring = self._append(line)
        if ring:
            for bell in self._bells:
                bell.ring()
        return True

    def force(self, line: bytes) -> None:
        """Take the line in even when full: for the client's own, rare reports."""
        with self._lock:
            self._append(line)
        for bell in self._bells:
            bell.ring()

    def _append(self, line: bytes) -> bool:
        """Add the line; true when somebody should be told: about the first one and about each full chunk.

        A signal handler may emit between any two calls made here and meet the same lock open. So nothing is read before
        a call and stored after it, and each chunk is sealed by whoever finds it still open.
        """
        size = len(line)
        chunk = self._open_chunk()
        chunk.lines.append(line)
        chunk.size += size
        self._size += size
        self.waiting += 1
        self.accepted += 1
        full = len(chunk.lines) >= self._chunk_events or chunk.size >= CHUNK_BYTES
        if full and self._open is chunk:
            self._open = None
            self._full.append(chunk)
        return full or self.waiting == 1

    def _open_chunk(self) -> Chunk:
        if self._open is None:
            fresh = Chunk(self.accepted)
            if self._open is None:
                self._open = fresh
        return self._open

    def take(self) -> Chunk | None:
        """The oldest chunk, full or not."""
        with self._lock:
            if self._full:
                chunk = self._full.popleft()
            elif self._open is not None:
                chunk, self._open = self._open, None
            else:
                return None
            self.waiting -= len(chunk.lines)
            self._size -= chunk.size
            return chunk

    def take_all(self) -> list[Chunk]:
        chunks = []
        while (chunk := self.take()) is not None:
            chunks.append(chunk)
        return chunks

    def due_in(self, linger_s: float) -> float | None:
        """Seconds until the oldest chunk should go: 0 for a full one, None when nothing waits."""
        with self._lock:
            if self._full:
                return 0.0
            if self._open is None:
                return None
            return max(0.0, self._open.since + linger_s - time.monotonic())

    def oldest_age_s(self) -> float:
        """How long the oldest event has waited; 0 when none does."""
        with self._lock:
            oldest = self._full[0] if self._full else self._open
            return 0.0 if oldest is None else time.monotonic() - oldest.since

    def first_waiting(self) -> int:
        """Number of the oldest event that still waits; `accepted` when none does."""
        with self._lock:
            if self._full:
                return self._full[0].first
            return self.accepted if self._open is None else self._open.first
