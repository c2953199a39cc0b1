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
from lso_core.compute.rollup_columns import RollupColumns
from lso_core.compute.rollups import Rollup
from lso_core.model.errors import ArchiveError
from lso_core.model.rollups import Piece as Stretch
from lso_core.model.rollups import Width
from lso_core.store.archiving import Archiving, Filed
from lso_core.store.history import History, Hot

if TYPE_CHECKING:
    from pyarrow import Table

KINDS: Final = {Width.MINUTE: Kind.MINUTES, Width.HOUR: Kind.HOURS, Width.DAY: Kind.DAYS}


class WholeHistory:
    """Reads of history from both tiers."""

    def __init__(self, history: History, archiving: Archiving, warm: Warm) -> None:
        self._history = history
        self._archiving = archiving
        self._warm = warm

    async def read(self, system_id: int, some: Sequence[Stretch], most: int) -> "Both":
        """What happened in pieces that follow one another.

        Raises NotFoundError, and InputError where more than `most` rows of it stand in Redis.
        """
        hot = await self._history.read(system_id, some, most)
        filed = await self._archiving.filed(system_id)
        stretches = [one.behind(filed.mark) for one in hot.stretches]
        return Both(
            msgspec.structs.replace(hot, stretches=stretches), filed, self._warm, Question(system_id, some, most)
        )


class Question(msgspec.Struct, frozen=True):
    """What is asked of one system's history."""

    system_id: int
    pieces: Sequence[Stretch]
    most: int


class Both:
    """What was read of one system's history: what is hot; and what is archived, still in its files."""

    def __init__(self, hot: Hot, filed: Filed, warm: Warm, question: Question) -> None:
        self._hot = hot
        self._filed = filed
        self._warm = warm
        self._asked = question

    @property
    def as_of_ms(self) -> int | None:
        """Redis' time up to which everything accepted is in; None before anything was folded."""
        return self._hot.as_of_ms

    def rollups(self) -> list[Rollup]:
        """Archived rows as wide as the pieces and hot ones of minutes, which add up. Blocks.

        Raises InputError past the most rows, ArchiveError, CorruptEntryError or NewerFormatError.
        """
        young = self._hot.rollups()
        if not self._reaches_back:
            return young
        from lso_core.archive.rollups import WHOLE, rollups_of  # noqa: PLC0415 - pyarrow, for who needs it

        tables = self._archived(WHOLE, len(young))
        return [one.row for table, width in tables for one in rollups_of(table, width)] + young

    def columns(self, *, by_stage: bool) -> RollupColumns:
        """The same rows by column, which take a fraction of the time. Blocks. Raises as `rollups` does."""
        young = RollupColumns.of(self._hot.rollups(), by_stage=by_stage)
        if not self._reaches_back:
            return young
        from lso_core.archive.rollups import BY_STAGE, LEAN, columns_of  # noqa: PLC0415 - as above

        tables = self._archived(BY_STAGE if by_stage else LEAN, len(young))
        return RollupColumns.joined([*(part for table, _ in tables for part in columns_of(table)), young])

    @property
    def _reaches_back(self) -> bool:
        """Whether something of it is archived."""
        return bool(self._filed.mark) and self._asked.pieces[0].from_ms <= self._filed.newest_ms

    def _archived(self, columns: Sequence[str], young: int) -> "list[tuple[Table, Width]]":
        """Tables of the archived rows, and how wide these are; beside them there are so many young ones."""
        return self._warm.patiently(self._read, columns, self._asked.most - young)

    def _read(self, columns: Sequence[str], most: int) -> "list[tuple[Table, Width]]":
        from lso_core.archive.selecting import Selection  # noqa: PLC0415 - as above

        selection = Selection(columns, most, self._warm.limits)
        for piece in self._asked.pieces:
            parts = self._parts(piece)
            names = self._warm.files.local([part.piece.path for part in parts])
            for part, name in zip(parts, names, strict=True):
                selection.add(name, piece, (part.after[0], self._filed.mark))
        return selection.tables

    def _parts(self, piece: Stretch) -> list[Part]:
        """What to read of which files."""
        kind, system_id = KINDS[piece.width], self._asked.system_id
        first, last = Period.of(kind, piece.from_ms), Period.of(kind, piece.to_ms - 1)
        found = (Piece.parse(one.path) for one in self._warm.files.listing(folder(kind, system_id)))
        wanted = [
            one for one in found if one is not None and first <= one.period <= last and one.after[0] < self._filed.mark
        ]
        if kind is not Kind.MINUTES and any(one.last[0] > self._filed.mark for one in wanted):
            raise ArchiveError(f"the archive of system {system_id} is being merged; try again")
        return chain(wanted)
