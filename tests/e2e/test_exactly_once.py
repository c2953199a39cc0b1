"""Counted equals accepted, whatever happens to the processes that count."""

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import httpx
import psutil
import pytest

from tests.e2e.conftest import StartService
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, event, register
from tests.e2e.traces import groups
from tests.waiting import wait_for

PARTITIONS = frozenset({0, 3, 5, 10, 15, 20, 25, 30})
"""Where the eight systems live: even and odd, low and high, so that two workers share them however they share."""
SYSTEMS = len(PARTITIONS)
TAKEOVER_S = 3.0
"""A dead or stopped worker's partitions fold elsewhere within this time."""
LEASE_S = 2.0
SEED = 3


class Scene:
    """A service with two workers, eight systems, and pipelines that post to them all the time."""

    def __init__(self, service: Service, http: httpx.Client) -> None:
        self.service = service
        self.http = http
        registered = [register(http, window_seconds=3_600) for _ in range(32)]
        self.systems = [system for system in registered if system.id % 32 in PARTITIONS]
        self.probes: Counter[int] = Counter()
        """Events that were posted besides the load, to see how fast they are counted."""
        self.dice = random.Random(SEED)

    def load(self) -> Load:
        return Load(self.service.url, [system.id for system in self.systems])

    def workers(self, count: int = 2) -> list[psutil.Process]:
        """The workers, once there are so many."""

        def enough() -> list[psutil.Process]:
            found = self.service.children("worker")
            return found if len(found) >= count else []

        return wait_for(enough, f"there are {count} workers", within=20)

    def shared(self) -> list[psutil.Process]:
        """Both workers, once they share the leases evenly, so that either has something to lose."""

        def evenly() -> bool:
            with self.service.redis() as store:
                owners = [store.hget(f"lso:{{p{number:02d}}}:lease", "owner") for number in range(32)]
            return sorted(Counter(owners).values()) == [16, 16]

        found = self.workers()
        wait_for(evenly, "two workers hold 16 leases each", within=20)
        return found

    def takeover(self, load: Load, disturb: Callable[[], object]) -> float:
        """Seconds from a disturbance until an event that came right after it is counted, in the slowest system."""
        disturb()
        began = time.monotonic()
        for system in self.systems:
            self.probes[system.id] += system.take([event()])["accepted"]
        wanted = load.taken() + self.probes  # everything that was accepted so far, so that the probe is among it
        behind = set(self.systems)

        def caught_up() -> bool:
            behind.difference_update([one for one in behind if one.health()["total"] >= wanted[one.id]])
            return not behind

        wait_for(caught_up, f"what came after the disturbance is counted in all of {SYSTEMS} systems", within=20)
        return time.monotonic() - began

    def check(self, load: Load) -> None:
        """Counted equals accepted, and stays so; nothing is left waiting."""
        assert [] == load.failures
        wanted = load.accepted + self.probes
        assert min(wanted.values()) > 0
        for system in self.systems:
            system.health_with(total=wanted[system.id], within=20)
        wait_for(self.nothing_waits, "the backlog is empty")
        with self.service.redis() as store:
            lag = [group["lag"] for system in self.systems for group in groups(store, system.id)]
        assert [0] * SYSTEMS == lag
        counted = {system.id: system.health()["total"] for system in self.systems}
        assert dict(wanted) == counted

    def nothing_waits(self) -> bool:
        backlog = self.http.get("/autoscale").json()["backlog"]
        return (0, 0) == (backlog["entries"], backlog["events"])


def await_new(scene: Scene, killed: psutil.Process) -> None:
    """Wait until another process stands where the killed one stood."""

    def replaced() -> bool:
        found = [worker.pid for worker in scene.service.children("worker")]
        return len(found) >= 2 and killed.pid not in found

    wait_for(replaced, "a new worker is started", within=20)


@pytest.mark.timeout(150)
def test_kill_9_of_workers_under_load_changes_no_total(start_service: StartService) -> None:
    kill_workers(start_service, kills=30)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_kill_9_of_workers_under_load_changes_no_total_for_long(start_service: StartService) -> None:
    kill_workers(start_service, kills=400)


def kill_workers(start_service: StartService, kills: int) -> None:
    """Kill one worker after the other, at any point of its work; each time the other takes over."""
    service = start_service("--workers", "2")
    with service.client() as http:
        scene = Scene(service, http)
        with scene.load() as load:
            took = []
            for _ in range(kills):
                victim = scene.dice.choice(scene.shared())
                took.append(scene.takeover(load, victim.kill))
                await_new(scene, victim)
        scene.check(load)
    assert max(took) <= TAKEOVER_S, f"takeovers took {[round(one, 1) for one in took]} s"


@pytest.mark.timeout(150)
def test_workers_that_stop_past_their_lease_change_no_total(start_service: StartService) -> None:
    stop_workers(start_service, stops=10)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_workers_that_stop_past_their_lease_change_no_total_for_long(start_service: StartService) -> None:
    stop_workers(start_service, stops=150)


def stop_workers(start_service: StartService, stops: int) -> None:
    """Stop one worker after the other, at any point of its work, until the other has taken over; then let it go on."""
    service = start_service("--workers", "2")
    with service.client() as http:
        scene = Scene(service, http)
        with scene.load() as load:
            took = []
            for _ in range(stops):
                victim = scene.dice.choice(scene.shared())
                stopped = time.monotonic()
                took.append(scene.takeover(load, victim.suspend))
                wait_for(partial(has_passed, stopped, LEASE_S + 0.5), "the lease is over")
                victim.resume()
        scene.check(load)
    assert max(took) <= TAKEOVER_S, f"takeovers took {[round(one, 1) for one in took]} s"


def has_passed(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds


def has_taken(load: Load, count: int) -> bool:
    return load.taken().total() > count


@pytest.mark.timeout(150)
def test_kill_9_of_api_processes_under_load_changes_no_total(start_service: StartService) -> None:
    service = start_service("--api-processes", "2")
    with service.client() as http:
        scene = Scene(service, http)
        with scene.load() as load:
            for _ in range(8):
                victim = scene.dice.choice(wait_for(lambda: service.children("api"), "there is an API process"))
                before = load.taken().total()
                victim.kill()
                wait_for(lambda: len(service.children("api")) == 2, "it is started again", within=20)
                wait_for(partial(has_taken, load, before + 500), "the load goes on", within=20)
        assert load.retries > 0
    with service.client() as http:
        scene.http = http
        scene.systems = [ObservedSystem(http, http.get(system.path).json()) for system in scene.systems]
        scene.check(load)
