"""Who folds what: workers that are alive, and the leases by which they share the partitions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from lso_core.model.errors import BadKeyError, StoreError
from lso_core.model.formats import Formats, covers
from lso_core.model.windows import PARTITIONS
from lso_core.store import keys
from lso_core.store.server import Call, Server

LEASE_MS: Final = 2_000
ALIVE_MS: Final = 2_000
"""A worker silent for longer has no share of the partitions."""
_FORGOTTEN_MS: Final = 60_000
UNWANTED_MS: Final = 3_000
"""A partition that was given back for a newer release, and that nobody took for so long, is anybody's."""


class Worker(msgspec.Struct, frozen=True):
    """What a worker says of itself, twice a second."""

    worker_id: str
    partitions: int = 0
    fold_rate: float = 0.0
    """Events it can fold a second, as measured; 0 before it has folded any."""
    arrival_rate: float = 0.0
    """Events a second that arrive in its partitions."""
    reads: dict[str, int] = {}
    """The newest formats that it reads; a release that does not say reads none that is not the first."""


class Held(msgspec.Struct, frozen=True):
    """A lease as its holder knows it after renewing it."""

    partition: int
    epoch: int
    watermark_ms: int
    now_ms: int
    """Redis' time of the renewal."""
    taken: bool
    """True if it was not this worker's before."""
    needs: Formats
    """What was met in it that some worker could not read."""


class Free(msgspec.Struct, frozen=True):
    """A partition that nobody holds."""

    partition: int
    needs: Formats = {}
    """As in `Held`."""
    since_ms: int = 0
    """When it was given back; 0 where it was not, but ran out."""


_report = msgspec.json.Decoder(Worker)
_needs = msgspec.json.Decoder(dict[str, int])


async def live_workers(server: Server) -> tuple[int, list[Worker]]:
    """Redis' time (ms) and the workers alive at it."""
    return await _beat(server, "", b"")


async def beat(server: Server, worker: Worker) -> tuple[int, list[Worker]]:
    """Say that `worker` is alive; Redis' time (ms) and all workers alive at it, this one among them."""
    return await _beat(server, worker.worker_id, msgspec.json.encode(worker))


async def _beat(server: Server, worker_id: str, report: bytes) -> tuple[int, list[Worker]]:
    reply = await server.one(Call("beat", (keys.WORKERS,), (worker_id, report, ALIVE_MS, _FORGOTTEN_MS)))
    return int(reply[0]), [_report.decode(one) for one in reply[2::2]]


async def free(server: Server, mine: set[int], now_ms: int) -> list[Free]:
    """Partitions beside `mine` that nobody holds at Redis' time `now_ms`."""
    others = [partition for partition in range(PARTITIONS) if partition not in mine]
    fields = ("owner", "until", "needs", "since")
    found = await server.reached(*(("HMGET", keys.lease(partition), *fields) for partition in others))
    return [
        Free(p, _decoded(held[2]), int(held[3] or 0))
        for p, held in zip(others, found, strict=True)
        if _is_free(held, now_ms)
    ]


def _is_free(held: Any, now_ms: int) -> bool:
    """Whether a lease has no holder; one whose server is away cannot be had."""
    if isinstance(held, BadKeyError):
        raise held
    return not isinstance(held, StoreError) and (not held[0] or int(held[1]) <= now_ms)


def _decoded(needs: bytes | None) -> Formats:
    return _needs.decode(needs) if needs else {}


async def tend(server: Server, owner: str, renew: set[int], take: set[int]) -> list[Held]:
    """Renew the leases of `renew`, take those of `take` that are free, and move their watermarks on.

    What is missing in the answer belongs to somebody else now, or lies on a server of the cluster that is away.
    """
    wanted = sorted(renew | take)
    replies = await server.reached(*(_tend(owner, partition, take=partition in take) for partition in wanted))
    return [
        Held(partition, int(reply[1]), int(reply[3]), int(reply[2]), reply[4] == b"1", _decoded(reply[5]))
        for partition, reply in zip(wanted, replies, strict=True)
        if _was_held(reply)
    ]


