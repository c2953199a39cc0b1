"""Many systems with little to say, written through the store itself: over HTTP their emitters would take the whole machine."""

import asyncio
import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import hiredis

from lso_core.compute import batches
from lso_core.compute.batches import Post
from lso_core.model.batches import Batch
from lso_core.model.systems import SystemSpec
from lso_core.settings import Settings
from lso_core.store import trips
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


class Feed:
    """The same batch for each of many systems, packed before the clock runs: to pack it takes longer than to send it."""

    def __init__(self, path: str, commands: list[bytes]) -> None:
        self._commands = commands
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._answers = hiredis.Reader()

    @classmethod
    def of(cls, lso: Service, store: Store, systems: Sequence[int], batch: Batch) -> Self:
        """What the store would send; it has appended once, so that the server knows its script."""
        calls = (store.server._packed(store.ingest._call(one, batch, None)) for one in systems)  # noqa: SLF001
        return cls(_target.redis_socket(_cpu.family(lso.pid)), [_bytes(call) for call in calls])

    def send(self, first: int, last: int) -> None:
        """One batch to each of the systems from `first` to before `last`; they must be taken."""
        commands = self._commands[first:last]
        self._socket.sendall(b"".join(commands))
        for _ in commands:
            while (answer := self._answers.gets()) is False:
                self._answers.feed(self._socket.recv(1 << 20))
            if not isinstance(answer, list) or answer[0] != b"ok":
                raise SystemExit(f"a batch was not taken: {answer}")

    def close(self) -> None:
        """Give the connection back."""
        self._socket.close()


def _bytes(call: Any) -> bytes:
    return b"".join(call) if isinstance(call, trips.Packed) else hiredis.pack_command(call)


async def append(store: Store, systems: Sequence[int], batch: Batch) -> None:
    """The same batch to each system."""
    for first in range(0, len(systems), AT_ONCE):
        await asyncio.gather(*(store.ingest.append(one, batch, None) for one in systems[first : first + AT_ONCE]))
