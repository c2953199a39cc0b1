"""The archive's side of the store: what waits for it, the entries, the mark that moves once they are durable elsewhere.

Beside that what all processes want to know of the archive: its name, when it last worked, how large it is.
"""

import secrets
from collections.abc import Container, Sequence
from typing import Any, Final

import msgspec

from lso_core.model.batches import StoredEntry
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.store import keys
from lso_core.store.history import number_of
from lso_core.store.server import Call, Command, Server, Value

SETTLED_MS: Final = 60_000
"""Longer than any reader takes."""
LOCK_MS: Final = 15_000
"""Whoever archives says so again within this time, or another may."""


class Waiting(msgspec.Struct, frozen=True):
    """A system with folded entries that are not archived."""

    system_id: int
    oldest_ms: int
    """Arrival of the oldest of them, about."""
    cursor: str
    """The last that is folded."""
    mark: str
    """The last that is archived, "" before the first."""
    bytes: int
    """What lies between the two."""
    entry_bytes: int
    """Mean size of an entry."""


class Rows(msgspec.Struct, frozen=True):
    """The rollup rows of a system that stand in Redis."""

    system_id: int
    mark: int
    """Number of the last that is archived."""
    rows: list[tuple[int, int, bytes]]
    """Number, start (ms) and member of each, by number."""


class Filed(msgspec.Struct, frozen=True):
    """How far a system's rollup rows are archived."""

    mark: int
    """Number of the last."""
    newest_ms: int
    """Start of the newest."""


class Ledger(msgspec.Struct, frozen=True):
    """What became of one system's events, as far as they are folded."""

    mark: str
    archived: int
    lost: int


