"""A circuit breaker for the way to one server: while it does not answer, whoever asks is refused at once.

Without it every request of an API process would wait for a connection and then for an answer that does not come, ten
seconds and more, and hold its body meanwhile.
"""

import time
from collections.abc import Callable, Hashable
from typing import Final

from lso_core.model.errors import StoreError

FAILURES: Final = 3
"""So many trips in a row that end without an answer open the circuit; one or two may be connections gone stale."""
STALLED_S: Final = 2.0
"""…or one that has been under way for so long: a server that hangs is not noticed by its failures until they time out."""
SURE_S: Final = 0.25
"""…and is so for this long after it was noticed: a process that was busy itself finds answers waiting that it has not read."""
PROBE_S: Final = 0.5
"""How often a probe may pass an open circuit, to see whether the server is back."""


class Breaker:
    """Closed, open, or half-open while a probe is under way. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.opens = 0
        """How often the circuit was opened."""
        self.refused = 0
        """How many trips were refused."""
        self._clock = clock
        self._under_way: dict[int, float] = {}
        self._next = 0
        self._failures = 0
        self._noticed_s: float | None = None
        """When a trip was first seen to be stalled."""
        self._opened_s: float | None = None
        self._probe: int | None = None
        self._probe_s = 0.0
        """When the next probe may go."""

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        if self._opened_s is None:
            return "closed"
        return "half-open" if self._probe in self._under_way else "open"

    def begin(self) -> int:
        """A trip begins; its number, for `end`. Raises StoreError where the circuit is open."""
        now = self._clock()
        if self._opened_s is None and self._stalled(now):
            self._open(now)
        if self._opened_s is not None:
            self.refused += 1
            since = now - self._opened_s
            raise StoreError(f"Redis does not answer; it is asked again every {PROBE_S:g} s, for {since:.1f} s so far")
        return self._start(now)

    def begin_probe(self) -> int | None:
        """Where the circuit is open and it is time to look again: the number of a trip that asks for nothing else."""
        now = self._clock()
        if self._opened_s is None or now < self._probe_s:
            return None
        self._probe, self._probe_s = self._start(now), now + PROBE_S
        return self._probe

    def end(self, number: int, *, answered: bool | None) -> None:
        """A trip is over: with an answer, whatever it says, or without; None where it was given up and nobody knows."""
        self._under_way.pop(number)
        if answered is None:
            return
        if answered:
            self._failures, self._opened_s, self._noticed_s = 0, None, None
            return
        self._failures += 1
        if self._opened_s is None and self._failures >= FAILURES:
            self._open(self._clock())

    def _stalled(self, now: float) -> bool:
        if now - next(iter(self._under_way.values()), now) <= STALLED_S:
            return False
        if self._noticed_s is None:
            self._noticed_s = now
        return now - self._noticed_s > SURE_S

    def _open(self, now: float) -> None:
        self.opens += 1
        self._opened_s, self._probe_s = now, now + PROBE_S

    def _start(self, now: float) -> int:
        number, self._next = self._next, self._next + 1
        self._under_way[number] = now
        return number


class Breakers:
    """A breaker for each server that a process talks to."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_server: dict[Hashable, Breaker] = {}

    def of(self, server: Hashable) -> Breaker:
        """The breaker for one server, by whatever tells it from others."""
        if server not in self._by_server:
            self._by_server[server] = Breaker(self._clock)
        return self._by_server[server]

    @property
    def opens(self) -> int:
        """How often a circuit was opened."""
        return sum(one.opens for one in self._by_server.values())

    @property
    def refused(self) -> int:
        """How many trips were refused."""
        return sum(one.refused for one in self._by_server.values())

    @property
    def not_closed(self) -> int:
        """How many circuits are open or half-open now."""
        return sum(one.state != "closed" for one in self._by_server.values())
