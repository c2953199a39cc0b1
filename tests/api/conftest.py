"""Two services for the edges of HTTP: one as it is by default, one with keys and small caps."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.service import Service

KEYS = {"read": "r-key", "write": "w-key", "admin": "a-key"}
SMALL_BODY = 64 * 1024
KEYED = {
    "LSO_API_KEYS": ",".join(f"{role}:{key}" for role, key in KEYS.items()),
    "LSO_MAX_BODY_BYTES": str(SMALL_BODY),
    "LSO_MAX_BATCH_EVENTS": "50",
    "LSO_RATE_EVENTS": "100",
    "LSO_METRICS_SYSTEMS": "2",
}


@contextmanager
def running(**environ: str) -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="lso-api-") as folder:
        service = Service.start(Path(folder), "--api-processes", "1", environ=environ)
        try:
            yield service
        finally:
            service.stop()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    with running() as found:
        yield found


@pytest.fixture(scope="session")
def keyed() -> Iterator[Service]:
    with running(**KEYED) as found:
        yield found


@pytest.fixture(scope="session")
def http(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="session")
def as_role(keyed: Service) -> Iterator[Callable[[str], httpx.Client]]:
    """A client of the keyed service with the key of a role; "" for none."""
    clients: list[httpx.Client] = []

    def client(role: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {KEYS[role]}"} if role else {}
        clients.append(httpx.Client(base_url=keyed.url, headers=headers, timeout=20))
        return clients[-1]

    yield client
    for one in clients:
        one.close()


def register(client: httpx.Client, **members: Any) -> int:
    """A new system's id."""
    answer = client.post("/systems", json={"name": f"test-{uuid4().hex}", **members})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["system_id"])


@pytest.fixture
def system_id(http: httpx.Client) -> int:
    """A new system on the default service."""
    return register(http)


EVENT = {"event_type": "success", "status": "ok", "latency_ms": 12}
