"""A request's body, decoded and validated into a `Batch`.

Two readings of the same rules. `quick` has the kernel read the body (`reader`); what that leaves, it lets msgspec decode and
validate in one go, and settles what types cannot say with a few operations over the whole body. It answers None where it
cannot be sure. `careful` then looks at every event by itself, names what is wrong, and is the truth: property tests hold
the others against it.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import xxhash

from lso_core.compute import columns, reader, scrutiny
from lso_core.compute.columns import BodyKind
from lso_core.compute.outline import Outline, holds_more, may_hold_more, outline
from lso_core.compute.scrutiny import EVENT_DEPTH, Problem
from lso_core.model.batches import Batch, Reject
from lso_core.model.errors import Finding, InputError
from lso_core.model.events import (
    CONTAINERS,
    CONTAINERS_AN_EVENT,
    LIFECYCLE,
    NAME_BYTES,
    PAYLOAD_BYTES,
    Event,
    LatencyMs,
    Name,
)

REJECTS: Final = 1_000
"""Most bad events of a batch that `on_invalid=skip` sets aside; past it the batch is refused."""


# Typing a payload's numbers as float makes the decoder refuse every number beyond one. Types cannot recurse and their
# cost doubles with each level, so payloads that nest deeper than this are left to the careful reading.
_Scalar = bool | float | str | None
_Level5 = _Scalar | list[_Scalar] | dict[str, _Scalar]
_Level4 = _Scalar | list[_Level5] | dict[str, _Level5]
_Level3 = _Scalar | list[_Level4] | dict[str, _Level4]
_Level2 = _Scalar | list[_Level3] | dict[str, _Level3]
_QuickPayload = dict[str, _Level2]
"""Payloads that are certainly good, but for their size."""


class _QuickEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`Event` with a payload of bounded nesting and of finite numbers."""

    event_type: Name
    status: Literal["ok", "error"]
    latency_ms: LatencyMs | None = None
    ts: str | None = None
    run_id: Name | None = None
    stage: Name | None = None
    system_id: int | None = None
    payload: _QuickPayload | None = None


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[_QuickEvent]


class _RawEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class _PayloadOnly(msgspec.Struct):
    payload: msgspec.Raw = msgspec.Raw(b"")


class _PayloadsOnly(msgspec.Struct):
    events: list[_PayloadOnly]


_envelope = msgspec.json.Decoder(_Envelope)
_line = msgspec.json.Decoder(_QuickEvent)
_raw_envelope = msgspec.json.Decoder(_RawEnvelope)
_payloads = msgspec.json.Decoder(_PayloadsOnly)
_payload_line = msgspec.json.Decoder(_PayloadOnly)

_WISH: Final = 'the body must be {"events": [...]}, or one event a line as application/x-ndjson'
_ARRAY: Final = re.compile(rb'"events"\s*:\s*\[')
_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")
_ENVELOPE_DEPTH: Final = EVENT_DEPTH + 2
_MARK: Final = b'"event_type"'
_STRIDE: Final = PAYLOAD_BYTES // 2


class _Text(NamedTuple):
    """One event as it came."""

    start: int
    """Where it stands in the body."""
    json: bytes


class Post(msgspec.Struct, frozen=True):
    """What a caller sent."""

    body: bytes
    """Inflated."""
    system_id: int
    """The path's."""
    most_events: int
    ndjson: bool = False
    keyed: bool = False
    """True where the request has an idempotency key, so that its digest is wanted."""
    latest_ms: int | None = None
    """Where given, an event with a later `ts` is bad."""

    @property
    def most_containers(self) -> int:
        """Most objects and arrays."""
        return max(CONTAINERS, CONTAINERS_AN_EVENT * self.most_events)


def quick(post: Post) -> Batch | None:
    """The batch, or None where it is not certain that every event is good."""
    found = reader.read(post.body, post.system_id, post.most_events, post.most_containers, lines=post.ndjson)
    if found is None:
        return _decoded(post)
    body = _pack(post) if found.parts is None else columns.pack_body(found.parts, BodyKind.PARTS)
    return Batch(found.events, found.block, body, found.latest_ts_ms, digest_of(post))


def _decoded(post: Post) -> Batch | None:
    """As `quick`, by msgspec: for what the kernel leaves to it, and where there is none."""
    if may_hold_more(post.body, post.most_containers):
        return None
    try:
        return _one_by_one(post)
    except (ValueError, RecursionError):  # also of msgspec and of Unicode
        return None


def _one_by_one(post: Post) -> Batch | None:
    """As `quick`, of events that are decoded one by one. Raises ValueError or RecursionError where one is bad."""
    events = _line.decode_lines(post.body) if post.ndjson else _envelope.decode(post.body).events
    if not 0 < len(events) <= post.most_events or not _is_fine(post, events):
        return None
    cut = columns.cut(events)  # type: ignore[arg-type]  # the same fields, but for the payload's type
    return batch_of(post, cut, _pack(post)) if _is_complete(cut) else None


