"""Stored entries back as single events, newest first, those that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute import columns, libraries
from lso_core.compute.columns import BodyKind, Columns, CorruptEntryError, NewerFormatError
from lso_core.compute.packing import Ints
from lso_core.compute.parts import Rows
from lso_core.compute.run_events import MOST_SUMMED, SUMMED, Said
from lso_core.model import times
from lso_core.model.batches import Page, StoredEntry
from lso_core.model.errors import Finding, InputError, UnsupportedTypeError
from lso_core.model.runs import MESSAGE_BYTES

if TYPE_CHECKING:
    from lso_core.compute import arrow

PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page inflates about this much at most (one entry at least); what is left comes with the next."""

FIRST_ENTRIES: Final = 4
"""How many entries to read first; then it is known how large they are."""
MOST_ENTRIES: Final = 256

_LAST_SEQUENCE: Final = (1 << 64) - 1
"""Largest second half of a stream's entry id."""

Bools = npt.NDArray[np.bool_]


class Wanted(msgspec.Struct, frozen=True):
    """Which events; None lets everything through."""

    stage: str | None = None
    event_type: str | None = None
    status: Literal["ok", "error"] | None = None
    run_id: str | None = None
    from_ms: int | None = None
    """Earliest event time, included. Event time is `ts`, or the arrival where there is none."""
    to_ms: int | None = None
    """Latest event time, not included."""


class Place(msgspec.Struct, frozen=True):
    """Where a page begins: just before the event at `index` of an entry. As text it is the cursor."""

    entry_id: str
    index: int

    @classmethod
    def parse(cls, cursor: str) -> "Place":
        """The place of a cursor. Raises InputError for one that is not ours."""
        entry_id, _, index = cursor.rpartition(".")
        parts = (*entry_id.split("-"), index)
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
            raise _foreign_cursor()
        if max(map(int, parts)) > _LAST_SEQUENCE:
            raise _foreign_cursor()
        return cls(entry_id, int(index))

    def __str__(self) -> str:
        return f"{self.entry_id}.{self.index}"

    @property
    def newest(self) -> str:
        """The newest entry id that a page from here may read."""
        if self.index:
            return self.entry_id
        ms, sequence = map(int, self.entry_id.split("-"))
        return f"{ms}-{sequence - 1}" if sequence else f"{max(0, ms - 1)}-{_LAST_SEQUENCE}"


class SeenEvent(msgspec.Struct, frozen=True, omit_defaults=False):
    """One stored event, as the hot tier shows it."""

    entry: str
    """Id of the entry it came in."""
    index: int
    """Its place in the entry."""
    at: str
    """Arrival."""
    system_id: int
    ts: str | None
    event_type: str
    status: str
    latency_ms: float | None
    run_id: str | None
    stage: str | None
    payload: msgspec.Raw
    """As it came; null where there was none."""


class _Stored(msgspec.Struct):
    event_type: str
    status: str
    latency_ms: float | None = None
    run_id: str | None = None
    stage: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct):
    events: list[_Stored]


class _Telling(msgspec.Struct):
    """What of a payload is told of its run; of any type, since payloads are the sender's own."""

    rows: Any = None
    rows_in: Any = None
    rows_out: Any = None
    bytes: Any = None
    error_type: Any = None
    error_message: Any = None
    error: Any = None
    message: Any = None


_envelope = msgspec.json.Decoder(_Envelope)
_line = msgspec.json.Decoder(_Stored)


class _ToldEvent(msgspec.Struct, gc=False):
    payload: _Telling | None = None


class _ToldEnvelope(msgspec.Struct):
    events: list[_ToldEvent]


_telling = msgspec.json.Decoder(_Telling)
_tellings = msgspec.json.Decoder(list[_Telling | None])
_told_lines = msgspec.json.Decoder(_ToldEvent)
_told_envelope = msgspec.json.Decoder(_ToldEnvelope)


