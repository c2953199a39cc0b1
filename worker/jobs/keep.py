"""The archive's housekeeping: what is older than its tier keeps it goes, small files become large ones, files of deleted
systems go, and it is said how large the archive is.
"""

import asyncio
import itertools
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import structlog

from lso_core.archive.building import Order
from lso_core.archive.files import Files, Found
from lso_core.archive.layout import DAY_MS, START, Kind, Part, Period, Piece, chain, folder, place_of
from lso_core.model.errors import ArchiveError
from lso_core.settings import Settings
from lso_core.store.archiving import Archiving
from lso_core.telemetry import Telemetry
from worker.builder import Builder, Building
from worker.jobs.claim import Claim

log = structlog.get_logger(__name__)

EVERY_MS: Final = 600_000
"""How often all of the archive is looked through."""
OVER_MS: Final = 2 * 3_600_000
"""A period that is over for so long gets no more pieces, but for repairs."""
MANY: Final = 16
"""So many files of one period are merged although it is not over."""
MERGED_BYTES: Final = 64 << 20
"""Files are merged up to this size."""


class KeepReport(msgspec.Struct, frozen=True):
    """What one turn did, in files."""

    expired: int = 0
    merged: int = 0
    deleted: int = 0
    """Of systems that are no more."""


class Shrunk(msgspec.Struct, frozen=True):
    """What there is less of."""

    files: int = 0
    bytes: int = 0


