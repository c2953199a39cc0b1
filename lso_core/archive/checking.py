"""Looking the whole archive through: is every file sound, does it hold what its name says, and is anything missing?"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lso_core.archive.files import Files
from lso_core.archive.layout import START, Kind, Piece, Place, chain, folder, place_of, place_text
from lso_core.archive.rollups import ROLLUPS
from lso_core.archive.tables import EVENTS
from lso_core.model.archives import SystemArchive

COLUMNS: Final = {Kind.EVENTS: EVENTS.names} | dict.fromkeys((Kind.MINUTES, Kind.HOURS, Kind.DAYS), ROLLUPS.names)

Asks = Callable[[int], SystemArchive | None]
"""What LSO says of a system's archive; None where it is not asked, or knows no such system."""


class Verdict(msgspec.Struct, frozen=True):
    """What was found of one system and kind of file."""

    system_id: int
    kind: Kind
    files: int
    rows: int
    wrong: list[str]
    """What must not be, a sentence each."""
    notes: list[str]
    """What may be, but whoever asks wants to know."""


def check(files: Files, ask: Asks) -> Iterator[Verdict]:
    """Every system and kind. Raises ArchiveError."""
    for kind in Kind:
        groups: dict[int, list[Piece]] = {}
        for found in files.listing(folder(kind)):
            piece = Piece.parse(found.path)
            if piece is None:
                yield Verdict(0, kind, 1, 0, [], [f"{found.path} is none of LSO's files"])
            else:
                groups.setdefault(piece.system_id, []).append(piece)
        for system_id, pieces in sorted(groups.items()):
            yield _system(files, kind, system_id, pieces, ask(system_id))


def _system(files: Files, kind: Kind, system_id: int, pieces: list[Piece], said: SystemArchive | None) -> Verdict:
    rows = 0
    wrong: list[str] = []
    for piece in pieces:
        try:
            [name] = files.local([piece.path])
            with pq.ParquetFile(name, page_checksum_verification=True) as file:
                table = file.read()
            rows += table.num_rows
            wrong += (f"{piece.path}: {fault}" for fault in _faults(kind, piece, table))
        except (pa.ArrowException, OSError) as error:
            wrong.append(f"{piece.path} cannot be read: {str(error).splitlines()[0]}")
    wrong += _missing(kind, pieces, said)
    return Verdict(system_id, kind, len(pieces), rows, wrong, list(_notes(kind, pieces, said)))


def _faults(kind: Kind, piece: Piece, table: pa.Table) -> Iterator[str]:
    """Where a file does not hold what its name says."""
    absent = [name for name in COLUMNS[kind] if name not in table.column_names]
    if absent:
        yield f"it has no column {', '.join(absent)}"
        return
    if not table.num_rows:
        return
    low, high = _ends(kind, table)
    if low <= piece.after or high > piece.last:
        yield f"it holds {place_text(kind, low)} to {place_text(kind, high)}, which its name does not say"


def _ends(kind: Kind, table: pa.Table) -> tuple[Place, Place]:
    if kind is not Kind.EVENTS:
        ends: Any = pc.min_max(table["number"]).as_py()
        return (ends["min"], 0), (ends["max"], 0)
    places = table.select(["entry_ms", "entry_seq"]).sort_by([("entry_ms", "ascending"), ("entry_seq", "ascending")])
    first, last = (places.slice(at, 1).to_pylist()[0] for at in (0, places.num_rows - 1))
    return (first["entry_ms"], first["entry_seq"]), (last["entry_ms"], last["entry_seq"])


def _missing(kind: Kind, pieces: list[Piece], said: SystemArchive | None) -> Iterator[str]:
    """Where Redis says that more is archived than there is."""
    if said is None or kind not in {Kind.EVENTS, Kind.MINUTES}:
        return
    mark = (said.row, 0) if kind is Kind.MINUTES else place_of(said.entry) if said.entry else START
    last = max(piece.last for piece in pieces)
    if mark > last and not (kind is Kind.EVENTS and said.lost):
        yield f"archived up to {place_text(kind, mark)}, says LSO, but the files end with {place_text(kind, last)}"


def _notes(kind: Kind, pieces: list[Piece], said: SystemArchive | None) -> Iterator[str]:
    parts = chain(pieces)
    if len(parts) < len(pieces):
        yield f"{len(pieces) - len(parts)} files hold what others hold as well, until they are merged"
    if kind is Kind.EVENTS:
        if said is not None and said.lost:
            yield f"{said.lost} events left the hot tier before they were archived"
        for before, part in itertools.pairwise(parts):
            if part.after > before.piece.last:
                gap = f"{place_text(kind, before.piece.last)} and {place_text(kind, part.after)}"
                yield f"there is nothing between {gap}"