class Archiving:
    """What the archive's job asks of Redis."""

    def __init__(self, server: Server, lock_ms: int = LOCK_MS) -> None:
        self._server = server
        self.lock_ms = lock_ms
        """How long a lock, or a hold, lasts unless it is renewed."""

    # -- one archiver at a time ---------------------------------------------------------------------------------

    async def lock(self, token: str, work: str = "write") -> bool:
        """Whether nobody else does such work for the next `lock_ms`. Two at once would do it twice, not wrong."""
        where = keys.archiving(work)
        taken, owner = await self._server.run(("SET", where, token, "NX", "PX", self.lock_ms), ("GET", where))
        if taken is None and owner == token.encode():
            await self._server.one(("PEXPIRE", where, self.lock_ms))
            return True
        return taken is not None

    async def unlock(self, token: str, work: str = "write") -> None:
        """Let others do such work."""
        where = keys.archiving(work)
        if await self._server.one(("GET", where)) == token.encode():
            await self._server.one(("DEL", where))

    # -- what waits ---------------------------------------------------------------------------------------------

    async def waiting(self, before_ms: Sequence[int], most: int, resting: Container[int] = ()) -> list[Waiting]:
        """Systems with folded, unarchived entries that arrived before a time for each partition; of each at most `most`,
        those with the oldest first, and of these none of the `resting`.
        """
        found = await self._server.run(
            *(
                ("ZRANGE", keys.unarchived(p), "-inf", before, "BYSCORE", "LIMIT", 0, most, "WITHSCORES")
                for p, before in enumerate(before_ms)
            )
        )
        oldest = {
            system_id: int(float(one[at + 1]))
            for one in found
            for at in range(0, len(one), 2)
            if (system_id := int(one[at])) not in resting
        }
        if not oldest:
            return []
        answers = await self._server.each(*(command for one in oldest for command in _waiting(one)))
        systems = [_parsed(one, oldest[one], answers[3 * at : 3 * at + 3]) for at, one in enumerate(oldest)]
        return [one for one in systems if one is not None and one.cursor]

    async def hot_bytes(self) -> list[int]:
        """Bytes of folded entries of each partition."""
        found = await self._server.run(*(("HGET", keys.stats(p), "hot") for p in range(PARTITIONS)))
        return [int(one or 0) for one in found]

    async def entries(self, system_id: int, after: str, upto: str, count: int) -> list[StoredEntry]:
        """Up to `count` entries behind `after`, up to and including `upto`, oldest first."""
        found = await self._server.one(
            ("XRANGE", keys.stream(system_id), f"({after}" if after else "-", upto, "COUNT", count)
        )
        return [_entry(entry_id, fields) for entry_id, fields in found]

    async def hold(self, system_id: int) -> str | None:
        """Keep what of a system is not archived from being dropped for `lock_ms`; its mark by now, None where it is gone."""
        answer = await self._server.one(
            Call("hold", (keys.system(system_id), keys.archive(system_id)), (self.lock_ms,))
        )
        return answer[1].decode() if answer[0] == b"ok" else None

    async def let_go(self, system_id: int) -> None:
        """No longer keep it."""
        await self._server.one(("HDEL", keys.archive(system_id), "p"))

    async def mark(self, one: Waiting, last: StoredEntry, events: int, size: int) -> bool:
        """Say that everything up to `last` is durable: `events` events, `size` bytes. False where that came too late."""
        p = partition_of(one.system_id)
        where = (
            keys.system(one.system_id),
            keys.archive(one.system_id),
            keys.state(one.system_id),
            keys.stream(one.system_id),
            keys.hot(p),
            keys.unarchived(p),
        )
        what = (one.system_id, one.mark, last.entry_id, last.at_ms, events, size)
        return bool((await self._server.one(Call("archive", where, what)))[0] == b"ok")

    async def unfiled(self, before_ms: int, most: int) -> list[int]:
        """Systems with rollup rows that are not archived and should be looked at."""
        found = await self._server.run(
            *(("ZRANGE", keys.unfiled(p), "-inf", before_ms, "BYSCORE", "LIMIT", 0, most) for p in range(PARTITIONS))
        )
        return [int(one) for members in found for one in members]

    async def rows(self, system_id: int) -> Rows:
        """The rollup rows of a system. A BadKeyError where they cannot be read."""
        mark, flat = await self._server.run(
            ("HGET", keys.archive(system_id), "r"), ("ZRANGE", keys.rows(system_id), 0, -1, "WITHSCORES")
        )
        rows = [(number_of(flat[at]), int(float(flat[at + 1])), flat[at]) for at in range(0, len(flat), 2)]
        return Rows(system_id, int(mark or 0), sorted(rows))

    async def look_again(self, system_id: int, at_ms: int) -> None:
        """Leave a system's rows alone until then."""
        await self._server.one(("ZADD", keys.unfiled(partition_of(system_id)), "XX", at_ms, system_id))

    async def drop_rows(self, system_id: int, before_ms: int) -> None:
        """Forget the rows of a system that start before then, and leave the others alone for as long again."""
        await self._server.run(
            ("ZREMRANGEBYSCORE", keys.rows(system_id), "-inf", f"({before_ms}"),
            ("ZADD", keys.unfiled(partition_of(system_id)), "XX", before_ms, system_id),
        )

    async def is_there(self, system_id: int) -> bool:
        """Whether there is such a system."""
        return bool(await self._server.one(("EXISTS", keys.system(system_id))))

    async def file(self, one: Rows, again_ms: int) -> bool:
        """Say that all of `one` is durable; it leaves Redis. False where that came too late."""
        where = (
            keys.system(one.system_id),
            keys.archive(one.system_id),
            keys.rows(one.system_id),
            keys.unfiled(partition_of(one.system_id)),
        )
        newest_ms = max(start_ms for _, start_ms, _ in one.rows)
        members: list[Value] = [member for _, _, member in one.rows]
        what: tuple[Value, ...] = (one.system_id, one.mark, one.rows[-1][0], newest_ms, again_ms, *members)
        return bool((await self._server.one(Call("file_rows", where, what)))[0] == b"ok")

    async def filed(self, system_id: int) -> Filed:
        """How far a system's rows are archived."""
        mark, newest = await self._server.soon(("HMGET", keys.archive(system_id), "r", "R"))
        return Filed(int(mark or 0), int(newest or 0))

    async def settled(self, system_id: int, now_ms: int) -> tuple[str, int]:
        """Up to which entry and row the archive was for a while, so that no reader holds an older mark.

        The marks of now are noted, to be answered later.
        """
        where = keys.archive(system_id)
        entry, row, old_entry, old_row, noted = await self._server.one(("HMGET", where, "e", "r", "E", "S", "noted"))
        if noted is not None and now_ms - int(noted) < SETTLED_MS:
            return "", 0
        if entry is not None or row is not None:
            await self._server.one(("HSET", where, "E", entry or b"", "S", row or b"0", "noted", now_ms))
        return (old_entry or b"").decode(), int(old_row or 0)

    async def ledger(self, system_id: int) -> Ledger:
        """What became of a system's events."""
        mark, kept, lost = await self._server.one(("HMGET", keys.archive(system_id), "e", "kept", "lost"))
        return Ledger((mark or b"").decode(), int(kept or 0), int(lost or 0))

    async def lost(self) -> int:
        """Events, ever, that left the hot tier before they were archived, of systems that are still there or not."""
        found = await self._server.run(*(("HGET", keys.stats(p), "lost") for p in range(PARTITIONS)))
        return sum(int(one or 0) for one in found)

    # -- deleted systems ----------------------------------------------------------------------------------------

    async def unlinked(self) -> list[int]:
        """Deleted systems whose files are still there."""
        found = await self._server.run(*(("SMEMBERS", keys.unlinked(p)) for p in range(PARTITIONS)))
        return sorted(int(one) for members in found for one in members)

    async def forget(self, system_id: int) -> None:
        """The files of a deleted system are gone."""
        await self._server.one(("SREM", keys.unlinked(partition_of(system_id)), system_id))

    # -- the archive as a whole ---------------------------------------------------------------------------------

    async def name(self) -> str:
        """The name of this Redis' archive: random, given once."""
        _, name = await self._server.run(
            ("HSETNX", keys.ARCHIVE, "name", secrets.token_hex(8)), ("HGET", keys.ARCHIVE, "name")
        )
        return str(name.decode())

    async def note(self, **values: str | int) -> None:
        """Keep what everybody wants to know."""
        await self._server.one(("HSET", keys.ARCHIVE, *(part for pair in values.items() for part in pair)))

    async def add(self, **values: int) -> None:
        """Raise sums."""
        commands: list[Command] = [("HINCRBY", keys.ARCHIVE, name, value) for name, value in values.items()]
        if commands:
            await self._server.run(*commands)

    async def notes(self) -> dict[str, str]:
        """What was kept."""
        found = await self._server.one(("HGETALL", keys.ARCHIVE))
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        return {name.decode(): value.decode() for name, value in pairs}


def _waiting(system_id: int) -> tuple[Command, ...]:
    return (
        ("HMGET", keys.state(system_id), "c", "b", "x"),
        ("HMGET", keys.archive(system_id), "e", "b"),
        ("HMGET", keys.system(system_id), "bytes", "entries"),
    )


def _parsed(system_id: int, oldest_ms: int, answers: Sequence[Any]) -> Waiting | None:
    """One system from its answers; None where a key of it holds something else than it should, or it is gone."""
    if any(isinstance(answer, Exception) for answer in answers) or answers[2][0] is None:
        return None
    (cursor, folded, trimmed), (mark, archived), (size, entries) = answers
    waiting = int(folded or 0) - int(archived or trimmed or 0)
    average = int(size or 0) // max(1, int(entries or 0))
    return Waiting(system_id, oldest_ms, (cursor or b"").decode(), (mark or b"").decode(), waiting, average)


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> StoredEntry:
    at, count = fields.get(b"at", b""), fields.get(b"n", b"")
    return StoredEntry(
        entry_id.decode(),
        int(at) if at.isdigit() else int(entry_id.split(b"-")[0]),
        int(count) if count.isdigit() else 0,
        fields.get(b"c", b""),
        fields.get(b"b", b""),
    )
