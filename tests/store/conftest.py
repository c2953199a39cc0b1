"""The contract suite's fixtures: the same rooms on every server."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from lso_core.settings import Settings
from lso_core.store.server import Server
from tests.store.backends import Backend, running
from tests.store.rooms import Room


@pytest.fixture(scope="session", params=["fakeredis", "valkey", "redis", "cluster"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with running(request.param) as found:
        yield found


@pytest.fixture
async def connect(backend: Backend) -> AsyncIterator[Callable[[], Server]]:
    """Further ways in to the test's server, each as another process would have it."""
    await backend.empty()
    opened: list[Server] = []

    def open_one() -> Server:
        opened.append(backend.connect())
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def server(connect: Callable[[], Server]) -> Server:
    return connect()


@pytest.fixture
def room(server: Server, settings: Settings) -> Room:
    return Room(server, settings)
