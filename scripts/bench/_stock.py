"""Many systems with little to say, written through the store itself: over HTTP their emitters would take the whole machine."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence

from lso_core.compute import batches
from lso_core.compute.batches import Post
from lso_core.model.batches import Batch
from lso_core.model.systems import SystemSpec
from lso_core.settings import Settings
from lso_core.store.store import Store
from scripts.bench import _cpu, _target
from scripts.bench._target import Service

AT_ONCE = 100
STAGES = ("fetch", "parse", "clean", "join", "load")


@contextlib.asynccontextmanager
async def store_of(lso: Service) -> AsyncIterator[Store]:
    """The store of an LSO that runs on this machine."""
    store = await Store.open(Settings(redis_url=f"unix://{_target.redis_socket(_cpu.family(lso.pid))}"))
    try:
        yield store
    finally:
        await store.close()


async def register(store: Store, count: int, window_s: int) -> list[int]:
    """So many new systems; their ids."""
    found: list[int] = []
    for first in range(0, count, AT_ONCE):
        specs = [
            SystemSpec(name=f"bench-{uuid.uuid4().hex}", window_seconds=window_s)
            for _ in range(min(AT_ONCE, count - first))
        ]
        found += [one.system_id for one in await asyncio.gather(*map(store.registry.create, specs))]
    return found


def batch_of(events: Sequence[dict[str, object]]) -> Batch:
    """Events as the API would hand them to the store, for any system."""
    batch = batches.quick(Post(json.dumps({"events": events}).encode(), 0, len(events)))
    if batch is None:
        raise SystemExit("these events are not good")
    return batch


async def append(store: Store, systems: Sequence[int], batch: Batch) -> None:
    """The same batch to each system."""
    for first in range(0, len(systems), AT_ONCE):
        await asyncio.gather(*(store.ingest.append(one, batch, None) for one in systems[first : first + AT_ONCE]))
