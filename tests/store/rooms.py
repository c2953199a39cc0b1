"""What store and worker tests do again and again: batches, one fold by hand, and looking at every key."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from lso_core.compute import columns
from lso_core.model.batches import Batch, Reject
from lso_core.model.events import Event
from lso_core.model.systems import System, SystemSpec
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys, leases
from lso_core.store.folding import Commit, Folding, Lease, Outcome, Read, Stored, new_token
from lso_core.store.server import Ask, Server
from lso_core.store.store import Store
from worker.run_reading import NOTHING, Gathered, Wanted, gather
from worker.stepping import decode, know, step


def batch(
    count: int = 1,
    *,
    errors: int = 0,
    digest: bytes = b"",
    latest_ts_ms: int | None = None,
    body: bytes | None = None,
    rejects: tuple[Reject, ...] = (),
    latency_ms: float = 12.0,
    event_type: str = "success",
    run_id: str | None = None,
) -> Batch:
    """A batch of `count` events without `ts`; the first `errors` failed."""
    events = [Event(event_type, "error" if at < errors else "ok", latency_ms, run_id=run_id) for at in range(count)]
    return batch_of(events, digest=digest, latest_ts_ms=latest_ts_ms, body=body, rejects=rejects)


def batch_of(
    events: Sequence[Event],
    *,
    digest: bytes = b"",
    latest_ts_ms: int | None = None,
    body: bytes | None = None,
    rejects: tuple[Reject, ...] = (),
) -> Batch:
    """A batch of given events."""
    count = len(events)
    body = msgspec.json.encode({"events": events}) if body is None else body
    return Batch(
        count=count,
        columns=columns.encode(columns.cut(events)) if count else b"",
        body=columns.pack_body(body, columns.BodyKind.JSON) if count else b"",
        latest_ts_ms=latest_ts_ms,
        digest=digest or b"body-%011d" % count,
        rejects=rejects,
    )


def garbage_batch(columns_: bytes, count: int = 1) -> Batch:
    """A batch whose columns are whatever is given."""
    return Batch(count, columns_, b"", None, b"d" * 16)


class Room:
    """A store with its folding side, and a worker of that name for single steps."""

    def __init__(self, server: Server, settings: Settings, worker_id: str = "w1") -> None:
        self.server = server
        self.settings = settings
        self.store = Store(server, settings)
        self.folding = Folding(server, settings)
        self.worker_id = worker_id

    async def system(self, name: str = "weather", **given: Any) -> System:
        return await self.store.registry.create(SystemSpec(name=name, **given))

    async def systems_of(self, partition: int, count: int) -> list[int]:
        """Systems that all live in one partition. Ids are given in order, so those between are left out."""
        found = []
        for at in range(count):
            await self.server.one(("SET", keys.LAST_ID, partition + PARTITIONS * (at + 1) - 1))
            found.append((await self.system(f"p{partition} {at}")).system_id)
        return found

    async def now_ms(self) -> int:
        seconds, micros = await self.server.one(("TIME",))
        return int(seconds) * 1_000 + int(micros) // 1_000

    async def hold(self, *partitions: int) -> list[Lease]:
        """Renew or take the leases of partitions that nobody else holds."""
        wanted = set(partitions)
        held = await leases.tend(self.server, self.worker_id, set(), wanted)
        assert {one.partition for one in held} == wanted
        return [Lease(one.partition, self.worker_id, one.epoch) for one in held]

    async def lease_of(self, system_id: int) -> Lease:
        return (await self.hold(partition_of(system_id)))[0]

    async def prepare(self, system_id: int, most: int = 1_000) -> Commit:
        """Load, read and fold one system: all but the commit."""
        known = know(await self.stored(system_id))
        read = (await self.folding.read([(system_id, known.position.cursor, most)]))[system_id]
        assert isinstance(read, Read)
        decoded = decode(read.entries)
        wanted = Wanted(system_id, known.runs, decoded.arrivals, known.position.cursor, known.entry_bytes)
        gathered = (await gather(self.store.runs, [wanted])).get(system_id, NOTHING)
        assert isinstance(gathered, Gathered)
        return step(known, read, decoded, new_token(), gathered).commit

    async def stored(self, system_id: int) -> Stored:
        """The system as it is stored, none of its keys gone bad."""
        found = (await self.folding.load([system_id]))[system_id]
        assert isinstance(found, Stored)
        return found

    async def fold(self, system_id: int, most: int = 1_000) -> Outcome:
        """One whole fold of one system."""
        commit = await self.prepare(system_id, most)
        [(outcome, _)] = await self.folding.commit([(await self.lease_of(system_id), commit)])
        return outcome

    async def health(self, system_id: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.store.reads.health(system_id)).body)
        return found

    async def stats(self, partition: int) -> dict[str, int]:
        """The partition's running sums, without the count of changes."""
        found = await self.server.one(("HGETALL", keys.stats(partition)))
        return {name.decode(): int(value) for name, value in found.items() if name != b"changes"}

    async def all_keys(self) -> list[str]:
        where = {memory.partitions[0] for memory in await self.server.memory()} if self.spread else {0}
        found: set[str] = set()
        for partition in where:
            cursor = 0
            while True:
                scan = Ask(("SCAN", cursor, "COUNT", 1_000), keys.stats(partition))
                cursor, page = await self.server.one(scan)
                found |= {one.decode() for one in page}
                if not int(cursor):
                    break
        return sorted(found)

    @property
    def spread(self) -> bool:
        """Whether there are several servers."""
        return self.server._cluster is not None

    async def keys_of(self, system_id: int) -> list[str]:
        """Keys whose last or second-last part names the system."""
        tag = f"{{p{partition_of(system_id):02d}}}"
        return [key for key in await self.all_keys() if tag in key and str(system_id) in key.split(tag)[1].split(":")]

    async def everything(self) -> dict[str, Any]:
        """Every key with its value, to tell whether anything at all changed."""
        found = {}
        for key in await self.all_keys():
            kind = (await self.server.one(("TYPE", key))).decode()
            read = {
                "string": ("GET", key),
                "hash": ("HGETALL", key),
                "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
                "list": ("LRANGE", key, 0, -1),
                "stream": ("XRANGE", key, "-", "+"),
            }[kind]
            value = await self.server.one(read)
            groups = await self.server.one(("XINFO", "GROUPS", key)) if kind == "stream" else None
            found[key] = (value, groups)
        return found


def parts(flat: list[Any]) -> dict[str, Any]:
    """A flat answer of names and values as a dict."""
    return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}
