"""Everything one client owns in one process: queue, outbox, threads. A forked child gets a new one."""

from __future__ import annotations

import threading
import time

from lso_core.client.background import Background
from lso_core.client.batch import now_ms
from lso_core.client.counters import Counters
from lso_core.client.encoding import encode
from lso_core.client.forks import importing
from lso_core.client.heartbeats import Heartbeats
from lso_core.client.outbox import Outbox
from lso_core.client.queue import Bell, EventQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lso_core.client.config import Config
    from lso_core.client.notices import Notices
    from lso_core.client.sender import Sender
    from lso_core.client.spool import Spool

LINGER_S = 0.5
"""How long the first event of a batch waits for others."""
SPOOL_LINGER_S = 0.25
"""The same with a spool: lingering, noticing that a batch is stuck, and writing it must all fit in half a second."""
KEEP_EVERY_S = 0.12
"""How often the keeper looks whether something is stuck."""
IDLE_S = 3600.0
"""How long the keeper sleeps when nothing waits; the next event wakes it."""
AFTER_FAULT_S = 1.0
POLL_S = 0.01
SETTLE_S = 0.005
"""What the new thread sleeps first, so that the caller who started it goes on before the imports begin."""


class Courier:
    """Carries events from the callers' threads to the server. Threads start with the first event."""

    def __init__(self, config: Config, notices: Notices) -> None:
        options = config.options
        self._config = config
        self._notices = notices
        self._send_bell, self._keep_bell = Bell(), Bell()
        self.counters = Counters()
        self.heartbeats = Heartbeats()
        self.queue = EventQueue(options.queue_events, options.batch_events, self._send_bell, self._keep_bell)
        self._spool = self._make_spool()
        self.outbox = Outbox(config, self.queue, self._spool, self.counters)
        self._sender: Sender | None = None
        self._threads: list[Background] = []
        self._starting = threading.RLock()
        self._hurry_upto = 0
        self._stopping = False
        self.started = False

    def start(self) -> None:
        """Start the threads, once."""
        with self._starting:
            if self.started or self._stopping:
                return
            self.started = True  # first, for a signal handler that emits meanwhile
            self.started = self._start_thread("lso-sender", self._send_loop)
            if self.started and self._spool is not None:
                self._start_thread("lso-keeper", self._keep_loop)

    def has_inheritance(self) -> bool:
        """Whether the spool holds something to send before any event came."""
        return self._spool is not None and self._spool.any_left()

    def ring(self) -> None:
        self._send_bell.ring()

    def owns_thread(self, ident: int) -> bool:
        """Whether the thread is one of ours: what it logs is about sending and must not be sent."""
        return any(thread.ident == ident for thread in self._threads)

    def flush(self, timeout_s: float) -> bool:
        """Wait until every event taken in so far is answered for; False when the time is over."""
        deadline = time.monotonic() + timeout_s
        upto = self.queue.accepted
        if self.started:
            self._hurry(upto)
        return self.outbox.wait_settled(upto, deadline)

    def close(self, timeout_s: float) -> int:
        """Send what can be sent in time, put the rest in the spool. Answers how many events are lost."""
        deadline = time.monotonic() + timeout_s
        self.heartbeats.clear()
        if not self.started and self.queue.waiting:
            self._send_here(deadline)
        while self.flush(deadline - time.monotonic()) and self.queue.waiting:
            pass  # a report of losses came up meanwhile
        self._drain(deadline)
        self._stopping = True
        for bell in (self._send_bell, self._keep_bell):
            bell.ring()
        for thread in self._threads:
            thread.join(max(0.05, deadline - time.monotonic()))
        lost = self.outbox.park(max(0.5, deadline - time.monotonic()))
        self.counters.add("lost_at_exit", lost)
        return lost

    def abandon(self) -> None:
        """For a forked child: threads, locks and files here are its parent's."""
        self.outbox.abandon()
        if self._sender is not None:
            self._sender.close()

    def lost(self) -> dict[str, int]:
        return self.counters.lost(self.queue.refused)

    def _hurry(self, upto: int) -> None:
        self._hurry_upto = max(self._hurry_upto, upto)
        if self._sender is not None:
            self._sender.hurry(upto)
        self._send_bell.ring()

    def _make_spool(self) -> Spool | None:
        if not self._config.spool_dir:
            return None
        from lso_core.client.spool import Spool  # noqa: PLC0415 - only those who use it should load it

        return Spool(self._config, self.counters, self._notices)

    def _start_thread(self, name: str, work: Callable[[], None]) -> bool:
        """False at the interpreter's end, when there are no more threads: then close() sends."""
        thread = Background(name, work)
        self._threads.append(thread)
        if not thread.start():
            self._threads.remove(thread)
        return thread in self._threads

    def _drain(self, deadline: float) -> None:
        """While the way is free, use what time there is for what other processes left in the spool."""
        while self._spool is not None and self._is_draining() and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _is_draining(self) -> bool:
        sender = self._sender
        if sender is None:
            return bool(self._threads)
        return sender.is_free() and (not sender.has_claimed or self.outbox.is_busy())

    def _send_here(self, deadline: float) -> None:
        """Send on the thread that closes."""
        sender = self._make_sender()
        sender.hurry(self.queue.accepted)
        while self.queue.waiting or self.outbox.pending():
            wait, left = sender.step(), deadline - time.monotonic()
            if wait >= left:
                break
            time.sleep(wait)
        sender.close()

    def _send_loop(self) -> None:
        time.sleep(SETTLE_S)
        while not self._stopping:
            try:
                self._send_bell.wait(self._step())
            except Exception as error:  # noqa: BLE001 - a fault of ours must neither end the thread nor spin
                self._notices.warn("fault", f"the client stumbled: {type(error).__name__}: {error}")
                self._send_bell.wait(AFTER_FAULT_S)
        if self._sender is not None:
            self._sender.close()

    def _step(self) -> float:
        sender = self._sender
        if sender is None:
            sender = self._sender = self._make_sender()
            sender.hurry(self._hurry_upto)
        self.heartbeats.beat()
        wait = sender.step()
        beat = self.heartbeats.next_in()
        return wait if beat is None else min(wait, beat)

    def _make_sender(self) -> Sender:
        with importing:  # a fork waits for this: a child must not inherit half-imported modules
            from lso_core.client.sender import Sender  # noqa: PLC0415
        linger_s = SPOOL_LINGER_S if self._spool is not None else LINGER_S
        return Sender(
            self._config, self.queue, self.outbox, self.counters, self._notices, linger_s=linger_s, report=self._report
        )

    def _keep_loop(self) -> None:
        while not self._stopping:
            if not self.queue.waiting and not self.outbox.pending():
                self._keep_bell.wait(IDLE_S)
            self._await_tick()
            try:
                self.outbox.keep()
            except Exception as error:  # noqa: BLE001 - as in the other loop
                self._notices.warn("fault", f"the spool's keeper stumbled: {type(error).__name__}: {error}")
                self._keep_bell.wait(AFTER_FAULT_S)

    def _await_tick(self) -> None:
        """Let a tick pass, however often events ring meanwhile: one write for all of them."""
        until = time.monotonic() + KEEP_EVERY_S
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._keep_bell.wait(left)

    def _report(self) -> None:
        """The way is free: say what was lost since it was last."""
        news = self.counters.unreported(self.queue.refused)
        if not news:
            return
        events = sum(news.values())
        text = f"{events} events were lost: " + ", ".join(f"{number} {reason}" for reason, number in news.items())
        self._notices.say(text)
        payload = {"logger": "lso", "level": "WARNING", "message": text, "lost": news, "lost_in_all": self.lost()}
        self.queue.force(encode("log", "error", None, None, None, now_ms(), payload)[0])
