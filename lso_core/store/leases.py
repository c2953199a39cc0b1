"""Who folds what: workers that are alive, and the leases by which they share the partitions."""

from typing import Any, Final

import msgspec

from lso_core.model.errors import BadKeyError, StoreError
from lso_core.model.windows import PARTITIONS
from lso_core.store import keys
from lso_core.store.server import Call, Server

LEASE_MS: Final = 2_000
ALIVE_MS: Final = 2_000
"""A worker silent for longer has no share of the partitions."""
_FORGOTTEN_MS: Final = 60_000


class Worker(msgspec.Struct, frozen=True):
    """What a worker says of itself, twice a second."""

    worker_id: str
    partitions: int = 0
    fold_rate: float = 0.0
    """Events it can fold a second, as measured; 0 before it has folded any."""
    arrival_rate: float = 0.0
    """Events a second that arrive in its partitions."""


class Held(msgspec.Struct, frozen=True):
    """A lease as its holder knows it after renewing it."""

    partition: int
    epoch: int
    watermark_ms: int
    now_ms: int
    """Redis' time of the renewal."""
    taken: bool
    """True if it was not this worker's before."""


_report = msgspec.json.Decoder(Worker)


async def live_workers(server: Server) -> tuple[int, list[Worker]]:
    """Redis' time (ms) and the workers alive at it."""
    return await _beat(server, "", b"")


async def beat(server: Server, worker: Worker) -> tuple[int, list[Worker]]:
    """Say that `worker` is alive; Redis' time (ms) and all workers alive at it, this one among them."""
    return await _beat(server, worker.worker_id, msgspec.json.encode(worker))


async def _beat(server: Server, worker_id: str, report: bytes) -> tuple[int, list[Worker]]:
    reply = await server.one(Call("beat", (keys.WORKERS,), (worker_id, report, ALIVE_MS, _FORGOTTEN_MS)))
    return int(reply[0]), [_report.decode(one) for one in reply[2::2]]


async def free(server: Server, mine: set[int], now_ms: int) -> list[int]:
    """Partitions beside `mine` that nobody holds at Redis' time `now_ms`."""
    others = [partition for partition in range(PARTITIONS) if partition not in mine]
    found = await server.reached(*(("HMGET", keys.lease(partition), "owner", "until") for partition in others))
    return [p for p, held in zip(others, found, strict=True) if _is_free(held, now_ms)]


def _is_free(held: Any, now_ms: int) -> bool:
    """Whether a lease has no holder; one whose server is away cannot be had."""
    if isinstance(held, BadKeyError):
        raise held
    return not isinstance(held, StoreError) and (not held[0] or int(held[1]) <= now_ms)


async def tend(server: Server, owner: str, renew: set[int], take: set[int]) -> list[Held]:
    """Renew the leases of `renew`, take those of `take` that are free, and move their watermarks on.

    What is missing in the answer belongs to somebody else now, or lies on a server of the cluster that is away.
    """
    wanted = sorted(renew | take)
    replies = await server.reached(*(_tend(owner, partition, take=partition in take) for partition in wanted))
    return [
        Held(partition, int(reply[1]), int(reply[3]), int(reply[2]), reply[4] == b"1")
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
