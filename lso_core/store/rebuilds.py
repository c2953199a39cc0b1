"""Rebuilds: asked for by an operator, done by whoever holds the partition's lease, answered for an hour."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lso_core.model.errors import BadKeyError, NotFoundError
from lso_core.model.rebuilds import Rebuild
from lso_core.model.windows import partition_of
from lso_core.store import keys
from lso_core.store.folding import Lease, Outcome, Position
from lso_core.store.server import Call, Server

ANSWERED_S: Final = 3_600
AT_ONCE: Final = 16
"""So many of a partition are looked at in one turn."""

_read = msgspec.json.Decoder(Rebuild)


class Extent(msgspec.Struct, frozen=True):
    """All that was ever appended to a system, as the append script counted it."""

    events: int
    entries: int
    bytes: int
    last: str
    """Id of the last entry, "" before the first."""
    sound: bool
    """Whether the keys that a rebuild leaves as they are hold what they should: marks and runs."""

    @property
    def entry_bytes(self) -> int:
        """Mean size of an entry."""
        return self.bytes // max(1, self.entries)


class Rebuilds:
    """The rebuilds that were asked for, and their outcomes."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def ask(self, system_id: int) -> Rebuild:
        """Have the lease holder rebuild a system; asking again while it waits changes nothing. Raises NotFoundError."""
        rebuild = Rebuild(system_id)
        if not await self._put(rebuild, waits=True):
            raise NotFoundError(f"there is no system {system_id}")
        return rebuild

    async def end(self, outcome: Rebuild) -> None:
        """Say what became of a rebuild."""
        await self._put(outcome, waits=False)

    async def _put(self, rebuild: Rebuild, *, waits: bool) -> bool:
        """False where the system is gone, which took the rebuild along."""
        system_id = rebuild.system_id
        where = (keys.system(system_id), keys.rebuild(system_id), keys.rebuilds(partition_of(system_id)))
        what = (system_id, msgspec.json.encode(rebuild), ANSWERED_S, int(waits))
        return bool(await self._server.one(Call("rebuild", where, what)))

    async def get(self, system_id: int) -> Rebuild:
        """The latest rebuild of a system. Raises NotFoundError where none was asked for within the hour."""
        found = await self._server.one(("GET", keys.rebuild(system_id)))
        if found is None:
            raise NotFoundError(f"no rebuild of system {system_id} was asked for in the last hour")
        return _read.decode(found)

    async def wanted(self, partitions: Sequence[int]) -> list[int]:
        """Systems of `partitions` that wait for a rebuild."""
        if not partitions:
            return []
        found = await self._server.run(*(("SRANDMEMBER", keys.rebuilds(p), AT_ONCE) for p in partitions))
        return sorted(int(one) for some in found for one in some)

    async def extent(self, system_id: int) -> Extent:
        """How much was ever appended. Raises BadKeyError."""
        head, *kinds = await self._server.each(
            ("HMGET", keys.system(system_id), "added", "entries", "bytes", "last"),
            *(("TYPE", key) for key, _ in _besides(system_id)),
        )
        for answer in (head, *kinds):
            if isinstance(answer, BadKeyError):
                raise answer
        sound = all(kind in {b"none", wish} for kind, (_, wish) in zip(kinds, _besides(system_id), strict=True))
        try:
            events, entries, size = (int(one or 0) for one in head[:3])
        except ValueError as error:
            raise BadKeyError(f"its counters cannot be read: {error}") from error
        return Extent(events, entries, size, (head[3] or b"").decode(), sound)

    async def drop_unsound(self, lease: Lease, system_id: int) -> Outcome:
        """Throw away the marks of a system (trimming does without, in larger pieces), and what should be its runs and is not."""
        return await self._reset(lease, system_id, 0, 0, ())

    async def reset(self, lease: Lease, system_id: int, position: Position, trimmed: int, park_ms: int) -> Outcome:
        """Put an empty state at `position` in the place of one that cannot be read, and give the lease back.

        `trimmed`: bytes of entries up to `position` that are no longer there.
        """
        fields = (
            *("c", position.cursor, "t", position.token),
            *("n", position.events, "e", position.entries, "b", position.bytes, "x", trimmed),
            *(("a", position.at_ms, "k", position.bytes, "K", position.at_ms) if position.at_ms else ()),
        )
        return await self._reset(lease, system_id, park_ms, position.at_ms or 0, fields)

    async def _reset(self, lease: Lease, system_id: int, park_ms: int, at_ms: int, fields: tuple[Any, ...]) -> Outcome:
        p = lease.partition
        where = (
            *(keys.system(system_id), keys.lease(p), keys.marks(system_id), keys.state(system_id)),
            *(keys.ready(p), keys.due(p), keys.parked(p), keys.hot(p)),
            *(keys.watched_runs(system_id), keys.runs(system_id), keys.run_starts(system_id)),
        )
        what = (system_id, lease.owner, lease.epoch, park_ms, at_ms, *fields)
        return Outcome((await self._server.one(Call("reset", where, what)))[0])


def _besides(system_id: int) -> tuple[tuple[str, bytes], ...]:
    """Keys that a rebuild does not write anew, and what each should be."""
    return (
        (keys.marks(system_id), b"list"),
        (keys.watched_runs(system_id), b"hash"),
        (keys.runs(system_id), b"hash"),
        (keys.run_starts(system_id), b"zset"),
    )
