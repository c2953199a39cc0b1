"""Workers on a real server: they ask Redis for its memory, which fakeredis does not know."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from lso_core.settings import Settings
from lso_core.store.server import Server
from tests.store.backends import Backend, find, running
from tests.store.rooms import Room
from tests.worker.crew import Crew


@pytest.fixture(scope="session")
def backend() -> Iterator[Backend]:
    with running("valkey" if find("valkey") is not None else "redis") as found:
        yield found


@pytest.fixture
async def connect(backend: Backend) -> AsyncIterator[Callable[[], Server]]:
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
def room(connect: Callable[[], Server], settings: Settings) -> Room:
    return Room(connect(), settings)


@pytest.fixture
def crew(connect: Callable[[], Server], settings: Settings) -> Crew:
    return Crew(connect, settings)
