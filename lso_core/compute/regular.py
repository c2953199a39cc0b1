"""Batches whose events are all written alike, read by whole columns instead of event by event.

The events of a batch come from one serializer: the same members in the same order with the same white space, so that
only values differ. The first event tells that text; then each member is one step over all events at once. Every byte
of the body is held against that text or is part of a value, and every value against the rules of its field, so what
is taken here is JSON with exactly these values. Where anything differs the answer is None, and nothing is said.
"""

import functools
import re
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import decimals, parts, payloads, run_ids, timestamps
from lso_core.compute.columns import Bools, Columns, to_us
from lso_core.compute.packing import Ints, every, rows_at, windows
from lso_core.compute.run_ids import Numbers, RunIds
from lso_core.model import times
from lso_core.model.events import NAME_BYTES, LatencyMs

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

FEWEST: Final = 400
"""Below this many events the steps cost more than they save: they take a quarter of a millisecond for any number."""
_MOST_NAMES: Final = 24
"""With more different names in a batch than this the steps cost more than they save."""
_MOST_NAME: Final = 31
_MOST_NUMBER: Final = 24
_MOST_TEXT: Final = 256
"""Longest text between two values: as much is taken of each event, however short the others are."""
_WORD: Final = 8
_WHOLE: Final = (1 << 64) - 1
_BACK: Final = b" " * 512
"""Behind the body, so that what is taken at its end stays within."""

_HEAD: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"events"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_TAIL: Final = re.compile(rb"\}([ \t\r\n]*\][ \t\r\n]*\}[ \t\r\n]*)\Z")
_BETWEEN: Final = re.compile(rb"\}([ \t\r\n]*,[ \t\r\n]*)\Z")
_LINE_TAIL: Final = re.compile(rb"\}([ \t\r]*\n?)\Z")
_LINE_BETWEEN: Final = re.compile(rb"\}([ \t\r]*\n)\Z")
_MEMBER: Final = re.compile(
    rb'(?P<before>[{,][ \t\r\n]*"(?P<name>[a-z_]{2,10})"[ \t\r\n]*:[ \t\r\n]*)'
    rb'(?:(?P<null>null)|(?P<quote>")[^"\\]*"|(?P<number>[0-9][0-9.]*)|(?P<object>(?=\{)))'
)
_CLOSING: Final = re.compile(rb"[ \t\r\n]*\}")
_EDGE: Final = 200
"""So many bytes are looked at for what stands between events and behind the last."""

_latencies = msgspec.json.Decoder(list[LatencyMs])
_STATUSES: Final = {"ok": 0, "error": 1}
_KINDS: Final = {
    "event_type": "quote",
    "status": "quote",
    "ts": "quote",
    "run_id": "quote",
    "stage": "quote",
    "latency_ms": "number",
    "system_id": "number",
    "payload": "object",
}
_NEEDED: Final = frozenset({"event_type", "status"})


class _IrregularError(Exception):
    """The events are not certain to be good, or not all written alike."""


class _Member(NamedTuple):
    name: str
    before: bytes
    """The text from the value before, or from the event's beginning, to this value; also its opening quote."""
    end: bytes
    """The byte behind the value."""


class _Form(NamedTuple):
    """How every event is written."""

    members: list[_Member]
    closing: bytes
    """The text from the last value to the event's end."""


class Alike(NamedTuple):
    """A batch that was read."""

    columns: Columns
    parts: parts.Parts


def read(body: bytes, system_id: int, most_events: int, *, ndjson: bool) -> Alike | None:
    """A body's events; None where it is not certain that all are good, or they are not alike."""
    try:
        start = _start(body, ndjson=ndjson)
        if not _may_be_many(body, start):
            return None
        form = _form(body, start, system_id, ndjson=ndjson)
        events = _Events.of(body, start, form, most_events, ndjson=ndjson)
        reading = _Reading(events)
        for member in form.members:
            reading.take(member)
        events.expect(form.closing)
        return reading.result() if every(events.at == events.ends) else None
    except (_IrregularError, ValueError, IndexError):  # also of the decoder and of Unicode
        return None


def _start(body: bytes, *, ndjson: bool) -> int:
    """Where the first event begins."""
    if ndjson:
        return 0
    head = _HEAD.match(body)
    if head is None:
        raise _IrregularError
    return head.end()


def _may_be_many(body: bytes, start: int) -> bool:
    """Whether the body has room for enough events as long as the first one, or half as long."""
    second = body.find(body[start : start + _WORD], start + _WORD)
    return second > 0 and (second - start) * FEWEST <= 2 * len(body)


