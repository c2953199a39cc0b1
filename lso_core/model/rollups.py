"""Rollups: what a stretch of event time held, kept as rows that add up. Integer milliseconds throughout."""

import enum


class Width(enum.IntEnum):
    """How much time one row spans, in ms."""

    MINUTE = 60_000
    HOUR = 3_600_000
    DAY = 86_400_000

    def start_of(self, time_ms: int) -> int:
        """Start of the stretch of this width that `time_ms` falls into."""
        return time_ms - time_ms % self


NO_STAGE = ""
"""Stands in a row for "no stage": no stage has an empty name."""

MOST_NAMES = 1_000
"""Stages, and event types, that one row tells apart; the ones with the fewest events go under OTHER."""
