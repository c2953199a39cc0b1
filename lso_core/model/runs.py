"""Runs: what makes one, the states it may be in, its caps, and how it is shown."""

import enum
from typing import Annotated, Final

import msgspec

OUTCOMES: Final = frozenset({"success", "failure"})
"""Event types that end a run where they have no stage."""
LIFE: Final = frozenset({"start", "heartbeat", "end"})
"""Lifecycle events of a run."""
MAKERS: Final = OUTCOMES | {"start", "end"}
"""Event types that may make a run."""

OPEN_RUNS: Final = 1_000
"""Most runs of a system that have not ended; past it the oldest is closed as LOST."""
RUN_STAGES: Final = 64
"""Most stages of a run; further ones go under OTHER."""
MESSAGE_BYTES: Final = 300
"""Longest error summary."""
LONGEST_S: Final = 30 * 86_400
"""Longest `max_runtime_seconds` and `heartbeat_timeout_seconds`."""
GIVEN_UP_MS: Final = 7 * 86_400_000
"""A run without any sign of life for so long is no longer waited for: it is closed, and its system is judged without it."""

Seconds = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_S)]


class RunState(enum.IntEnum):
    """What became of a run."""

    RUNNING = 0
    SUCCESS = 1
    FAILED = 2
    TIMED_OUT = 3
    """Not ended within the system's `max_runtime_seconds`."""
    LOST = 4
    """No sign of life for the system's `heartbeat_timeout_seconds`, or closed because too many were open."""


ENDED: Final = frozenset({RunState.SUCCESS, RunState.FAILED})


class Limits(msgspec.Struct, frozen=True):
    """What a system allows its runs; None for no limit."""

    max_runtime_s: int | None = None
    heartbeat_timeout_s: int | None = None


class Sums(msgspec.Struct, frozen=True):
    """The numbers that payloads tell, added up; None where no event told one."""

    rows: int | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    bytes: int | None = None


class ShownStage(msgspec.Struct, frozen=True):
    """A stage of a run, over all its attempts."""

    name: str
    state: str
    """SUCCESS or FAILED, by its latest outcome; RUNNING where it has none."""
    started_at: str
    ended_at: str | None
    """Of its latest outcome."""
    duration_ms: float | None
    """Of all its outcomes together; null where none tells a latency."""
    events: int
    errors: int
    rows: int | None
    rows_in: int | None
    rows_out: int | None
    bytes: int | None


class ShownRun(msgspec.Struct, frozen=True):
    """A run as lists show it."""

    system_id: int
    run_id: str
    state: str
    """RUNNING, SUCCESS, FAILED, TIMED_OUT or LOST."""
    attempts: int
    """How often it was started."""
    started_at: str
    """Of the latest attempt."""
    ended_at: str | None
    duration_ms: float
    """Of the latest attempt: up to its end, or up to now; for a lost one up to its last sign of life."""
    last_event_at: str
    events: int
    errors: int
    error_summary: str | None
    """Message of the first error."""
    rows: int | None
    rows_in: int | None
    rows_out: int | None
    bytes: int | None
    stages: list[ShownStage]
    """In the order in which they began."""


class Rank(msgspec.Struct, frozen=True):
    """How long a run took, or takes by now, among the ended runs of its system."""

    runs: int
    """How many others have ended."""
    slower_than: int
    """How many of them took less time."""
    percent: float | None
    """The same of 100; null where there is no other."""
    text: str
    """The same as a sentence."""


class RunCounts(msgspec.Struct, frozen=True):
    """The runs of a system that have not ended, and those that were left out."""

    running: int = 0
    timed_out: int = 0
    lost: int = 0
    closed_as_lost: int = 0
    """Ever, because more than OPEN_RUNS were open."""
    skipped: int = 0
    """Ever, because more than MADE_A_SECOND were made in a second."""
