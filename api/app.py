"""The application: what `lso api` serves."""

import asyncio
import gc
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from litestar import Litestar

from api import errors
from api.aside.helper import Helper
from api.auth import Guard
from api.edge import Edge
from api.express import Express
from api.lane import Lane
from api.limits.body import Budget
from api.live import Hub
from api.routes import (
    archive,
    autoscale,
    dashboard,
    dead_letters,
    docs,
    events,
    fleet,
    health,
    history,
    probes,
    rebuilds,
    runs,
    stream,
    systems,
    telemetry,
)
from api.service import Service
from lso_core.archive.files import find_files, possible
from lso_core.archive.history import WholeHistory
from lso_core.clock import SystemClock
from lso_core.compute import kernel
from lso_core.model.errors import StoreError
from lso_core.settings import Settings
from lso_core.store.archiving import Archiving
from lso_core.store.breaker import Breakers
from lso_core.store.store import Store
from lso_core.telemetry import Telemetry, configure_logging, publish_forever

log = structlog.get_logger(__name__)

BODIES_IN_HAND: Final = 16
"""As many bodies of the largest size may be in memory at once, or more that are smaller."""
REFRESH_S: Final = 0.5

ROUTES: Final = (
    *systems.HANDLERS,
    *events.HANDLERS,
    *archive.HANDLERS,
    *dead_letters.HANDLERS,
    *rebuilds.HANDLERS,
    *health.HANDLERS,
    *history.HANDLERS,
    *runs.HANDLERS,
    *fleet.HANDLERS,
    *stream.HANDLERS,
    *autoscale.HANDLERS,
    *telemetry.HANDLERS,
    *probes.HANDLERS,
    *docs.HANDLERS,
    *dashboard.HANDLERS,
)

HOT: Final = (health.get_health, events.post_events)
"""Those that carry nearly every request."""


def create_app(settings: Settings) -> Litestar:
    """The application; its store is opened when it starts. Raises ConfigurationError for keys that are none."""
    guard, own = Guard.parse(settings.api_keys), Telemetry()
    settings = possible(settings)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with _running(settings, own) as service:
            app.state.service = lane.service = service
            gc.collect()
            gc.freeze()  # what is there now stays: no collection has to look at it again
            yield

    configure_logging(settings)
    if (reason := kernel.trouble()) is not None:
        log.info("kernels.absent", reason=reason)
    app = Litestar(
        list(ROUTES),
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: errors.handle},
        debug=False,
    )
    edge = Edge(Express(app.asgi_handler, HOT), guard, own)
    app.asgi_handler = edge
    app.state.lane = lane = Lane(guard, edge)
    return app


def end_streams(app: Litestar) -> None:
    """Let every stream end: the process is about to, and would wait for them."""
    app.state.service.live.end_all()


@asynccontextmanager
async def _running(settings: Settings, own: Telemetry) -> AsyncIterator[Service]:
    """The parts of a process, with what goes on beside the requests."""
    breakers = Breakers()
    store = await Store.open(settings, breakers)
    budget = Budget(BODIES_IN_HAND * settings.max_body_bytes)
    process = f"{os.getpid()}-{secrets.token_hex(4)}"
    own.mirror(own.redis_round_trips, lambda: store.server.round_trips)
    own.mirror(own.circuit_opens, lambda: breakers.opens)
    own.mirror(own.circuit_refused, lambda: breakers.refused)
    live = Hub(store.reads, own, settings.stale_after * 1_000, max(1, settings.max_connections // 2))
    helper = Helper(settings)
    beside = [
        asyncio.create_task(publish_forever(store.telemetry, own, process=process, role="api")),
        asyncio.create_task(_refresh_forever(store)),
    ]
    for task in beside:
        task.add_done_callback(_report)
    try:
        archiving, there = Archiving(store.server), find_files(settings) is not None
        yield Service(
            settings=settings,
            store=store,
            telemetry=own,
            clock=SystemClock(),
            budget=budget,
            careful_turns=asyncio.Semaphore(2),
            helper=helper,
            process=process,
            breakers=breakers,
            live=live,
            has_archive=there,
            history=WholeHistory(store.history, archiving),
            archiving=archiving,
        )
    finally:
        await helper.close()
        await live.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await store.close()


async def _refresh_forever(store: Store) -> None:
    """Keep the ingest's view of the backlog fresh. While Redis is away the last one stands."""
    while True:
        try:
            await store.ingest.refresh()
        except StoreError as error:
            log.debug("backlog.not-refreshed", error=str(error))
        await asyncio.sleep(REFRESH_S)


def _report(task: "asyncio.Task[None]") -> None:
    """A task beside the requests that ends by itself is a fault worth reading about."""
    if not task.cancelled() and task.exception() is not None:
        log.error("beside.failed", exc_info=task.exception())
