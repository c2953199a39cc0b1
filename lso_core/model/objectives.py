"""Objectives: which share of a system's events must be good, over how long, and how fast the rest is used up."""

import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from lso_core.model import times
from lso_core.model.rollups import Piece, Width, pieces

LONGEST_MS: Final = 3_660 * Width.DAY
BURN_WINDOWS_MS: Final = {
    "5m": 5 * Width.MINUTE,
    "1h": 1 * Width.HOUR,
    "6h": 6 * Width.HOUR,
    "3d": 3 * Width.DAY,
}
"""The windows of multi-window alerts on burn rates."""


class Spending(msgspec.Struct, frozen=True):
    """The error budget of a window. Numbers are of events; None where none was counted."""

    allowed: float | None
    """How many may be bad: (1 - objective) of all."""
    spent: int | None
    left: float | None
    """1 where nothing is spent, 0 where all is, below 0 where more is."""


class Attainment(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """How far an objective is met in the window that ends now."""

    system_id: int
    objective: float
    """Per cent."""
    latency_ms: float | None
    """Where given, a good event also took no longer."""
    window: str
    from_: str
    to: str
    as_of: str | None
    """Everything accepted up to this time is in."""
    total: int | None
    good: int | None
    attained: float | None
    """Per cent of the events that were good."""
    budget: Spending
    burn_rate: dict[str, float | None]
    """By window: 1 uses the budget up exactly within an objective's window, 10 in a tenth of it."""


class Question(msgspec.Struct, frozen=True):
    """An objective, and the stretch of time it is judged over."""

    objective: float
    """Per cent, above 0 and below 100."""
    latency_ms: float | None
    window: str
    from_ms: int
    to_ms: int

    @property
    def edges(self) -> list[int]:
        """Where the windows that are looked at begin, earliest first, and where all of them end."""
        begins = {self.to_ms - length for length in BURN_WINDOWS_MS.values()}
        return [*sorted({self.from_ms, *begins}), self.to_ms]

    @property
    def pieces(self) -> list[Piece]:
        """The time to read, in pieces of rows that none of the edges cuts."""
        edges = self.edges
        return [piece for low, high in itertools.pairwise(edges) for piece in pieces(low, high)]

    def answer(self, system_id: int, counts: Sequence[tuple[int, int]], as_of_ms: int | None) -> Attainment:
        """The answer from (events, good ones) between each two edges."""
        edges = self.edges
        total, good = _since(self.from_ms, edges, counts)
        allowed = total * (100 - self.objective) / 100
        return Attainment(
            system_id,
            self.objective,
            self.latency_ms,
            self.window,
            times.to_text(self.from_ms),
            times.to_text(self.to_ms),
            times.to_text_or_none(as_of_ms),
            total or None,
            good if total else None,
            round(100 * good / total, 6) if total else None,
            Spending(round(allowed, 6), total - good, round(1 - (total - good) / allowed, 6))
            if total
            else Spending(None, None, None),
            {name: self._burn(*_since(self.to_ms - length, edges, counts)) for name, length in BURN_WINDOWS_MS.items()},
        )

    def _burn(self, total: int, good: int) -> float | None:
        return round((total - good) / total / (1 - self.objective / 100), 6) if total else None


def _since(from_ms: int, edges: Sequence[int], counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    own = [count for edge, count in zip(edges, counts, strict=False) if edge >= from_ms]
    return sum(total for total, _ in own), sum(good for _, good in own)
