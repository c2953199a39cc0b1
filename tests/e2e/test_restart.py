"""Numbers outlive the processes that made them."""

import httpx
import pytest

from tests.e2e.answers import pages
from tests.e2e.conftest import StartService
from tests.e2e.systems import Json, ObservedSystem, error, event, events, register

STAYS = {"health", "since", "reason", "total", "errors", "error_rate", "p95_latency", "last_event_at", "last_ok_at"}


def lasting(answer: Json) -> Json:
    """What time alone does not change."""
    return {name: answer[name] for name in STAYS}


def again(http: httpx.Client, system: ObservedSystem) -> ObservedSystem:
    """The same system, seen through another client."""
    return ObservedSystem(http, http.get(system.path).json())


@pytest.mark.timeout(180)
def test_a_restart_of_everything_keeps_the_numbers(start_service: StartService) -> None:
    first = start_service()
    with first.client() as http:
        system = register(http, window_seconds=3600, description="lasting")
        record = http.get(system.path).json()
        receipt = system.take([event(stage="load", latency_ms=number) for number in range(1, 101)], key="batch")
        system.take([error(stage="load")])
        before = system.metrics_with(total=101)
    first.stop()
    second = start_service()
    with second.client() as http:
        after = again(http, system)
        assert record == http.get(system.path).json()
        assert lasting(before) == lasting(after.health())
        assert [before[name] for name in ("latency_ms", "stages", "event_types")] == [
            after.metrics()[name] for name in ("latency_ms", "stages", "event_types")
        ]
        assert {**receipt, "duplicate": True} == after.take(
            [event(stage="load", latency_ms=number) for number in range(1, 101)], key="batch"
        )
        assert 101 == sum(len(page) for page in pages(http, f"{system.path}/events"))
        after.take(events(9))
        after.health_with(total=110)
        assert register(http).id > system.id


@pytest.mark.timeout(180)
def test_what_was_accepted_but_not_folded_is_folded_after_a_restart(start_service: StartService) -> None:
    first = start_service()
    with first.client() as http:
        system = register(http, window_seconds=3600)
        for worker in first.children("worker"):
            worker.suspend()
        for _ in range(10):
            system.take(events(100))
        assert 0 == system.health()["total"]
    first.kill()
    second = start_service()
    with second.client() as http:
        again(http, system).health_with(total=1_000)


@pytest.mark.timeout(180)
def test_it_runs_on_a_redis_of_the_distribution(start_service: StartService, distribution_redis: str) -> None:
    """Everything once on Redis 7.0, whichever server `lso up` brings along, and again after a restart."""
    first = start_service(redis_url=distribution_redis)
    with first.client() as http:
        system = register(http, window_seconds=3600)
        receipt = system.take(events(80, 20), key="batch")
        health = system.health_with(total=100)
        assert ("UNHEALTHY" if health["error_rate"] > 0.2 else "DEGRADED") == health["health"]
        assert {**receipt, "duplicate": True} == system.take(events(80, 20), key="batch")
        gone = register(http)
        gone.take(events(10))
        assert 204 == http.delete(gone.path).status_code
        assert 100 == len(system.events()["items"])
        assert {"entries": 0, "events": 0} == {
            k: http.get("/autoscale").json()["backlog"][k] for k in ("entries", "events")
        }
    first.stop()
    second = start_service(redis_url=distribution_redis)
    with second.client() as http:
        assert lasting(health) == lasting(again(http, system).health())
