"""Events in, and the hot tier back out."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec
import structlog
from litestar import get, post
from litestar.params import FromPath

from api.aside.orders import ArchivedPage, HotPage
from api.errors import row_of
from api.limits.body import Cap, kind_of, read_body
from api.reading import read_query, read_time, refused
from api.routes.guarding import MissingFirst
from api.service import Asked, Ready, Service, answer, service_of
from lso_core.compute import batches, libraries
from lso_core.compute.batches import Post
from lso_core.compute.readback import FIRST_ENTRIES, Place, Reading, SeenEvent, Wanted
from lso_core.model.batches import Batch, Page, Receipt
from lso_core.model.errors import Finding, FutureEventError, InputError, LsoError
from lso_core.model.events import KEY_BYTES, Name
from lso_core.model.systems import PAGE_MAX

log = structlog.get_logger(__name__)

NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
MEDIA_TYPES: Final = NDJSON | {"application/json", libraries.ARROW}
INLINE_BYTES: Final = 1 << 20
"""A body up to this is decoded on the event loop; a larger one would keep everybody else waiting."""

_reading: Final = msgspec.json.Decoder(Reading)
_page: Final = msgspec.json.Decoder(Page[SeenEvent])


class Reader(Protocol):
    """The two readings of a kind of body; `compute.batches` says what they promise."""

    def quick(self, post: Post) -> Batch | None: ...
    def careful(self, post: Post, *, skip: bool = False) -> Batch: ...


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to take a batch."""

    on_invalid: Literal["reject", "skip"] = "reject"
    """What to do about bad events: refuse the batch, or keep the good ones and set the bad ones aside."""


class HotQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which events of the hot tier."""

    stage: Name | None = None
    event_type: Name | None = None
    status: Literal["ok", "error"] | None = None
    run_id: Name | None = None
    from_: str | None = None
    """Earliest event time (`ts`, or the arrival where there is none), RFC 3339, included."""
    to: str | None = None
    """Latest event time, not included."""
    cursor: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    """`next` of the page before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 100


class Accepted(msgspec.Struct, omit_defaults=True):
    """What became of a batch."""

    accepted: int
    """How many events were stored; where `duplicate`, how many the first request stored."""
    duplicate: bool
    """True where this Idempotency-Key came before: nothing was stored again."""
    entries: tuple[str, str] | None
    """First and last entry id; null where every event was bad."""
    rejected: int = 0
    """With `on_invalid=skip`: how many events were set aside."""
    errors: tuple[Finding, ...] = ()
    """What was wrong with them, up to 100."""

    @classmethod
    def of(cls, batch: Batch, receipt: Receipt) -> "Accepted":
        """What the caller is told."""
        findings = tuple(reject.finding for reject in batch.rejects)
        return cls(
            receipt.accepted, receipt.duplicate, receipt.entries, len(findings), findings[: InputError.MAX_FINDINGS]
        )


@post("/systems/{system_id:int}/events", status_code=202)
async def post_events(request: Asked, system_id: FromPath[int]) -> Ready:
    """Send a batch of events."""
    service = service_of(request)
    try:
        size, batch, receipt = await _take(request, service, system_id)
    except LsoError as error:
        service.telemetry.refused.labels(row_of(error).slug).inc()
        raise
    count(service, size, batch, receipt)
    return answer(Accepted.of(batch, receipt), 202)


async def _take(request: Asked, service: Service, system_id: int) -> tuple[int, Batch, Receipt]:
    """Read, decode and append: bytes of the inflated body, batch and receipt."""
    headers, held = request.scope["headers"], 0
    try:
        async with MissingFirst(service.store.registry, system_id):
            skip = read_query(request, EventsQuery).on_invalid == "skip"
            key = idempotency_key(headers)
            kind = kind_of(headers, MEDIA_TYPES)
            reader = await _reader(kind.media_type)
            body = await read_body(kind, request.receive, _cap(service), service.budget)
            held = len(body)
            sent = Post(
                body,
                system_id,
                service.settings.max_batch_events,
                ndjson=kind.media_type in NDJSON,
                keyed=key is not None,
            )
            batch = await _decode(service, reader, sent, skip=skip)
        try:
            return held, batch, await service.store.ingest.append(system_id, batch, key)
        except FutureEventError as error:
            return held, *await store_late(service, reader, sent, key, error, skip=skip)
    finally:
        service.budget.give_back(held)


async def store_late(
    service: Service, reader: Reader, sent: Post, key: bytes | None, error: FutureEventError, *, skip: bool = False
) -> tuple[Batch, Receipt]:
    """Store what the append script has refused for an event from the future, without such events.

    Raises InputError, which tells which they are, where they are not to be skipped; and what `Ingest.append` raises.
    """
    late = msgspec.structs.replace(sent, latest_ms=error.latest_allowed_ms)
    batch = await _decode_carefully(service, reader, late, skip=skip)
    return batch, await service.store.ingest.append(sent.system_id, batch, key)


