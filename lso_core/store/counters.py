"""Counters of all processes: each publishes its own, and the sum over the living and the gone never falls."""

from typing import Any, Final

import msgspec

from lso_core.model.windows import PARTITIONS
from lso_core.store import keys
from lso_core.store.leases import live_workers
from lso_core.store.reads import Reads
from lso_core.store.server import Call, Server

GONE_MS: Final = 30_000

_samples = msgspec.json.Decoder(dict[str, float])


class TelemetryStore:
    """What the processes of this service count, together."""

    def __init__(self, server: Server, reads: Reads) -> None:
        self._server = server
        self._reads = reads
        self._base: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._published = False

    async def publish(self, process: str, role: str, samples: dict[str, float]) -> None:
        """Publish this process' counters, absolute since its start. Called once a second."""
        counted = {name: value - self._base.get(name, 0.0) for name, value in samples.items()}
        reply = await self._call(f"{role}:{process}", counted)
        if len(reply) == 1:  # it was silent so long that what it published last went to the total: count on from there
            self._base, self._published = self._last, False
        else:
            self._last, self._published = dict(samples), True

    async def collect(self) -> tuple[dict[str, float], dict[str, float]]:
        """Counters summed over all processes, living and gone; and gauges that are read now."""
        reply = await self._call("", {})
        sums = {reply[1][at].decode(): float(reply[1][at + 1]) for at in range(0, len(reply[1]), 2)}
        for one in reply[2]:
            for name, value in _samples.decode(one).items():
                sums[name] = sums.get(name, 0.0) + value
        return sums, await self._gauges()

    async def _call(self, process: str, samples: dict[str, float]) -> list[Any]:
        where = (keys.SAMPLES, keys.SEEN, keys.GONE)
        what = (process, msgspec.json.encode(samples), GONE_MS, int(self._published and bool(process)))
        reply: list[Any] = await self._server.one(Call("count", where, what))
        return reply

    async def _gauges(self) -> dict[str, float]:
        """Backlog, age of the oldest entry, live workers, the slowest watermark, memory of Redis."""
        lag = await self._reads.autoscale()
        now_ms, _ = await live_workers(self._server)
        marks = await self._server.run(*(("GET", keys.watermark(p)) for p in range(PARTITIONS)))
        memories = await self._server.memory()
        known = [int(mark) for mark in marks if mark is not None]
        return {
            "lso_backlog_entries": float(lag.backlog.entries),
            "lso_backlog_events": float(lag.backlog.events),
            "lso_backlog_oldest_age_seconds": lag.backlog.oldest_age_s,
            "lso_workers": float(lag.workers),
            "lso_desired_workers": float(lag.desired_workers),
            "lso_watermark_delay_seconds": max(0, now_ms - min(known)) / 1_000 if known else 0.0,
            "lso_redis_used_memory_bytes": float(sum(memory.used for memory in memories)),
            "lso_redis_max_memory_bytes": float(sum(memory.limit for memory in memories)),
        }