class Reading(msgspec.Struct):
    """One page in the making: fed with entries of one system, newest first, until it is full."""

    system_id: int
    wanted: Wanted
    next: Place | None
    """Where the next entry, or the next page, goes on."""
    limit: int
    items: list[SeenEvent] = []
    full: bool = False
    read_bytes: int = 0
    unreadable: list[str] = []
    """Entries that are none: damaged, of a newer release, or Arrow's where that extra is missing."""

    def feed(self, entries: Sequence[StoredEntry]) -> None:
        """Take events until the page is full."""
        for entry in entries:
            if self.full:
                return
            try:
                self._take(entry)
            except (CorruptEntryError, NewerFormatError, UnsupportedTypeError):
                self.unreadable.append(entry.entry_id)
            self._pass(entry)

    def more(self, fed: int) -> int:
        """How many entries to read next after `fed` of them, so that the page does not get much over its bytes."""
        average = max(1, self.read_bytes // max(1, fed))
        return min(MOST_ENTRIES, max(1, (PAGE_BYTES - self.read_bytes) // average))

    def rest(self) -> "Reading":
        """The same page without what it has already."""
        return msgspec.structs.replace(self, items=[], limit=self.limit - len(self.items))

    def page(self, *, ended: bool) -> Page[SeenEvent]:
        """What was read; `ended` where the stream has nothing older."""
        return Page(self.items, None if (ended and not self.full) or self.next is None else str(self.next))

    def _take(self, entry: StoredEntry) -> None:
        cut = columns.decode(entry.columns)
        end = self.next.index if self.next is not None and self.next.entry_id == entry.entry_id else len(cut)
        found = np.flatnonzero(_matches(cut, entry.at_ms, self.wanted)[:end])[::-1]
        self.read_bytes += len(entry.columns) + len(entry.body)
        if len(found):
            self._read(entry, cut, found.tolist())

    def _pass(self, entry: StoredEntry) -> None:
        """Go on behind an entry, unless the page ended within it."""
        if not self.full:
            self.next = Place(entry.entry_id, 0)
            self.full = self.read_bytes >= PAGE_BYTES

    def _read(self, entry: StoredEntry, cut: Columns, found: list[int]) -> None:
        """Inflate an entry's events and take those at `found`."""
        body, kind = columns.unpack_body(entry.body)
        self.read_bytes += len(body)
        event_at = _events(body, kind, cut)
        for index in found:
            stored = event_at(index)
            if self.wanted.run_id is not None and stored.run_id != self.wanted.run_id:
                continue
            self.items.append(_show(self.system_id, entry, index, cut, stored))
            if len(self.items) >= self.limit:
                self.next, self.full = Place(entry.entry_id, index), True
                return


def said(entry: StoredEntry, cut: Columns, rows: Ints) -> Said:
    """What the payloads of the events at `rows` say of their runs.

    Raises CorruptEntryError, NewerFormatError, or UnsupportedTypeError without Arrow.
    """
    places = rows.tolist()
    told = _told(*columns.unpack_body(entry.body), len(cut), places)
    numbers = [_numbers([None if one is None else getattr(one, name) for one in told]) for name in SUMMED]
    errors = np.flatnonzero(cut.error[rows]).tolist()
    texts = {places[at]: text for at in errors if (one := told[at]) is not None and (text := _message(one)) is not None}
    return Said(rows, np.array(numbers), texts)


def _told(body: bytes, kind: BodyKind, count: int, places: Sequence[int]) -> "list[_Telling | None]":
    """The payloads at these places of `count`, as far as they tell something."""
    if kind is BodyKind.PARTS:
        told = Rows(body, count).payloads_as(_tellings)
        return [told[place] for place in places] if told else [None] * len(places)
    if kind is BodyKind.ARROW:
        arrow_rows = libraries.arrow().Rows(body)
        texts = (arrow_rows.value(place, "payload") for place in places)
        return [None if text is None else _telling.decode(text) for text in texts]
    events = _told_lines.decode_lines(body) if kind is BodyKind.NDJSON else _told_envelope.decode(body).events
    return [events[place].payload for place in places]


def _numbers(values: list[Any]) -> npt.NDArray[np.float64]:
    """Numbers of things: whole, to the nearest, and not below 0; NaN for anything else."""
    if not set(map(type, values)) <= {int, type(None)}:
        values = [value if type(value) in {int, float} else None for value in values]
    numbers = np.array(values, np.float64)  # None becomes NaN
    numbers[~((numbers >= 0) & (numbers <= MOST_SUMMED))] = np.nan
    return np.rint(numbers)


def _message(told: _Telling) -> str | None:
    """The words of an error, in one of the members that pipelines use for them."""
    texts = [one for one in (told.error_message, told.error, told.message) if isinstance(one, str) and one.strip()]
    if not texts:
        return None
    kind = f"{told.error_type}: " if isinstance(told.error_type, str) and told.error_type else ""
    return _capped(kind + texts[0].strip())


def _capped(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= MESSAGE_BYTES else raw[: MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def _events(body: bytes, kind: BodyKind, cut: Columns) -> Callable[[int], _Stored]:
    """The events of a body by their places. Raises CorruptEntryError, or UnsupportedTypeError without Arrow."""
    if kind is BodyKind.NDJSON:
        return _line.decode_lines(body).__getitem__
    if kind is BodyKind.JSON:
        return _envelope.decode(body).events.__getitem__
    if kind is BodyKind.PARTS:
        parts = Rows(body, len(cut))
        return lambda index: _of_parts(parts, index, cut)
    rows = libraries.arrow().Rows(body)
    return lambda index: _of_row(rows, index, cut)


def _of_row(rows: "arrow.Rows", index: int, cut: Columns) -> _Stored:
    """An event of an Arrow body, which leaves out what the columns tell."""
    payload = rows.value(index, "payload")
    raw = msgspec.Raw(b"null" if payload is None else payload.strip(" \t\r\n").encode())
    return _of_columns(cut, index, rows.value(index, "latency_ms"), rows.value(index, "run_id"), raw)


def _of_parts(parts: Rows, index: int, cut: Columns) -> _Stored:
    """An event of a body in parts, which leaves out the same."""
    return _of_columns(cut, index, parts.latency_ms(index), parts.run_id(index), parts.payload(index))


def _of_columns(
    cut: Columns, index: int, latency_ms: float | None, run_id: str | None, payload: msgspec.Raw
) -> _Stored:
    if latency_ms is None and cut.has_latency[index]:
        latency_ms = int(cut.latency_us[index]) / 1_000
    return _Stored(
        event_type=cut.event_types[cut.event_type[index]],
        status="error" if cut.error[index] else "ok",
        latency_ms=None if latency_ms is None else float(latency_ms),
        run_id=run_id,
        stage=cut.stages[cut.stage[index] - 1] if cut.stage[index] else None,
        payload=payload,
    )


def _foreign_cursor() -> InputError:
    message = "cursor is not one that this list gave"
    return InputError(message, (Finding(None, "cursor", message),))


def _show(system_id: int, entry: StoredEntry, index: int, cut: Columns, stored: _Stored) -> SeenEvent:
    return SeenEvent(
        entry=entry.entry_id,
        index=index,
        at=times.to_text(entry.at_ms),
        system_id=system_id,
        ts=times.to_text(int(cut.ts_ms[index])) if cut.has_ts[index] else None,
        event_type=stored.event_type,
        status=stored.status,
        latency_ms=stored.latency_ms,
        run_id=stored.run_id,
        stage=stored.stage,
        payload=stored.payload,
    )


def _matches(cut: Columns, at_ms: int, wanted: Wanted) -> Bools:
    """Which events are wanted, as far as columns tell; of `run_id` they tell only where ids are few."""
    mask = np.ones(len(cut), np.bool_)
    for column, wish in _wishes(cut, wanted):
        mask &= column == wish
    event_ms = np.where(cut.has_ts, cut.ts_ms, at_ms)
    if wanted.from_ms is not None:
        mask &= event_ms >= wanted.from_ms
    if wanted.to_ms is not None:
        mask &= event_ms < wanted.to_ms
    return mask


def _wishes(cut: Columns, wanted: Wanted) -> Iterator[tuple[npt.NDArray[np.generic], int]]:
    """Columns and the value that each must have; -1 where no event has it."""
    if wanted.stage is not None:
        yield cut.stage, _index(cut.stages, wanted.stage) + 1 or -1
    if wanted.event_type is not None:
        yield cut.event_type, _index(cut.event_types, wanted.event_type)
    if wanted.status is not None:
        yield cut.error, int(wanted.status == "error")
    if wanted.run_id is not None and cut.runs is not None and cut.runs.whole:
        yield cut.runs.number, _index(cut.runs.ids, wanted.run_id) + 1 or -1


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1
