"""Rollup rows of a system, hot and archived, as one: each row once, whatever moves from one to the other meanwhile.

Every row has a number, and the mark says up to which number they are archived. Redis is read first and the mark then, so
that a row which left Redis in between stands before the mark; what is numbered up to the mark is taken from the archive,
and what is behind it from Redis.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from lso_core.archive.layout import Kind, Part, Period, Piece, chain, folder
from lso_core.archive.warm import Warm
from lso_core.compute.rollups import Rollup
from lso_core.model.errors import ArchiveError
from lso_core.model.rollups import Piece as Stretch
from lso_core.model.rollups import Width
from lso_core.store.archiving import Archiving, Filed
from lso_core.store.history import History, Hot

KINDS: Final = {Width.MINUTE: Kind.MINUTES, Width.HOUR: Kind.HOURS, Width.DAY: Kind.DAYS}


class WholeHistory:
    """Reads of history from both tiers."""

    def __init__(self, history: History, archiving: Archiving, warm: Warm) -> None:
        self._history = history
        self._archiving = archiving
        self._warm = warm

    async def read(self, system_id: int, some: Sequence[Stretch], most: int, *, lean: bool = False) -> "Both":
        """What happened in pieces that follow one another; with `lean`, cells tell neither stages nor errors.

        Raises NotFoundError, and InputError where more than `most` rows of it stand in Redis.
        """
        hot = await self._history.read(system_id, some, most)
        filed = await self._archiving.filed(system_id)
        stretches = [one.behind(filed.mark) for one in hot.stretches]
        return Both(
            msgspec.structs.replace(hot, stretches=stretches), filed, self._warm, Question(system_id, some, most, lean)
        )


class Question(msgspec.Struct, frozen=True):
    """What is asked of one system's history."""

    system_id: int
    pieces: Sequence[Stretch]
    most: int
    lean: bool


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
        if not self._filed.mark or self._asked.pieces[0].from_ms > self._filed.newest_ms:
            return young
        return self._warm.patiently(self._archived, len(young)) + young

    def _archived(self, young: int) -> list[Rollup]:
        from lso_core.archive.selecting import Selection  # noqa: PLC0415 - pyarrow, for who needs it

        selection = Selection(self._asked.most - young, self._warm.limits, lean=self._asked.lean)
        for piece in self._asked.pieces:
            parts = self._parts(piece)
            names = self._warm.files.local([part.piece.path for part in parts])
            for part, name in zip(parts, names, strict=True):
                selection.add(name, piece, (part.after[0], self._filed.mark))
        return selection.rows

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
