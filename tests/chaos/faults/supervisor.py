"""The death of `lso up` itself."""

import statistics
import time

import psutil

from tests.chaos.catalogue import fault
from tests.chaos.ledger import Ledger
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.systems import register
from tests.waiting import wait_for

ENDED_S = 2.0
TAIL_S = 2.0
"""What everysec may lose when everything goes down at once."""


@fault("kill-up")
def kill_up(trial: Trial) -> None:
    """kill -9 of lso up under load: every child ends, the next start works, what was accepted is there."""
    ended_s: list[float] = []
    starts_s: list[float] = []
    killed_at: list[float] = []
    service = trial.start_service("--workers", "2")
    with service.client() as http:
        systems = [register(http, window_seconds=3_600) for _ in range(4)]
    with Load(service.url, [one.id for one in systems]) as load:
        for _ in range(trial.size(1, 10)):
            before = len(load.batches)
            wait_for(lambda: len(load.batches) > before + 20, "the load is under way", 20)  # noqa: B023
            time.sleep(trial.dice.uniform(0.2, trial.size(0.5, 3.0)))
            children = service.tree()
            service.process.kill()
            killed_at.append(time.monotonic())
            _, left = psutil.wait_procs(children, timeout=10)
            ended_s.append(time.monotonic() - killed_at[-1])
            trial.check(not left, f"{len(left)} children outlived lso up")
            service.process.wait()
            began = time.monotonic()
            service = trial.start_service("--workers", "2", "--port", str(service.address[1]))
            starts_s.append(time.monotonic() - began)
        before = len(load.batches)
        wait_for(lambda: len(load.batches) > before + 20, "the load goes on", 20)
    ledger = Ledger(service, systems, load)
    for problem in ledger.close():
        trial.check(False, problem)
    tails = [min(kill - batch.at_s for kill in killed_at if kill >= batch.at_s) for batch in ledger.lost]
    trial.figures.update(
        kills=len(ended_s),
        events=load.accepted.total(),
        lost=ledger.lost_events,
        duplicates_answered=load.duplicates,
        children_ended_max_s=round(max(ended_s), 2),
        start_p50_s=round(statistics.median(starts_s), 2),
    )
    trial.check(max(ended_s) <= trial.size(3 * ENDED_S, ENDED_S), f"children ended after {max(ended_s):.1f} s")
    trial.check(max(tails, default=0) <= TAIL_S, f"lost is what was accepted {max(tails, default=0):.1f} s before")
