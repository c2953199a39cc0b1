"""The observer's trouble is not the system's trouble: what is shown while nothing is folded."""

import re

import httpx
import pytest
import redis

from tests.e2e.answers import to_ms
from tests.e2e.conftest import StartService
from tests.e2e.service import Service
from tests.e2e.systems import Json, ObservedSystem, events, register
from tests.e2e.traces import groups
from tests.waiting import wait_for

FIGURES = ("total", "errors", "error_rate", "rps", "p95_latency", "last_event_at", "last_ok_at")
IMPATIENT = {"LSO_STALE_AFTER": "3"}


def figures(health: Json) -> list[object]:
    return [health[name] for name in FIGURES]


def suspend_workers(service: Service) -> None:
    for worker in service.children("worker"):
        worker.suspend()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("good", "bad", "state"), [(100, 0, "OK"), (50, 50, "UNHEALTHY")])
def test_with_every_worker_stopped_health_turns_unknown_and_comes_back(
    start_service: StartService, good: int, bad: int, state: str
) -> None:
    service = start_service("--workers", "2", environ=IMPATIENT)
    with service.client() as http:
        system, silent = register(http, window_seconds=3600), register(http)
        system.take(events(good, bad))
        before = system.health_with(total=100, health=state)
        suspend_workers(service)
        behind = system.health_with(health="UNKNOWN")
        assert figures(before) == figures(behind)
        assert "behind" in behind["reason"]
        assert 3.0 <= seconds_of(behind["reason"]) < 8.0
        later = wait_for(lambda: longer_behind(system.health(), than=behind), "the delay that it tells grows")
        assert later is not None
        assert figures(before) == figures(later)
        assert "UNKNOWN" == system.metrics()["health"]
        assert "behind" in silent.health()["reason"]
        assert 200 == http.get(f"{system.path}/health?strict=1").status_code
        wait_for(lambda: fleet_state(http, system.id) == "UNKNOWN", "the fleet says so too")
        assert 202 == system.post(events(10)).status_code
        assert 503 == http.get("/readyz").status_code
        service.resume()
        after = system.health_with(total=110, health=state)
        assert to_ms(before["since"]) == to_ms(after["since"])
        wait_for(service.is_ready, "it is able to fold again")


def seconds_of(reason: str) -> float:
    """The first number of the reason: how far behind."""
    found = re.search(r"(\d+(?:\.\d+)?) s", reason)
    assert found, reason
    return float(found[1])


def longer_behind(health: Json, than: Json) -> Json | None:
    return health if seconds_of(health["reason"]) >= seconds_of(than["reason"]) + 1 else None


def fleet_state(http: httpx.Client, system_id: int) -> str:
    lines = http.get("/health").json()["items"]
    return next(str(line["health"]) for line in lines if line["system_id"] == system_id)


@pytest.mark.timeout(120)
def test_with_every_worker_dead_health_turns_unknown(start_service: StartService) -> None:
    """Workers are killed as soon as they come back; what they fold in between must not make anything green for long."""
    service = start_service("--workers", "1", environ={"LSO_STALE_AFTER": "2"})
    with service.client() as http:
        system = register(http, window_seconds=3600)
        system.take(events(100))
        before = system.health_with(total=100, health="OK")

        def unknown_while_workers_die() -> Json | None:
            for worker in service.children("worker"):
                worker.kill()
            health = system.health()
            return health if health["health"] != "OK" else None

        behind = wait_for(unknown_while_workers_die, "health is not green any more", within=40)
        assert behind is not None
        assert "UNKNOWN" == behind["health"]
        assert "behind" in behind["reason"]
        assert figures(before) == figures(behind)
        system.health_with(health="OK", total=100, within=30)


@pytest.mark.timeout(120)
def test_the_backlog_the_counters_and_the_lag_of_the_group_agree(start_service: StartService) -> None:
    service = start_service("--workers", "1", environ={"LSO_STALE_AFTER": "60"})
    with service.client() as http, service.redis() as store:
        systems = [register(http, window_seconds=3600) for _ in range(3)]
        for system in systems:
            system.take(events(10))
            system.health_with(total=10)
        wait_for(lambda: lags(store, systems) == [0, 0, 0], "the groups have caught up")
        suspend_workers(service)
        for number, system in enumerate(systems, 1):
            for _ in range(number):
                system.take(events(20))
        assert [1, 2, 3] == lags(store, systems)
        backlog = wait_for(lambda: backlog_of(http, entries=6), "/autoscale shows the backlog")
        assert backlog is not None
        assert 120 == backlog["events"]
        wait_for(lambda: http.get("/autoscale").json()["backlog"]["oldest_age_s"] > 1, "the backlog grows old")
        for worker in service.children("worker"):
            worker.kill()
        for number, system in enumerate(systems, 1):
            system.health_with(total=10 + 20 * number, within=20)
        assert [0, 0, 0] == lags(store, systems)
        wait_for(lambda: backlog_of(http, entries=0, events=0, oldest_age_s=0), "/autoscale shows none")


def lags(store: redis.Redis, systems: list[ObservedSystem]) -> list[int | None]:
    return [group["lag"] for system in systems for group in groups(store, system.id)]


def backlog_of(http: httpx.Client, **members: float) -> Json | None:
    """The backlog once it has these members."""
    backlog: Json = http.get("/autoscale").json()["backlog"]
    return backlog if members.items() <= backlog.items() else None


@pytest.mark.timeout(120)
def test_autoscale_counts_the_workers_that_live(start_service: StartService) -> None:
    service = start_service("--workers", "2")
    with service.client() as http:
        wait_for(lambda: http.get("/autoscale").json()["workers"] == 2, "both workers are counted")
        service.children("worker")[0].suspend()
        wait_for(lambda: http.get("/autoscale").json()["workers"] == 1, "a stopped worker is not counted", within=20)
        service.resume()
        wait_for(lambda: http.get("/autoscale").json()["workers"] == 2, "it is counted again", within=20)
