"""The timetable: arq's settings and cron jobs. Beside `worker.main` the only file that knows arq."""

from typing import Any, Final

import msgspec
from arq import cron
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.worker import Worker

from lso_core.store.folding import Folding
from lso_core.store.links import connect_queue
from lso_core.store.registry import Registry
from worker.folding import Folder
from worker.jobs.sweep import sweep

QUEUE: Final = "lso:{queue}"
JOB_TIMEOUT_S: Final = 60
SWEEP_SECONDS: Final = {0, 30}


class Rooms(msgspec.Struct):
    """What jobs work with; arq hands it to them in its context."""

    folder: Folder
    registry: Registry
    folding: Folding


async def run_sweep(ctx: dict[str, Any]) -> int:
    """arq's face of `worker.jobs.sweep`."""
    rooms: Rooms = ctx["rooms"]
    return await sweep(rooms.folding, rooms.registry, rooms.folder.redis_now_ms())


def timetable() -> list[CronJob]:
    """What runs when. `unique`: on one worker of all."""
    return [cron(run_sweep, name="sweep", second=SWEEP_SECONDS, unique=True, timeout=JOB_TIMEOUT_S, keep_result=0)]


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