def _pack(post: Post) -> bytes:
    """The body as it came."""
    return columns.pack_body(post.body, BodyKind.NDJSON if post.ndjson else BodyKind.JSON)


def careful(post: Post, *, skip: bool = False) -> Batch:
    """The batch, event by event. Raises InputError that names every bad event.

    With `skip` bad events become `rejects` of the batch, and only a body that cannot be told into events, or with more
    than REJECTS bad ones, is refused. Work is linear in the body; 16 MiB of anything take a few seconds at most.
    """
    texts = _lines(post) if post.ndjson else _events(post)
    if not texts:
        raise refused("the batch has no events", "events")
    if holds_more(post.body, post.most_containers):
        raise crowded(post)
    judged = (_judge(index, text, post) for index, text in enumerate(texts))
    kept = sift(judged, len(texts), lambda index: texts[index].json, skip=skip)
    body = _assemble([texts[index].json for index in kept.good])
    return batch_of(post, columns.cut(kept.events), body, kept.rejects)


class Sifted(NamedTuple):
    """The good events of a batch, and the bad ones."""

    events: list[Event]
    good: list[int]
    """Where the good ones stood in the batch."""
    rejects: tuple[Reject, ...]


def sift(judged: Iterable[Event | list[Finding]], count: int, json_of: Callable[[int], bytes], *, skip: bool) -> Sifted:
    """Tell good events from bad ones, in order; `json_of` gives a bad one as it came. Raises InputError as `careful`."""
    events: list[Event] = []
    good: list[int] = []
    rejects: list[Reject] = []
    findings: list[Finding] = []
    for index, read in enumerate(judged):
        if isinstance(read, Event):
            events.append(read)
            good.append(index)
            continue
        findings += read
        rejects.append(Reject(json_of(index)[:PAYLOAD_BYTES], read[0]))
        if len(rejects) > REJECTS or (not skip and len(findings) >= InputError.MAX_FINDINGS):
            break
    if rejects and (not skip or len(rejects) > REJECTS):
        raise _bad_events(rejects, findings, count, skip=skip)
    return Sifted(events, good, tuple(rejects))


def _judge(index: int, text: _Text, post: Post) -> Event | list[Finding]:
    read = scrutiny.read(text.json, post.system_id, post.latest_ms)
    return read if isinstance(read, Event) else [_finding(problem, index, text, post) for problem in read]


def _finding(problem: Problem, index: int, text: _Text, post: Post) -> Finding:
    """What a caller reads of a problem: the field and, for what is no JSON, the place."""
    place = ""
    if problem.byte is not None and post.ndjson:
        line = post.body.count(b"\n", 0, text.start) + 1
        place = f" byte {problem.byte} of line {line}"
    elif problem.byte is not None:
        place = f" byte {text.start + problem.byte} of the body"
    return finding_of(problem, index, place)


def finding_of(problem: Problem, index: int, place: str = "") -> Finding:
    """A problem of the event at `index` as a sentence."""
    return Finding(index, problem.field, f"{problem.field or 'the event'} {problem.message}{place}")


def _is_fine(post: Post, events: Sequence[_QuickEvent]) -> bool:
    """True where it is certain that the events keep what types and columns do not say."""
    body = post.body
    if {event.system_id for event in events} - {None, post.system_id}:
        return False
    if post.ndjson and not 0 <= body.count(b"\n") - len(events) + 1 <= 1:
        return False  # blank lines, or an event that is not one line
    if (b"\\" in body or not body.isascii()) and not _names_fit(events):
        return False
    return len(body) <= PAYLOAD_BYTES or _payloads_are_small(body, len(events)) or _payloads_fit(post)


def _names_fit(events: Sequence[_QuickEvent]) -> bool:
    """True where no name has more bytes than NAME_BYTES; the decoder has counted characters."""
    names = {name for event in events for name in (event.event_type, event.stage, event.run_id) if name is not None}
    return all(len(name) * 4 <= NAME_BYTES or len(name.encode()) <= NAME_BYTES for name in names)


def _payloads_are_small(body: bytes, count: int) -> bool:
    """True only where no payload of a valid body with `count` events is over PAYLOAD_BYTES.

    Every event has its mark; where there are no more marks than events and nothing is escaped, no payload holds one. A
    payload over the cap spans a whole stride of half the cap, so if every stride has a mark none is over it.
    """
    if b"\\" in body or body.count(_MARK) != count:
        return False
    strides = range(0, len(body) - _STRIDE + 1, _STRIDE)
    return all(body.find(_MARK, start, start + _STRIDE) >= 0 for start in strides)


def _payloads_fit(post: Post) -> bool:
    """True where no payload is over PAYLOAD_BYTES: the exact check, at half the price of decoding."""
    lines = _payload_line.decode_lines(post.body) if post.ndjson else _payloads.decode(post.body).events
    return all(len(line.payload) <= PAYLOAD_BYTES for line in lines)


def _is_complete(cut: columns.Columns) -> bool:
    """True where every event that must have a latency has one."""
    if cut.has_latency.all():
        return True
    lifecycle = [at for at, name in enumerate(cut.event_types) if name in LIFECYCLE]
    return set(cut.event_type[~cut.has_latency].tolist()) <= set(lifecycle)


