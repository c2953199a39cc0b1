"""Whether these trials would notice: the same faults upon workers that lack a safeguard."""

import time

import httpx
import psutil

from tests.chaos.catalogue import fault
from tests.chaos.controls import Controls, controls
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, event, register
from tests.waiting import wait_for

LEASE_S = 2.0
SETTLED_S = 30.0
VISIBLE_S = 4.0
LONG_PAUSE_S = "0.5"
"""Most of a step's time, so that nearly every stop meets one with something in hand."""
PAUSE_S = "0.15"
"""So long a control worker waits at its weak point, which is where most signals then meet it."""


@fault("control-torn")
def control_torn(trial: Trial) -> None:
    """kill -9 upon a commit without a transaction: must come out wrong."""
    wrong = 0
    kills = trial.size(12, 40)
    service = trial.start_service("--workers", "1")
    with service.client() as http, controls(trial, service) as crew:
        system = register(http, window_seconds=3_600)
        accepted, done = 0, 0
        while not wrong and done < kills:
            accepted += _kill_once(trial, service, system, crew, "--torn", "--pause", PAUSE_S)
            wrong, done = _settle(crew, http, system, accepted, "--torn"), done + 1
    trial.figures.update(kills=done, wrong_events=wrong)
    trial.check(wrong != 0, f"{done} kills of a worker whose commits can be torn came out right: the trials are blind")


@fault("control-unfenced-kill")
def control_unfenced_kill(trial: Trial) -> None:
    """kill -9 upon a commit without its fences: expected to come out right, since the dead commit nothing."""
    wrong, accepted = 0, 0
    service = trial.start_service("--workers", "1")
    with service.client() as http, controls(trial, service) as crew:
        system = register(http, window_seconds=3_600)
        for _ in range(trial.size(1, 20)):
            accepted += _kill_once(trial, service, system, crew, "--unfenced", "--pause", PAUSE_S)
            wrong = _settle(crew, http, system, accepted, "--unfenced")
    trial.figures.update(kills=trial.size(1, 20), events=accepted, wrong_events=wrong)
    trial.check(wrong == 0, f"{wrong} events are wrong, though nobody can have committed twice")


@fault("control-unfenced-stop")
def control_unfenced_stop(trial: Trial) -> None:
    """SIGSTOP upon a commit without its fences: must come out wrong; the same story with them comes out right."""
    wrong, stops = _stop_until_wrong(trial, trial.size(6, 20), "--unfenced")
    trial.figures.update(stops=stops, wrong_events=wrong)
    trial.check(wrong != 0, f"{stops} stops of workers without fences came out right: the trials are blind")
    if not trial.short:
        wrong, stops = _stop_until_wrong(trial, stops)
        trial.figures.update(stops_with_fences=stops, wrong_with_fences=wrong)
        trial.check(wrong == 0, f"{wrong} events are wrong behind the fences")


@fault("orphan-peek")
def orphan_peek(trial: Trial) -> None:
    """A worker killed between reading and committing, with no sweep anywhere: visible within 4 s all the same."""
    took = []
    service = trial.start_service("--workers", "1")
    with service.client() as http, controls(trial, service) as crew:
        system = register(http, window_seconds=3_600)
        for number in range(1, trial.size(1, 25) + 1):
            victim = crew.start("--no-sweep", "--dies")
            system.take([event()])
            wait_for(lambda: _is_dead(victim), "the worker dies with the entry in hand", SETTLED_S)  # noqa: B023
            died = time.monotonic()
            heir = crew.start("--no-sweep")
            system.health_with(total=number, within=SETTLED_S)
            took.append(time.monotonic() - died)
            heir.kill()
            wait_for(lambda: _is_dead(heir), "the heir ends", SETTLED_S)  # noqa: B023
            wait_for(lambda: not _is_led(service), "its leases run out", SETTLED_S)
    trial.figures.update(deaths=len(took), visible_max_s=round(max(took), 2))
    trial.check(max(took) < trial.size(3 * VISIBLE_S, VISIBLE_S), f"visible only after {max(took):.1f} s")


def _kill_once(trial: Trial, service: Service, system: ObservedSystem, crew: Controls, *flags: str) -> int:
    """Kill a control worker under load; events accepted meanwhile."""
    victim = crew.start(*flags)
    with Load(service.url, [system.id]) as load:
        wait_for(lambda: len(load.batches) > 5, "the load is under way", SETTLED_S)
        time.sleep(trial.dice.uniform(0.2, 0.5))
        victim.kill()
    trial.check(not load.failures, f"batches were not taken: {load.failures}")
    return load.accepted.total()


def _settle(crew: Controls, http: httpx.Client, system: ObservedSystem, accepted: int, *flags: str) -> int:
    """How many events too many or too few are counted once another worker has folded everything."""
    heir = crew.start(*flags)
    _await_folded(http)
    heir.kill()
    return int(system.health()["total"]) - accepted


def _await_folded(http: httpx.Client) -> None:
    wait_for(lambda: http.get("/autoscale").json()["backlog"]["events"] == 0, "the backlog is empty", SETTLED_S)


def _stop_until_wrong(trial: Trial, stops: int, *flags: str) -> tuple[int, int]:
    """Stop a worker in the middle of a step, let another fold everything, and let the first go on; again until wrong.

    Returns how many events too many or too few are counted then, and after how many stops.
    """
    wrong, done, accepted = 0, 0, 0
    service = trial.start_service("--workers", "1")
    with service.client() as http, controls(trial, service) as crew:
        system = register(http, window_seconds=3_600)
        workers = [crew.start("--pause", LONG_PAUSE_S, *flags) for _ in range(2)]
        while not wrong and done < stops:
            victim = _holder(service, system, workers)
            with Load(service.url, [system.id]) as load:
                wait_for(lambda: len(load.batches) > 5, "the load is under way", SETTLED_S)
                time.sleep(trial.dice.uniform(0.1, 0.4))
                victim.suspend()
                time.sleep(LEASE_S + 0.5)
            accepted += load.accepted.total()
            _await_folded(http)
            victim.resume()
            time.sleep(1.0)  # what it had in hand is committed now, or refused
            wrong, done = int(system.health()["total"]) - accepted, done + 1
    service.stop()
    return wrong, done


def _holder(service: Service, system: ObservedSystem, workers: list[psutil.Process]) -> psutil.Process:
    """The worker that folds the system, once one does."""

    def holder() -> psutil.Process | None:
        owner = _owner_of(service, system.id % 32)
        return next((one for one in workers if owner == f"control-{one.pid}"), None)

    found = wait_for(holder, "a worker holds the system's partition", SETTLED_S)
    assert found is not None
    return found


def _owner_of(service: Service, partition: int) -> str:
    with service.redis() as store:
        found = store.hget(f"lso:{{p{partition:02d}}}:lease", "owner")
    return found.decode() if isinstance(found, bytes) else ""


def _is_led(service: Service) -> bool:
    """Whether some lease has not run out."""
    with service.redis() as store:
        seconds, micros = store.time()
        ends = [store.hget(f"lso:{{p{number:02d}}}:lease", "until") for number in range(32)]
    return any(int(end or 0) > seconds * 1_000 + micros // 1_000 for end in ends)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
