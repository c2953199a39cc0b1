"""The archive's job: folded events that are old enough go to files, and only then may they be trimmed from Redis.

Each system's entries go in pieces: held, so that none is dropped to make room, read from behind its mark, built, written
durably, and only then the mark moves, by a script that first checks that it is where it was. A job that is killed in
between has done nothing that counts: the next one writes the same piece under the same name.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import structlog

from lso_core.archive.building import Answer, File, Order
from lso_core.archive.files import Files
from lso_core.archive.layout import START, Kind, Period, Piece, Place, folder, place_of
from lso_core.compute import columns
from lso_core.model.batches import StoredEntry
from lso_core.model.errors import ArchiveError, StoreError
from lso_core.model.rollups import Width
from lso_core.model.windows import partition_of
from lso_core.settings import Settings
from lso_core.store.archiving import Archiving, Rows, Waiting
from lso_core.store.history import data_of
from lso_core.telemetry import Telemetry
from worker.builder import Builder, Building
from worker.jobs.claim import Claim

log = structlog.get_logger(__name__)

PATIENCE: Final = 4
"""Events wait for company, so that files do not get tiny, until the oldest is this many hot times old…"""
PIECE_BYTES: Final = 8 << 20
"""…or they are worth a file. Bytes as in Redis."""
MOST_BYTES: Final = 32 << 20
"""About the most that one file is made of…"""
MOST_INFLATED: Final = 256 << 20
"""…or this, inflated: what repeats takes few bytes in Redis, but all of them in memory…"""
MOST_EVENTS: Final = 1_000_000
"""…whichever comes first."""
RENEWALS: Final = 3
"""How often a lock and a hold are renewed in the time that they last."""
READ_BYTES: Final = 4 << 20
READ_ENTRIES: Final = 2_000
SYSTEMS: Final = 1_000
"""Most systems of a partition looked at in one turn; the others come in the next."""
ROW_BYTES: Final = 48 << 10
"""Rollup rows wait until there are so many bytes of them…"""
ROW_PATIENCE: Final = 12
"""…or the oldest is this many hot times old."""
LOOKS: Final = 4
"""What is not ripe yet is looked at so often in a hot time."""
MOST_ROWS: Final = 3_000
"""The most rows of one piece."""


class ArchiveReport(msgspec.Struct, frozen=True):
    """What one turn did."""

    pieces: int = 0
    events: int = 0
    bytes: int = 0
    failed: int = 0


class Archiver:
    """Writes what is old enough."""

    def __init__(
        self,
        archiving: Archiving,
        files: Files,
        settings: Settings,
        telemetry: Telemetry,
        hot_cap: Callable[[], int],
        builder: Building | None = None,
    ) -> None:
        self.archiving = archiving
        self.files = files
        self._hot_ms = settings.hot_seconds * 1_000
        self._telemetry = telemetry
        self._hot_cap = hot_cap
        self._builder = builder or Builder()
        self._token = ""
        """Of the turn that is under way; another one of this process is somebody else, too."""
        self._claim = Claim(archiving, files)
        self._again_ms: dict[int, int] = {}
        """When to look at systems whose events were not ripe."""
        self._failing = False

    async def turn(self, now_ms: int) -> ArchiveReport:
        """Archive whatever should be by Redis' time `now_ms`, unless somebody else is at it."""
        token = secrets.token_hex(8)
        if not await self.archiving.lock(token):
            return ArchiveReport()
        self._token = token
        try:
            notes = await self.archiving.notes()
            wanted = notes.get("wanted", "")
            report = await self._everywhere(now_ms, everything=wanted != notes.get("done", ""))
            await self._succeed(now_ms, report, wanted)
        except ArchiveError as error:
            await self._fail(now_ms, error)
            return ArchiveReport(failed=1)
        finally:
            await self._builder.rest()
            await self.archiving.unlock(token)
        return report

    async def close(self) -> None:
        """End the process that builds files."""
        await self._builder.close()

    async def _everywhere(self, now_ms: int, *, everything: bool) -> ArchiveReport:
        await self._claim.make()
        report = ArchiveReport()
        pressed = [hot > self._hot_cap() // 2 for hot in await self.archiving.hot_bytes()]
        before_ms = [now_ms if one else now_ms - self._hot_ms for one in pressed]
        self._again_ms = {one: again_ms for one, again_ms in self._again_ms.items() if again_ms > now_ms}
        resting = {one for one in self._again_ms if not (everything or pressed[partition_of(one)])}
        for one in await self.archiving.waiting(before_ms, SYSTEMS, resting):
            partition = partition_of(one.system_id)
            if everything or pressed[partition] or self._ripe(one, now_ms):
                report = _plus(report, await self._system(one, before_ms[partition]))
            else:
                self._again_ms[one.system_id] = min(now_ms + self._hot_ms // LOOKS, self._ripe_ms(one))
        for system_id in await self.archiving.unfiled(now_ms if everything else now_ms - 2 * self._hot_ms, SYSTEMS):
            report = _plus(report, await self._rows(system_id, now_ms, everything=everything))
        return report

    def _ripe(self, one: Waiting, now_ms: int) -> bool:
        return one.bytes >= PIECE_BYTES or self._ripe_ms(one) <= now_ms

    def _ripe_ms(self, one: Waiting) -> int:
        """When its events are ripe, however few they are."""
        return one.oldest_ms + PATIENCE * self._hot_ms

    # -- one system ---------------------------------------------------------------------------------------------

    async def _system(self, one: Waiting, before_ms: int) -> ArchiveReport:
        """Archive a system's entries that arrived before then, piece by piece."""
        report = ArchiveReport()
        async with self._holding(one.system_id):
            while True:
                await self.archiving.lock(self._token)
                mark = await self.archiving.hold(one.system_id)
                if mark is None:
                    return report
                one = msgspec.structs.replace(one, mark=mark)
                entries = await self._read(one, before_ms)
                done = await self._piece(one, entries) if entries else ArchiveReport()
                report = _plus(report, done)
                if not done.pieces:
                    return report

    @contextlib.asynccontextmanager
    async def _holding(self, system_id: int) -> AsyncIterator[None]:
        """Say again and again, however long it takes, that this job is at it and what it reads must not be dropped."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self.archiving.lock_ms / 1_000 / RENEWALS)
                with contextlib.suppress(StoreError):  # the work itself will meet it, too
                    await self.archiving.lock(self._token)
                    await self.archiving.hold(system_id)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})
            with contextlib.suppress(StoreError):
                await self.archiving.let_go(system_id)

    async def _read(self, one: Waiting, before_ms: int) -> list[StoredEntry]:
        """The next piece's entries: of one day, and as many as fit."""
        entries: list[StoredEntry] = []
        size, inflated, events, after = 0, 0, 0, one.mark
        count = max(1, min(READ_ENTRIES, READ_BYTES // max(1, one.entry_bytes)))
        while True:
            found = await self.archiving.entries(one.system_id, after, one.cursor, count)
            for entry in found:
                fits = size < MOST_BYTES and inflated < MOST_INFLATED and events < MOST_EVENTS
                same_day = not entries or _day(entry) == _day(entries[0])
                if not (fits and same_day and entry.at_ms < before_ms):
                    return await self._as_begun(one, entries)
                entries.append(entry)
                size, events = size + _size(entry), events + entry.count
                inflated += columns.inflated(entry.body)
            if len(found) < count:
                return await self._as_begun(one, entries)
            after = found[-1].entry_id

    async def _as_begun(self, one: Waiting, entries: list[StoredEntry]) -> list[StoredEntry]:
        """Where somebody was killed between writing a piece and marking it: the entries of that piece, so that writing it
        again leaves nothing beside it.
        """
        if not entries:
            return entries
        prefix = f"{folder(Kind.EVENTS, one.system_id)}day={_day(entries[0]).text}/"
        after = _place(one.mark)
        for found in await asyncio.to_thread(self.files.listing, prefix):
            piece = Piece.parse(found.path)
            if piece is not None and piece.after == after:
                begun = [entry for entry in entries if _place(entry.entry_id) <= piece.last]
                if begun and _place(begun[-1].entry_id) == piece.last:
                    return begun
        return entries

    async def _piece(self, one: Waiting, entries: list[StoredEntry]) -> ArchiveReport:
        """Build, write, and only then mark."""
        answer = await self._builder.build(Order(entries))
        if answer.newer is not None or answer.failed is not None:
            log.error("archive.not-built", system_id=one.system_id, error=answer.newer or answer.failed)
            self._telemetry.archive_failures.labels("build").inc()
            return ArchiveReport(failed=1)
        last = entries[-1]
        await self._write(one.system_id, answer.files, _place(one.mark), _place(last.entry_id))
        size, events = sum(map(_size, entries)), sum(entry.count for entry in entries)
        if not await self.archiving.mark(one, last, events, size):
            return await self._late(one.system_id, answer.files, _place(one.mark), _place(last.entry_id))
        self._telemetry.archived.inc(answer.events)
        if answer.unreadable:
            log.error("archive.unreadable", system_id=one.system_id, entries=answer.unreadable, upto=last.entry_id)
        return await self._count(answer)

    async def _write(self, system_id: int, files: list[File], after: Place, last: Place) -> None:
        for file in files:
            piece = Piece(file.kind, system_id, Period(file.period), after, last)
            await asyncio.to_thread(self.files.write, piece.path, file.data)

    async def _late(self, system_id: int, files: list[File], after: Place, last: Place) -> ArchiveReport:
        """The mark was moved by somebody else, which does no harm; or the system is gone, and so are its files."""
        log.info("archive.not-marked", system_id=system_id, after=after, last=last)
        if not await self.archiving.is_there(system_id):
            for file in files:
                piece = Piece(file.kind, system_id, Period(file.period), after, last)
                await asyncio.to_thread(self.files.delete, piece.path)
        return ArchiveReport()

    async def _count(self, answer: Answer) -> ArchiveReport:
        size = sum(len(file.data) for file in answer.files)
        self._telemetry.archived_bytes.inc(size)
        sums: dict[str, int] = {}
        for file in answer.files:
            sums[f"{file.kind.value}_files"] = sums.get(f"{file.kind.value}_files", 0) + 1
            sums[f"{file.kind.value}_bytes"] = sums.get(f"{file.kind.value}_bytes", 0) + len(file.data)
        await self.archiving.add(**sums)
        return ArchiveReport(1, answer.events, size)

    # -- rollup rows --------------------------------------------------------------------------------------------

    async def _rows(self, system_id: int, now_ms: int, *, everything: bool) -> ArchiveReport:
        """Archive a system's rows that are old enough, where they are worth files; else look again later."""
        report, again_ms = ArchiveReport(), now_ms + self._hot_ms // LOOKS
        while True:
            await self.archiving.lock(self._token)
            found = await self.archiving.rows(system_id)
            old = _old_rows(found, now_ms - self._hot_ms)
            size = sum(len(member) for _, _, member in old.rows)
            wait_ms = ROW_PATIENCE * self._hot_ms
            ripe = everything or size >= ROW_BYTES or (bool(old.rows) and old.rows[0][1] <= now_ms - wait_ms)
            if not (old.rows and ripe):
                await self.archiving.look_again(system_id, again_ms - 2 * self._hot_ms)
                return report
            done = await self._file(old, again_ms)
            report = _plus(report, done)
            if not done.pieces:
                return report

    async def _file(self, one: Rows, again_ms: int) -> ArchiveReport:
        """Build, write, and only then mark."""
        answer = await self._builder.build(Order(rows=[(number, data_of(member)) for number, _, member in one.rows]))
        if answer.newer is not None or answer.failed is not None:
            log.error("archive.not-built", system_id=one.system_id, error=answer.newer or answer.failed)
            self._telemetry.archive_failures.labels("build").inc()
            await self.archiving.look_again(one.system_id, again_ms)
            return ArchiveReport(failed=1)
        await self._write(one.system_id, answer.files, (one.mark, 0), (one.rows[-1][0], 0))
        if not await self.archiving.file(one, again_ms - 2 * self._hot_ms):
            return await self._late(one.system_id, answer.files, (one.mark, 0), (one.rows[-1][0], 0))
        self._telemetry.archived_rows.inc(len(one.rows))
        return await self._count(answer)

    # -- how it goes --------------------------------------------------------------------------------------------

    async def _succeed(self, now_ms: int, report: ArchiveReport, wanted: str) -> None:
        if self._failing:
            log.info("archive.works-again")
        self._failing = False
        await self.archiving.note(worked=now_ms, error="", done=wanted)
        if report.pieces:
            log.info("archive.wrote", pieces=report.pieces, events=report.events, bytes=report.bytes)

    async def _fail(self, now_ms: int, error: ArchiveError) -> None:
        if not self._failing:
            log.error("archive.fails", error=str(error))
        self._failing = True
        self._telemetry.archive_failures.labels("store").inc()
        await self.archiving.note(failed=now_ms, error=str(error))


def _old_rows(found: Rows, before_ms: int) -> Rows:
    """The rows up to the first whose minute is not over since then, and no more than fit."""
    young = (at for at, (_, start_ms, _) in enumerate(found.rows) if start_ms + Width.MINUTE > before_ms)
    return msgspec.structs.replace(found, rows=found.rows[: min(next(young, MOST_ROWS), MOST_ROWS)])


def _day(entry: StoredEntry) -> Period:
    return Period.of(Kind.EVENTS, int(entry.entry_id.split("-")[0]))


def _size(entry: StoredEntry) -> int:
    """As the append script counted it."""
    return len(entry.columns) + len(entry.body)


def _place(entry_id: str) -> Place:
    return place_of(entry_id) if entry_id else START


def _plus(one: ArchiveReport, other: ArchiveReport) -> ArchiveReport:
    pairs: Any = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return ArchiveReport(*(a + b for a, b in pairs))
