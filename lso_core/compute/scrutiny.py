"""The careful reading of one event: what exactly is wrong with it, in sentences of ours that name the limit.

The decoder's own words never reach a caller, so that they are the same with every version of it and of Python.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from lso_core.compute.outline import nesting, outline
from lso_core.model import times
from lso_core.model.events import (
    LATENCY_MS_MAX,
    LIFECYCLE,
    NAME_BYTES,
    PAYLOAD_BYTES,
    PAYLOAD_DEPTH,
    SKEW_MS,
    Event,
    LatencyMs,
    Name,
)

EVENT_DEPTH: Final = PAYLOAD_DEPTH + 1
"""Deepest nesting of an event: the event itself is level 1."""

_event = msgspec.json.Decoder(Event)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, Any])

_NAME_WISH: Final = f"must be a string of 1 to {NAME_BYTES} bytes"
_NOT_FINITE: Final = "holds a number that is not finite: NaN, Infinity and numbers beyond 1.8e308 are not taken"
_NESTS: Final = f"nests deeper than {PAYLOAD_DEPTH} levels"
_RULES: Final[dict[str, tuple[msgspec.json.Decoder[Any], str]]] = {
    "event_type": (msgspec.json.Decoder(Name), _NAME_WISH),
    "status": (msgspec.json.Decoder(Event.__annotations__["status"]), 'must be "ok" or "error"'),
    "latency_ms": (
        msgspec.json.Decoder(LatencyMs | None),
        f"must be a number of milliseconds from 0 to {LATENCY_MS_MAX} (seven days)",
    ),
    "ts": (msgspec.json.Decoder(str | None), "must be an RFC 3339 date-time such as 2025-12-14T14:33:10.529Z"),
    "run_id": (msgspec.json.Decoder(Name | None), _NAME_WISH),
    "stage": (msgspec.json.Decoder(Name | None), _NAME_WISH),
    "system_id": (msgspec.json.Decoder(int | None), "must be the number of the path's system"),
    "payload": (msgspec.json.Decoder(dict[str, Any] | None), "must be a JSON object"),
}

_POSITION: Final = re.compile(r"\(byte (\d+)\)$")
_LITERAL: Final = re.compile(rb"-?(?:NaN|Infinity)")
_ESCAPES: Final = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u(?P<lone>[dD][89a-fA-F])|\\.", re.DOTALL)
"""A surrogate pair, half of one, or any other escape."""
_LONG_NUMBER: Final = re.compile(rb"[0-9]{309}")


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with one event, before its place in the batch is known."""

    field: str
    """"" for the event itself."""
    message: str
    """The sentence after the field's name."""
    byte: int | None = None
    """Where in the event, for what is no JSON; the sentence goes on with it."""


def read(text: bytes, system_id: int, latest_ms: int | None = None) -> Event | list[Problem]:
    """The event of a JSON text, or everything that is wrong with it (never an empty list)."""
    event = _read(text, system_id)
    return event if isinstance(event, list) else _in_time(event, latest_ms)


def _in_time(event: Event, latest_ms: int | None) -> Event | list[Problem]:
    if latest_ms is None or event.ts is None or times.from_text(event.ts) <= latest_ms:
        return event
    return [Problem("ts", f"is more than {SKEW_MS // 1_000} s ahead of the server's clock")]


def _read(text: bytes, system_id: int) -> Event | list[Problem]:
    if not text.strip():
        return [Problem("", "is missing: there is nothing between two commas")]
    if nesting(text) > EVENT_DEPTH:
        return [_too_deep(text)]
    try:
        event = _event.decode(text)
    except msgspec.ValidationError:
        return list(_problems(text, system_id))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [_syntax(text, error)]
    return event if _is_fine(event, text, system_id) else list(_problems(text, system_id))


def position_of(error: Exception, text: bytes) -> int:
    """The byte at which a decoder stopped: the wrong one, or one soon after it."""
    found = _POSITION.search(str(error))
    return int(found[1]) if found else len(text)


def unicode_position(text: bytes) -> int | None:
    """The first byte that is not UTF-8; None where all are."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def payload_bytes(text: bytes) -> int:
    """Length of the payload's JSON in an event that the decoder takes; 0 where there is none."""
    return len(_members.decode(text).get("payload", b""))


def _is_fine(event: Event, text: bytes, system_id: int) -> bool:
    """True where an event that the decoder took also keeps what types alone cannot say."""
    names = (event.event_type, event.stage, event.run_id)
    return (
        (event.latency_ms is not None or event.event_type in LIFECYCLE)
        and event.system_id in {None, system_id}
        and (event.ts is None or _is_time(event.ts))
        and all(name is None or _fits(name) for name in names)
        and (len(text) <= PAYLOAD_BYTES or payload_bytes(text) <= PAYLOAD_BYTES)
        and (_LONG_NUMBER.search(text) is None or is_finite(event.payload))
    )


