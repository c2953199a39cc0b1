"""What travels between the HTTP edge and the store: batches in, receipts and pages out."""

from typing import Generic, TypeVar

import msgspec

from lso_core.model.errors import Finding

T = TypeVar("T")


class Reject(msgspec.Struct, frozen=True):
    """A bad event of a batch sent with `on_invalid=skip`: kept in the dead-letter stream, not counted."""

    event: bytes
    """The event's JSON as it came, cut at PAYLOAD_BYTES."""
    finding: Finding


class Batch(msgspec.Struct, frozen=True):
    """The events of one POST, validated and ready to be appended as one entry."""

    count: int
    """How many events; 0 only where every event was rejected."""
    columns: bytes
    """`compute.columns.encode`: what folding needs."""
    body: bytes
    """`compute.columns.pack_body`: the events' JSON, for reading them back."""
    latest_ts_ms: int | None
    """The batch's largest `ts`, None where no event has one."""
    digest: bytes
    """16-byte digest of the request's inflated body, to tell a retry from another request under the same key."""
    rejects: tuple[Reject, ...] = ()


class Receipt(msgspec.Struct, frozen=True):
    """What the caller of a POST learns."""

    accepted: int
    duplicate: bool
    entries: tuple[str, str] | None
    """First and last entry id; None where every event was rejected."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list, newest first. `next` is the cursor of the following page, None on the last."""

    items: list[T]
    next: str | None


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry of a system's stream, as it is read back."""

    entry_id: str
    at_ms: int
    count: int
    columns: bytes
    body: bytes


class DeadLetter(msgspec.Struct, frozen=True):
    """A bad event that was set aside, or an entry that could not be read."""

    id: str
    system_id: int
    at_ms: int
    """When the event, or the entry, arrived."""
    field: str
    """Of the event, "" for the event itself and for an entry."""
    reason: str
    entry: str | None
    """Id of the entry; None for an event."""
    events: int
    event: bytes
    """The event's JSON as it came; empty for an entry."""
    columns: bytes
    body: bytes
    """What the entry held; empty for an event."""


class FleetPage(msgspec.Struct, frozen=True):
    """Systems worst first, and how many there are in each state over the whole fleet."""

    counts: dict[str, int]
    """Health name to number of systems; every state is present."""
    lines: list[bytes]
    """`FleetLine`s as JSON."""
    next: str | None


class FleetShare(msgspec.Struct, frozen=True):
    """One partition's part of the fleet: what changed since its reader looked last."""

    now_ms: int
    watermark_ms: int | None
    position: int
    """What the next look begins behind."""
    size: int
    """How many systems there are, changed or not."""
    whole: bool
    """True where `lines` are all there are."""
    lines: dict[int, bytes]
    """System to its `FleetLine` as JSON."""


class Backlog(msgspec.Struct, frozen=True):
    """What is accepted and not yet folded."""

    entries: int
    events: int
    oldest_age_s: float
    """Age of the oldest unfolded entry; 0 where there is none."""


class Autoscale(msgspec.Struct, frozen=True):
    """What an autoscaler of workers needs."""

    backlog: Backlog
    workers: int
    desired_workers: int
