"""Garbage in a system's state."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from lso_core.compute.state import STATE_FORMAT
from lso_core.store import keys
from tests.chaos.catalogue import fault
from tests.chaos.trial import Trial
from tests.e2e.service import ROOT, Service
from tests.e2e.systems import ObservedSystem, event, register
from tests.waiting import wait_for

SETTLED_S: Final = 30.0
EVENTS: Final = 40

Spoil = Callable[[Any, str], object]
"""Does something to a state, given a connection and the state's key."""


def _slot(client: Any, where: str, value: bytes) -> object:
    return client.hset(where, next(field for field in client.hkeys(where) if field.startswith(b"s")), value)


KINDS: Final[dict[str, Spoil]] = {
    "another-type": lambda client, where: client.pipeline().delete(where).set(where, "garbage").execute(),
    "cursor": lambda client, where: client.hset(where, "c", "nonsense"),
    "token-and-cursor": lambda client, where: client.hset(where, mapping={"c": b"\xff\xfe", "t": b""}),
    "counters": lambda client, where: client.hset(where, mapping={"n": "many", "e": "-", "b": ""}),
    "arrival": lambda client, where: client.hset(where, "a", "yesterday"),
    "meta": lambda client, where: client.hset(where, "m", b"garbage"),
    "meta-cut": lambda client, where: client.hset(where, "m", bytes((STATE_FORMAT,))),
    "slot": lambda client, where: _slot(client, where, bytes((STATE_FORMAT,)) + b"garbage"),
    "slot-empty": lambda client, where: _slot(client, where, b""),
    "foreign-field": lambda client, where: client.hset(where, "sponge", b"x"),
}


@fault("poison-state")
def poison_state(trial: Trial) -> None:
    """Garbage in a state: that system is UNKNOWN with a reason, `lso rebuild` mends it, and no other notices."""
    service = trial.start_service()
    kinds = list(KINDS)
    trial.dice.shuffle(kinds)
    slots = 0
    with service.client() as http:
        bad = {kind: register(http, window_seconds=3_600) for kind in kinds}
        others = [register(http, window_seconds=3_600) for _ in range(trial.size(5, 50))]
        for system in (*bad.values(), *others):
            system.take([event(latency_ms=trial.dice.randrange(1, 5_000)) for _ in range(EVENTS)])
        for system in (*bad.values(), *others):
            system.health_with(total=EVENTS, within=SETTLED_S)
        before = {kind: system.metrics() for kind, system in bad.items()}
        _spoil(service, bad)
        for system in (*bad.values(), *others):  # a change has each judged anew at once
            http.patch(system.path, json={"description": "looked at"})
        for kind, system in bad.items():
            found = system.health_with(health="UNKNOWN", within=SETTLED_S)
            trial.check("cannot be read" in str(found["reason"]), f"{kind}: the reason is {found['reason']!r}")
        for system in others:
            trial.check(system.health()["health"] == "OK", f"system {system.id}, which is sound, is not OK")
        outcomes = _rebuild(service, list(bad.values()))
        for kind, outcome in zip(bad, outcomes, strict=True):
            slots += outcome["replaced"]
            trial.check(outcome["progress"] == "done", f"{kind}: not rebuilt: {outcome['reason']}")
            trial.check(outcome["lost"] == 0, f"{kind}: {outcome['lost']} slots are lost")
        for kind, system in bad.items():
            system.health_with(total=EVENTS, health="OK", within=SETTLED_S)
            after = system.metrics()
            trial.check(after["latency_ms"] == before[kind]["latency_ms"], f"{kind}: other percentiles than before")
            system.take([event()])
            system.health_with(total=EVENTS + 1, within=SETTLED_S)
        wait_for(lambda: http.get("/autoscale").json()["backlog"]["events"] == 0, "no backlog is left", SETTLED_S)
    trial.figures.update(kinds=len(kinds), others=len(others), slots_replaced=slots)


def _spoil(service: Service, bad: dict[str, ObservedSystem]) -> None:
    """Spoil each state in its way, and have somebody read it from the store: a new worker knows nothing by heart."""
    with service.redis() as client:
        for kind, system in bad.items():
            KINDS[kind](client, keys.state(system.id))
    for worker in service.children("worker"):
        worker.kill()


def _rebuild(service: Service, systems: list[ObservedSystem]) -> list[dict[str, Any]]:
    """The outcome for each, as `lso rebuild` tells it."""
    ids = [str(system.id) for system in systems]
    command = [sys.executable, "-m", "lso_core.cli.lso", "rebuild", *ids, "--url", service.url, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
