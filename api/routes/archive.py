"""The archive: how it does, and having it run now."""

import secrets
from typing import Any, Final

from litestar import get, post
from litestar.params import FromPath

from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, Service, answer, service_of
from lso_core.archive.layout import Kind
from lso_core.model import times
from lso_core.model.archives import ArchiveRun, ArchiveStatus, SystemArchive, Tier
from lso_core.model.errors import ArchiveError

NEVER: Final = "no worker has archived anything yet"


@get("/archive")
async def get_archive(request: Asked) -> Ready:
    """How the archive does."""
    return answer(await archive_status(service_of(request)))


async def archive_status(service: Service) -> ArchiveStatus:
    """What the workers and this process know of it."""
    notes, lost = await service.archiving.notes(), await service.archiving.lost()
    worked = notes.get("worked")
    wanted = notes.get("wanted", "")
    reason = _reason(service) or notes.get("error", "") or ("" if worked else NEVER)
    return ArchiveStatus(
        mode=service.settings.archive,
        working=not reason,
        reason=reason,
        worked_at=None if worked is None else times.to_text(int(worked)),
        tiers={
            kind.value: Tier(int(notes.get(f"{kind.value}_files", 0)), int(notes.get(f"{kind.value}_bytes", 0)))
            for kind in Kind
        },
        lost=lost,
        wanted=wanted,
        done=wanted == notes.get("done", "") == notes.get("kept_for", ""),
    )


def _reason(service: Service) -> str:
    """Why this process reads no archive; "" where it does."""
    return (
        ""
        if service.has_archive
        else 'LSO_ARCHIVE is off, or its packages are not installed (pip install "lso[archive]")'
    )


@post("/archive/run")
async def run_archive(request: Asked) -> Ready:
    """Have the archive's jobs run now."""
    service = service_of(request)
    if reason := _reason(service):
        raise ArchiveError(f"there is no archive: {reason}", 60)
    run = ArchiveRun(secrets.token_hex(8))
    await service.archiving.note(wanted=run.run)
    return answer(run, 202, {"Location": "/archive"})


@get("/systems/{system_id:int}/archive")
async def get_system_archive(request: Asked, system_id: FromPath[int]) -> Ready:
    """What of one system is archived."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        await service.store.registry.require(system_id)
    ledger, filed = await service.archiving.ledger(system_id), await service.archiving.filed(system_id)
    found = SystemArchive(system_id, ledger.mark or None, ledger.archived, ledger.lost, filed.mark)
    return answer(found)


HANDLERS: tuple[Any, ...] = (get_archive, run_archive, get_system_archive)
