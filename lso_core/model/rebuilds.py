"""A rebuild: a system's window computed again from the entries that are still there."""

import enum

import msgspec


class Progress(enum.Enum):
    """How far a rebuild is."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Rebuild(msgspec.Struct, frozen=True):
    """A rebuild as it was asked for, and what became of it. Counts are of slots in the window."""

    system_id: int
    progress: Progress = Progress.PENDING
    replaced: int = 0
    """Whose entries are all still there: computed anew."""
    different: int = 0
    """Of those, how many were not as stored."""
    kept: int = 0
    """Of whose entries some are trimmed: left as they were."""
    lost: int = 0
    """Neither readable nor to be computed: dropped."""
    reason: str = ""
    """Why it failed."""
