"""The worker process: fold loops, with arq beside them for what is done now and then.

`run` is what `lso worker` calls. It keeps arq going where arq itself gives up (it ends when Redis is away for two
seconds), and folding goes on whatever becomes of arq. `arq worker.main.WorkerSettings` starts the same worker under
arq's own command: there arq's start-up hook starts the fold loops.
"""

import asyncio
import gc
import logging
import os
import secrets
import signal
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvloop
from arq.worker import Worker

from lso_core.archive.files import find_files, possible
from lso_core.settings import Settings
from lso_core.store.archiving import Archiving
from lso_core.store.folding import Folding
from lso_core.store.store import Store
from lso_core.store.trips import AWAY
from lso_core.telemetry import Telemetry, configure_logging, publish_forever
from worker.folding import Folder
from worker.jobs.archive import Archiver
from worker.jobs.keep import Keeper
from worker.loops import Loops
from worker.schedule import Rooms, arq_settings, make_worker, slow_settings

log = structlog.get_logger(__name__)

RESTART_S: Final = 0.5
CANCEL_S: Final = 1.0
COLLECT_AFTER: Final = (20_000, 20, 50)
"""So many new objects until those are looked through, so many such looks until older ones are, and again."""


class Process:
    """One worker process."""

    def __init__(self, store: Store, settings: Settings, worker_id: str) -> None:
        self._store = store
        self._settings = settings
        self._worker_id = worker_id
        self._telemetry = Telemetry()
        self._telemetry.mirror(self._telemetry.redis_round_trips, lambda: store.server.round_trips)
        self.folder = Folder(store.server, settings, worker_id)
        self.loops = Loops(self.folder, self._telemetry)
        folding = Folding(store.server, settings)
        self.rooms = Rooms(self.folder, store.registry, folding, Archiving(store.server), *self._archive())
        """What arq's jobs work with."""

    def _archive(self) -> tuple[Archiver, Keeper] | tuple[None, None]:
        """Who writes and keeps the archive; nobody where it is off, or cannot be."""
        if (files := find_files(self._settings)) is None:
            return None, None
        archiving = Archiving(self._store.server)
        return (
            Archiver(archiving, files, self._settings, self._telemetry, lambda: self.folder.hot_cap),
            Keeper(archiving, files, self._settings, self._telemetry),
        )

    async def run_loops(self) -> None:
        """Fold until told to stop. Raises what ended a loop."""
        _collect_seldom()
        publishing = asyncio.create_task(
            publish_forever(self._store.telemetry, self._telemetry, process=self._worker_id, role="worker")
        )
        try:
            await self.loops.run()
        finally:
            publishing.cancel()

    async def close(self) -> None:
        """End what goes on beside the loops."""
        for one in (self.rooms.archiver, self.rooms.keeper):
            if one is not None:
                await one.close()

    async def run_arq(self) -> None:
        """Run both of arq's queues until cancelled."""
        await asyncio.gather(self._run_queue(arq_settings), self.run_slowly())

    async def run_slowly(self) -> None:
        """Run the slow queue until cancelled."""
        await self._run_queue(slow_settings)

    async def _run_queue(self, settings_of: Callable[[str], dict[str, Any]]) -> None:
        """Run arq on one queue; start it again where it ends because Redis was away."""
        while True:
            queue_url = self._settings.queue_url or self._settings.redis_url
            worker = make_worker({**settings_of(queue_url), "ctx": {"rooms": self.rooms}})
            try:
                await worker.async_run()
            except AWAY as error:
                log.warning("arq.restarts", error=str(error))
            finally:
                await _close(worker)
            await asyncio.sleep(RESTART_S)


def _collect_seldom() -> None:
    """Look for cycles of objects less often than is usual.

    The windows of 10,000 systems are a million objects in none, through which each look goes: a fifth of a step's time.
    """
    gc.collect()
    gc.freeze()  # what is there now stays
    gc.set_threshold(*COLLECT_AFTER)


async def _close(worker: Worker) -> None:
    """Close what arq holds. It takes its health key back first, which fails where Redis is away; that ends nothing."""
    pool = worker.pool
    try:
        await worker.close()
    except AWAY as error:
        log.info("arq.not-signed-off", error=str(error))
        await pool.aclose(close_connection_pool=True)


def new_worker_id() -> str:
    """A worker's name, never used before."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def run(settings: Settings, worker_id: str = "") -> None:
    """Work until SIGTERM or SIGINT. Raises ConfigurationError, StoreError, or what ended a loop."""
    configure_logging(settings)
    logging.getLogger("arq").setLevel(logging.WARNING)  # a line for each job would be two a minute, for ever
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, worker_id or new_worker_id()))


async def _run(settings: Settings, worker_id: str) -> None:
    settings = possible(settings)
    arq_settings(settings.queue_url or settings.redis_url)  # refuses what arq cannot use, before anything has started
    store = await Store.open(settings)
    process = Process(store, settings, worker_id)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.loops.stop)
    beside = asyncio.create_task(process.run_arq())
    log.info("worker.starts", worker_id=worker_id)
    try:
        await process.run_loops()
    finally:
        while not beside.done():  # once is not enough: a client that was just connecting may swallow it
            beside.cancel()
            await asyncio.wait([beside], timeout=CANCEL_S)
        await process.close()
        await store.close()
        log.info("worker.ends", worker_id=worker_id)


def _under_arq() -> type:
    """Settings for arq's own command: its hooks start and stop the fold loops."""
    settings = possible(Settings.from_env(os.environ))

    async def start(ctx: dict[str, Any]) -> None:
        configure_logging(settings)
        store = ctx["store"] = await Store.open(settings)
        process = ctx["process"] = Process(store, settings, new_worker_id())
        ctx["rooms"] = process.rooms
        ctx["loops"] = asyncio.create_task(process.run_loops())
        ctx["loops"].add_done_callback(_end_with)
        ctx["slowly"] = asyncio.create_task(process.run_slowly())

    async def stop(ctx: dict[str, Any]) -> None:
        ctx["process"].loops.stop()
        ctx["slowly"].cancel()
        await asyncio.gather(ctx["loops"], ctx["slowly"], return_exceptions=True)
        await ctx["process"].close()
        await ctx["store"].close()

    given = arq_settings(settings.queue_url or settings.redis_url)
    return type("WorkerSettings", (), {**given, "handle_signals": True, "on_startup": start, "on_shutdown": stop})


def _end_with(loops: "asyncio.Task[None]") -> None:
    """End a process whose fold loops failed: a worker that does not fold must not look alive."""
    if not loops.cancelled() and loops.exception() is not None:
        log.error("worker.failed", exc_info=loops.exception())
        signal.raise_signal(signal.SIGTERM)


def __getattr__(name: str) -> Any:
    """`WorkerSettings` reads the environment, so it is made when arq asks for it and not at import."""
    if name == "WorkerSettings":
        return _under_arq()
    raise AttributeError(name)
