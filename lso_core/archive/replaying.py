"""Archived events through the fold again: does history say what its events say?"""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lso_core.archive.building import Order, build
from lso_core.archive.files import Files
from lso_core.archive.layout import Kind, Part, Period, Piece, chain, folder
from lso_core.archive.rollups import rollups_of
from lso_core.archive.tables import TIME
from lso_core.compute.columns import Columns, block_of, to_us
from lso_core.compute.fold import Arrival, fold
from lso_core.compute.packing import Ints
from lso_core.compute.rollups import Rollup, encode, merge
from lso_core.compute.state import State
from lso_core.model.errors import ArchiveError
from lso_core.model.events import SKEW_MS
from lso_core.model.rollups import Width
from lso_core.model.windows import Window

READ: Final = ("arrived", "ts", "event_type", "status", "latency_ms", "stage", "entry_ms", "entry_seq")


class Replay(msgspec.Struct, frozen=True):
    """What came of one system's events."""

    system_id: int
    events: int
    minutes: int
    until_ms: int
    """Arrival of the last archived event; of later minutes history knows more than the events that were read."""
    different: list[str]
    """Minutes of which history says something else than the events, a sentence each."""


class Replayer:
    """Feeds archived events of [from_ms, to_ms), both whole minutes, through the fold again."""

    def __init__(self, files: Files, from_ms: int, to_ms: int, into: Files | None) -> None:
        self._files = files
        self._from_ms = from_ms
        self._to_ms = to_ms
        self._into = into

    def systems(self) -> list[int]:
        """Systems with archived events."""
        found = (Piece.parse(one.path) for one in self._files.listing(folder(Kind.EVENTS)))
        return sorted({piece.system_id for piece in found if piece is not None})

    def replay(self, system_id: int) -> Replay:
        """Fold one system's events and compare. Raises ArchiveError."""
        state, rows, events, now_ms = State(), list[Rollup](), 0, 0
        for arrivals in self._arrivals(system_id):
            now_ms = arrivals[-1].at_ms
            folded = fold(state, arrivals, Window(), now_ms + 1)
            state, rows = folded.state, merge([*rows, *folded.rows], Width.MINUTE)
            events += sum(len(arrival.block) for arrival in arrivals)
        rows = merge([*rows, *fold(state, [], Window(), now_ms + 2 * Width.MINUTE).rows], Width.MINUTE)
        made = [row for row in rows if self._from_ms <= row.start_ms < self._to_ms]
        if self._into is not None:
            self._write(self._into, system_id, made)
        kept = merge(self._minutes(system_id), Width.MINUTE)
        return Replay(system_id, events, len(made), now_ms, list(differences(made, kept)))

    def _arrivals(self, system_id: int) -> Iterator[list[Arrival]]:
        """Entries in their order, a file at a time. Whatever arrived before the stretch, or a skew, is not of it."""
        begin_ms = self._from_ms - SKEW_MS
        for part in self._parts(Kind.EVENTS, system_id, Period.of(Kind.EVENTS, begin_ms)):
            table = self._table(part, READ)
            if table.num_rows and (found := list(_entries(table, part, begin_ms))):
                yield found

    def _minutes(self, system_id: int) -> Iterator[Rollup]:
        first, last = Period.of(Kind.MINUTES, self._from_ms), Period.of(Kind.MINUTES, self._to_ms - 1)
        for part in self._parts(Kind.MINUTES, system_id, first):
            if part.piece.period <= last:
                for one in rollups_of(self._table(part), Width.MINUTE):
                    if self._from_ms <= one.row.start_ms < self._to_ms and one.number > part.after[0]:
                        yield one.row

    def _parts(self, kind: Kind, system_id: int, first: Period) -> list[Part]:
        found = (Piece.parse(one.path) for one in self._files.listing(folder(kind, system_id)))
        return chain(piece for piece in found if piece is not None and piece.period >= first)

    def _table(self, part: Part, columns: tuple[str, ...] | None = None) -> pa.Table:
        [name] = self._files.local([part.piece.path])
        with pq.ParquetFile(name) as file:
            return file.read(None if columns is None else list(columns))

    def _write(self, into: Files, system_id: int, rows: list[Rollup]) -> None:
        """Write what was made as history of its own."""
        if not rows:
            return
        answer = build(Order(rows=[(number, encode(row)) for number, row in enumerate(rows, 1)]))
        if answer.failed is not None:
            raise ArchiveError(f"the rows of system {system_id} cannot be written: {answer.failed}")
        for file in answer.files:
            into.write(Piece(file.kind, system_id, Period(file.period), (0, 0), (len(rows), 0)).path, file.data)