def _was_held(reply: Any) -> bool:
    if isinstance(reply, BadKeyError):
        raise reply
    return not isinstance(reply, StoreError) and bool(int(reply[0]))


def _tend(owner: str, partition: int, *, take: bool) -> Call:
    where = (
        keys.lease(partition),
        keys.ready(partition),
        keys.watermark(partition),
        keys.stats(partition),
        keys.parked(partition),
        keys.hot(partition),
    )
    systems, states = keys.prefix(partition, keys.SYSTEM_PREFIX), keys.prefix(partition, keys.STATE_PREFIX)
    return Call("tend", where, (owner, LEASE_MS, int(take), systems, states))


async def release(server: Server, owner: str, partitions: set[int]) -> int:
    """Give the leases of `partitions` back where `owner` holds them; how many it did."""
    if not partitions:
        return 0
    return sum(await server.run(*(Call("release", (keys.lease(p),), (owner,)) for p in sorted(partitions))))


async def leave_to(server: Server, owner: str, partition: int, needs: Formats) -> bool:
    """Give a lease back for somebody who can read `needs`; whether `owner` held it."""
    return bool(await server.one(Call("release", (keys.lease(partition),), (owner, msgspec.json.encode(needs)))))


async def leave(server: Server, worker_id: str) -> int:
    """Give back all leases of a worker that ends or has ended, and forget it; how many it held."""
    released = await release(server, worker_id, set(range(PARTITIONS)))
    await server.one(("HDEL", keys.WORKERS, worker_id))
    return released


async def release_worker(redis_url: str, worker_id: str) -> int:
    """As `leave`, over a connection of its own: for a supervisor that saw the worker die."""
    server = Server.connect(redis_url)
    try:
        return await leave(server, worker_id)
    finally:
        await server.close()


def fair_share(worker_id: str, workers: list[str]) -> int:
    """How many partitions a worker should hold, so that shares differ by at most one."""
    order = sorted({*workers, worker_id})
    share, rest = divmod(PARTITIONS, len(order))
    return share + (order.index(worker_id) < rest)


class Sharing:
    """What a worker should hold: its share of all partitions, and all that some of the others cannot read.

    Of the latter it holds up to its share among those who read as much as it does, and the fewer of the former.
    """

    def __init__(self, me: Worker, workers: Sequence[Worker]) -> None:
        self._reads = me.reads
        self._others = [worker for worker in workers if worker.worker_id != me.worker_id]
        self._share = fair_share(me.worker_id, [worker.worker_id for worker in self._others])
        peers = [worker.worker_id for worker in self._others if covers(worker.reads, me.reads)]
        self._most = fair_share(me.worker_id, peers)

    def can_leave(self, needs: Formats) -> bool:
        """Whether somebody else can read what this worker cannot."""
        mine = covers(self._reads, needs)
        return not mine and any(covers(worker.reads, needs) for worker in self._others)

    def _only_few_can(self, needs: Formats) -> bool:
        mine = covers(self._reads, needs)
        return mine and not all(covers(worker.reads, needs) for worker in self._others)

    def kept(self, held: Mapping[int, Formats]) -> set[int]:
        """Of the partitions held, and what they need, those to go on with."""
        few = [one for one in sorted(held) if self._only_few_can(held[one])][: self._most]
        plain = [one for one in sorted(held) if not (self._only_few_can(held[one]) or self.can_leave(held[one]))]
        return {*few, *plain[: max(0, self._share - len(few))]}

    def wants_more(self, count: int) -> bool:
        """Whether who holds `count` should look for more."""
        return count < max(self._share, self._most)

    def chosen(self, free: Sequence[Free], count: int, now_ms: int) -> set[int]:
        """Of the free partitions those that a worker with `count` should take, at Redis' time `now_ms`."""
        few = [one.partition for one in free if self._only_few_can(one.needs)][: max(0, self._most - count)]
        left = max(0, self._share - count - len(few))
        plain = [
            one.partition
            for one in free
            if not self._only_few_can(one.needs)
            and not (self.can_leave(one.needs) and now_ms - one.since_ms < UNWANTED_MS)
        ]
        return {*few, *plain[:left]}