def _problems(text: bytes, system_id: int) -> Iterator[Problem]:
    """Everything wrong with a text that is well-formed JSON, field by field."""
    try:
        members = _members.decode(text)
    except msgspec.ValidationError:
        yield Problem("", "must be a JSON object")
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield _syntax(text, error)
        return
    yield from _judge(members, system_id)[1]


def read_members(
    members: Mapping[str, msgspec.Raw], system_id: int, latest_ms: int | None = None
) -> Event | list[Problem]:
    """As `read`, of an event whose fields come one by one, each as JSON that need not be well-formed.

    Bytes may lie in memory that is shared: nothing over its cap is copied or decoded.
    """
    payload = bytes(memoryview(members.get("payload", b""))[: PAYLOAD_BYTES + 1])
    if len(payload) <= PAYLOAD_BYTES and nesting(payload) > PAYLOAD_DEPTH:
        return [Problem("payload", _NESTS)]
    values, problems = _judge(members, system_id)
    return problems or _in_time(Event(**values), latest_ms)


def _judge(members: Mapping[str, msgspec.Raw], system_id: int) -> tuple[dict[str, Any], list[Problem]]:
    """The values of an event's fields, and everything wrong with them."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, raw in members.items():
        try:
            values[name] = _value(name, raw, system_id)
        except ValueError as error:
            problems.append(Problem(name[:NAME_BYTES], str(error)))
            values[name] = None
    return values, [*problems, *_missing(members, values)]


def _missing(members: Mapping[str, msgspec.Raw], values: dict[str, Any]) -> Iterator[Problem]:
    for name in ("event_type", "status"):
        if name not in members:
            yield Problem(name, "is missing")
    absent = "latency_ms" not in members or bytes(members["latency_ms"]) == b"null"
    if absent and values.get("event_type") not in LIFECYCLE:
        yield Problem("latency_ms", f"is missing; only {', '.join(sorted(LIFECYCLE))} events may leave it out")


def _value(name: str, raw: msgspec.Raw, system_id: int) -> Any:
    """The value of one field. Raises ValueError whose text is the sentence after the field's name."""
    if name not in _RULES:
        raise ValueError(f"is not a field of an event; those are {', '.join(_RULES)}")
    decoder, wish = _RULES[name]
    if name == "payload" and len(raw) > PAYLOAD_BYTES:
        raise ValueError(f"has {len(raw)} bytes; the cap is {PAYLOAD_BYTES}")
    try:
        value = decoder.decode(raw)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise ValueError(_refusal(name, bytes(raw), error, wish)) from None
    if value is not None:
        _check(name, value, system_id)
    return value


def _refusal(name: str, raw: bytes, error: msgspec.DecodeError, wish: str) -> str:
    """Why the decoder refused a field."""
    if not isinstance(error, msgspec.ValidationError):
        return "is malformed JSON"
    if name == "payload" and raw.startswith(b"{"):
        return _NOT_FINITE
    return wish


def _check(name: str, value: Any, system_id: int) -> None:
    """Raise ValueError for what the field's type alone cannot say."""
    match name:
        case "system_id" if value != system_id:
            raise ValueError(f"must be {system_id}, the system of the path, where it is given")
        case "ts" if not _is_time(value):
            raise ValueError(_RULES["ts"][1])
        case "payload" if not is_finite(value):
            raise ValueError(_NOT_FINITE)
        case "event_type" | "stage" | "run_id" if not _fits(value):
            raise ValueError(_NAME_WISH)


def is_finite(value: Any) -> bool:
    """True where every number within is one that a double can hold; `value` nests at most PAYLOAD_DEPTH."""
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list):
        return all(map(is_finite, value))
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            return False
    return True


def _fits(name: str) -> bool:
    return len(name.encode()) <= NAME_BYTES


def _is_time(text: str) -> bool:
    try:
        times.from_text(text)
    except ValueError:
        return False
    return True


def _too_deep(text: bytes) -> Problem:
    scan = outline(text)
    return Problem(scan.key_at(int(scan.depth.argmax())), _NESTS)


def _syntax(text: bytes, error: Exception) -> Problem:
    """What is wrong with a text that is no JSON."""
    if isinstance(error, UnicodeDecodeError):
        at = unicode_position(text) or 0
        return Problem(outline(text).key_at(at), "is not UTF-8 at", at)
    at = position_of(error, text)
    field = outline(text).key_at(at) if at < len(text) else ""
    literal = _LITERAL.search(text, max(0, at - 1), at + len(b"Infinity"))
    if literal and literal.start() <= at:
        return Problem(field, _NOT_FINITE)
    lone = next((found.start() for found in _ESCAPES.finditer(text) if found["lone"]), None)
    if lone is not None and ("surrogate" in str(error) or at == len(text)):
        return Problem(outline(text).key_at(lone), "holds half of a surrogate pair")
    return Problem("", "is malformed JSON near", at)
