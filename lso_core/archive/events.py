"""Archived events back as single events, newest first, those that are wanted."""

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lso_core.archive.layout import Kind, Part, Period, Piece, chain, folder
from lso_core.archive.layout import Place as EntryPlace
from lso_core.archive.warm import Warm
from lso_core.compute.readback import Place, SeenEvent, Wanted
from lso_core.model import times
from lso_core.model.batches import Page
from lso_core.model.events import SKEW_MS

FILES: Final = 16
"""So many files are asked at once; most pages need one."""
ENOUGH_S: Final = 2.0
"""A page that finds little ends after this, and the next goes on."""

_COLUMNS: Final = """epoch_ms(arrived), epoch_ms(ts), event_type, status, latency_ms, stage, run_id, payload,
entry_ms, entry_seq, index"""
_LAST: Final = (1 << 63) - 1


class Archived:
    """One page in the making, out of the archive."""

    def __init__(self, warm: Warm, system_id: int, wanted: Wanted, *, oldest_ms: int = 0) -> None:
        """Of no interest is what arrived before `oldest_ms`."""
        self._oldest_ms = oldest_ms
        self._warm = warm
        self._system_id = system_id
        self._wanted = wanted

    def page(self, before: Place | None, limit: int) -> Page[SeenEvent]:
        """Up to `limit` events before that place; none where there is no archive. Blocks. Raises ArchiveError."""
        return self._warm.patiently(self._page, before, limit) if self._warm.there else Page([], None)

    def _page(self, before: Place | None, limit: int) -> Page[SeenEvent]:
        began, deadline = time.monotonic(), self._warm.limits.deadline
        parts = self._parts(before)
        items: list[SeenEvent] = []
        while parts and len(items) < limit:
            some, parts = parts[-FILES:], parts[:-FILES]
            items += self._ask(some, before, limit - len(items), deadline)
            if parts and len(items) < limit and time.monotonic() - began > ENOUGH_S:
                return Page(items, _behind(parts[-1].piece.last))
        if len(items) < limit:
            return Page(items, None)
        return Page(items, str(Place(items[-1].entry, items[-1].index)))

    def _parts(self, before: Place | None) -> list[Part]:
        """What to read of which files, oldest first."""
        top = (_LAST, _LAST) if before is None else _place(before)
        earliest = "" if self._wanted.from_ms is None else Period.of(Kind.EVENTS, self._wanted.from_ms - SKEW_MS).text
        found = (Piece.parse(one.path) for one in self._warm.files.listing(folder(Kind.EVENTS, self._system_id)))
        pieces = [one for one in found if one is not None and one.period.text >= earliest and one.after <= top]
        return chain(one for one in pieces if one.last[0] >= self._oldest_ms)

    def _ask(self, parts: Sequence[Part], before: Place | None, limit: int, deadline: float) -> list[SeenEvent]:
        names = self._warm.files.local([part.piece.path for part in parts])
        conditions, values = _conditions(self._wanted, before, self._oldest_ms)
        selects, given = [], []
        for part, name in zip(parts, names, strict=True):
            behind = "" if part.whole else " AND (entry_ms, entry_seq) > (?, ?)"
            source = "FROM read_parquet(?, hive_partitioning=false)"
            selects.append(f"SELECT {_COLUMNS} {source} WHERE {conditions}{behind}")
            given += [name, *values, *(() if part.whole else part.after)]
        order = "ORDER BY entry_ms DESC, entry_seq DESC, index DESC LIMIT ?"
        rows = self._warm.duck.rows(f"{' UNION ALL '.join(selects)} {order}", [*given, limit], deadline)
        return [_show(self._system_id, row) for row in rows]


def _conditions(wanted: Wanted, before: Place | None, oldest_ms: int) -> tuple[str, list[Any]]:
    """The condition of a row, and its values."""
    found: list[tuple[str, list[Any]]] = [("entry_ms >= ?", [oldest_ms])]
    for name, value in (("stage", wanted.stage), ("event_type", wanted.event_type), ("status", wanted.status)):
        if value is not None:
            found.append((f"{name} = ?", [value]))
    if wanted.run_id is not None:
        found.append(("run_id = ?", [wanted.run_id]))
    if wanted.from_ms is not None:
        found.append(("time >= ?::TIMESTAMPTZ", [times.to_text(wanted.from_ms)]))
    if wanted.to_ms is not None:
        found.append(("time < ?::TIMESTAMPTZ", [times.to_text(wanted.to_ms)]))
    if before is not None:
        ms, sequence = _place(before)
        # The first condition lets row groups be skipped, which the second does not.
        found.append(("entry_ms <= ? AND (entry_ms, entry_seq, index) < (?, ?, ?)", [ms, ms, sequence, before.index]))
    return " AND ".join(text for text, _ in found), [value for _, values in found for value in values]


def _place(place: Place) -> EntryPlace:
    ms, sequence = place.entry_id.split("-")
    return int(ms), int(sequence)


def _behind(place: EntryPlace) -> str:
    """The cursor just behind an entry."""
    return str(Place(f"{place[0]}-{place[1]}", _LAST))


def _show(system_id: int, row: tuple[Any, ...]) -> SeenEvent:
    at_ms, ts_ms, event_type, status, latency_ms, stage, run_id, payload, entry_ms, entry_seq, index = row
    return SeenEvent(
        entry=f"{entry_ms}-{entry_seq}",
        index=index,
        at=times.to_text(at_ms),
        system_id=system_id,
        ts=times.to_text_or_none(ts_ms),
        event_type=event_type,
        status=status,
        latency_ms=latency_ms,
        run_id=run_id,
        stage=stage,
        payload=msgspec.Raw(b"null" if payload is None else payload.encode()),
    )
