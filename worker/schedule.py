"""The timetable: arq's settings and cron jobs. Beside `worker.main` the only file that knows arq."""

import asyncio
import time
from typing import Any, Final

import msgspec
from arq import cron
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.worker import Worker

from lso_core.store.archiving import Archiving
from lso_core.store.folding import Folding
from lso_core.store.links import connect_queue
from lso_core.store.registry import Registry
from worker.folding import Folder
from worker.jobs.archive import Archiver
from worker.jobs.forget import forget_rows
from worker.jobs.keep import Keeper
from worker.jobs.sweep import sweep

QUEUE: Final = "lso:{queue}"
JOB_TIMEOUT_S: Final = 60
SWEEP_SECONDS: Final = {0, 30}
SLOW_QUEUE: Final = "lso:{queue}:slow"
"""For jobs of minutes, which must not keep others waiting."""
SLOW_TIMEOUT_S: Final = 1_800
KEEP_SECONDS: Final = set(range(2, 60, 5))
ARCHIVE_S: Final = 5
ARCHIVE_SECONDS: Final = set(range(0, 60, ARCHIVE_S))


class Rooms(msgspec.Struct):
    """What jobs work with; arq hands it to them in its context."""

    folder: Folder
    registry: Registry
    folding: Folding
    archiving: Archiving
    archiver: Archiver | None
    """None where there is no archive."""
    keeper: Keeper | None


async def run_sweep(ctx: dict[str, Any]) -> int:
    """arq's face of `worker.jobs.sweep`."""
    rooms: Rooms = ctx["rooms"]
    return await sweep(rooms.folding, rooms.registry, rooms.folder.redis_now_ms())


async def run_archive(ctx: dict[str, Any]) -> int:
    """arq's face of `worker.jobs.archive`."""
    rooms: Rooms = ctx["rooms"]
    pieces, until = 0, time.monotonic() + ARCHIVE_S - 1
    while rooms.archiver is not None and time.monotonic() < until:
        pieces += (await rooms.archiver.turn(rooms.folder.redis_now_ms())).pieces
        await asyncio.sleep(1)  # a full hot tier cannot wait for the next job
    return pieces


async def run_keep(ctx: dict[str, Any]) -> int:
    """arq's face of `worker.jobs.keep`."""
    rooms: Rooms = ctx["rooms"]
    now_ms = rooms.folder.redis_now_ms()
    if rooms.keeper is None:
        return await forget_rows(rooms.archiving, now_ms)
    return (await rooms.keeper.turn(now_ms)).merged


def timetable() -> list[CronJob]:
    """What runs when. `unique`: on one worker of all."""
    return [cron(run_sweep, name="sweep", second=SWEEP_SECONDS, unique=True, timeout=JOB_TIMEOUT_S, keep_result=0)]


def slow_timetable() -> list[CronJob]:
    """What runs when on the slow queue."""
    return [
        cron(run_keep, name="keep", second=KEEP_SECONDS, unique=True, timeout=SLOW_TIMEOUT_S, keep_result=0),
        cron(run_archive, name="archive", second=ARCHIVE_SECONDS, unique=True, timeout=SLOW_TIMEOUT_S, keep_result=0),
    ]


def slow_settings(queue_url: str) -> dict[str, Any]:
    """arq's settings for the slow queue: one job of each kind at a time."""
    return {
        **arq_settings(queue_url),
        "queue_name": SLOW_QUEUE,
        "cron_jobs": slow_timetable(),
        "job_timeout": SLOW_TIMEOUT_S,
        "max_jobs": 2,
    }


def arq_settings(queue_url: str) -> dict[str, Any]:
    """arq's settings beside start-up and shutdown: our own pool, results not kept, msgpack on the wire."""
    return {
        "redis_pool": ArqRedis(
            connection_pool=connect_queue(queue_url).connection_pool, job_serializer=_pack, job_deserializer=_unpack
        ),
        "queue_name": QUEUE,
        "functions": [],
        "cron_jobs": timetable(),
        "job_timeout": JOB_TIMEOUT_S,
        "keep_result": 0,
        "job_serializer": _pack,
        "job_deserializer": _unpack,
        "health_check_interval": 60,
        "handle_signals": False,
    }


def _pack(job: dict[str, Any]) -> bytes:
    """A job as msgpack; what a failed one raised travels as its text."""
    return msgspec.msgpack.encode(job, enc_hook=repr)


def _unpack(data: bytes) -> dict[str, Any]:
    job: dict[str, Any] = msgspec.msgpack.decode(data)
    return job


def make_worker(settings: dict[str, Any]) -> Worker:
    """An arq worker that has not started."""
    return Worker(**settings)
