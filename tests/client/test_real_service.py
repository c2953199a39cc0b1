"""The client against the real service, behind a proxy that misbehaves: 100 of 100 events counted, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lso_core.client import Client
from tests.client.conftest import until
from tests.client.faulty_proxy import (
    HANG,
    PASS,
    RESET_AFTER,
    SWALLOW,
    UNAVAILABLE,
    UNAVAILABLE_RETRY_1,
    Fault,
    FaultyProxy,
    faulty_proxy,
)
from tests.e2e.service import Service, running_service

Connect = Callable[..., Client]
EVENTS = 100
FAULTS = {
    "503": UNAVAILABLE,
    "503 with Retry-After": UNAVAILABLE_RETRY_1,
    "hangs": HANG,
    "counts and hangs": SWALLOW,
    "counts and resets": RESET_AFTER,
    "refuses": None,
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.fixture
def proxy(service: Service) -> Iterator[FaultyProxy]:
    with faulty_proxy(service.address) as proxy:
        yield proxy


@pytest.fixture
def name() -> str:
    return f"sdk-{uuid4().hex}"


@pytest.fixture
def connect(connect: Connect, proxy: FaultyProxy, name: str) -> Connect:
    """As in the other tests, to the real service and for a system of its own."""

    def connect_to_proxy(**options: Any) -> Client:
        return connect(**{"url": proxy.url, "system": name, **options})

    return connect_to_proxy


def events(service: Service, name: str) -> list[dict[str, Any]]:
    """Every event the service holds of that system, newest first."""
    with service.client() as http:
        items: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            page = _page(http, name, after)
            items += page["items"]
            after = page["next"]
        return items


def _page(http: httpx.Client, name: str, after: str) -> dict[str, Any]:
    (system,) = http.get("/systems", params={"name": name}).json()["items"]
    query = {"limit": "500", **({"cursor": after} if after else {})}
    page: dict[str, Any] = http.get(f"/systems/{system['system_id']}/events", params=query).raise_for_status().json()
    return page


def numbers(service: Service, name: str) -> Counter[int]:
    return Counter(event["payload"]["n"] for event in events(service, name) if "n" in (event["payload"] or {}))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_every_event_is_counted_once(
    connect: Connect, proxy: FaultyProxy, service: Service, name: str, fault: Fault | None
) -> None:
    client = connect()
    for number in range(EVENTS):
        if number == EVENTS // 4:
            _start(proxy, fault)
        client.event("success", latency_ms=1, n=number)
        client.flush(0.01)
    until(lambda: client.stats()["retries"] >= 2)
    _end(proxy, fault)
    until(lambda: client.flush(1), 20)  # each tries at once, however long the pause has become
    until(lambda: client.health()["total"] >= EVENTS)
    assert client.health()["total"] == EVENTS
    assert numbers(service, name) == dict.fromkeys(range(EVENTS), 1)


def _start(proxy: FaultyProxy, fault: Fault | None) -> None:
    if fault is None:
        proxy.refuse()
    else:
        proxy.fault = fault


def _end(proxy: FaultyProxy, fault: Fault | None) -> None:
    if fault is None:
        proxy.accept()
    proxy.fault = PASS


def test_what_a_run_sends_is_kept_and_counted_as_it_should(connect: Connect, service: Service, name: str) -> None:
    client = connect()
    with client.run("run-1", day="2025-12-14") as run:
        with run.stage("extract") as stage:
            stage.set(rows=3, odd=float("nan"), deep=[[[1]]], text="\ud800é", large=2**70)
        with pytest.raises(ValueError, match="no"), run.stage("load"):
            raise ValueError("no")
    assert client.flush(10)
    until(lambda: client.health()["total"] == 2)
    health = client.health()
    assert (health["total"], health["errors"]) == (2, 1)
    kept = [(event["event_type"], event["stage"], event["run_id"]) for event in reversed(events(service, name))]
    assert kept == [
        ("start", None, "run-1"),
        ("success", "extract", "run-1"),
        ("failure", "load", "run-1"),
        ("end", None, "run-1"),
    ]
    assert client.stats()["dropped"] == 0


def test_a_clock_that_is_ahead_costs_no_event(connect: Connect, service: Service, name: str) -> None:
    client = connect()
    for number in range(250):
        client.event("success", latency_ms=1, n=number, ts=4_000_000_000)
    assert client.flush(10)
    assert numbers(service, name) == dict.fromkeys(range(250), 1)


def test_reading_answers_as_the_service_does(connect: Connect, service: Service, name: str) -> None:
    client = connect()
    client.event("success", latency_ms=1)
    assert client.flush(10)
    assert client.health()["health"] in {"OK", "UNKNOWN"}
    assert [system["name"] for system in client.systems(name)] == [name]
    assert name in {system["name"] for system in client.systems()}
    assert set(client.fleet()) >= {"counts", "items", "next"}
