"""An outside Redis of several servers, one of which is killed while events come in; a replica takes over."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import httpx

from lso_core.model.windows import partition_of
from lso_core.store import keys
from tests.chaos.catalogue import fault
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, events, register
from tests.redises import Node, RealSentinels, running_cluster, running_sentinels, running_single
from tests.waiting import wait_for

BACK_S = 30.0
"""A failover takes two or three seconds here; a machine that others use as well gets more."""
FOLLOWED_S = 5.0
"""A connection is given up after 2 s without an answer, and a new master asked for."""
SETTLE_S = 60.0
BATCH = 50
Store = Callable[[int], Any]
"""A connection to the server that has a system."""


@fault("cluster-failover")
def cluster_failover(trial: Trial) -> None:
    """Kill -9 a master of a Redis Cluster under load: its replica takes over, and nothing is counted twice."""
    queue = trial.stack.enter_context(running_single())
    cluster = trial.stack.enter_context(running_cluster(replicas=3, timeout_ms=1_000))
    service = trial.start_service("--workers", "1", redis_url=cluster.url, environ={"LSO_QUEUE_URL": queue.url})
    with service.client() as http:
        systems = [register(http, window_seconds=3_600) for _ in range(trial.size(6, 24))]
        home = {one.id: cluster.owner(keys.stats(partition_of(one.id))) for one in systems}
        registry = cluster.owner(keys.LAYOUT)
        accepted: Counter[int] = Counter()
        waits: list[float] = []
        for left in reversed(range(trial.size(1, 9))):
            owners = sorted({node.port: node for node in home.values()}.values(), key=lambda node: node.port)
            victim = trial.dice.choice([node for node in owners if node is not registry] or owners)
            hit = [one for one in systems if home[one.id] is victim]
            spared = [one for one in systems if home[one.id] is not victim]
            with Load(service.url, [one.id for one in systems], batch=BATCH) as load:
                _until_taken(load, systems)
                victim.kill()
                began = time.monotonic()
                waits.append(_until_back(trial, hit, spared, began))
                _until_taken(load, systems)
            accepted += load.accepted
            _note(trial, load)
            if not left:
                break
            victim.start()  # and so the next failover finds a replica
            wait_for(lambda: _has_followers(cluster.nodes), "every master has a replica again", SETTLE_S)
            home = {one.id: cluster.owner(keys.stats(partition_of(one.id))) for one in systems}
        _judge(trial, service, lambda one: cluster.owner(keys.system(one)).client, systems, accepted)
    trial.figures["answers_again_max_s"] = round(max(waits), 1)


@fault("sentinel-failover")
def sentinel_failover(trial: Trial) -> None:
    """Kill -9 the master that sentinels watch under load: LSO follows to the next, and nothing is counted twice."""
    sentinels = trial.stack.enter_context(running_sentinels(down_ms=500))
    service = trial.start_service("--workers", "1", redis_url=sentinels.url)
    with service.client() as http:
        systems = [register(http, window_seconds=3_600) for _ in range(trial.size(4, 12))]
        accepted: Counter[int] = Counter()
        waits: list[float] = []
        elections: list[float] = []
        for left in reversed(range(trial.size(1, 5))):
            with Load(service.url, [one.id for one in systems], batch=BATCH) as load:
                _until_taken(load, systems)
                victim = sentinels.master()
                with _Election(sentinels, victim) as election:
                    victim.kill()
                    waits.append(_until_back(trial, systems, [], time.monotonic()))
                elections.append(election.took_s)
                _until_taken(load, systems)
            accepted += load.accepted
            _note(trial, load)
            if not left:
                break
            victim.start()
            wait_for(lambda: _has_followers(sentinels.servers), "the new master has a replica", SETTLE_S)
        _judge(trial, service, lambda _: sentinels.master().client, systems, accepted)
    after = max(wait - election for wait, election in zip(waits, elections, strict=True))
    trial.check(after <= FOLLOWED_S, f"LSO took events {after:.1f} s after the sentinels had a new master")
    trial.figures["answers_again_max_s"] = round(max(waits), 1)
    trial.figures["elected_max_s"] = round(max(elections), 1)
    trial.figures["answers_after_election_max_s"] = round(after, 1)


class _Election:
    """How long the sentinels take from a master's death until they name another: their part of an outage, not LSO's."""

    def __init__(self, sentinels: RealSentinels, victim: Node) -> None:
        self.took_s = 0.0
        self._sentinels = sentinels
        self._victim = victim
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _watch(self) -> None:
        wait_for(lambda: self._sentinels.master() is not self._victim, "the sentinels name another master", BACK_S)
        self.took_s = time.monotonic() - self._began


def _until_taken(load: Load, systems: list[ObservedSystem]) -> None:
    """Wait until each system had a further batch accepted."""
    before = load.taken()
    wait_for(
        lambda: all(load.taken()[one.id] > before[one.id] for one in systems),
        "every system takes events",
        BACK_S,
    )


def _until_back(trial: Trial, hit: list[ObservedSystem], spared: list[ObservedSystem], began: float) -> float:
    """How long until those whose server was killed take events again; the others must take them all the while."""

    def back() -> bool:
        for one in spared:
            status = _post(one)
            trial.check(status == 202, f"a system of another server answered {status} during the failover")
        return all(_post(one) == 202 for one in hit)

    wait_for(back, "the systems of the killed server take events again", BACK_S)
    return time.monotonic() - began


def _post(system: ObservedSystem) -> int:
    """A batch of lifecycle events, which no total counts."""
    try:
        beat = {"event_type": "heartbeat", "status": "ok"}
        return system.post([beat]).status_code
    except httpx.TransportError:
        return 0


def _note(trial: Trial, load: Load) -> None:
    trial.check(not load.failures, f"pipelines gave up: {load.failures[:3]}")
    for name, value in (("retries", load.retries), ("duplicates", load.duplicates)):
        trial.figures[name] = int(trial.figures.get(name, 0)) + value


def _has_followers(nodes: list[Node]) -> bool:
    roles: list[Any] = [node.client.info("replication") for node in nodes]
    masters = [one for one in roles if one["role"] == "master"]
    followers = sum(one["connected_slaves"] for one in masters)
    return bool(followers == len(nodes) - len(masters) and followers >= len(masters))


def _judge(trial: Trial, service: Service, store: Store, systems: list[ObservedSystem], accepted: Counter[int]) -> None:
    """Counted is what was accepted less what was lost with the killed server, never more; figures and entries agree."""
    with service.client() as http:
        wait_for(lambda: http.get("/autoscale").json()["backlog"]["events"] == 0, "everything is folded", SETTLE_S)
    lost = 0
    for one in systems:
        counted = one.health()["total"]
        trial.check(counted <= accepted[one.id], f"system {one.id} counts {counted} of {accepted[one.id]} accepted")
        lost += accepted[one.id] - counted
        stored = sum(int(fields[b"n"]) for _, fields in store(one.id).xrange(keys.stream(one.id)))
        folded = int(store(one.id).hget(keys.state(one.id), "n"))
        added = int(store(one.id).hget(keys.system(one.id), "added"))
        trial.check(stored == folded == added, f"system {one.id}: {stored} stored, {folded} folded, {added} added")
        one.take(events(7))
        one.health_with(total=counted + 7, within=SETTLE_S)
    trial.figures |= {"accepted": sum(accepted.values()), "lost": lost, "systems": len(systems)}