class Keeper:
    """Keeps the archive in shape."""

    def __init__(
        self,
        archiving: Archiving,
        files: Files,
        settings: Settings,
        telemetry: Telemetry,
        builder: Building | None = None,
    ) -> None:
        self._archiving = archiving
        self._files = files
        self._telemetry = telemetry
        self._builder = builder or Builder()
        self._claim = Claim(archiving, files)
        self._token = ""
        """Of the turn that is under way; another one of this process is somebody else, too."""
        self._settled: dict[int, tuple[str, int]] = {}
        """Up to where each system's pieces may be merged in this turn."""
        self._keep_ms = {
            Kind.EVENTS: settings.keep_events_days * DAY_MS,
            Kind.MINUTES: settings.keep_minutes_days * DAY_MS,
            Kind.HOURS: settings.keep_hours_days * DAY_MS,
            Kind.DAYS: settings.keep_days_days * DAY_MS,
        }

    async def turn(self, now_ms: int) -> KeepReport:
        """Do what is due by Redis' time `now_ms`, unless somebody else is at it."""
        token = secrets.token_hex(8)
        if not await self._archiving.lock(token, "keep"):
            return KeepReport()
        self._token = token
        try:
            await self._claim.make()
            report = KeepReport(deleted=await self._unlink())
            notes = await self._archiving.notes()
            wanted = notes.get("wanted", "")
            if now_ms - int(notes.get("kept", "0")) >= EVERY_MS or wanted != notes.get("kept_for", ""):
                report = await self._everything(now_ms, report)
                await self._archiving.note(kept=now_ms, kept_for=wanted)
        except (ArchiveError, FileNotFoundError) as error:  # a file that somebody else removed comes with the next turn
            self._telemetry.archive_failures.labels("keep").inc()
            log.warning("archive.not-kept", error=str(error))
            return KeepReport()
        finally:
            await self._builder.rest()
            await self._archiving.unlock(token, "keep")
        if report != KeepReport():
            log.info("archive.kept", expired=report.expired, merged=report.merged, deleted=report.deleted)
        return report

    async def close(self) -> None:
        """End the process that builds files."""
        await self._builder.close()

    async def _unlink(self) -> int:
        """Remove the files of deleted systems."""
        gone = 0
        for system_id in await self._archiving.unlinked():
            for kind in Kind:
                found = await asyncio.to_thread(self._files.listing, folder(kind, system_id))
                gone += await self._delete([one.path for one in found])
            await self._archiving.forget(system_id)
        return gone

    async def _everything(self, now_ms: int, report: KeepReport) -> KeepReport:
        sizes: dict[str, int] = {}
        self._settled = {}
        expired = merged = 0
        for kind in Kind:
            left, size = 0, 0
            for system_id, found in itertools.groupby(await self._pieces(kind), key=lambda one: one[0].system_id):
                await self._archiving.lock(self._token, "keep")
                pieces = dict(found)
                old = [one for one in pieces if one.period.end_ms <= now_ms - self._keep_ms[kind]]
                expired += await self._delete([one.path for one in old])
                kept = {piece: one for piece, one in pieces.items() if piece not in old}
                shrunk = await self._merge(kind, system_id, kept, now_ms)
                merged += shrunk.files
                left += len(kept) - shrunk.files
                size += sum(one.size for one in kept.values()) - shrunk.bytes
            sizes |= {f"{kind.value}_files": left, f"{kind.value}_bytes": size}
        await asyncio.to_thread(self._files.tidy)
        await self._archiving.note(**sizes)
        return msgspec.structs.replace(report, expired=expired, merged=merged)

    async def _pieces(self, kind: Kind) -> list[tuple[Piece, Found]]:
        """All pieces of a kind with their sizes, by system."""
        found = await asyncio.to_thread(self._files.listing, folder(kind))
        pieces = [(piece, one) for one in found if (piece := Piece.parse(one.path)) is not None]
        return sorted(pieces, key=lambda one: one[0].system_id)

    async def _merge(self, kind: Kind, system_id: int, pieces: dict[Piece, Found], now_ms: int) -> Shrunk:
        """Merge a system's small files of one kind."""
        groups: dict[Period, list[Piece]] = {}
        for piece in pieces:
            groups.setdefault(piece.period, []).append(piece)
        ripe = [
            some
            for period, some in groups.items()
            if len(some) >= MANY or (len(some) > 1 and period.end_ms <= now_ms - OVER_MS)
        ]
        shrunk = Shrunk()
        if not ripe:
            return shrunk
        if system_id not in self._settled:
            self._settled[system_id] = await self._archiving.settled(system_id, now_ms)
        entry, row = self._settled[system_id]
        mark = (row, 0) if kind is not Kind.EVENTS else place_of(entry) if entry else START
        for some in ripe:
            done = [piece for piece in some if piece.last <= mark]
            for run in _runs(kind, chain(done), pieces):
                less = await self._merge_run(run, done, pieces)
                shrunk = Shrunk(shrunk.files + less.files, shrunk.bytes + less.bytes)
        return shrunk

    async def _merge_run(self, run: Sequence[Part], group: Sequence[Piece], sizes: dict[Piece, Found]) -> Shrunk:
        """Write one file for many, and only then remove those."""
        first, last = run[0].piece, run[-1].piece
        whole = msgspec.structs.replace(first, last=last.last)
        names = await asyncio.to_thread(self._files.local, [part.piece.path for part in run])
        shares = [(name, part.after, part.whole) for part, name in zip(run, names, strict=True)]
        answer = await self._builder.build(Order(merge=shares, kind=first.kind, period=first.period.text))
        if answer.failed is not None:
            self._telemetry.archive_failures.labels("build").inc()
            log.error("archive.not-merged", system_id=first.system_id, error=answer.failed)
            return Shrunk()
        covered = [one for one in group if whole.after <= one.after and one.last <= whole.last and one != whole]
        await asyncio.to_thread(self._files.write, whole.path, answer.files[0].data)
        await self._delete([one.path for one in covered])
        before = {*covered, whole} & set(sizes)
        size = sum(sizes[one].size for one in before) - len(answer.files[0].data)
        return Shrunk(len(before) - 1, size)

    async def _delete(self, paths: Sequence[str]) -> int:
        for path in paths:
            await asyncio.to_thread(self._files.delete, path)
        return len(paths)


def _runs(kind: Kind, parts: Sequence[Part], sizes: dict[Piece, Found]) -> Iterator[list[Part]]:
    """Neighbours that make a file of at most MERGED_BYTES. A gap between events stays one, for everybody to see."""
    run: list[Part] = []
    size = 0
    for part in parts:
        gap = kind is Kind.EVENTS and bool(run) and part.after != run[-1].piece.last
        if run and (gap or size + sizes[part.piece].size > MERGED_BYTES):
            if len(run) > 1:
                yield run
            run, size = [], 0
        run.append(part)
        size += sizes[part.piece].size
    if len(run) > 1:
        yield run
