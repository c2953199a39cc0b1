"""The runs of a system."""

from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote_to_bytes

import msgspec
import structlog
from litestar import get
from litestar.params import FromPath

from api.reading import read_query, read_time
from api.routes.events import fill
from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, Service, answer, service_of
from lso_core.compute import run_views, runs
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.readback import Place, Reading, SeenEvent, Wanted
from lso_core.compute.runs import Run, Tally
from lso_core.model.batches import Page
from lso_core.model.errors import NotFoundError
from lso_core.model.runs import Rank, RunCounts, RunState, ShownRun
from lso_core.model.systems import PAGE_MAX
from lso_core.store.runs import CHUNK, FoundRuns, RunPlace

log = structlog.get_logger(__name__)

_MARGIN_MS: Final = 1_000
"""An entry's id is made a moment after its arrival was taken."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]


class RunsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which runs."""

    state: Literal["RUNNING", "SUCCESS", "FAILED", "TIMED_OUT", "LOST"] | None = None
    from_: str | None = None
    """Earliest start, RFC 3339, included."""
    to: str | None = None
    """Latest start, not included."""
    cursor: Annotated[str, msgspec.Meta(min_length=1, max_length=300)] | None = None
    """`next` of the page before."""
    limit: Limit = 100


class RunQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events of a run."""

    cursor: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    """`timeline.next` of the answer before."""
    limit: Limit = 100


class RunPage(msgspec.Struct, frozen=True):
    """A page of runs, and how many the system has that want attention."""

    counts: RunCounts
    items: list[ShownRun]
    next: str | None


class RunDetails(ShownRun, frozen=True):
    """One run with its rank and its events."""

    rank: Rank | None
    """Null for a run that is lost."""
    timeline: Page[SeenEvent]
    """Those in the hot tier, newest arrival first."""


@get("/systems/{system_id:int}/runs")
async def list_runs(request: Asked, system_id: FromPath[int]) -> Ready:
    """Runs, newest start first."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, RunsQuery)
        from_ms, to_ms = read_time("from", query.from_), read_time("to", query.to)
        place = None if query.cursor is None else RunPlace.parse(query.cursor)
    starts = await service.store.runs.starts(system_id, from_ms, to_ms, place)
    if not starts and place is None:
        await service.store.registry.require(system_id)
    state = None if query.state is None else RunState[query.state]
    found, read = await _matching(service, system_id, [run_id for run_id, _ in starts], state, query.limit + 1)
    shown = [run_views.show(run, system_id, read.now_ms) for run in found[: query.limit]]
    last = found[query.limit - 1] if len(found) > query.limit else None
    following = None if last is None else str(RunPlace(dict(starts)[last.run_id], last.run_id))
    return answer(RunPage(_tally(read.tally).counts, shown, following))


async def _matching(
    service: Service, system_id: int, run_ids: list[str], state: RunState | None, most: int
) -> tuple[list[Run], FoundRuns]:
    """The first runs in that state, and what was read last."""
    found: list[Run] = []
    size = min(most, CHUNK) if state is None else CHUNK
    read = await service.store.runs.get(system_id, run_ids[:size])
    for at in range(size, len(run_ids) + size, size):
        some = (_run(system_id, raw) for raw in read.runs)
        found += (run for run in some if run is not None and (state is None or run.state is state))
        if len(found) >= most or at >= len(run_ids):
            break
        read = await service.store.runs.get(system_id, run_ids[at : at + size])
    return found[:most], read


def _run(system_id: int, raw: bytes | None) -> Run | None:
    """A stored run, None where there is none or this release cannot read it."""
    if raw is None:
        return None
    try:
        return runs.decode_run(raw)
    except (CorruptEntryError, NewerFormatError) as error:
        log.warning("runs.unreadable", system_id=system_id, error=str(error))
        return None


@get("/systems/{system_id:int}/runs/latest")
async def get_latest_run(request: Asked, system_id: FromPath[int]) -> Ready:
    """The run that started last."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, RunQuery)
    run_id = await service.store.runs.latest(system_id)
    if run_id is None:
        await service.store.registry.require(system_id)
        raise NotFoundError(f"system {system_id} has no runs")
    return await _details(service, system_id, run_id, query)


@get("/systems/{system_id:int}/runs/{run_id:path}")
async def get_run(request: Asked, system_id: FromPath[int], run_id: FromPath[str]) -> Ready:
    """One run: its stages and events, and its rank among those that have ended."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, RunQuery)
    return await _details(service, system_id, _run_id(request, run_id), query)


def _run_id(request: Asked, path: str) -> str:
    """The id as it was sent: the framework drops slashes that are doubled or last."""
    raw = request.scope.get("raw_path") or b""
    _, found, rest = raw.partition(b"/runs/")
    return unquote_to_bytes(rest.partition(b"?")[0]).decode(errors="replace") if found else path.removeprefix("/")


async def _details(service: Service, system_id: int, run_id: str, query: RunQuery) -> Ready:
    read = await service.store.runs.get(system_id, [run_id])
    run = _run(system_id, read.runs[0])
    if run is None:
        await service.store.registry.require(system_id)
        raise NotFoundError(f"system {system_id} has no run {run_id[:200]!r}")
    events = await _events(service, system_id, run, query)
    shown = run_views.show(run, system_id, read.now_ms)
    return answer(RunDetails(**msgspec.structs.asdict(shown), rank=_rank(run, read), timeline=events))


def _rank(run: Run, read: FoundRuns) -> Rank | None:
    if run.state is RunState.LOST:
        return None
    return run_views.rank(_tally(read.tally), run, run_views.duration_at(run, read.now_ms))


def _tally(raw: bytes | None) -> Tally:
    return Tally() if raw is None else runs.decode_tally(raw)


async def _events(service: Service, system_id: int, run: Run, query: RunQuery) -> Page[SeenEvent]:
    """The run's events, hot and archived: only entries are looked at that arrived from its first to its last."""
    last = Place(f"{run.last_at_ms + _MARGIN_MS}-0", 0) if query.cursor is None else Place.parse(query.cursor)
    wanted, first_ms = Wanted(run_id=run.run_id), run.first_at_ms - _MARGIN_MS
    return await fill(service, Reading(system_id, wanted, last, query.limit), first_ms)


HANDLERS: tuple[Any, ...] = (list_runs, get_latest_run, get_run)
