"""Dead letters: events that were set aside as bad, and entries that no worker could read, until somebody looks at them."""

import hashlib
from typing import Any, Final

import msgspec

from lso_core.model.batches import Batch, DeadLetter
from lso_core.model.errors import Finding, NotFoundError
from lso_core.store import keys
from lso_core.store.server import Server

_KEY: Final = b"lso dead letter "
"""What a letter is sent again under, so that it is taken once however often it is tried."""

_finding = msgspec.json.Decoder(Finding)


class DeadLetters:
    """The letters of a system, newest first; past `ingest.DEAD_LETTERS` the oldest go."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def page(self, system_id: int, before: str | None, limit: int) -> list[DeadLetter]:
        """Up to `limit` letters with ids below `before`."""
        if before is not None and not any(map(int, before.split("-"))):
            return []  # Redis has no id before the first one, and says so by an error
        newest = "+" if before is None else f"({before}"
        found = await self._server.one(
            ("XREVRANGE", keys.dead_letters(system_id), newest, "-", "COUNT", limit),
        )
        return [_letter(system_id, *one) for one in found]

    async def get(self, system_id: int, letter_id: str) -> DeadLetter:
        """One letter. Raises NotFoundError."""
        found = await self._server.one(("XRANGE", keys.dead_letters(system_id), letter_id, letter_id))
        if not found:
            raise NotFoundError(f"system {system_id} has no dead letter {letter_id}")
        return _letter(system_id, *found[0])

    async def remove(self, system_id: int, letter_id: str) -> bool:
        """Whether the letter was there."""
        return bool(await self._server.one(("XDEL", keys.dead_letters(system_id), letter_id)))

    async def purge(self, system_id: int) -> int:
        """Remove all letters of a system; how many there were."""
        where = keys.dead_letters(system_id)
        count, _ = await self._server.run(("XLEN", where), ("DEL", where))
        return int(count)

    async def count(self, system_id: int) -> int:
        """How many letters a system has."""
        return int(await self._server.soon(("XLEN", keys.dead_letters(system_id))))


def key_of(letter: DeadLetter) -> bytes:
    """The idempotency key under which a letter is sent again."""
    return _KEY + letter.id.encode()


def as_batch(letter: DeadLetter) -> Batch:
    """An unreadable entry as it was, to be read by a worker that can."""
    return under_key(letter, Batch(letter.events, letter.columns, letter.body, None, b""))


def under_key(letter: DeadLetter, batch: Batch) -> Batch:
    """A batch with the digest that belongs to a letter's key."""
    digest = hashlib.blake2b(letter.id.encode(), digest_size=16).digest()
    return msgspec.structs.replace(batch, digest=digest, rejects=())


def _letter(system_id: int, letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    at, events = fields.get(b"at", b""), fields.get(b"n", b"")
    field, reason = _reason(fields.get(b"reason", b""))
    entry = fields.get(b"entry")
    return DeadLetter(
        id=letter_id.decode(),
        system_id=system_id,
        at_ms=int(at) if at.isdigit() else int(letter_id.split(b"-")[0]),
        field=field,
        reason=reason,
        entry=None if entry is None else entry.decode(),
        events=1 if entry is None else int(events) if events.isdigit() else 0,
        event=fields.get(b"event", b""),
        columns=fields.get(b"c", b""),
        body=fields.get(b"b", b""),
    )


def _reason(text: bytes) -> tuple[str, str]:
    """The field and the sentence: of a bad event a finding, of an unreadable entry what the worker said."""
    try:
        finding: Any = _finding.decode(text)
    except msgspec.MsgspecError:
        return "", text.decode(errors="replace")
    return finding.field, finding.message
