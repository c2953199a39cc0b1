"""A process that builds Parquet files, beside a worker: building takes a core and much memory for a while."""

import contextlib
from typing import Final

import msgspec

from lso_core.archive.layout import Kind, Period, Place
from lso_core.aside import serve
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.rollups import decode, merge
from lso_core.model.batches import StoredEntry
from lso_core.model.rollups import Width

NICE: Final = 10
"""Folding goes first, and so does ingest: of a core that all want it gets a tenth of what they do."""


class Order(msgspec.Struct, array_like=True, frozen=True):
    """What to build files of: entries of one day, rows of history, or files that are merged."""

    entries: list[StoredEntry] = []
    rows: list[tuple[int, bytes]] = []
    """Number and `compute.rollups.encode`."""
    merge: list[tuple[str, Place, bool]] = []
    """`archive.merging.Share`s, of this kind and period."""
    kind: Kind = Kind.EVENTS
    period: str = ""


class File(msgspec.Struct, array_like=True, frozen=True):
    """A file that is ready to be written."""

    kind: Kind
    period: str
    data: bytes


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """Files, or why there are none."""

    files: list[File] = []
    events: int = 0
    """How many events stand in them, where entries were given."""
    unreadable: int = 0
    """Entries or rows of which something, or all, cannot be read by anybody."""
    newer: str | None = None
    """Set where a newer release wrote what was to be built."""
    failed: str | None = None


_decoder = msgspec.msgpack.Decoder(Order)


def build(order: Order) -> Answer:
    """Build files here and now."""
    try:
        if order.merge:
            return _of_files(order)
        return _of_rows(order.rows) if order.rows else _of_entries(order.entries)
    except NewerFormatError as error:
        return Answer(newer=str(error))
    except Exception as error:  # noqa: BLE001 - the parent says it, and goes on with other systems
        return Answer(failed=f"{type(error).__name__}: {error}")


def _of_files(order: Order) -> Answer:
    from lso_core.archive.merging import Share, merged  # noqa: PLC0415 - pyarrow is for this process, not for its parent

    shares = [Share(*one) for one in order.merge]
    return Answer([File(order.kind, order.period, merged(order.kind, shares))])


def _of_entries(entries: list[StoredEntry]) -> Answer:
    """One file; none where nobody can read any of them."""
    from lso_core.archive import tables  # noqa: PLC0415 - as above

    built = tables.events_file(entries)
    day = Period.of(Kind.EVENTS, int(entries[-1].entry_id.split("-")[0]))
    return Answer(
        [File(Kind.EVENTS, day.text, built.data)] if built.events else [], built.events, built.bare + built.lost
    )


def _of_rows(given: list[tuple[int, bytes]]) -> Answer:
    """A file for each day of minutes, and the same rows added up to hours and days."""
    from lso_core.archive.rollups import Numbered, rollups_file  # noqa: PLC0415 - as above

    last = max(number for number, _ in given)
    minutes = []
    for number, data in given:
        with contextlib.suppress(CorruptEntryError):
            minutes.append(Numbered(number, decode(data)))
    hours = merge((one.row for one in minutes), Width.HOUR)
    days = merge(hours, Width.DAY)
    wide = {Kind.HOURS: hours, Kind.DAYS: days}
    of_kind = {Kind.MINUTES: minutes} | {kind: [Numbered(last, row) for row in rows] for kind, rows in wide.items()}
    files = []
    for kind, rows in of_kind.items():
        for period in sorted({Period.of(kind, one.row.start_ms) for one in rows}):
            some = [one for one in rows if Period.of(kind, one.row.start_ms) == period]
            files.append(File(kind, period.text, rollups_file(some)))
    return Answer(files, unreadable=len(given) - len(minutes))


def _answer(frame: bytes) -> bytes:
    return msgspec.msgpack.encode(build(_decoder.decode(frame)))


if __name__ == "__main__":
    serve(_answer, NICE)
