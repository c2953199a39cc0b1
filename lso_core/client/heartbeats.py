"""Signs of life of what takes long."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST_S = 0.05


class Heartbeats:
    """Who wants to beat, and when next. Callers add and remove, the sender's thread beats."""

    def __init__(self) -> None:
        self._due: dict[int, tuple[float, float, Callable[[], None]]] = {}

    def add(self, token: int, every_s: float, beat: Callable[[], None]) -> None:
        every_s = float(every_s)
        if not every_s > 0:  # also NaN
            return
        every_s = max(SHORTEST_S, every_s)
        self._due[token] = (time.monotonic() + every_s, every_s, beat)

    def remove(self, token: int) -> None:
        self._due.pop(token, None)

    def clear(self) -> None:
        """The end: nobody beats any more."""
        self._due.clear()

    def beat(self) -> None:
        """Beat for everybody whose time has come. One beat, also after a long wait."""
        now = time.monotonic()
        for token, (due, every_s, beat) in list(self._due.items()):
            if due <= now:
                beat()
                if token in self._due:
                    self._due[token] = (now + every_s, every_s, beat)

    def next_in(self) -> float | None:
        """Seconds until the next beat; None when there is none."""
        dues = [due for due, _, _ in list(self._due.values())]
        return max(0.0, min(dues) - time.monotonic()) if dues else None
