"""What an answer means for the batch it answers. Pure: the sender acts on it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from lso_core.client.batch import Batch
    from lso_core.client.transport import Reply

ACCEPTED, DUPLICATE, RETRY, REFUSED, HALVE, MEND = "accepted", "duplicate", "retry", "refused", "halve", "mend"
"""Counted now; counted before, at an earlier attempt; not now; never; never in this size; without the bad ones."""

MAX_MENDS = 8
"""How often a batch may be sent again without the events that were refused by name, before the rest is given up."""
MAX_NAMED = 100
"""Most bad events that one answer names: where there are as many, there may be more."""
WAIT_STATUSES = frozenset({408, 425, 429})
ACCEPTED_STATUS, TOO_LARGE_STATUS, INVALID_STATUS = 202, 413, 422


class Verdict:
    """One of the words above, with what it takes to act on it."""

    __slots__ = ("bad", "kind", "parts", "reason", "retry_after_s", "topic")

    def __init__(
        self,
        kind: str,
        reason: str = "",
        *,
        topic: str = "",
        retry_after_s: float | None = None,
        parts: tuple[Batch, ...] = (),
    ) -> None:
        self.kind = kind
        self.reason = reason
        """One sentence for the log."""
        self.topic = topic or kind
        self.retry_after_s = retry_after_s
        self.parts = parts
        """The batches to send in place of this one."""


def judge(reply: Reply, batch: Batch) -> Verdict:
    """The meaning of the server's answer to a POST of the batch."""
    status = reply.status
    if status == ACCEPTED_STATUS and "accepted" in reply.body:
        return Verdict(DUPLICATE if reply.body.get("duplicate") is True else ACCEPTED)
    if status == TOO_LARGE_STATUS and len(batch.lines) > 1:
        return Verdict(HALVE, parts=tuple(batch.halves()))
    if status == INVALID_STATUS and (rest := _mended(reply, batch)) is not None:
        return Verdict(MEND, _detail(reply), topic="invalid", parts=rest)
    return judge_status(reply)


def judge_status(reply: Reply) -> Verdict:
    """The meaning of an answer that is not the one hoped for."""
    if reply.status in WAIT_STATUSES or not 400 <= reply.status < 500:
        return Verdict(RETRY, _detail(reply), retry_after_s=reply.retry_after_s)
    return Verdict(REFUSED, _detail(reply), topic=f"refused-{reply.status}")


def _mended(reply: Reply, batch: Batch) -> tuple[Batch, ...] | None:
    """What is left of the batch without the events that the server names; None when it names none.

    The server takes all of a batch or nothing, so that one event it does not like would cost all the others theirs.
    An event refused only for its time comes from a clock that is ahead: it goes again without one, and counts at arrival.
    """
    fields = _named(reply, len(batch.lines))
    if not fields or batch.key.count("r") + batch.key.count("t") >= MAX_MENDS:
        return None
    if all(names == {"ts"} for names in fields.values()) and "t" not in batch.key:
        ahead = fields if len(fields) < MAX_NAMED else range(len(batch.lines))
        return (batch.with_lines(_untimed(batch.lines, ahead)),)
    return (batch.without(fields),) if len(fields) < len(batch.lines) else ()


def _named(reply: Reply, events: int) -> dict[int, set[str]]:
    """Index of each refused event, with the fields that were wrong in it."""
    errors = reply.body.get("errors")
    fields: dict[int, set[str]] = {}
    for error in errors if isinstance(errors, list) else ():
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < events:
            fields.setdefault(index, set()).add(str(error.get("field")))
    return fields


def _untimed(lines: list[bytes], indices: Container[int]) -> list[bytes]:
    from lso_core.client.encoding import without_ts  # noqa: PLC0415

    return [without_ts(line) if index in indices else line for index, line in enumerate(lines)]


def _detail(reply: Reply) -> str:
    said = reply.body.get("detail") or reply.body.get("title")
    errors = reply.body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    bad = f" ({first.get('field')}: {first.get('message')})" if first else ""
    return f"LSO answered {reply.status}" + (f": {said}" if said else "") + bad
