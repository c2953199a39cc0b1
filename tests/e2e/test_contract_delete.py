"""A deleted system leaves nothing behind, and nothing of it comes back."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
import redis

from tests.e2e.conftest import NewSystem, StartService
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, event, events, register
from tests.e2e.traces import keys_of, mentions_of
from tests.waiting import wait_for


@pytest.fixture
def store(service: Service) -> Iterator[redis.Redis]:
    with service.redis() as connection:
        yield connection


def test_delete_removes_every_key_of_the_system(store: redis.Redis, new_system: NewSystem) -> None:
    system = new_system(tags=["x"])
    system.take(events(50), key="a")
    system.take([event(), event(latency_ms=-1)], key="b", on_invalid="skip")
    system.health_with(total=51)
    assert keys_of(store, system.id)
    assert mentions_of(store, system.id)
    assert 204 == system.http.delete(system.path).status_code
    wait_for(lambda: not keys_of(store, system.id), "its keys are gone")
    wait_for(lambda: not mentions_of(store, system.id), "no shared key has it")
    assert ([], []) == (keys_of(store, system.id), mentions_of(store, system.id))


def test_delete_of_a_system_that_was_never_used_removes_every_key(store: redis.Redis, system: ObservedSystem) -> None:
    assert 204 == system.http.delete(system.path).status_code
    wait_for(lambda: not keys_of(store, system.id) + mentions_of(store, system.id), "it is gone")


@pytest.mark.timeout(90)
def test_delete_under_load_is_final(service: Service, store: redis.Redis, new_system: NewSystem) -> None:
    """Four pipelines post while their systems are deleted; from the first 404 on there are only 404s, and no keys."""
    systems = [new_system() for _ in range(4)]
    seen: dict[int, list[int]] = {system.id: [] for system in systems}
    stop = threading.Event()

    def post(system: ObservedSystem) -> None:
        with service.client() as http:
            while not stop.is_set():
                body = {"events": events(200)}
                seen[system.id].append(http.post(f"{system.path}/events", json=body).status_code)

    threads = [threading.Thread(target=post, args=(system,)) for system in systems for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for system in systems:
            wait_for(partial(taken_often, seen[system.id]), "events are taken")
            assert 204 == system.http.delete(system.path).status_code
        for system in systems:
            wait_for(partial(refused_only, seen[system.id]), "only 404s are left")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {202, 404} == set(Counter(status for statuses in seen.values() for status in statuses))
    for system in systems:
        wait_for(partial(is_gone, store, system), "its keys are gone")
    look_on_while_others_are_folded(new_system, store, systems)


def taken_often(statuses: list[int]) -> bool:
    return statuses.count(202) >= 10


def refused_only(statuses: list[int]) -> bool:
    return statuses[-20:] == [404] * 20


def is_gone(store: redis.Redis, system: ObservedSystem) -> bool:
    return not keys_of(store, system.id) and not mentions_of(store, system.id)


def look_on_while_others_are_folded(new_system: NewSystem, store: redis.Redis, gone: list[ObservedSystem]) -> None:
    """Nothing comes back while the same partitions go on folding other systems."""
    neighbours = {system.id % 32: system for system in (new_system() for _ in range(32))}
    for turn in range(1, 6):
        for system in gone:
            neighbours[system.id % 32].take([event()])
        for system in gone:
            neighbours[system.id % 32].health_with(total=turn)
            assert ([], []) == (keys_of(store, system.id), mentions_of(store, system.id))


def test_a_deleted_system_is_not_in_the_way_of_its_partition(new_system: NewSystem) -> None:
    systems = [new_system() for _ in range(33)]
    first, last = systems[0], systems[-1]
    assert first.id % 32 == last.id % 32 or len({system.id % 32 for system in systems}) == 32
    for system in systems:
        system.take(events(20))
    first.http.delete(first.path)
    for system in systems[1:]:
        system.health_with(total=20)


def test_the_fleet_forgets_a_deleted_system(http: httpx.Client, system: ObservedSystem) -> None:
    before = sum(http.get("/health").json()["counts"].values())
    system.http.delete(system.path)
    wait_for(lambda: sum(http.get("/health").json()["counts"].values()) == before - 1, "it is not counted any more")


@pytest.mark.timeout(90)
def test_what_a_stopped_worker_still_had_in_hand_does_not_bring_a_system_back(start_service: StartService) -> None:
    """The worker is stopped under load, past its lease; the systems are deleted, and then it goes on where it was."""
    service = start_service("--workers", "1")
    with service.client() as http, service.redis() as store:
        systems = [register(http) for _ in range(8)]
        with Load(service.url, [system.id for system in systems], pause_s=0):
            for system in systems:
                wait_for(partial(has_counted, system), "events are counted")
            for worker in service.children("worker"):
                worker.suspend()
            for system in systems:
                system.take(events(100))
        deleted = systems[:4]
        for system in deleted:
            assert 204 == http.delete(system.path).status_code
        since = time.monotonic()
        wait_for(lambda: time.monotonic() - since > 2.5, "the lease is over")
        service.resume()
        for system in systems[4:]:
            before = system.health()["total"]
            system.take([event()])
            wait_for(partial(has_counted, system, before), "the others are folded again", within=20)
        for system in deleted:
            assert 404 == http.get(system.path).status_code
            wait_for(partial(is_gone, store, system), f"system {system.id} is gone")
        assert {system.id for system in systems[4:]} == {
            line["system_id"] for line in http.get("/health").json()["items"]
        }


def has_counted(system: ObservedSystem, more_than: int = 0) -> bool:
    return int(system.health()["total"]) > more_than
