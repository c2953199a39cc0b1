"""Where what lies in the archive: `events/system_id=3/day=2026-11-26/AFTER_LAST.parquet`.

A piece is one file: everything of one system behind AFTER, up to and including LAST. Entries are known by their stream
ids, rollup rows by their numbers, and neither ever changes: so a name says all about the contents, a piece that is
written twice is the same piece, and whatever pieces overlap, reading each from where the one before it ended gives every
entry once.
"""

import enum
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

SUFFIX: Final = ".parquet"
DAY_MS: Final = 86_400_000

Place = tuple[int, int]
"""An entry's id by its halves, or a row's number and 0."""
START: Final[Place] = (0, 0)
"""Before everything."""


class Kind(enum.Enum):
    """What a file holds, and by which stretch of time its folder is named."""

    EVENTS = "events"
    MINUTES = "minutes"
    HOURS = "hours"
    DAYS = "days"

    @property
    def period(self) -> str:
        """Name of the second folder's key: hours and days are few, so that a longer stretch shares a file."""
        return {Kind.HOURS: "month", Kind.DAYS: "year"}.get(self, "day")


class Period(msgspec.Struct, frozen=True, order=True):
    """A day, month or year of UTC."""

    text: str
    """As in the folder's name; of one kind, the order of the texts is that of time."""

    @classmethod
    def of(cls, kind: Kind, time_ms: int) -> "Period":
        """The period of a kind of file that a time falls into."""
        day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).date().isoformat()
        return cls(day[: {"year": 4, "month": 7, "day": 10}[kind.period]])

    @property
    def start_ms(self) -> int:
        """First millisecond in it."""
        year, month, day = map(int, (self.text + "-1-1").split("-")[:3])
        return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000

    @property
    def end_ms(self) -> int:
        """First millisecond behind it."""
        return _next(self).start_ms


def _next(period: Period) -> Period:
    parts = [int(part) for part in period.text.split("-")]
    if len(parts) == 3:
        return Period.of(Kind.EVENTS, period.start_ms + DAY_MS)
    if len(parts) == 2:
        year, month = parts
        return Period(f"{year + month // 12:04d}-{month % 12 + 1:02d}")
    return Period(f"{parts[0] + 1:04d}")


class Piece(msgspec.Struct, frozen=True, order=True):
    """One file."""

    kind: Kind
    system_id: int
    period: Period
    after: Place
    """What comes before it ended here."""
    last: Place
    """The last that it holds, or that there was when it was written."""

    @property
    def path(self) -> str:
        """Where it lies, relative to the archive."""
        name = f"{place_text(self.kind, self.after)}_{place_text(self.kind, self.last)}{SUFFIX}"
        return f"{folder(self.kind, self.system_id)}{self.kind.period}={self.period.text}/{name}"

    @classmethod
    def parse(cls, path: str) -> "Piece | None":
        """The piece at a path, None where it is none of ours."""
        try:
            kind_text, system, period, name = path.split("/")
            kind = Kind(kind_text)
            key, _, when = period.partition("=")
            after, _, last = name.removesuffix(SUFFIX).partition("_")
            piece = cls(kind, int(system.removeprefix("system_id=")), Period(when), place_of(after), place_of(last))
            piece.period.start_ms  # noqa: B018 - raises for what is no date
        except ValueError:
            return None
        return piece if key == kind.period and piece.path == path else None


class Part(msgspec.Struct, frozen=True):
    """What to read of a piece."""

    piece: Piece
    after: Place
    """Only what comes behind this."""

    @property
    def whole(self) -> bool:
        """Whether that is all of it."""
        return self.after == self.piece.after


def folder(kind: Kind, system_id: int | None = None) -> str:
    """The folder of all pieces of a kind, or of one system's."""
    return f"{kind.value}/" if system_id is None else f"{kind.value}/system_id={system_id}/"


def place_of(text: str) -> Place:
    """The place of an entry's id or a row's number. Raises ValueError for anything else."""
    first, _, second = text.partition("-")
    return int(first), int(second or 0)


def place_text(kind: Kind, place: Place) -> str:
    """A place as it stands in names; entries' as Redis writes their ids."""
    return f"{place[0]}-{place[1]}" if kind is Kind.EVENTS else str(place[0])


def chain(pieces: Iterable[Piece]) -> list[Part]:
    """What to read of pieces of one kind and system, so that everything is read once, oldest first.

    Where pieces overlap (one that was written before its writer died, small ones beside the one that they were merged
    into), each is read from where those before it ended. Pieces of rollups are cut by period as well, each with the
    same ends: those of each period are a chain of their own.
    """
    parts = []
    for _, group in itertools.groupby(sorted(pieces, key=_order), key=lambda piece: (piece.kind, piece.period)):
        reached = START
        for piece in group:
            if piece.last > reached:
                parts.append(Part(piece, max(piece.after, reached)))
                reached = piece.last
    return parts


def _order(piece: Piece) -> tuple[str, Period, Place, tuple[int, int]]:
    """By period and beginning; of those that begin alike, the longest first."""
    return piece.kind.value, piece.period, piece.after, (-piece.last[0], -piece.last[1])
