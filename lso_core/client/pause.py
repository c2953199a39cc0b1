"""When the next attempt may be made."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_S = 0.5
LONGEST_S = 30.0
LONGEST_ORDERED_S = 600.0
"""A server (or a proxy that means well) cannot silence a client for longer than this."""


class Pause:
    """Grows from half a second to 30, jittered, so that a thousand pipelines do not come back in the same moment."""

    def __init__(self, jitter: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._jitter = jitter
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._ordered = False

    def left(self) -> float:
        """Seconds that remain; 0 when an attempt may be made."""
        return max(0.0, self._until - self._clock())

    def failed(self, retry_after_s: float | None) -> None:
        """An attempt failed. What the server asked for is waited for in full; our own pause is between half and all of its length."""
        longest = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._ordered = retry_after_s is not None
        length = longest * (0.5 + 0.5 * self._jitter())
        if retry_after_s is not None:
            length = min(retry_after_s, LONGEST_ORDERED_S) + 0.1 * self._jitter()
        self._until = self._clock() + length

    def succeeded(self) -> None:
        self._failures = 0
        self._until = 0.0

    def cut_short(self) -> None:
        """Somebody flushes: try now, unless the server asked to wait."""
        if not self._ordered:
            self._until = 0.0