def _form(body: bytes, at: int, system_id: int, *, ndjson: bool) -> _Form:
    """The form of the event at `at`. Its payload must be the last member."""
    members: list[_Member] = []
    seen: set[str] = set()
    pending = b""
    while (found := _MEMBER.match(body, at)) is not None:
        name, kind = found["name"].decode(), str(found.lastgroup)
        if name in seen or not _may_be(name, kind):
            raise _IrregularError
        seen.add(name)
        at = found.end()
        if kind == "null" or (name == "system_id" and found["number"] == b"%d" % system_id):
            pending += found[0]
            continue
        if name == "system_id":
            raise _IrregularError
        members.append(_Member(name, pending + found["before"] + (b'"' if kind == "quote" else b""), body[at : at + 1]))
        pending = b'"' if kind == "quote" else b""
        if kind == "object":
            break
    closing = pending + (b"}" if members and members[-1].name == "payload" else _closing(body, at))
    texts = [closing, *(member.before for member in members)]
    if not seen >= _NEEDED or max(map(len, texts)) > _MOST_TEXT or (ndjson and b"\n" in b"".join(texts)):
        raise _IrregularError
    return _Form(members, closing)


def _may_be(name: str, kind: str) -> bool:
    """Whether a field of that name may have such a value."""
    return name in _KINDS and (kind == _KINDS[name] or (kind == "null" and name not in _NEEDED))


def _closing(body: bytes, at: int) -> bytes:
    found = _CLOSING.match(body, at)
    if found is None:
        raise _IrregularError
    return found[0]


class _Events:
    """The events of a body, and how far each of them has been read."""

    def __init__(self, body: bytes, starts: Ints, ends: Ints) -> None:
        self.text = body + _BACK
        self.at = starts.copy()
        self.ends = ends

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of(cls, body: bytes, start: int, form: _Form, most_events: int, *, ndjson: bool) -> "_Events":
        """Tell the events apart by the text that they begin with; what stands between them is checked."""
        opening = form.members[0].before
        second = body.find(opening, start + len(opening))
        between = (_LINE_BETWEEN if ndjson else _BETWEEN).search(body, max(0, second - _EDGE), max(0, second))
        tail = (_LINE_TAIL if ndjson else _TAIL).search(body, max(0, len(body) - _EDGE))
        if between is None or tail is None:
            raise _IrregularError
        starts = _places(body, opening)
        if not FEWEST <= len(starts) <= most_events or starts[0] != start:
            raise _IrregularError
        if ndjson and body.count(b"\n") - len(starts) not in {-1, 0}:
            raise _IrregularError
        ends = np.empty_like(starts)
        np.subtract(starts[1:], len(between[1]), out=ends[:-1])
        ends[-1] = tail.start(1)
        events = cls(body, starts, ends)
        events._check_between(between[0])
        return events

    def _check_between(self, text: bytes) -> None:
        starts, self.at = self.at, self.ends - 1
        self.at[-1] = self.at[0]  # behind the last there is something else
        self.expect(text)
        self.at = starts

    def rows(self, width: int) -> Bytes:
        """The next `width` bytes of each event."""
        return rows_at(self.text, self.at, width)

    def expect(self, text: bytes) -> None:
        """Every event goes on with `text`: pass over it."""
        if not self.goes_on(text):
            raise _IrregularError
        self.at += len(text)

    def goes_on(self, text: bytes) -> bool:
        """Whether every event goes on with `text`."""
        return windows(self.text, len(text))[self.at].tobytes() == text * len(self.at)

    def quoted(self, index: int) -> bytes:
        """The text up to the next quote of an event, of a name at most."""
        at = int(self.at[index])
        return self.text[at : self.text.index(b'"', at, at + NAME_BYTES + 1)]


def _hold(words: Words, text: bytes) -> Bools:
    """Which rows begin with `text`."""
    (word, mask), *more = _pattern(text)
    same: Bools = words[:, 0] == word if mask is None else (words[:, 0] & mask) == word
    for number, (word, mask) in enumerate(more, 1):
        same &= words[:, number] == word if mask is None else (words[:, number] & mask) == word
    return same


