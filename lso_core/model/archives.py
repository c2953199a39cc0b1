"""What is told of the archive."""

import msgspec


class Tier(msgspec.Struct, frozen=True):
    """The files of one kind."""

    files: int
    bytes: int


class ArchiveStatus(msgspec.Struct, frozen=True):
    """How the archive does."""

    mode: str
    """As LSO_ARCHIVE has it."""
    working: bool
    """False while it cannot be written, and where there is none."""
    reason: str
    """Why it is not working; "" while it is."""
    worked_at: str | None
    """When its job last went through."""
    tiers: dict[str, Tier]
    """By what the files hold: events, and rollups of minutes, hours and days."""
    lost: int
    """Events, ever, that left the hot tier before they were archived."""
    wanted: str
    """The latest run that was asked for, "" where none was."""
    done: bool
    """Whether that run is over."""


class ArchiveRun(msgspec.Struct, frozen=True):
    """A run that was asked for."""

    run: str


class SystemArchive(msgspec.Struct, frozen=True):
    """What became of one system's events and rollup rows, as far as they are folded."""

    system_id: int
    entry: str | None
    """The last entry that is archived, or lost."""
    archived: int
    """Events, ever."""
    lost: int
    """Events, ever, that left the hot tier before they were archived."""
    row: int
    """Number of the last rollup row that is archived."""
