"""Rebuilds over HTTP."""

import httpx

from lso_core.model.windows import partition_of
from lso_core.store import keys
from tests.e2e.service import Service
from tests.e2e.systems import Json, ObservedSystem, event, events
from tests.waiting import wait_for


def ended(http: httpx.Client, system: ObservedSystem) -> Json:
    """The outcome of the rebuild that was asked for."""

    def outcome() -> Json:
        answer = http.get(f"/systems/{system.id}/rebuild")
        assert answer.status_code == 200, answer.text
        found = dict(answer.json())
        return {} if found["progress"] == "pending" else found

    return wait_for(outcome, "the rebuild ends")


def test_a_rebuild_is_asked_for_and_its_outcome_read(http: httpx.Client, system: ObservedSystem) -> None:
    system.take([event(stage="load"), *events(9)])
    system.health_with(total=10)
    before = system.metrics()
    asked = http.post(f"/systems/{system.id}/rebuild")
    assert (202, f"/systems/{system.id}/rebuild") == (asked.status_code, asked.headers["location"])
    assert (system.id, "pending") == (asked.json()["system_id"], asked.json()["progress"])
    found = ended(http, system)
    assert ("done", 0, 0, 0, "") == tuple(found[name] for name in ("progress", "different", "kept", "lost", "reason"))
    assert found["replaced"] >= 1
    after = system.metrics()
    assert {name: before[name] for name in ("latency_ms", "stages")} == {n: after[n] for n in ("latency_ms", "stages")}


def test_of_an_unknown_system_there_is_none(http: httpx.Client) -> None:
    assert [404, 404] == [
        http.post("/systems/999999/rebuild").status_code,
        http.get("/systems/999999/rebuild").status_code,
    ]


def test_before_one_was_asked_for_there_is_none(http: httpx.Client, system: ObservedSystem) -> None:
    answer = http.get(f"/systems/{system.id}/rebuild")
    assert 404 == answer.status_code
    assert "no rebuild" in answer.json()["detail"]


def test_a_system_that_is_deleted_takes_its_rebuild_along(
    http: httpx.Client, service: Service, system: ObservedSystem
) -> None:
    http.post(f"/systems/{system.id}/rebuild")
    assert 204 == http.delete(f"/systems/{system.id}").status_code

    with service.redis() as store:
        assert not store.exists(keys.rebuild(system.id))
        assert not store.sismember(keys.rebuilds(partition_of(system.id)), system.id)
    assert 404 == http.get(f"/systems/{system.id}/rebuild").status_code
