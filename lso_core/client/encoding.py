"""One event as one line of JSON, made on the caller's side: quick for the usual, bounded and harmless for anything else."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import operator
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

MAX_NAME = 200
"""Bytes of an event type, stage or run id; longer ones are cut."""
MAX_PAYLOAD = 16 * 1024
"""Bytes of an event's payload as JSON; a larger one is left out and a marker put in its place."""
MAX_DEPTH = 32
"""Containers within containers, the payload itself included."""
MAX_LATENCY_MS = 604_800_000.0
MAX_FOREIGN = 1_000
"""Characters kept of the str() of an object that is not JSON."""
MAX_INT = 2**63 - 1
LIFECYCLE = frozenset({"start", "heartbeat", "end", "log"})
"""Kept and shown, not counted: these need no latency."""

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_CONSTANTS = {None: "null", True: "true", False: "false"}
_stamped = (0, "1970-01-01T00:00:00")


class UnsendableError(ValueError):
    """An event that the server would refuse. The message says why."""


class _TooLargeError(Exception):
    """The payload is over its cap."""


def encode(
    event_type: str,
    status: str | None,
    latency_ms: float | None,
    stage: str | None,
    run_id: str | None,
    ts_ms: int,
    payload: Mapping[str, object],
    essential: Mapping[str, object] | None = None,
) -> tuple[bytes, bool]:
    """The line, without a newline, and whether its payload had to be left out. `essential` is payload that stays then.
    Raises UnsendableError.
    """
    name = quoted(event_type)
    parts = [f'{{"ts":"{stamp(ts_ms)}","event_type":{name},"status":"{_status(event_type, status)}"']
    if latency_ms is not None:
        parts.append(f',"latency_ms":{_latency(latency_ms)}')
    elif event_type not in LIFECYCLE:
        raise UnsendableError(f"an event of type {name} is counted and needs latency_ms")
    if stage is not None:
        parts.append(f',"stage":{quoted(stage)}')
    if run_id is not None:
        parts.append(f',"run_id":{quoted(run_id)}')
    cut = False
    if payload or essential:
        text, cut = _payload({**payload, **essential} if essential else payload, essential or {})
        parts.append(f',"payload":{text}')
    parts.append("}")
    return "".join(parts).encode("utf-8", "replace"), cut


def stamp(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    global _stamped  # noqa: PLW0603 - one tuple, read and replaced whole, so that threads never see half of it
    second, rest = divmod(ms, 1000)
    known = _stamped
    if known[0] != second:
        known = _stamped = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{known[1]}.{rest:03d}Z"


def without_ts(line: bytes) -> bytes:
    """The same event with its time left to the server: every line starts with its ts."""
    return b"{" + line.partition(b",")[2]


@functools.lru_cache(1024)
def quoted(name: str) -> str:
    """A name as JSON, cut to what the server takes."""
    text = str(name).encode("utf-8", "replace")[:MAX_NAME].decode("utf-8", "ignore")
    return _dumps(text or "unnamed")


@functools.lru_cache(1024)
def _key(name: str) -> str:
    """A payload's key as JSON; the same few come again and again."""
    return _dumps(capped(name, MAX_NAME))


def capped(value: object, limit: int = MAX_FOREIGN) -> str:
    """str(value), whatever happens, at most `limit` characters of it."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - anybody's __str__
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _status(event_type: str, status: str | None) -> str:
    if status is None:
        return "error" if event_type in {"failure", "error"} else "ok"
    if status not in {"ok", "error"}:
        raise UnsendableError(f"status must be 'ok' or 'error', not {capped(status, 50)!r}")
    return status


def _latency(latency_ms: float) -> float:
    """Clamped to 0..7 days, to the microsecond: a clock that went back must not cost the event."""
    if type(latency_ms) is float and 0.0 <= latency_ms <= MAX_LATENCY_MS:
        return round(latency_ms, 3)
    try:
        value = float(latency_ms)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if value != value:  # noqa: PLR0124 - NaN
        raise UnsendableError(f"latency_ms must be a number of milliseconds, not {capped(latency_ms, 50)!r}")
    return round(min(max(value, 0.0), MAX_LATENCY_MS), 3)


def _payload(payload: Mapping[str, object], essential: Mapping[str, object]) -> tuple[str, bool]:
    try:
        return _fitting(payload), False
    except _TooLargeError:
        marker = {"payload_omitted": f"larger than {MAX_PAYLOAD} bytes"}
    try:
        return _fitting({**essential, **marker}), True
    except _TooLargeError:
        return _dumps(marker), True


def _fitting(payload: Mapping[str, object]) -> str:
    text = _text(payload)
    if len(text) * 4 > MAX_PAYLOAD and len(text.encode("utf-8", "replace")) > MAX_PAYLOAD:
        raise _TooLargeError
    return text


def _text(payload: Mapping[str, object]) -> str:
    text = _flat(payload)
    return _dumps(_Copy(MAX_PAYLOAD).container(payload, 1)) if text is None else text


def _flat(payload: Mapping[str, object]) -> str | None:
    """The payload as JSON where it is what most are: flat, with values of JSON's own types. None where it is not."""
    parts = []
    for key, value in payload.items():
        kind = type(value)
        if kind is str:
            text = _string(value)  # type: ignore[arg-type]
        elif kind is int and -MAX_INT <= value <= MAX_INT:  # type: ignore[operator]
            text = repr(value)
        elif kind is float:
            text = repr(value) if math.isfinite(value) else "null"  # type: ignore[arg-type]
        elif value is None or value is True or value is False:
            text = _CONSTANTS[value]
        else:
            return None
        parts.append(f"{_key(key)}:{text}")
    return "{" + ",".join(parts) + "}"


def _string(value: str) -> str:
    if len(value) > MAX_PAYLOAD:
        raise _TooLargeError
    return _dumps(value)


class _Copy:
    """A copy of a payload in JSON's own types. The budget bounds its size and so the time it takes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def value(self, value: object, depth: int) -> object:
        self._spend(2)
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self._string(str.__str__(value))
        if isinstance(value, int):
            return self._int(int(value))
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        if isinstance(value, dict | list | tuple | set | frozenset):
            return self.container(value, depth) if depth <= MAX_DEPTH else "…"
        return self._foreign(value)

    def container(self, value: Iterable[object], depth: int) -> object:
        if isinstance(value, dict):
            return {self._string(capped(key, MAX_NAME)): self.value(item, depth + 1) for key, item in value.items()}
        return [self.value(item, depth + 1) for item in value]

    def _string(self, text: str) -> str:
        self._spend(len(text))
        return text

    def _int(self, number: int) -> int | str:
        """Beyond 64 bits readers of JSON disagree: such a number travels as text."""
        if -MAX_INT <= number <= MAX_INT:
            return number
        return str(number) if number.bit_length() < MAX_FOREIGN else f"<int of {number.bit_length()} bits>"

    def _foreign(self, value: object) -> object:
        """Numbers of other libraries as numbers, anything else as its str()."""
        if isinstance(value, bytes | bytearray | memoryview):
            return self._string(f"<{len(value)} bytes>")
        number = _number(value)
        return self._string(capped(value)) if number is None else self.value(number, MAX_DEPTH)

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise _TooLargeError


def _number(value: object) -> float | None:
    """The int or float that an object of another library stands for; None where it stands for none."""
    readers: tuple[tuple[str, Callable[[Any], float]], ...] = (("__index__", operator.index), ("__float__", float))
    for attribute, read in readers:
        if hasattr(type(value), attribute):
            with contextlib.suppress(Exception):  # anybody's code; its str() will do
                return read(value)
    return None
