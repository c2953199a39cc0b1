"""The loop that sends, one named step at a time. Imported and run by the client's own thread."""

from __future__ import annotations

import random
import time

from lso_core.client.batch import Batch, now_ms
from lso_core.client.pause import Pause
from lso_core.client.registry import SystemBook
from lso_core.client.transport import Transport, TransportError
from lso_core.client.verdict import ACCEPTED, DUPLICATE, HALVE, MEND, REFUSED, RETRY, Verdict, judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lso_core.client.config import Config
    from lso_core.client.counters import Counters
    from lso_core.client.notices import Notices
    from lso_core.client.outbox import Outbox
    from lso_core.client.queue import EventQueue

REST_S = 3600.0
"""How long the loop sleeps when nothing is due; a ring wakes it."""
CLAIM_EVERY_S = 30.0
NOT_FOUND = "refused-404"


class Sender:
    """Takes batches from the outbox and sees each of them answered."""

    def __init__(
        self,
        config: Config,
        queue: EventQueue,
        outbox: Outbox,
        counters: Counters,
        notices: Notices,
        *,
        linger_s: float,
        report: Callable[[], None],
    ) -> None:
        self._config = config
        self._queue = queue
        self._outbox = outbox
        self._counters = counters
        self._notices = notices
        self._linger_s = linger_s
        self._report = report
        self._transport = Transport(config.address, config.api_key, config.options.timeout_s)
        self._systems = SystemBook(self._transport, register=config.register)
        self._pause = Pause(random.random)
        self._claim_at = 0.0
        self._hurry_upto = 0
        self.has_claimed = False
        """Whether it has looked once for what processes that are gone left in the spool."""

    def hurry(self, upto: int) -> None:
        """Somebody waits for the first `upto` events: no lingering, and one attempt before its time."""
        self._hurry_upto = max(self._hurry_upto, upto)
        self._pause.cut_short()

    def is_free(self) -> bool:
        """Whether the last attempt met no trouble."""
        return self._pause.left() == 0

    def step(self) -> float:
        """Make one attempt at most. Answers how many seconds may pass before the next step."""
        left = self._pause.left()
        if left > 0:
            return left
        self._claim()
        batch = self._outbox.next(live_due=self._is_due())
        if batch is None:
            return self._rest()
        self._act(batch, self._attempt(batch))
        return 0.0

    def close(self) -> None:
        self._transport.close()

    def _is_due(self) -> bool:
        return self._queue.first_waiting() < self._hurry_upto or self._queue.due_in(self._linger_s) == 0.0

    def _rest(self) -> float:
        due = self._queue.due_in(self._linger_s)
        rest = REST_S if due is None else due
        return min(rest, max(0.0, self._claim_at - time.monotonic())) if self._config.spool_dir else rest

    def _claim(self) -> None:
        if self._config.spool_dir and time.monotonic() >= self._claim_at:
            self._claim_at = time.monotonic() + CLAIM_EVERY_S
            self._counters.add("claimed_batches", self._outbox.claim())
            self.has_claimed = True

    def _attempt(self, batch: Batch) -> Verdict:
        """Send the batch once and read the answer."""
        if self._is_forgotten(batch):
            return Verdict(REFUSED, "its fate is unknown for longer than LSO remembers keys", topic="expired")
        doubt_ms = batch.doubt_ms
        try:
            system_id = self._systems.find(batch.system)
            if isinstance(system_id, Verdict):
                return system_id
            self._doubt(batch, doubt_ms or now_ms())
            batch.attempts += 1
            return judge(self._transport.post_events(system_id, batch.body(), batch.key), batch)
        except TransportError as error:
            if not error.reached:
                self._doubt(batch, doubt_ms)
            return Verdict(RETRY, f"LSO at {self._config.address} cannot be reached: {error}")

    def _doubt(self, batch: Batch, doubt_ms: int) -> None:
        """Note since when the batch may have been counted; on disk before the attempt, not after it."""
        if batch.doubt_ms != doubt_ms:
            batch.doubt_ms = doubt_ms
            self._outbox.mark(batch)

    def _is_forgotten(self, batch: Batch) -> bool:
        """Whether the server may have forgotten the key of a batch that it may have counted."""
        options = self._config.options
        oldest = options.key_memory_s - min(2 * options.timeout_s, options.key_memory_s / 2)
        return batch.doubt_ms > 0 and now_ms() - batch.doubt_ms > oldest * 1000

    def _act(self, batch: Batch, verdict: Verdict) -> None:
        steps = {
            ACCEPTED: self._accept,
            DUPLICATE: self._accept,
            RETRY: self._retry,
            REFUSED: self._drop,
            HALVE: self._replace,
            MEND: self._replace,
        }
        steps[verdict.kind](batch, verdict)

    def _accept(self, batch: Batch, verdict: Verdict) -> None:
        self._counters.add("sent", len(batch.lines))
        self._counters.add("batches")
        if verdict.kind == DUPLICATE:
            self._counters.add("duplicate_batches")
        self._pause.succeeded()
        self._notices.over(RETRY, f"LSO at {self._config.address} takes events again")
        self._report()
        self._outbox.settle(batch)

    def _retry(self, _batch: Batch, verdict: Verdict) -> None:
        self._counters.add("retries")
        self._notices.warn(RETRY, f"{verdict.reason}; events wait and are sent again")
        self._pause.failed(verdict.retry_after_s)

    def _drop(self, batch: Batch, verdict: Verdict) -> None:
        if verdict.topic == NOT_FOUND:
            self._systems.forget(batch.system)
        self._lose(verdict, len(batch.lines))
        self._pause.succeeded()
        self._outbox.settle(batch)

    def _replace(self, batch: Batch, verdict: Verdict) -> None:
        lost = len(batch.lines) - sum(len(part.lines) for part in verdict.parts)
        if lost:
            self._lose(verdict, lost)
        self._pause.succeeded()
        self._outbox.settle(batch, verdict.parts)

    def _lose(self, verdict: Verdict, events: int) -> None:
        self._counters.add("expired" if verdict.topic == "expired" else "refused", events)
        self._notices.warn(verdict.topic, f"{events} events are lost: {verdict.reason}")
