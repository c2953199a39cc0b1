"""A daemon thread whose starter does not wait for it."""

from __future__ import annotations

import _thread
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """`threading.Thread.start()` waits until the new thread runs, which on a busy machine takes tens of milliseconds.
    The first event starts our threads, and no event may wait.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name = name
        self._work = work
        self._running = threading.Lock()
        self.ident = 0

    def start(self) -> bool:
        """False when the interpreter is ending and starts no more threads."""
        self._running.acquire()
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            self._running.release()
            return False
        return True

    def join(self, timeout_s: float) -> None:
        if self._running.acquire(timeout=max(0.0, timeout_s)):
            self._running.release()

    def _run(self) -> None:
        self.ident = threading.get_ident()
        threading.current_thread().name = self._name  # what log lines and profilers show
        try:
            self._work()
        finally:
            self._running.release()
