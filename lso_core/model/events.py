"""The event as pipelines send it, and its caps."""

from typing import Annotated, Any, Final, Literal

import msgspec

NAME_BYTES: Final = 200
"""Longest event_type, stage, run_id, system name or tag, in bytes of UTF-8."""
LATENCY_MS_MAX: Final = 7 * 86_400_000
"""Longest latency: seven days."""
PAYLOAD_BYTES: Final = 16 * 1024
"""Largest payload of one event, as JSON text."""
PAYLOAD_DEPTH: Final = 32
"""Deepest nesting of a payload; the payload object itself is level 1."""
CONTAINERS: Final = 250_000
"""Most objects and arrays in all payloads of a batch and around them, each of which costs as much as 50 bytes of text…"""
CONTAINERS_AN_EVENT: Final = 25
"""…or so many for each event that a batch may have, if that is more."""
KEY_BYTES: Final = 128
"""Longest Idempotency-Key."""
SKEW_MS: Final = 60_000
"""How far `ts` may run ahead of the arrival; further is refused."""
STAGES: Final = 64
EVENT_TYPES: Final = 32
"""How many stages and event types a system may have in its window; further ones go under OTHER."""
OTHER: Final = "__other__"

LIFECYCLE: Final = frozenset({"start", "heartbeat", "end", "log"})
"""Event types that are kept and shown, but not counted in totals, rates and percentiles."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES)]
LatencyMs = Annotated[float, msgspec.Meta(ge=0, le=LATENCY_MS_MAX)]


class Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One observation.

    `gc=False`: an event holds no reference cycle (JSON cannot make one), and tracking millions of them costs more
    than decoding them.
    """

    event_type: Name
    """What happened, e.g. `success`; `start`, `heartbeat`, `end` and `log` are lifecycle events."""
    status: Literal["ok", "error"]
    latency_ms: LatencyMs | None = None
    """Duration in milliseconds, 0 to seven days. Only a lifecycle event may leave it out."""
    ts: str | None = None
    """When it happened, RFC 3339; the arrival where absent."""
    run_id: Name | None = None
    stage: Name | None = None
    system_id: int | None = None
    """Must equal the path's system where given."""
    payload: dict[str, Any] | None = None
    """Anything else, as a JSON object."""
