"""Reading answers: snapshots as they are stored, the fleet, entries of the hot tier, lag."""

import math
from collections.abc import Sequence
from typing import Any, Final

from lso_core.model import snapshots
from lso_core.model.batches import Autoscale, Backlog, FleetPage, FleetShare, StoredEntry
from lso_core.model.errors import Finding, InputError, NotFoundError
from lso_core.model.health import Health
from lso_core.model.snapshots import Answer
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.leases import Worker, live_workers
from lso_core.store.server import Call, Command, Server

CATCH_UP_S: Final = 30
"""`desired_workers` is what works off the backlog in this time."""
MOST_WORKERS: Final = PARTITIONS
ASSUMED_FOLD_RATE: Final = 500_000.0
"""Events a second of one worker, until one has measured itself."""


class Reads:
    """What is known, at Redis' time of the read."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self._server = server
        self._stale_after_ms = settings.stale_after * 1_000

    async def health(self, system_id: int) -> Answer:
        """The health answer. Raises NotFoundError."""
        where = (keys.watermark(partition_of(system_id)), keys.snapshot(system_id))
        now_ms, (watermark, snapshot) = await self._server.get_soon(where)
        return self._answer(system_id, snapshot, watermark, now_ms)

    async def metrics(self, system_id: int) -> Answer:
        """The health answer with the window in full. Raises NotFoundError."""
        where = (keys.watermark(partition_of(system_id)), keys.snapshot(system_id), keys.details(system_id))
        now_ms, (watermark, snapshot, details) = await self._server.get_soon(where)
        answer = self._answer(system_id, snapshot, watermark, now_ms)
        return Answer(snapshots.with_details(answer.body, details or b""), answer.health)

    def _answer(self, system_id: int, snapshot: bytes | None, watermark: bytes | None, now_ms: int) -> Answer:
        if snapshot is None:
            raise NotFoundError(f"there is no system {system_id}")
        return snapshots.answer(snapshot, None if watermark is None else int(watermark), now_ms, self._stale_after_ms)

    async def fleet(self, cursor: str | None, limit: int) -> FleetPage:
        """A page of systems, worst first. Raises InputError for a cursor that is not one of ours."""
        after = "" if cursor is None else _fleet_cursor(cursor)
        shares = await self._server.run(
            *(
                Call(
                    "fleet",
                    (keys.watermark(partition), keys.fleet(partition), keys.fleet_lines(partition)),
                    (after, limit + 1, int(Health.UNKNOWN), self._stale_after_ms),
                )
                for partition in range(PARTITIONS)
            )
        )
        lines = sorted(line for share in shares for line in self._lines(share))
        page = lines[:limit]
        counts = {health.name: sum(int(share[2][health]) for share in shares) for health in Health}
        following = page[-1][0] if len(lines) > limit else None
        return FleetPage(counts, [line for _, line in page], following)

    def _lines(self, share: Sequence[Any]) -> list[tuple[str, bytes]]:
        """(cursor, line) of one partition's share; UNKNOWN in place of the verdict where the observer is behind."""
        now_ms, watermark, _, flat = share
        verdict = snapshots.observer_behind(
            None if watermark is None else int(watermark), int(now_ms), self._stale_after_ms
        )
        found = [(int(flat[at]), flat[at + 1]) for at in range(0, len(flat), 2)]
        if verdict is None:
            return [(f"{line[:1].decode()}{keys.member(system_id)}", line[1:]) for system_id, line in found]
        rank = int(Health.UNKNOWN)
        return [
            (f"{rank}{keys.member(system_id)}", snapshots.line_with_verdict(line[1:], verdict, observer_behind=True))
            for system_id, line in found
        ]

    async def changes(self, positions: Sequence[int]) -> list[FleetShare]:
        """The lines that changed behind `positions`, one a partition, in one round trip; -1 asks for all of a partition."""
        found = await self._server.run(
            *(
                Call(
                    "changes",
                    (keys.watermark(p), keys.stats(p), keys.changes(p), keys.fleet_lines(p)),
                    (position,),
                )
                for p, position in enumerate(positions)
            )
        )
        return [_share(one) for one in found]

    async def entries(self, system_id: int, before: str | None, count: int, oldest: str = "-") -> list[StoredEntry]:
        """Up to `count` entries of the hot tier, newest first, with ids from `before` back to `oldest`, both included."""
        found = await self._server.one(("XREVRANGE", keys.stream(system_id), before or "+", oldest, "COUNT", count))
        return [
            StoredEntry(entry_id.decode(), int(fields[b"at"]), int(fields[b"n"]), fields[b"c"], fields[b"b"])
            for entry_id, fields in found
        ]

    async def backlog(self) -> Backlog:
        """What is accepted and not yet folded, over all partitions."""
        return (await self._lag())[0]

    async def autoscale(self) -> Autoscale:
        """The backlog, the live workers, and how many there should be."""
        backlog, workers = await self._lag()
        return Autoscale(backlog, len(workers), desired_workers(backlog, workers))

    async def _lag(self) -> tuple[Backlog, list[Worker]]:
        now_ms, workers = await live_workers(self._server)
        answers = await self._server.run(*(command for p in range(PARTITIONS) for command in _lag_of(p)))
        sums = [answers[at] for at in range(0, len(answers), 2)]
        firsts = [first[1] for first in (answers[at] for at in range(1, len(answers), 2)) if first]  # member, score
        oldest_s = max((now_ms - float(first) for first in firsts), default=0.0) / 1_000
        entries, events = (sum(max(0, int(row[at] or 0)) for row in sums) for at in (0, 1))
        return Backlog(entries, events, max(0.0, round(oldest_s, 3))), workers

    async def readiness(self) -> list[str]:
        """Why the service cannot take events or fold them, a sentence each; empty when it can do both."""
        memories = await self._server.memory()
        now_ms, workers = await live_workers(self._server)
        marks = await self._server.run(*(("GET", keys.watermark(p)) for p in range(PARTITIONS)))
        problems = [
            f"Redis is full: {memory.used} of {memory.limit} bytes"
            for memory in memories
            if memory.limit and memory.used >= memory.limit
        ]
        if not workers:
            problems.append("no worker is alive")
        late = [p for p, mark in enumerate(marks) if mark is None or now_ms - int(mark) > self._stale_after_ms]
        if late:
            problems.append(f"{len(late)} of {PARTITIONS} partitions are not folded")
        return problems


