"""What folding a step's runs needs beside the columns: payloads, runs that had settled, and what came before a run was known.

Only steps with events of runs come here, and all systems of a step share two round trips.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import structlog

from lso_core.compute import columns, runs
from lso_core.compute.columns import Columns, CorruptEntryError, NewerFormatError
from lso_core.compute.fold import Arrival
from lso_core.compute.readback import said
from lso_core.compute.run_events import NOTHING_SAID, Piece, events_of
from lso_core.compute.runs import Plan, Run, Runs
from lso_core.model.batches import StoredEntry
from lso_core.model.errors import BadKeyError, UnsupportedTypeError
from lso_core.store.runs import RunParts, RunStore, RunWants

log = structlog.get_logger(__name__)

LOOK_BACK: Final = 64
"""So many entries before the step are searched for events of a run that comes to be known in it…"""
LOOK_BACK_BYTES: Final = 8 << 20
"""…or fewer, where they are large."""


class Wanted(msgspec.Struct, frozen=True):
    """One system's share of a step."""

    system_id: int
    runs: Runs
    arrivals: list[Arrival]
    cursor: str
    """Before the step."""
    entry_bytes: int


class Gathered(msgspec.Struct, frozen=True):
    """All that the runs of one system need for a step."""

    pieces: dict[str, Piece] = {}
    """By entry id, of the entries that say something of a run."""
    older: list[Piece] = []
    """Entries before the step with events of runs that are new."""
    settled: dict[str, Run] = {}


class _Search(msgspec.Struct):
    """One system under way."""

    wanted: Wanted
    plan: Plan
    wants: RunWants
    parts: RunParts | None = None
    hits: list[str] = []
    """Entries before the step that have events of new runs."""
    older: list[StoredEntry] = []


NOTHING: Final = Gathered()
Found = Gathered | BadKeyError | NewerFormatError


async def gather(store: RunStore, wanted: Iterable[Wanted]) -> dict[int, Found]:
    """What each system needs, or why that cannot be had; those that need nothing are missing."""
    planned = ((one, runs.plan(one.runs, one.arrivals)) for one in wanted)
    searches = [_Search(one, plan, _wants(one, plan)) for one, plan in planned if plan is not None]
    found: dict[int, Found] = {}
    for search, parts in zip(searches, await store.parts([one.wants for one in searches]), strict=True):
        if isinstance(parts, BadKeyError):
            found[search.wanted.system_id] = parts
        else:
            search.parts, search.hits = parts, _hits(search.plan, parts)
    asked = [(search, entry_id) for search in searches for entry_id in search.hits]
    entries = await store.entries([(search.wanted.system_id, entry_id) for search, entry_id in asked])
    for (search, _), entry in zip(asked, entries, strict=True):
        if entry is not None:
            search.older = [*search.older, entry]
    return found | {one.wanted.system_id: _gathered(one, one.parts) for one in searches if one.parts is not None}


def _wants(wanted: Wanted, plan: Plan) -> RunWants:
    look_back = max(1, min(LOOK_BACK, LOOK_BACK_BYTES // max(1, wanted.entry_bytes)))
    ids = [wanted.arrivals[place].entry_id for place in plan.places]
    return RunWants(wanted.system_id, ids, plan.made, wanted.cursor if plan.made else "", look_back)


def _hits(plan: Plan, parts: RunParts) -> list[str]:
    """The entries, oldest first, that have events of runs that are new."""
    new = plan.made if not parts.settled else [one for one in plan.made if one not in parts.settled]
    hits = []
    for entry_id, block in reversed(parts.recent):
        try:
            told = columns.read(block).runs
        except (CorruptEntryError, NewerFormatError):
            continue  # it is among the dead letters, or was folded by a newer worker
        if told is not None and not set(told.ids).isdisjoint(new):
            hits.append(entry_id)
    return hits


def _gathered(search: _Search, parts: RunParts) -> Found:
    try:
        settled = {run_id: run for run_id, raw in parts.settled.items() if (run := _settled(run_id, raw)) is not None}
    except NewerFormatError as error:
        return error
    by_id = {arrival.entry_id: arrival.block for arrival in search.wanted.arrivals}
    run_ids = (*search.plan.made, *search.wanted.runs.watched)
    return Gathered(
        {entry.entry_id: _piece(entry, by_id[entry.entry_id].columns(), run_ids) for entry in parts.entries},
        [_piece(entry, columns.decode(entry.columns), search.plan.made) for entry in search.older],
        settled,
    )


def _settled(run_id: str, raw: bytes) -> Run | None:
    """A run that had settled; None where that cannot be read, so that it begins anew. Raises NewerFormatError."""
    try:
        return runs.decode_run(raw)
    except CorruptEntryError as error:
        log.warning("runs.unreadable", run_id=run_id, error=str(error))
        return None


def _piece(entry: StoredEntry, cut: Columns, run_ids: Sequence[str]) -> Piece:
    """An entry with what its payloads say of these runs."""
    _, rows = events_of(cut, dict.fromkeys(run_ids, 1))
    try:
        told = said(entry, cut, rows)
    except (ValueError, IndexError, UnsupportedTypeError) as error:  # its figures count all the same
        log.warning("runs.payloads-unread", entry=entry.entry_id, error=str(error))
        told = NOTHING_SAID
    return Piece(entry.entry_id, entry.at_ms, cut, told)