def _entries(table: pa.Table, part: Part, begin_ms: int) -> Iterator[Arrival]:
    """The entries of a file, each with its columns."""
    ms, sequence = (table[name].to_numpy() for name in ("entry_ms", "entry_seq"))
    at = _ms(table["arrived"])
    whole = _columns(table)
    starts = np.flatnonzero(np.concatenate(([True], (ms[1:] != ms[:-1]) | (sequence[1:] != sequence[:-1]))))
    for start, end in zip(starts, [*starts[1:], table.num_rows], strict=True):
        if (int(ms[start]), int(sequence[start])) > part.after and at[start] >= begin_ms:
            yield Arrival(int(at[start]), block_of(_cut(whole, int(start), int(end))))


def _columns(table: pa.Table) -> Columns:
    """The columns that folding needs, of all rows."""
    latency = table["latency_ms"].to_numpy()
    has_latency = ~np.isnan(latency)
    stage, event_type = (table[name].combine_chunks().dictionary_encode() for name in ("stage", "event_type"))
    return Columns(
        ts_ms=_ms(table["ts"].fill_null(0)),
        has_ts=table["ts"].is_valid().to_numpy(),
        latency_us=to_us(latency, has_latency),
        has_latency=has_latency,
        error=np.asarray(table["status"].to_numpy() == "error"),
        stage=stage.indices.fill_null(-1).to_numpy().astype(np.int64) + 1,
        event_type=event_type.indices.to_numpy().astype(np.int64),
        stages=tuple(stage.dictionary.to_pylist()),
        event_types=tuple(event_type.dictionary.to_pylist()),
    )


def _ms(column: pa.ChunkedArray) -> Ints:
    found: Ints = column.cast(TIME).cast(pa.int64()).to_numpy()
    return found


def _cut(whole: Columns, start: int, end: int) -> Columns:
    """The rows from `start` to before `end`, with all names."""
    names = ("ts_ms", "has_ts", "latency_us", "has_latency", "error", "stage", "event_type")
    return msgspec.structs.replace(whole, **{name: getattr(whole, name)[start:end] for name in names})


def differences(made: list[Rollup], kept: list[Rollup]) -> Iterator[str]:
    """Minutes of which the two say different things, each row being all of its minute."""
    by_start = [{row.start_ms: row for row in rows} for rows in (made, kept)]
    for start in sorted({*by_start[0], *by_start[1]}):
        events, history = (by.get(start) for by in by_start)
        if _facts(events) != _facts(history):
            yield f"{Period.of(Kind.EVENTS, start).text} {_clock(start)}: events {_sums(events)}, history {_sums(history)}"


def _clock(ms: int) -> str:
    minutes = ms % Width.DAY // Width.MINUTE
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _facts(row: Rollup | None) -> object:
    if row is None:
        return None
    names = list(row.stages)
    cells = zip(row.index.tolist(), row.stage.tolist(), row.count.tolist(), row.errors.tolist(), strict=True)
    return row.stages, row.event_types, sorted((index, names[stage], count, bad) for index, stage, count, bad in cells)


def _sums(row: Rollup | None) -> str:
    if row is None:
        return "have none of it"
    tallies = row.stages.values()
    return f"{sum(one.total for one in tallies)} in all, {sum(one.errors for one in tallies)} errors"