def _share(found: Sequence[Any]) -> FleetShare:
    now_ms, watermark, position, size, whole, flat = found
    return FleetShare(
        int(now_ms),
        None if watermark is None else int(watermark),
        int(position),
        int(size),
        bool(whole),
        {int(flat[at]): flat[at + 1][1:] for at in range(0, len(flat), 2)},  # without the rank, which the line says too
    )


def desired_workers(backlog: Backlog, workers: Sequence[Worker]) -> int:
    """How many workers keep up with what arrives and work the backlog off in `CATCH_UP_S`."""
    rates = [worker.fold_rate for worker in workers if worker.fold_rate > 0]
    fold_rate = sum(rates) / len(rates) if rates else ASSUMED_FOLD_RATE
    arriving = sum(worker.arrival_rate for worker in workers)
    return min(MOST_WORKERS, max(1, math.ceil((arriving + backlog.events / CATCH_UP_S) / fold_rate)))


def _lag_of(partition: int) -> tuple[Command, Command]:
    return (
        ("HMGET", keys.stats(partition), "entries", "events"),
        ("ZRANGE", keys.ready(partition), 0, 0, "WITHSCORES"),
    )


def _fleet_cursor(cursor: str) -> str:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) == 1 + len(keys.member(0)) and cursor[0] <= "3"):
        message = "cursor is not one that this list gave"
        raise InputError(message, (Finding(None, "cursor", message),))
    return cursor
