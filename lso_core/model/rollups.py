"""Rollups: what a stretch of event time held, kept as rows that add up. Integer milliseconds throughout."""

import enum

import msgspec


class Width(enum.IntEnum):
    """How much time one row spans, in ms."""

    MINUTE = 60_000
    HOUR = 3_600_000
    DAY = 86_400_000

    def start_of(self, time_ms: int) -> int:
        """Start of the stretch of this width that `time_ms` falls into."""
        return time_ms - time_ms % self

    @property
    def narrower(self) -> "Width":
        """The next width below this; the minute's own."""
        return {Width.DAY: Width.HOUR}.get(self, Width.MINUTE)


class Piece(msgspec.Struct, frozen=True):
    """A stretch of history that starts and ends with rows of one width."""

    from_ms: int
    to_ms: int
    """Exclusive."""
    width: Width


def pieces(from_ms: int, to_ms: int, widest: Width = Width.DAY) -> list[Piece]:
    """[from_ms, to_ms), both whole minutes, in pieces of rows as wide as may be, by time: narrower ones at its edges."""
    if from_ms >= to_ms:
        return []
    if widest is Width.MINUTE:
        return [Piece(from_ms, to_ms, widest)]
    low, high = widest.start_of(from_ms + widest - 1), widest.start_of(to_ms)
    if low >= high:
        return pieces(from_ms, to_ms, widest.narrower)
    return [
        *pieces(from_ms, low, widest.narrower),
        Piece(low, high, widest),
        *pieces(high, to_ms, widest.narrower),
    ]


NO_STAGE = ""
"""Stands in a row for "no stage": no stage has an empty name."""

MOST_NAMES = 1_000
"""Stages, and event types, that one row tells apart; the ones with the fewest events go under OTHER."""

MOST_ROWS = 200_000
"""Rows that one request merges at most."""
