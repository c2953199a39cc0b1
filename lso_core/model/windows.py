"""Event time cut into slots, and the rolling window made of them. Integer milliseconds throughout."""

import msgspec

from lso_core.model.rollups import Width

SLOT_MS = 5_000
"""Length of a slot. Part of the stored layout: another value refuses to start on existing data."""

UNWRITTEN_MS = 2 * Width.MINUTE
"""Less than this goes back what is in the window and not in history yet: the present minute, and the turn of that before."""

PARTITIONS = 32
"""Units of placement. Part of the stored layout, too."""


_SPREAD = 7_919
"""A prime, so that systems whose numbers follow each other are some seconds apart."""


def partition_of(system_id: int) -> int:
    """The partition that every key of the system lives in."""
    return system_id % PARTITIONS


def slot_of(time_ms: int) -> int:
    """Start of the slot that `time_ms` falls into."""
    return time_ms - time_ms % SLOT_MS


class Window(msgspec.Struct, frozen=True):
    """The rolling window of one system. The current, unfinished slot counts, so it spans `seconds` less up to a slot."""

    seconds: int = 300

    @property
    def slots(self) -> int:
        """How many slots are in, the current one included."""
        return self.seconds * 1_000 // SLOT_MS

    def start_of(self, as_of_ms: int) -> int:
        """First millisecond inside the window that ends at `as_of_ms`."""
        return slot_of(as_of_ms) - (self.slots - 1) * SLOT_MS

    def lag_of(self, system_id: int) -> int:
        """How long after its end a minute of the system goes into history, so that not all systems do it at the same time.

        Less than a minute, and no longer than all of it is inside the window; nothing for the shortest windows.
        """
        room = min(Width.MINUTE, self.seconds * 1_000 - Width.MINUTE - SLOT_MS)
        return system_id * _SPREAD % room if room > 0 else 0
