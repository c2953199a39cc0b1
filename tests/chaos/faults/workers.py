"""Workers that die, and workers that stop and come back when others have taken over."""

import statistics
import time

import httpx
import psutil

from tests.chaos.catalogue import fault
from tests.chaos.scene import Scene, metric
from tests.chaos.trial import Trial
from tests.waiting import wait_for

TAKEOVER_S = 2.5
"""Median time until a dead worker's systems are folded elsewhere."""
LEASE_S = 2.0
LEAST_EVENTS = 500_000
MOST_STOPS = 40
REPLACED_S = 20.0
PUBLISHED_S = 1.2
"""Workers publish what they count once a second."""


@fault("kill-workers")
def kill_workers(trial: Trial) -> None:
    """kill -9 of random workers under load: nothing lost, nothing double, others take over."""
    service = trial.start_service("--workers", "2")
    took: list[float] = []
    with service.client() as http:
        scene = Scene(trial, service, http)
        with scene.load() as load:
            for _ in range(trial.size(2, 200)):
                wait_for(lambda: len(scene.owners()) == 2, "both workers hold partitions", REPLACED_S)
                victim = trial.dice.choice(scene.workers())
                took.append(scene.takeover_s(victim.kill))
        ledger = scene.close(load)
    _note(trial, "kills", took)
    trial.check(statistics.median(took) <= TAKEOVER_S, f"the median takeover took {statistics.median(took):.1f} s")
    least = trial.size(0, LEAST_EVENTS)
    trial.check(sum(ledger.wanted.values()) >= least, f"the load was less than {least:,} events")


@fault("stop-workers")
def stop_workers(trial: Trial) -> None:
    """SIGSTOP of workers past their leases under load: what they commit when they come back is refused."""
    service = trial.start_service("--workers", "2")
    took: list[float] = []
    with service.client() as http:
        scene = Scene(trial, service, http)
        with scene.load() as load:
            # A worker that is stopped between two steps has nothing to commit when it comes back; so until one had.
            while len(took) < trial.size(1, 25) or (not fenced(http) and len(took) < MOST_STOPS):
                took.append(_stop(scene, trial.dice.choice(scene.sharers())))
        scene.close(load)
        trial.figures["fenced"] = fenced(http)
    _note(trial, "stops", took)
    trial.check(bool(trial.figures["fenced"]), "no commit was refused, so that nothing is shown")


def fenced(http: httpx.Client) -> int:
    """Commits refused so far, over all workers."""
    time.sleep(PUBLISHED_S)
    return int(metric(http, "lso_commits_fenced_total"))


def _stop(scene: Scene, victim: psutil.Process) -> float:
    """Stop a worker until its lease is over and its systems are folded elsewhere; seconds until they were."""
    stopped = time.monotonic()
    took = scene.takeover_s(victim.suspend)
    wait_for(lambda: time.monotonic() - stopped > LEASE_S + 0.5, "the lease is over")
    victim.resume()
    return took


def _note(trial: Trial, what: str, took: list[float]) -> None:
    trial.figures[what] = len(took)
    trial.figures["takeover_p50_s"] = round(statistics.median(took), 2)
    trial.figures["takeover_max_s"] = round(max(took), 2)
