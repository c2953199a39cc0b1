"""Appending batches to streams: one script call checks everything, stores the entry and counts it."""

import functools
import hashlib
import math
from typing import Any, Final

import msgspec

from lso_core.model.batches import Batch, Receipt
from lso_core.model.errors import (
    BacklogFullError,
    BadKeyError,
    Finding,
    FutureEventError,
    KeyReuseError,
    LsoError,
    NotFoundError,
    RateLimitedError,
    StoreError,
)
from lso_core.model.events import SKEW_MS
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.server import BEGINNINGS, Call, Fixed, Server, Value, Waiter

LOOK_BACK: Final = 6
"""A key is kept in the bucket of its period and looked for in this many before: a period is a sixth of the memory."""
DEAD_LETTERS: Final = 1_000
"""Most dead letters of one system; past it the oldest go."""
UNARCHIVED: Final = 1.5
"""What is not archived yet may pass the hot tier's bytes by this factor, before it is dropped or new events are refused."""
DEFAULT_BACKLOG_BYTES: Final = 1 << 30
"""Where Redis has no maxmemory to take a quarter of."""


def bucket_ms(settings: Settings) -> int:
    """Length of one period of remembered keys."""
    return settings.idempotency_seconds * 1_000 // LOOK_BACK


class Ingest:
    """The way in for events."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._bytes = [0] * PARTITIONS
        self._others = [0] * PARTITIONS
        """Bytes not folded yet in the other partitions that share a cap with each."""
        self._caps = [settings.backlog_bytes or DEFAULT_BACKLOG_BYTES] * PARTITIONS
        self._beginning = functools.lru_cache(BEGINNINGS)(self._begin)
        self._most_hot = int(UNARCHIVED * settings.hot_bytes) // PARTITIONS if settings.archive == "required" else ""

    async def append(self, system_id: int, batch: Batch, key: bytes | None) -> Receipt:
        """Store a batch as one entry, once for a `key`.

        Raises NotFoundError, KeyReuseError, FutureEventError, RateLimitedError, BacklogFullError or
        StoreError. After a StoreError it is not known whether the batch was stored: a retry needs the same key.
        """
        return self.receipt(system_id, batch, await self._server.soon(self._call(system_id, batch, key)))

    def send(self, system_id: int, batch: Batch, key: bytes | None, waiter: Waiter) -> None:
        """As `append`, for who can do without a task: `waiter` gets what `receipt` reads, or a StoreError."""
        self._server.send(self._call(system_id, batch, key), waiter)

    def receipt(self, system_id: int, batch: Batch, reply: Any) -> Receipt:
        """What the append script has answered. Raises as `append` does."""
        kind = reply[0]
        if kind == b"ok":
            return _receipt(batch.count, reply[1].decode(), duplicate=False)
        if kind == b"duplicate":
            return _receipt(int(reply[2]), reply[1].decode(), duplicate=True)
        raise self._refusal(system_id, batch, kind, reply)

    async def refresh(self) -> None:
        """Learn how full the backlog is, and what it may hold. Called twice a second.

        A cap that was set is one over all partitions; else each server has its own, over the partitions that lie on it.
        What lies on a server that is away stays as it was last known.
        """
        memories = await self._server.memory()
        answers = await self._server.reached(*(("HGET", keys.stats(p), "bytes") for p in range(PARTITIONS)))
        for p, answer in enumerate(answers):
            if isinstance(answer, BadKeyError):
                raise answer
            if not isinstance(answer, StoreError):
                self._bytes[p] = max(0, int(answer or 0))
        for memory in memories:
            together = range(PARTITIONS) if self._settings.backlog_bytes else memory.partitions
            waiting = sum(self._bytes[p] for p in together)
            for p in memory.partitions:
                self._others[p] = waiting - self._bytes[p]
                self._caps[p] = self._settings.backlog_bytes or memory.limit // 4 or DEFAULT_BACKLOG_BYTES

    def _call(self, system_id: int, batch: Batch, key: bytes | None) -> Call:
        partition = partition_of(system_id)
        what: tuple[Value, ...] = (
            batch.count,
            batch.columns,
            batch.body,
            "" if batch.latest_ts_ms is None else batch.latest_ts_ms,
            b"" if key is None else hashlib.blake2b(key, digest_size=16).digest(),
            batch.digest,
            self._caps[partition],
            self._others[partition],
        )
        for reject in batch.rejects:
            what += msgspec.json.encode(reject.finding), reject.event
        where, fixed = self._beginning(system_id)
        return Call("append", where, what, fixed)

    def _begin(self, system_id: int) -> tuple[tuple[str, ...], Fixed]:
        """Keys of the append script, and the arguments that go with them."""
        partition, settings = partition_of(system_id), self._settings
        where = (
            keys.system(system_id),
            keys.stream(system_id),
            keys.state(system_id),
            keys.ready(partition),
            keys.parked(partition),
            keys.stats(partition),
            keys.idempotency(system_id),
            keys.dead_letters(system_id),
        )
        return where, Fixed(
            system_id,
            SKEW_MS,
            bucket_ms(settings),
            LOOK_BACK,
            settings.idempotency_keys,
            settings.backlog_events,
            settings.rate_events,
            keys.GROUP,
            DEAD_LETTERS,
            self._most_hot,
        )

    def _refusal(self, system_id: int, batch: Batch, kind: bytes, reply: list[Any]) -> LsoError:
        """The error for an answer of the append script that is not a success."""
        settings = self._settings
        match kind:
            case b"missing":
                return NotFoundError(f"there is no system {system_id}")
            case b"reuse":
                message = "this Idempotency-Key came before with another body"
                return KeyReuseError(message, (Finding(None, "Idempotency-Key", message),))
            case b"ahead":
                return FutureEventError(
                    f"a ts is more than {SKEW_MS // 1_000} s ahead of the server's clock", int(reply[1]) + SKEW_MS
                )
            case b"events":
                return BacklogFullError(
                    f"system {system_id} has {reply[1]} events that are not folded yet, and {batch.count} more would "
                    f"pass the cap of {settings.backlog_events} (LSO_BACKLOG_EVENTS)"
                )
            case b"bytes":
                return BacklogFullError(
                    f"{reply[1]} bytes over all systems are not folded yet; the cap is {self._caps[partition_of(system_id)]} "
                    "(LSO_BACKLOG_BYTES)"
                )
            case b"hot":
                return BacklogFullError(
                    f"{reply[1]} bytes of folded events wait for the archive (LSO_ARCHIVE=required), which has to catch up; "
                    f"the cap is {self._most_hot} for each of {PARTITIONS} partitions (LSO_HOT_BYTES)"
                )
            case b"keys":
                return BacklogFullError(
                    f"system {system_id} has sent {reply[1]} idempotency keys in the current "
                    f"{bucket_ms(settings) // 1_000} s; the cap is {settings.idempotency_keys} (LSO_IDEMPOTENCY_KEYS)"
                )
            case b"rate":
                return RateLimitedError(
                    f"system {system_id} sends more than {settings.rate_events} events a second (LSO_RATE_EVENTS)",
                    retry_after_s=max(1, math.ceil(int(reply[1]) / 1_000)),
                )
        return StoreError(f"the append script answered {kind!r}")


def _receipt(count: int, entry: str, *, duplicate: bool) -> Receipt:
    return Receipt(count, duplicate, (entry, entry) if entry else None)
