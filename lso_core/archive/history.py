"""Rollup rows of a system, hot and archived, as one: each row once, whatever moves from one to the other meanwhile.

Every row has a number, and the mark says up to which number they are archived. Redis is read first and the mark then, so
that a row which left Redis in between stands before the mark; what is numbered up to the mark is taken from the archive,
and what is behind it from Redis.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from lso_core.archive.layout import Kind, Part, Period, Piece, chain, folder
from lso_core.archive.warm import Warm
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.model.errors import ArchiveError
from lso_core.model.rollups import Piece as Stretch
from lso_core.model.rollups import Width
from lso_core.store.archiving import Archiving, Filed
from lso_core.store.history import History, Hot

if TYPE_CHECKING:
    from pyarrow import Table

KINDS: Final = {Width.MINUTE: Kind.MINUTES, Width.HOUR: Kind.HOURS, Width.DAY: Kind.DAYS}


class Question(msgspec.Struct, frozen=True):
    """What is asked of one system's history."""

    system_id: int
    pieces: list[Stretch]
    most: int


class Both(msgspec.Struct, frozen=True):
    """What was read of one system's history: what is hot; and what is archived, still in its files."""

    hot: Hot
    filed: Filed
    asked: Question

    @property
    def as_of_ms(self) -> int | None:
        """Redis' time up to which everything accepted is in; None before anything was folded."""
        return self.hot.as_of_ms

    def columns(self, warm: Warm, detail: Detail) -> RollupColumns:
        """Archived rows as wide as the pieces and hot ones of minutes, which add up. Blocks.

        Raises InputError past the most rows, ArchiveError, CorruptEntryError or NewerFormatError.
        """
        young = RollupColumns.of(self.hot.rollups(), detail)
        if not self._reaches_back:
            return young
        from lso_core.archive.rollups import TELLING, columns_of  # noqa: PLC0415 - pyarrow, for who needs it

        tables = warm.patiently(self._read, warm, TELLING[detail], self.asked.most - len(young))
        return RollupColumns.joined([*(part for table in tables for part in columns_of(table, detail)), young])

    @property
    def _reaches_back(self) -> bool:
        """Whether something of it is archived."""
        return bool(self.filed.mark) and self.asked.pieces[0].from_ms <= self.filed.newest_ms

    def _read(self, warm: Warm, columns: Sequence[str], most: int) -> "list[Table]":
        """Tables of the archived rows."""
        from lso_core.archive.selecting import Selection  # noqa: PLC0415 - as above

        selection = Selection(columns, most, warm.limits)
        for piece in self.asked.pieces:
            parts = self._parts(warm, piece)
            names = warm.files.local([part.piece.path for part in parts])
            for part, name in zip(parts, names, strict=True):
                selection.add(name, piece, (part.after[0], self.filed.mark))
        return selection.tables

    def _parts(self, warm: Warm, piece: Stretch) -> list[Part]:
        """What to read of which files."""
        kind, system_id = KINDS[piece.width], self.asked.system_id
        first, last = Period.of(kind, piece.from_ms), Period.of(kind, piece.to_ms - 1)
        found = (Piece.parse(one.path) for one in warm.files.listing(folder(kind, system_id)))
        wanted = [
            one for one in found if one is not None and first <= one.period <= last and one.after[0] < self.filed.mark
        ]
        if kind is not Kind.MINUTES and any(one.last[0] > self.filed.mark for one in wanted):
            raise ArchiveError(f"the archive of system {system_id} is being merged; try again")
        return chain(wanted)


class WholeHistory:
    """Reads of history from both tiers."""

    def __init__(self, history: History, archiving: Archiving) -> None:
        self._history = history
        self._archiving = archiving

    async def read(self, system_id: int, some: Sequence[Stretch], most: int) -> Both:
        """What happened in pieces that follow one another.

        Raises NotFoundError, and InputError where more than `most` rows of it stand in Redis.
        """
        hot = await self._history.read(system_id, some, most)
        filed = await self._archiving.filed(system_id)
        stretches = [one.behind(filed.mark) for one in hot.stretches]
        return Both(msgspec.structs.replace(hot, stretches=stretches), filed, Question(system_id, list(some), most))
