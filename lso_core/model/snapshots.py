"""The snapshot: the finished answer for one system, as bytes that a reader can serve without decoding them.

A stored snapshot is a header of `HEADER.size` bytes and one JSON object. The header says where the verdict
(health, since, reason) stands, so that a reader who finds the observer behind can put UNKNOWN there; times have a
fixed width and stand at fixed places before it, so that a window out of which nothing has fallen yet can be shown as of
the present: up to the watermark nothing has come to it either.
"""

import functools
import struct

import msgspec

from lso_core.model import times
from lso_core.model.health import Health
from lso_core.model.systems import System
from lso_core.model.windows import SLOT_MS, Window, slot_of

HEADER = struct.Struct("<BBBBHHI")
"""version, health, drained, steady slots, bytes before the verdict, bytes of the verdict, window seconds.

Steady are the slots from that of `as_of` on in which only the time changes, as long as nothing arrives.
"""
VERSION = 2
"""2 since it tells the steady slots, which were always 0 before; whoever reads 1 reads it, too, and does without them."""
MOST_STEADY = 255
NO_EVENTS_YET = "no events yet"

_TIME = times.TEXT_LENGTH
_GAP_END_TO_AS_OF = len('","as_of":"')
_GAP_START_TO_END = len('","window_end":"')


class Latency(msgspec.Struct, frozen=True, gc=False):
    """A distribution of latencies in milliseconds; every member is None where there is no event."""

    min: float | None = None
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    p999: float | None = None
    max: float | None = None


class StageSummary(msgspec.Struct, frozen=True, gc=False):
    """The window of one stage."""

    total: int
    errors: int
    error_rate: float | None
    latency_ms: Latency


class Figures(msgspec.Struct, frozen=True, gc=False):
    """What /health says after the verdict, in its order."""

    total: int
    errors: int
    error_rate: float | None
    rps: float
    p95_latency: float | None
    last_event_at: str | None
    last_ok_at: str | None


