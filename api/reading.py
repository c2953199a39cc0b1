"""Queries and small JSON bodies read into structs; whatever is wrong is named field by field, in sentences of ours."""

import re
import types
import typing
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from api.limits.body import Cap, kind_of, read_body
from api.service import Asked, service_of
from lso_core.compute.outline import nesting
from lso_core.compute.scrutiny import position_of, unicode_position
from lso_core.model import times
from lso_core.model.errors import Finding, InputError

T = TypeVar("T", bound=msgspec.Struct)

BODY_CAP: Final = Cap(256 * 1024)
"""Largest body that describes a system."""
_DEPTH: Final = 16
_JSON: Final = frozenset({"application/json"})


def read_query(request: Asked, kind: type[T]) -> T:
    """The query as a struct; every parameter has a default. Raises InputError, also for a parameter there is not."""
    text = request.scope["query_string"]
    if not text:
        return kind()
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise refused("the query is not UTF-8, or has more than 50 parameters", "") from None
    if len(dict(pairs)) < len(pairs):
        raise refused("a parameter of the query is given twice", "")
    found = _convert(dict(pairs), kind, "parameter")
    for field in msgspec.structs.fields(kind):  # texts are taken for what they say, and so "null" for nothing
        if field.encode_name in dict(pairs) and getattr(found, field.name) is None:
            raise refused(f"{field.encode_name} must not be null", field.encode_name)
    return found


async def read_object(request: Asked, kind: type[T]) -> T:
    """The JSON body as a struct. Raises InputError, TooLargeError or UnsupportedTypeError."""
    service = service_of(request)
    headers = kind_of(request.scope["headers"], _JSON)
    body = await read_body(headers, request.receive, BODY_CAP, service.budget)
    service.budget.give_back(len(body))
    return _convert(_members(body), kind, "field")


def read_time(name: str, text: str | None) -> int | None:
    """A parameter's time in ms, None where it is not given. Raises InputError."""
    if text is None:
        return None
    try:
        return times.from_text(text)
    except ValueError:
        raise refused(f"{name} must be an RFC 3339 date-time such as 2025-12-14T14:33:10.529Z", name) from None


def refused(message: str, field: str) -> InputError:
    """The refusal of a request for one thing."""
    return InputError(message, (Finding(None, field, message),))


def _members(body: bytes) -> dict[str, Any]:
    """The members of a JSON object."""
    if (at := unicode_position(body)) is not None:
        raise refused(f"the body is not UTF-8 at byte {at}", "")
    if nesting(body) > _DEPTH:
        raise refused(f"the body nests deeper than {_DEPTH} levels", "")
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError:
        raise refused("the body must be a JSON object", "") from None
    except msgspec.DecodeError as error:
        raise refused(f"the body is malformed JSON near byte {position_of(error, body)}", "") from None


def _convert(values: dict[str, Any], kind: type[T], word: str) -> T:
    try:
        return msgspec.convert(values, kind, strict=word == "field")
    except msgspec.ValidationError:
        raise _explain(values, kind, word) from None


def _explain(values: dict[str, Any], kind: type[msgspec.Struct], word: str) -> InputError:
    """Everything wrong with the members of an object, each with its wish."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    findings = []
    for name, value in values.items():
        if name not in fields:
            findings.append(Finding(None, name[:200], f"{name[:200]} is no {word} here; those are {', '.join(fields)}"))
        elif (fault := _fault(value, fields[name].type, strict=word == "field")) is not None:
            findings.append(Finding(None, name + fault.where, f"{name + fault.where} {fault.message}"))
    findings += (
        Finding(None, name, f"{name} is missing")
        for name, field in fields.items()
        if field.required and name not in values
    )
    detail = findings[0].message if findings else "the request is wrong"
    return InputError(detail, tuple(findings))


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a value."""

    where: str
    """As `.member[0]`; "" for the value itself."""
    message: str


def _fault(value: Any, kind: Any, *, strict: bool) -> Fault | None:
    """What is wrong with a value first, None where nothing is."""
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`")
        return Fault(where, _inner(text) if where.startswith(".") else wish(kind))
    return None


def _inner(text: str) -> str:
    """The decoder's words about something within a value, in ours."""
    if (unknown := _UNKNOWN.search(text)) is not None:
        return f"has no member {unknown[1]}"
    if (expected := _EXPECTED.search(text)) is not None:
        return "must be " + " or ".join(_KINDS.get(kind, kind) for kind in expected[1].split(" | "))
    return "is not what it should be"


_UNKNOWN: Final = re.compile(r"unknown field `(.{1,200})`", re.DOTALL)
_EXPECTED: Final = re.compile(r"^Expected `([a-z |]+)`")
_KINDS: Final = {"float": "a number", "int": "a whole number", "str": "a string", "object": "an object"}


def wish(kind: Any) -> str:
    """What a value should have been, as the end of a sentence."""
    words = [_word(part) for part in _parts(kind)]
    return "must be " + " or ".join(dict.fromkeys(word for word in words if word))


def _parts(kind: Any) -> list[Any]:
    """The members of a union, or the one type."""
    origin = typing.get_origin(kind)
    if origin is types.UnionType or origin is typing.Union:
        return [part for one in typing.get_args(kind) for part in _parts(one)]
    return [kind]


def _word(kind: Any) -> str:
    if kind in {type(None), msgspec.UnsetType}:
        return ""
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f'"{one}"' for one in typing.get_args(kind))
    metas = [one for one in getattr(kind, "__metadata__", ()) if isinstance(one, msgspec.Meta)]
    base = typing.get_origin(kind) if not metas else typing.get_args(kind)[0]
    return _bounded(typing.get_origin(base) or base or kind, metas)


def _bounded(base: Any, metas: list[msgspec.Meta]) -> str:
    if base is float:
        return _bounded_number(metas)
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    least = next((meta.min_length for meta in metas if meta.min_length is not None), 0)
    most = next((meta.max_length for meta in metas if meta.max_length is not None), None)
    if base is int:
        return "a whole number" + (f" from {low} to {high}" if high is not None else "")
    if base is str:
        return "a string" + (f" of {least} to {most} bytes" if most is not None else "")
    if base in {tuple, list}:
        return "an array" + (f" of at most {most}" if most is not None else "") + " strings of 1 to 200 bytes"
    return {bool: "true or false"}.get(base, "a JSON object")


def _bounded_number(metas: list[msgspec.Meta]) -> str:
    bounds = [
        f"{word} {bound}"
        for meta in metas
        for word, bound in (("from", meta.ge), ("above", meta.gt), ("to", meta.le), ("below", meta.lt))
        if bound is not None
    ]
    return " ".join(["a number", " and ".join(bounds).replace(" and to ", " to ")]).strip()
