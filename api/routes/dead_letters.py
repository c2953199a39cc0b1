"""Dead letters: what could not be counted, to be looked at, sent again after a fix, or thrown away."""

import base64
import re
from typing import Annotated, Any, Final

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath

from api.reading import read_query, refused
from api.service import Asked, Ready, Service, answer, service_of
from lso_core.compute import batches, columns
from lso_core.compute.batches import Post
from lso_core.compute.columns import BodyKind, CorruptEntryError, NewerFormatError
from lso_core.model import times
from lso_core.model.batches import Batch, DeadLetter, Page
from lso_core.model.errors import InputError
from lso_core.model.systems import PAGE_MAX
from lso_core.store.dead_letters import as_batch, key_of, under_key

ID: Final = r"^[0-9]{1,19}-[0-9]{1,19}$"


class LettersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose letters."""

    system_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The system; it must be given."""
    cursor: Annotated[str, msgspec.Meta(pattern=ID)] | None = None
    """`next` of the page before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 100


class PurgeQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose letters to throw away."""

    system_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The system; it must be given."""


class Letter(msgspec.Struct):
    """One dead letter, without its bytes."""

    id: str
    system_id: int
    kind: str
    """`event`: set aside by on_invalid=skip. `entry`: a whole batch that no worker could read."""
    at: str
    """When it arrived."""
    field: str
    """What is wrong with an event, "" for the event itself."""
    reason: str
    entry: str | None
    """Id of an unreadable entry in the system's stream."""
    events: int
    bytes: int
    """Length of what was kept of it."""


class WholeLetter(Letter):
    """One dead letter with its bytes, in base64."""

    text: str | None
    """The event, or the events of an entry, as they were sent, where that can be told."""
    event: str
    columns: str
    body: str


class Purged(msgspec.Struct):
    """What was thrown away."""

    purged: int


class Requeued(msgspec.Struct):
    """What became of a letter that was sent again."""

    accepted: int
    entries: tuple[str, str] | None


@get("/dead-letters")
async def list_letters(request: Asked) -> Ready:
    """Dead letters of a system, newest first."""
    service, query = service_of(request), read_query(request, LettersQuery)
    system_id = await _system_of(service, query.system_id)
    found = await service.store.dead_letters.page(system_id, query.cursor, query.limit)
    following = found[-1].id if len(found) == query.limit else None
    return answer(Page([_shown(one) for one in found], following))


@delete("/dead-letters", status_code=200)
async def purge_letters(request: Asked) -> Ready:
    """Throw away all dead letters of a system."""
    service, query = service_of(request), read_query(request, PurgeQuery)
    system_id = await _system_of(service, query.system_id)
    return answer(Purged(await service.store.dead_letters.purge(system_id)))


@get("/dead-letters/{system_id:int}/{letter_id:str}")
async def get_letter(request: Asked, system_id: FromPath[int], letter_id: FromPath[str]) -> Ready:
    """One dead letter with its bytes and the reason."""
    letter = await _get(service_of(request), system_id, letter_id)
    event, cut, body = (base64.b64encode(part).decode() for part in (letter.event, letter.columns, letter.body))
    shown = msgspec.structs.asdict(_shown(letter))
    return answer(WholeLetter(**shown, text=_text(letter), event=event, columns=cut, body=body))


@post("/dead-letters/{system_id:int}/{letter_id:str}/requeue", status_code=202)
async def requeue_letter(request: Asked, system_id: FromPath[int], letter_id: FromPath[str]) -> Ready:
    """Send a dead letter again, after a fix; it is taken once and then gone from here."""
    service = service_of(request)
    letter = await _get(service, system_id, letter_id)
    batch = _batch(service, letter)
    receipt = await service.store.ingest.append(system_id, batch, key_of(letter))
    await service.store.dead_letters.remove(system_id, letter_id)
    return answer(Requeued(receipt.accepted, receipt.entries), 202)


@delete("/dead-letters/{system_id:int}/{letter_id:str}")
async def delete_letter(request: Asked, system_id: FromPath[int], letter_id: FromPath[str]) -> None:
    """Throw one dead letter away."""
    letter = await _get(service_of(request), system_id, letter_id)
    await service_of(request).store.dead_letters.remove(system_id, letter.id)


async def _system_of(service: Service, system_id: int | None) -> int:
    """The system that a query names. Raises InputError or NotFoundError."""
    if system_id is None:
        raise refused("system_id is missing: dead letters are kept by system", "system_id")
    await service.store.registry.require(system_id)
    return system_id


async def _get(service: Service, system_id: int, letter_id: str) -> DeadLetter:
    await service.store.registry.require(system_id)
    return await service.store.dead_letters.get(system_id, _checked(letter_id))


def _checked(letter_id: str) -> str:
    if re.fullmatch(ID, letter_id) is None:
        raise refused("the id of a dead letter is two numbers with a hyphen between", "letter_id")
    return letter_id


def _batch(service: Service, letter: DeadLetter) -> Batch:
    """What is to be appended. Raises InputError for an event that is still bad."""
    sent = _sent(letter)
    if sent is None:
        return as_batch(letter)
    body, ndjson = sent
    post = Post(body, letter.system_id, service.settings.max_batch_events, ndjson=ndjson, keyed=False)
    try:
        return under_key(letter, batches.careful(post))
    except InputError:
        if letter.entry is None:
            raise
        return as_batch(letter)


def _sent(letter: DeadLetter) -> tuple[bytes, bool] | None:
    """The JSON that was sent, and whether it is an event a line; None where an entry does not tell."""
    if letter.entry is None:
        return letter.event.replace(b"\n", b" "), True
    try:
        body, kind = columns.unpack_body(letter.body)
    except (CorruptEntryError, NewerFormatError):
        return None
    return (body, kind is BodyKind.NDJSON) if kind in {BodyKind.JSON, BodyKind.NDJSON} else None


def _text(letter: DeadLetter) -> str | None:
    """What was sent, where it is text."""
    sent = _sent(letter)
    try:
        return None if sent is None else sent[0].decode()
    except UnicodeDecodeError:
        return None


def _shown(letter: DeadLetter) -> Letter:
    return Letter(
        letter.id,
        letter.system_id,
        "event" if letter.entry is None else "entry",
        times.to_text(letter.at_ms),
        letter.field,
        letter.reason,
        letter.entry,
        letter.events,
        len(letter.event) + len(letter.columns) + len(letter.body),
    )


HANDLERS: tuple[Any, ...] = (list_letters, purge_letters, get_letter, requeue_letter, delete_letter)