def batch_of(post: Post, cut: columns.Columns, body: bytes, rejects: tuple[Reject, ...] = ()) -> Batch:
    """The batch of a body whose events are these."""
    return Batch(len(cut), columns.encode(cut), body, cut.latest_ts_ms, digest_of(post), rejects)


def digest_of(post: Post) -> bytes:
    """What tells the body from another under the same idempotency key; nothing where it has none."""
    return xxhash.xxh3_128_digest(post.body) if post.keyed else b""


def _assemble(texts: list[bytes]) -> bytes:
    """Good events as NDJSON; a line break inside valid JSON is only white space."""
    return columns.pack_body(b"\n".join(text.replace(b"\n", b" ") for text in texts), BodyKind.NDJSON)


def _lines(post: Post) -> list[_Text]:
    """The lines that are not blank."""
    texts: list[_Text] = []
    for line in _LINE.finditer(post.body):
        texts.append(_Text(line.start(), line[0]))
        if len(texts) > post.most_events:
            raise refused(f"the batch has more than {post.most_events} events, which is the cap", "events")
    return texts


def _events(post: Post) -> list[_Text]:
    """The texts of the events, each as it came, whether or not it is valid by itself."""
    body = post.body
    scan = outline(body)
    span = _array(body, scan)
    if span is None or _strict_envelope(body[: span[0]] + body[span[1] :], post, scan):
        # No array to be told, or a second one: as the decoder sees it.
        return [_Text(0, bytes(raw)) for raw in _strict_envelope(body, post, scan)]
    start, end = span
    if not body[start:end].strip():
        return []
    commas = scan.commas(start, end, 2)
    if len(commas) >= post.most_events:
        raise refused(f"the batch has {len(commas) + 1} events; the cap is {post.most_events}", "events")
    edges = [start - 1, *commas.tolist(), end]
    return [_Text(left + 1, body[left + 1 : right]) for left, right in itertools.pairwise(edges)]


def _array(body: bytes, scan: Outline) -> tuple[int, int] | None:
    """Where the inside of the events' array begins and ends; None where that cannot be told."""
    for found in itertools.islice(_ARRAY.finditer(body), 100):
        opening = found.end() - 1
        if scan.outside[opening] and scan.depth[opening] == 2:
            end = scan.end_of(opening)
            return None if end is None or body[end] != ord("]") else (opening + 1, end)
    return None


def _strict_envelope(text: bytes, post: Post, scan: Outline) -> list[msgspec.Raw]:
    """The events of an envelope, which is the body or what is left without its events.

    Raises InputError where it is not one.
    """
    if len(text) == len(post.body) and scan.deepest > _ENVELOPE_DEPTH:
        raise refused(f"the body cannot be told into events and nests deeper than {_ENVELOPE_DEPTH} levels", "")
    try:
        return _raw_envelope.decode(text).events
    except msgspec.ValidationError:
        strangers = [name[:NAME_BYTES] for name in _top(text) if name != "events"]
        also = "; it also has " + ", ".join(f'"{name}"' for name in strangers[:5]) if strangers else ""
        raise refused(_WISH + also, strangers[0] if strangers else "events") from None
    except ValueError:
        raise _malformed(post.body, scan) from None


def _malformed(body: bytes, scan: Outline) -> InputError:
    """The refusal of a body that is no JSON, with the place."""
    if (at := scrutiny.unicode_position(body)) is not None:
        return refused(f"the body is not UTF-8 at byte {at}", "")
    at = 0
    if scan.deepest <= _ENVELOPE_DEPTH:
        try:
            _raw_envelope.decode(body)
        except ValueError as error:
            at = scrutiny.position_of(error, body)
    return refused(f"the body is malformed JSON near byte {at}", "")


def _top(text: bytes) -> list[str]:
    """The names in an envelope; none where it is no object."""
    try:
        return list(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    except ValueError:
        return []


def refused(message: str, field: str) -> InputError:
    """The refusal of a request as a whole."""
    return InputError(message, (Finding(None, field, message),))


def crowded(post: Post) -> InputError:
    """The refusal of a batch that would take long to read, and much memory, for what little it says."""
    return refused(f"the batch has more than {post.most_containers} objects and arrays, which is the cap", "events")


def _bad_events(rejects: list[Reject], findings: list[Finding], count: int, *, skip: bool) -> InputError:
    """The refusal of a whole batch for its bad events."""
    first = rejects[0].finding
    if skip:
        detail = f"more than {REJECTS} of {count} events are wrong, which is the cap for on_invalid=skip"
    elif len(findings) >= InputError.MAX_FINDINGS:
        detail = f"at least {len(rejects)} of {count} events are wrong"
    else:
        detail = f"{len(rejects)} of {count} {'events are' if len(rejects) > 1 else 'events is'} wrong"
    return InputError(f"{detail}; the first is event {first.index}: {first.message}", tuple(findings))
