"""One service for the tests that leave it as it is, and services of their own for those that do not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.service import Service, outside, running_service
from tests.e2e.systems import ObservedSystem, register

StartService = Callable[..., Service]
NewSystem = Callable[..., ObservedSystem]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service as it is by default. Tests share it; each registers systems of its own."""
    with running_service() as running:
        yield running


@pytest.fixture(scope="session")
def http(service: Service) -> Iterator[httpx.Client]:
    """A client of the shared service."""
    with service.client() as client:
        yield client


@pytest.fixture
def new_system(http: httpx.Client) -> NewSystem:
    """Registers a system on the shared service; keywords are members of the POST."""

    def new_system(**members: Any) -> ObservedSystem:
        return register(http, **members)

    return new_system


@pytest.fixture
def system(new_system: NewSystem) -> ObservedSystem:
    """A new system on the shared service."""
    return new_system()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[StartService]:
    """Starts services that a test may maltreat: `start_service("--workers", "2", environ={...})`.

    All on the same data directory, one after the other. Each must still end well at the end, however it was treated.
    """
    with outside() as around, ExitStack() as stack:

        def start(*options: str, **given: Any) -> Service:
            if "redis_url" not in given and around:
                given = {**given, **around, "environ": {**around.get("environ", {}), **(given.get("environ") or {})}}
            running = Service.start(tmp_path, *options, **given)
            stack.callback(_end, running)
            return running

        yield start


def _end(service: Service) -> None:
    if service.process.poll() is None:
        service.resume()
        service.stop()