async def _reader(media_type: str) -> Reader:
    """Who reads such a body. Raises UnsupportedTypeError where a library for it is not installed."""
    if media_type != libraries.ARROW:
        return batches
    # The first time it is an import of a tenth of a second.
    return libraries.arrow() if libraries.has_arrow() else await asyncio.to_thread(libraries.arrow)


async def _decode(service: Service, reader: Reader, sent: Post, *, skip: bool) -> Batch:
    """The batch of a body. Raises InputError."""
    if len(sent.body) <= INLINE_BYTES:
        batch = reader.quick(sent)
    else:
        batch = await asyncio.to_thread(reader.quick, sent)
    return batch or await _decode_carefully(service, reader, sent, skip=skip)


async def _decode_carefully(service: Service, reader: Reader, sent: Post, *, skip: bool) -> Batch:
    async with service.careful_turns:
        return await asyncio.to_thread(reader.careful, sent, skip=skip)


def _cap(service: Service) -> Cap:
    return Cap(service.settings.max_body_bytes, "LSO_MAX_BODY_BYTES")


def idempotency_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The Idempotency-Key of a request. Raises InputError for one that is empty or too long."""
    key = next((value for name, value in headers if name == b"idempotency-key"), None)
    if key is not None and not 0 < len(key) <= KEY_BYTES:
        raise refused(f"Idempotency-Key must have 1 to {KEY_BYTES} bytes, not {len(key)}", "Idempotency-Key")
    return key


def count(service: Service, size: int, batch: Batch, receipt: Receipt) -> None:
    """Count a batch of `size` bytes that was stored, or had been before."""
    telemetry = service.telemetry
    if receipt.duplicate:
        telemetry.duplicates.inc()
        return
    telemetry.accepted_batches.inc()
    telemetry.body_bytes.inc(size)
    telemetry.accepted.inc(receipt.accepted)
    if batch.rejects:
        telemetry.rejected.inc(len(batch.rejects))


@get("/systems/{system_id:int}/events")
async def list_events(request: Asked, system_id: FromPath[int]) -> Ready:
    """Events as they came, newest arrival first: the hot tier, and with `from` or `to` the archive behind it."""
    service = service_of(request)
    async with MissingFirst(service.store.registry, system_id):
        query = read_query(request, HotQuery)
        start = None if query.cursor is None else Place.parse(query.cursor)
        wanted = _wanted(query)
        reading = Reading(system_id, wanted, start, query.limit)
    page = await fill(service, reading, archived=not (wanted.from_ms is None and wanted.to_ms is None))
    if not page.items and query.cursor is None:
        await service.store.registry.require(system_id)
    return answer(page)


async def fill(service: Service, reading: Reading, oldest_ms: int = 0, *, archived: bool = True) -> Page[SeenEvent]:
    """A page of what arrived from `oldest_ms` on: hot events until there are no more, and `archived` ones then."""
    page, place = await _hot_page(service, reading, f"{oldest_ms}-0" if oldest_ms else "-")
    if page.next is not None or not (archived and service.has_archive):
        return page
    if not page.items:  # what is not hot may be of a system that there never was
        await service.store.registry.require(reading.system_id)
    left = reading.limit - len(page.items)
    async with service.helper.turn():
        found = await service.helper.ask(ArchivedPage(reading.system_id, reading.wanted, oldest_ms, place, left))
    more = _page.decode(found)
    return Page([*page.items, *more.items], more.next)


async def _hot_page(service: Service, reading: Reading, oldest: str) -> tuple[Page[SeenEvent], Place | None]:
    """What there is of a page in the hot tier, and where it goes on behind that."""
    count, fed, ended = FIRST_ENTRIES, 0, False
    whole = reading
    while not (ended or whole.full):
        newest = None if whole.next is None else whole.next.newest
        async with service.helper.turn():
            entries = await service.store.reads.entries(whole.system_id, newest, count, oldest)
            if entries:
                part = _reading.decode(await service.helper.ask(HotPage(whole.rest(), entries)))
                whole = msgspec.structs.replace(part, items=[*whole.items, *part.items], limit=reading.limit)
        fed, ended = fed + len(entries), len(entries) < count
        count = whole.more(fed)
    if whole.unreadable:
        log.warning("hot.unreadable", system_id=whole.system_id, entries=whole.unreadable[:10])
    return whole.page(ended=ended), whole.next


def _wanted(query: HotQuery) -> Wanted:
    return Wanted(
        query.stage,
        query.event_type,
        query.status,
        query.run_id,
        read_time("from", query.from_),
        read_time("to", query.to),
    )


HANDLERS: tuple[Any, ...] = (post_events, list_events)
