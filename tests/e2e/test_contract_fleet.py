"""GET /health: all systems, worst first."""

from collections import Counter

import httpx
import pytest

from tests.e2e.answers import Json, pages, problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem, events
from tests.waiting import wait_for

STATES = ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"]
"""Worst first."""


def line_of(http: httpx.Client, system: ObservedSystem) -> Json | None:
    """The system's line on the fleet page."""
    lines = (line for page in pages(http, "/health") for line in page)
    return next((line for line in lines if line["system_id"] == system.id), None)


def line_with(http: httpx.Client, system: ObservedSystem, health: str) -> Json:
    """The system's line once it has this state."""

    def found() -> Json | None:
        line = line_of(http, system)
        return line if line is not None and line["health"] == health else None

    return wait_for(found, f"the fleet shows system {system.id} as {health}") or {}


def test_a_new_system_is_on_the_page_as_unknown(http: httpx.Client, system: ObservedSystem) -> None:
    line = line_with(http, system, "UNKNOWN")
    assert system.name == line["name"]


def test_a_line_says_what_health_says(http: httpx.Client, system: ObservedSystem) -> None:
    system.take(events(80, 20))
    health = system.health_with(total=100)
    line = line_with(http, system, health["health"])
    shared = {"system_id", "health", "since", "reason", "total", "errors", "error_rate", "rps", "p95_latency"}
    assert shared <= line.keys()
    assert {name: health[name] for name in shared} == {name: line[name] for name in shared}


def test_the_page_counts_by_state_names_the_worst_and_sorts_worst_first(
    http: httpx.Client, new_system: NewSystem
) -> None:
    made = {"OK": new_system(), "DEGRADED": new_system(), "UNHEALTHY": new_system(), "UNKNOWN": new_system()}
    made["OK"].take(events(10))
    made["DEGRADED"].take(events(90, 10))
    made["UNHEALTHY"].take(events(5, 5))
    for state, system in made.items():
        line_with(http, system, state)
    fleet = http.get("/health").json()
    assert {"counts", "worst", "items", "next"} <= fleet.keys()
    lines = [line for page in pages(http, "/health") for line in page]
    ranks = [STATES.index(line["health"]) for line in lines]
    assert sorted(ranks) == ranks
    assert "UNHEALTHY" == fleet["worst"]
    assert {**dict.fromkeys(STATES, 0), **Counter(line["health"] for line in lines)} == fleet["counts"]


def test_every_system_is_on_exactly_one_page(http: httpx.Client, new_system: NewSystem) -> None:
    made = {new_system().id for _ in range(10)}
    seen = [line["system_id"] for page in pages(http, "/health", limit="3") for line in page]
    assert len(set(seen)) == len(seen)
    assert made <= set(seen)


@pytest.mark.timeout(60)
def test_a_page_has_500_lines(http: httpx.Client, new_system: NewSystem) -> None:
    made = {new_system().id for _ in range(520)}
    seen = list(pages(http, "/health"))
    assert {500} == {len(page) for page in seen[:-1]}
    assert made <= {line["system_id"] for page in seen for line in page}
    for system_id in made:
        http.delete(f"/systems/{system_id}")


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "cursor=nonsense", "colour=red"])
def test_a_wrong_query_is_422(http: httpx.Client, query: str) -> None:
    problem(http.get(f"/health?{query}"), 422)


def test_a_renamed_system_is_on_the_page_under_its_new_name(http: httpx.Client, system: ObservedSystem) -> None:
    http.patch(system.path, json={"name": system.name + "-2"})

    def renamed() -> bool:
        line = line_of(http, system)
        return line is not None and line["name"] == system.name + "-2"

    wait_for(renamed, "the fleet shows the new name")
