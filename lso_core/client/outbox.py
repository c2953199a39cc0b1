"""Every event that was taken in and not yet answered for, in memory or on disk.

Two threads come here: the sender, which takes the batch to try next and settles it, and, where there is a spool, the
keeper, which puts on disk whatever cannot leave at once. Callers of the client never do.
"""

from __future__ import annotations

import threading
import time

from lso_core.client.batch import Batch
from lso_core.client.queue import CHUNK_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lso_core.client.config import Config
    from lso_core.client.counters import Counters
    from lso_core.client.queue import Chunk, EventQueue
    from lso_core.client.spool import Spool

STUCK_S = 0.02
"""A batch that is out for longer is put on disk, and with it what waits behind it."""
OVERDUE_S = 0.3
"""An event that nobody has taken by then is put on disk too: the sender may still be importing, or starved."""


class Outbox:
    """Batches in the order in which they go: the first of `_ready` is out, the last may still grow."""

    def __init__(self, config: Config, queue: EventQueue, spool: Spool | None, counters: Counters) -> None:
        self._config = config
        self._queue = queue
        self._spool = spool
        self._counters = counters
        self._changed = threading.Condition(threading.RLock())
        self._ready: list[Batch] = []
        self._unsettled: dict[str, int] = {}
        self._out_since: float | None = None
        self._spool_next = False
        self._disk_ok = True

    def next(self, *, live_due: bool) -> Batch | None:
        """The batch to try now, for the sender; None when nothing is due. New events and the spool take turns."""
        with self._changed:
            if not self._ready:
                self._refill(live_due=live_due)
            if not self._ready:
                return None
            batch = self._ready[0]
            batch.frozen = True
            if self._spool is not None and 0 < batch.stored < len(batch.lines):
                self._spool.save(batch)  # one key, one body: also for a process that finds the file
            if self._out_since is None:
                self._out_since = time.monotonic()
            return batch

    def mark(self, batch: Batch) -> None:
        """The batch's `doubt_ms` changed."""
        with self._changed:
            if self._spool is not None:
                self._spool.mark(batch)

    def settle(self, batch: Batch, parts: tuple[Batch, ...] | list[Batch] = ()) -> None:
        """The batch is answered for, or replaced by `parts`, which go next."""
        with self._changed:
            for part in parts:
                self._note(part)
                if batch.stored and self._spool is not None:
                    self._spool.save(part)
            if batch in self._ready:
                position = self._ready.index(batch)
                self._ready[position : position + 1] = parts
            self._unsettled.pop(batch.key, None)
            self._out_since = None
            if self._spool is not None:
                self._spool.remove(batch)
            self._changed.notify_all()

    def keep(self) -> int:
        """Put on disk what cannot leave at once, for the keeper. Answers how many batches were written."""
        with self._changed:
            stuck = self._out_since is not None and time.monotonic() - self._out_since > STUCK_S
            return self._store() if stuck or self._queue.oldest_age_s() > OVERDUE_S else 0

    def claim(self) -> int:
        """Take over what processes that are gone left in the spool. Answers how many batches."""
        with self._changed:
            return 0 if self._spool is None else self._spool.claim()

    def is_busy(self) -> bool:
        """Whether anything waits to be sent, also what other processes left behind."""
        return bool(self._ready) or self.spooled() > 0

    def spooled(self) -> int:
        return 0 if self._spool is None else len(self._spool)

    def pending(self) -> int:
        """Batches of this process that are not answered for."""
        return len(self._unsettled)

    def wait_settled(self, upto: int, deadline: float) -> bool:
        """Wait until the first `upto` events of this process are answered for; False when the time is over."""
        with self._changed:
            while not self._is_settled(upto):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def park(self, timeout_s: float) -> int:
        """The end of the process: everything goes to the spool. Answers how many events could not be saved."""
        if not self._changed.acquire(timeout=max(0.05, timeout_s)):
            return self._queue.waiting  # the disk hangs, with what the keeper was writing
        try:
            self._disk_ok = True
            self._store()
            lost = sum(len(batch.lines) for batch in self._ready if batch.stored < len(batch.lines))
            if self._spool is not None:
                self._spool.close()
            return lost + self._queue.waiting
        finally:
            self._changed.release()

    def abandon(self) -> None:
        """For a forked child: everything here is its parent's."""
        if self._spool is not None:
            self._spool.abandon()

    def _is_settled(self, upto: int) -> bool:
        return self._queue.first_waiting() >= upto and all(first >= upto for first in self._unsettled.values())

    def _refill(self, *, live_due: bool) -> None:
        sources = [self._take_live, self._take_spooled] if live_due else [self._take_spooled]
        if self._spool_next:
            sources.reverse()
        for source in sources:
            batch = source()
            if batch is not None:
                self._spool_next = source == self._take_live
                self._ready.append(batch)
                return

    def _take_live(self) -> Batch | None:
        chunk = self._queue.take()
        return None if chunk is None else self._note(Batch.of(self._config.system, chunk))

    def _take_spooled(self) -> Batch | None:
        if self._spool is None:
            return None
        batch = self._spool.load()
        self._forget_evicted(self._spool)
        return batch

    def _store(self) -> int:
        """Move the queue into batches and every batch that the disk does not hold yet to the disk."""
        if self._spool is None:
            return 0
        if self._disk_ok:  # while the disk refuses, the queue's own bound holds
            self._absorb()
        unsaved = [batch for batch in self._ready if batch.stored < len(batch.lines)]
        self._disk_ok = all(map(self._spool.save, unsaved))
        if unsaved and self._disk_ok:
            self._shelve(self._spool)
            self._spool.trim()
            self._forget_evicted(self._spool)
        return len(unsaved)

    def _absorb(self) -> None:
        for chunk in self._queue.take_all():
            tail = self._ready[-1] if self._ready else None
            if tail is not None and self._fits(tail, chunk):
                tail.extend(chunk)
            else:
                self._ready.append(self._note(Batch.of(self._config.system, chunk)))

    def _fits(self, tail: Batch, chunk: Chunk) -> bool:
        fewer = len(tail.lines) + len(chunk.lines) <= self._config.options.batch_events
        return fewer and not tail.frozen and tail.size + chunk.size <= CHUNK_BYTES

    def _shelve(self, spool: Spool) -> None:
        """Keep in memory only the batch that is out and the one that may grow."""
        for batch in self._ready[1:-1]:
            spool.shelve(batch)
        self._ready[1:-1] = []

    def _note(self, batch: Batch) -> Batch:
        if batch.first is not None:
            self._unsettled[batch.key] = batch.first
        return batch

    def _forget_evicted(self, spool: Spool) -> None:
        for key in spool.evicted:
            self._unsettled.pop(key, None)
        spool.evicted.clear()
        self._changed.notify_all()