@functools.lru_cache(maxsize=1_024)
def _pattern(text: bytes) -> list[tuple[np.uint64, np.uint64 | None]]:
    """The words of a row that begins with `text`, and which of their bits count; None for all."""
    size = -(-len(text) // _WORD) * _WORD
    words, masks = (np.frombuffer(one.ljust(size, b"\0"), "<u8") for one in (text, b"\xff" * len(text)))
    return [(word, None if mask == _WHOLE else mask) for word, mask in zip(words, masks, strict=True)]


def _places(body: bytes, opening: bytes) -> Ints:
    """Where in the body `opening` may stand; some of it may be within payloads, which then do not fit."""
    text = np.frombuffer(body, np.uint8)
    (braces,) = (text[: len(text) - _WORD + 1] == opening[0]).nonzero()
    found: Ints = braces[_hold(rows_at(body, braces, _WORD).view("<u8"), opening[:_WORD])]
    return found


class _Reading:
    """What was read of the events so far, member by member."""

    def __init__(self, events: _Events) -> None:
        self._events = events
        none, zeros = np.zeros(len(events), np.bool_), np.zeros(len(events), np.int64)
        self._ts_ms, self._has_ts = zeros, none
        self._latency_ms, self._has_latency = np.zeros(len(events)), none
        self._names = {"stage": Numbers({None: 0}), "event_type": Numbers(), "status": Numbers()}
        self._positions = dict.fromkeys(self._names, zeros)
        self._run_ids, self._run_id_bytes, self._payloads = b"", 0, b""

    def take(self, member: _Member) -> None:
        """Read a member of every event."""
        self._events.expect(member.before)
        match member.name:
            case "ts":
                self._take_times()
            case "latency_ms":
                self._take_latencies(member.end)
            case "run_id":
                self._take_run_ids()
            case "payload":
                self._take_payloads()
            case name:
                self._positions[name] = self._take_names(self._names[name])

    def _take_times(self) -> None:
        ts_ms = timestamps.parse_fixed(self._events.rows(times.TEXT_LENGTH))
        if ts_ms is None:
            raise _IrregularError
        self._ts_ms, self._has_ts = ts_ms, np.ones(len(ts_ms), np.bool_)
        self._events.at += times.TEXT_LENGTH

    def _take_latencies(self, end: bytes) -> None:
        events = self._events
        found = decimals.parse(events.rows(decimals.WIDTH).view("<u8"), end) or _any_latencies(events, end)
        self._latency_ms, lengths = found
        self._has_latency = np.ones(len(lengths), np.bool_)
        events.at += lengths

    def _take_run_ids(self) -> None:
        """Run ids of one length; often it is one run's batch."""
        events = self._events
        first = events.quoted(0)
        _text(first)
        if events.goes_on(first):
            self._run_ids = first
        else:
            text = events.rows(len(first))
            legal = (text >= ord(" ")) & (text < 0x7F) & (text != ord('"')) & (text != ord("\\"))
            if not every(legal):
                raise _IrregularError
            self._run_ids, self._run_id_bytes = text.tobytes(), len(first)
        events.at += len(first)

    def _take_names(self, numbers: Numbers) -> Ints:
        """The number of each event's name."""
        events = self._events
        words = events.rows(_MOST_NAME + 1).view("<u8")
        name = events.quoted(0)
        positions = np.full(len(events), numbers[_text(name, _MOST_NAME)])
        lengths = [*[0] * int(positions[0]), len(name)]
        left = ~_hold(words, name + b'"')
        while np.count_nonzero(left):
            name = events.quoted(int(left.argmax()))
            same = _hold(words, name + b'"')
            positions[same] = numbers[_text(name, _MOST_NAME)]
            lengths.append(len(name))
            left ^= same
            if len(lengths) > _MOST_NAMES:
                raise _IrregularError
        events.at += np.array(lengths)[positions]
        return positions

    def _take_payloads(self) -> None:
        events = self._events
        ends = events.ends - 1
        array = payloads.array_of(events.text, events.at, ends)
        if array is None:
            raise _IrregularError
        self._payloads, events.at = array, ends

    def result(self) -> Alike:
        """The batch. Raises _IrregularError where a status is none."""
        statuses = self._names["status"]
        if not statuses.keys() <= _STATUSES.keys():
            raise _IrregularError
        errors = np.array([_STATUSES[str(name)] for name in statuses], np.bool_)
        event_types = tuple(str(name) for name in self._names["event_type"])
        columns = Columns(
            self._ts_ms,
            self._has_ts,
            to_us(self._latency_ms, self._has_latency),
            self._has_latency,
            errors[self._positions["status"]],
            self._positions["stage"],
            self._positions["event_type"],
            tuple(name for name in self._names["stage"] if name is not None),
            event_types,
            self._runs(event_types),
        )
        latencies_ms = parts.latencies_of(columns, self._latency_ms)
        return Alike(columns, parts.Parts(self._run_ids, self._run_id_bytes, self._payloads, latencies_ms))

    def _runs(self, event_types: tuple[str, ...]) -> RunIds | None:
        if not self._run_ids:
            return None
        width = self._run_id_bytes
        ids: run_ids.Ids = (
            run_ids.OfOneLength(self._run_ids, width) if width else run_ids.OfOneRun(self._run_ids, len(self._events))
        )
        return run_ids.cut(ids, self._positions["stage"], self._positions["event_type"], event_types)


@functools.lru_cache(maxsize=1_024)
def _text(name: bytes, most: int = NAME_BYTES) -> str:
    """A name. Raises _IrregularError where it is none, or not certain to be one."""
    if not name.isascii() or b"\\" in name or not 0 < len(name) <= most or min(name) < ord(" "):
        raise _IrregularError
    return name.decode()


def _any_latencies(events: _Events, end: bytes) -> tuple[npt.NDArray[np.float64], Ints]:
    """Numbers of any form, and their lengths."""
    lengths = (events.rows(_MOST_NUMBER) == ord(end)).argmax(axis=1)
    if not every(lengths != 0):
        raise _IrregularError
    lines = payloads.lines_of(events.text, events.at, events.at + lengths, b",\n")
    # Each line has one number at least; so where there are as many as lines, each has one.
    values = _latencies.decode(b"[%b]" % lines[:-2])
    if len(values) != len(events):
        raise _IrregularError
    return np.array(values, np.float64), lengths
