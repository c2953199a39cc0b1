"""Rollup rows: exact sums and histogram cells of a minute, an hour or a day of event time.

Rows are additive: all rows of one stretch together say what it held, in whatever pieces it was written, and rows of
minutes merge to rows of hours and days without loss. A row has its own names and stands for itself. Stored form,
little-endian: a version byte and a CRC-32 of the rest, `_HEAD`, the columns of the cells, and a msgpack list of
[stage to Tally, event type to count, revised].
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from lso_core.compute import histogram
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.histogram import INDEX_MASK, Int64
from lso_core.compute.packing import narrow, widen
from lso_core.compute.state import NO_CELLS, NO_EVENTS, Tally
from lso_core.model.events import OTHER
from lso_core.model.rollups import MOST_NAMES, Width

ROLLUP_FORMAT: Final = 1
"""Version of the stored row. Rows outlive releases in the archive: every format that ever was stays readable."""

STAGE_BITS: Final = 10
"""Positions in `Rollup.stages` are below 2^10."""

_MOST: Final = (1 << 64) - 1
"""Largest number that msgpack has."""
_SEAL: Final = struct.Struct("<BI")
"""format, CRC-32 of all that follows."""
_HEAD: Final = struct.Struct("<qIIBBB")
"""start, width, cells, bytes of a step of the index, of a stage (0: all cells are of the first), of a count."""


class Rollup(msgspec.Struct, frozen=True):
    """What one stretch of event time held, or a part of it. Lifecycle events are in `event_types` alone.

    `index`, `stage` and `count` are the histogram's cells, by column: how many latencies of which stage (a position in
    `stages`) fall on which index of `compute.histogram`. They are in the order of the index, so that ranks over all
    stages need no sorting.
    """

    start_ms: int
    width: Width
    stages: dict[str, Tally] = {}
    """By name; NO_STAGE for events without one."""
    index: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    stage: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    count: Int64 = msgspec.field(default_factory=lambda: NO_CELLS)
    event_types: dict[str, int] = {}
    revised: int = 0
    """How many of the counted events were late: by them the answer for this stretch has changed afterwards."""


def merge(rows: Iterable[Rollup], width: Width) -> list[Rollup]:
    """The rows added up to one a stretch of `width`, by time. None of them may be wider than that.

    Equal sums give equal rows, whatever pieces they came in and in whatever order, as long as no more than MOST_NAMES
    names meet.
    """
    stretches: dict[int, list[Rollup]] = defaultdict(list)
    for row in rows:
        stretches[width.start_of(row.start_ms)].append(row)
    return [_sum(start, width, stretches[start]) for start in sorted(stretches)]


def _sum(start_ms: int, width: Width, rows: Sequence[Rollup]) -> Rollup:
    stages: dict[str, Tally] = {}
    event_types: dict[str, int] = {}
    for row in rows:
        for name, tally in row.stages.items():
            stages[name] = stages.get(name, NO_EVENTS).plus(tally)
        for name, count in row.event_types.items():
            event_types[name] = event_types.get(name, 0) + count
    names = _kept({name: tally.total for name, tally in stages.items()})
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())))}
    tallies = dict.fromkeys(numbers, NO_EVENTS)
    for name, tally in stages.items():
        tallies[names[name]] = tallies[names[name]].plus(tally)
    packed = [
        row.index << STAGE_BITS | np.array([numbers[names[name]] for name in row.stages], np.int64)[row.stage]
        for row in rows
        if len(row.index)
    ]
    cells, counts = histogram.sum_cells(
        np.concatenate([NO_CELLS, *packed]), np.concatenate([NO_CELLS, *(row.count for row in rows)])
    )
    return Rollup(
        start_ms,
        width,
        tallies,
        cells >> STAGE_BITS,
        cells & ((1 << STAGE_BITS) - 1),
        counts,
        _few(event_types),
        sum(row.revised for row in rows),
    )


def _kept(events: dict[str, int]) -> dict[str, str]:
    """Each name as it is kept: itself, or OTHER where more than MOST_NAMES of them have more events."""
    most = sorted(events, key=lambda name: (-events[name], name))
    return dict.fromkeys(most, OTHER) | {name: name for name in most[:MOST_NAMES]}


def _few(event_types: dict[str, int]) -> dict[str, int]:
    names = _kept(event_types)
    kept = dict.fromkeys(sorted(set(names.values())), 0)
    for name, count in event_types.items():
        kept[names[name]] += count
    return kept


def encode(row: Rollup) -> bytes:
    """The row as bytes. Indexes are stored as differences to the one before, most of which fit a byte."""
    steps, counts = narrow(np.diff(row.index, prepend=0)), narrow(row.count)
    stages = narrow(row.stage) if row.stage.any() else np.empty(0, np.uint8)
    head = _HEAD.pack(
        row.start_ms,
        row.width,
        len(steps),
        steps.itemsize,
        stages.itemsize if len(stages) else 0,
        counts.itemsize,
    )
    sums = msgspec.msgpack.encode((_bounded(row.stages), row.event_types, row.revised))
    sealed = b"".join((head, steps.tobytes(), stages.tobytes(), counts.tobytes(), sums))
    return _SEAL.pack(ROLLUP_FORMAT, zlib.crc32(sealed)) + sealed


def _bounded(stages: dict[str, Tally]) -> dict[str, Tally]:
    """The tallies with sums that can be stored: thirty million latencies of seven days each make one that cannot."""
    if all(tally.sum_us <= _MOST for tally in stages.values()):
        return stages
    return {name: msgspec.structs.replace(tally, sum_us=min(tally.sum_us, _MOST)) for name, tally in stages.items()}


_read_sums = msgspec.msgpack.Decoder(tuple[dict[str, Tally], dict[str, int], int])


def decode(data: bytes) -> Rollup:
    """The row of `encode`. Raises CorruptEntryError, or NewerFormatError where a newer release wrote it."""
    _check_seal(data)
    try:
        start_ms, width, cells, step_width, stage_width, count_width = _HEAD.unpack_from(data, _SEAL.size)
        at = _SEAL.size + _HEAD.size
        steps = widen(data, step_width, cells, at)
        at += cells * step_width
        stage = widen(data, stage_width, cells, at) if stage_width else np.zeros(cells, np.int64)
        at += cells * stage_width
        count = widen(data, count_width, cells, at)
        at += cells * count_width
        stages, event_types, revised = _read_sums.decode(memoryview(data)[at:])
        row = Rollup(start_ms, Width(width), stages, np.cumsum(steps), stage, count, event_types, revised)
    except (struct.error, ValueError, msgspec.MsgspecError) as error:
        raise CorruptEntryError(f"a rollup row cannot be read: {error}") from error
    if cells and (int(row.index[-1]) > INDEX_MASK or int(stage.max()) >= len(stages)):
        raise CorruptEntryError("a rollup row has a cell that there cannot be")
    return row


def _check_seal(data: bytes) -> None:
    if len(data) < _SEAL.size:
        raise CorruptEntryError("a rollup row is cut off")
    version, checksum = _SEAL.unpack_from(data)
    if version > ROLLUP_FORMAT:
        raise NewerFormatError(f"rollup format {version}; this release reads up to {ROLLUP_FORMAT}")
    if not version or zlib.crc32(memoryview(data)[_SEAL.size :]) != checksum:
        raise CorruptEntryError("a rollup row's checksum does not match")