class Details(msgspec.Struct, frozen=True, gc=False):
    """What /metrics of a system adds to /health."""

    latency_ms: Latency
    stages: dict[str, StageSummary]
    event_types: dict[str, int]
    late: int
    clock_skewed: int


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The judgement: which state, since when, and why in one sentence."""

    health: Health
    since_ms: int
    reason: str

    def members(self) -> bytes:
        """As members of a JSON object, without the braces."""
        return b'"health":"%s","since":"%s","reason":%s' % (
            self.health.name.encode(),
            times.to_text(self.since_ms).encode(),
            msgspec.json.encode(self.reason),
        )


class Summary(msgspec.Struct, frozen=True, gc=False):
    """Everything that is known of one system's window at `as_of_ms`."""

    system_id: int
    window: Window
    as_of_ms: int
    verdict: Verdict
    figures: Figures
    details: Details
    steady_until_ms: int | None = None
    """When something of it changes although nothing arrives; None where that is not known, or never."""

    @classmethod
    def before_events(cls, system: System, created_ms: int) -> "Summary":
        """What is known of a system that has just been registered."""
        return cls(
            system.system_id,
            system.window,
            created_ms,
            Verdict(Health.UNKNOWN, created_ms, NO_EVENTS_YET),
            Figures(0, 0, None, 0.0, None, None, None),
            Details(Latency(), {}, {}, 0, 0),
        )

    @property
    def drained(self) -> bool:
        """True when the window holds nothing, so that only time can pass."""
        return not self.details.event_types and not self.details.late

    @property
    def steady_slots(self) -> int:
        """How many slots, its own included, end before something changes."""
        if self.steady_until_ms is None:
            return 0
        return max(0, min(MOST_STEADY, (slot_of(self.steady_until_ms) - slot_of(self.as_of_ms)) // SLOT_MS))


class FleetLine(msgspec.Struct, frozen=True):
    """One system on the fleet page."""

    system_id: int
    name: str
    health: str
    since: str
    reason: str
    total: int
    errors: int
    error_rate: float | None
    rps: float
    p95_latency: float | None
    last_event_at: str | None
    tags: tuple[str, ...] = ()
    observer_behind: bool = False
    """True where `health` is UNKNOWN because LSO itself is behind: the figures are as last computed."""


_fleet_line = msgspec.json.Decoder(FleetLine)


class Answer(msgspec.Struct, frozen=True):
    """A health answer ready to be sent."""

    body: bytes
    health: Health


def encode(summary: Summary) -> bytes:
    """The bytes that are stored for /health."""
    verdict, as_of = summary.verdict.members(), times.to_text(summary.as_of_ms)
    start = times.to_text(summary.window.start_of(summary.as_of_ms))
    head = (
        f'{{"system_id":{summary.system_id},"window_seconds":{summary.window.seconds},'
        f'"window_start":"{start}","window_end":"{as_of}","as_of":"{as_of}",'
    ).encode()
    header = HEADER.pack(
        VERSION,
        summary.verdict.health,
        summary.drained,
        summary.steady_slots,
        len(head),
        len(verdict),
        summary.window.seconds,
    )
    return b"".join((header, head, verdict, b",", _members(summary.figures), b"}"))


def encode_details(summary: Summary) -> bytes:
    """The bytes that are stored for /metrics: the members it adds, without the braces."""
    return _members(summary.details)


def fleet_line(summary: Summary, system: System) -> bytes:
    """The system's line on the fleet page, as JSON."""
    figures = summary.figures
    return msgspec.json.encode(
        FleetLine(
            summary.system_id,
            system.name,
            summary.verdict.health.name,
            times.to_text(summary.verdict.since_ms),
            summary.verdict.reason,
            figures.total,
            figures.errors,
            figures.error_rate,
            figures.rps,
            figures.p95_latency,
            figures.last_event_at,
            system.tags,
        )
    )


def answer(stored: bytes, watermark_ms: int | None, now_ms: int, stale_after_ms: int) -> Answer:
    """The health answer from stored bytes, at Redis' time `now_ms`.

    Where the observer is behind by more than `stale_after_ms` the verdict is UNKNOWN and says so; the figures stay as
    they were last computed. Work is a few slices, whatever the number of events.
    """
    _, health, drained, steady, head, verdict, seconds = HEADER.unpack_from(stored)
    body = stored[HEADER.size :]
    late = observer_behind(watermark_ms, now_ms, stale_after_ms)
    if late is not None:
        return Answer(b"".join((body[:head], late.members(), body[head + verdict :])), Health.UNKNOWN)
    if watermark_ms is not None and (drained or steady):
        most = None if drained else steady
        return Answer(_with_times(body, head, Window(seconds), watermark_ms, most), Health(health))
    return Answer(body, Health(health))


def with_verdict(stored: bytes, verdict: Verdict) -> bytes:
    """A stored snapshot with another verdict; the figures stay, and so does their time, unless there are none."""
    version, _, drained, _, head, length, seconds = HEADER.unpack_from(stored)
    members, body = verdict.members(), stored[HEADER.size :]
    header = HEADER.pack(version, verdict.health, drained, 0, head, len(members), seconds)
    return b"".join((header, body[:head], members, body[head + length :]))


def line_with_verdict(line: bytes, verdict: Verdict, *, observer_behind: bool = False) -> bytes:
    """A fleet line with another verdict; the figures stay."""
    changed = msgspec.structs.replace(
        _fleet_line.decode(line),
        health=verdict.health.name,
        since=times.to_text(verdict.since_ms),
        reason=verdict.reason,
        observer_behind=observer_behind,
    )
    return msgspec.json.encode(changed)


def continued(line: bytes, verdict: Verdict) -> Verdict:
    """`verdict`, since when the fleet line says if that has the same health already."""
    known = _fleet_line.decode(line)
    if known.health != verdict.health.name:
        return verdict
    return msgspec.structs.replace(verdict, since_ms=times.from_text(known.since))


def with_details(body: bytes, details: bytes) -> bytes:
    """A /metrics answer: a health answer and the stored details in one object."""
    return b"".join((body[:-1], b",", details, b"}"))


def observer_behind(watermark_ms: int | None, now_ms: int, stale_after_ms: int) -> Verdict | None:
    """The verdict that stands in for a system's own while folding is too far behind; None while it is not."""
    if watermark_ms is None:
        return Verdict(Health.UNKNOWN, now_ms, "the observer is behind: no worker has folded anything yet")
    behind_ms = now_ms - watermark_ms
    if behind_ms <= stale_after_ms:
        return None
    reason = (
        f"the observer is {behind_ms / 1_000:.1f} s behind (allowed: {stale_after_ms / 1_000:g} s); "
        "the figures are as last computed"
    )
    return Verdict(Health.UNKNOWN, watermark_ms, reason)


def _members(value: msgspec.Struct) -> bytes:
    """A struct as members of a JSON object, without the braces."""
    return msgspec.json.encode(value)[1:-1]


def _with_times(body: bytes, head: int, window: Window, as_of_ms: int, steady: int | None) -> bytes:
    """The body with its three times set to `as_of_ms`, never back and not beyond so many slots where they are counted."""
    as_of_at = head - 2 - _TIME
    before = body[as_of_at : as_of_at + _TIME]
    if steady is not None:
        as_of_ms = min(as_of_ms, slot_of(_ms(before)) + steady * SLOT_MS - 1)
    as_of = times.to_text(as_of_ms).encode()
    if as_of <= before:  # texts of fixed width sort as their times do
        return body
    end_at = as_of_at - _GAP_END_TO_AS_OF - _TIME
    start_at = end_at - _GAP_START_TO_END - _TIME
    start = times.to_text(window.start_of(as_of_ms)).encode()
    return b"".join(
        (
            body[:start_at],
            start,
            body[start_at + _TIME : end_at],
            as_of,
            body[end_at + _TIME : as_of_at],
            as_of,
            body[as_of_at + _TIME :],
        )
    )


@functools.lru_cache(4_096)
def _ms(text: bytes) -> int:
    """A time as it is written; whoever reads a snapshot soon reads it again."""
    return times.from_text(text.decode())
