"""API processes that die while pipelines send through the SDK."""

import threading
import time

from lso_core.client import Client
from tests.chaos.catalogue import fault
from tests.chaos.trial import Trial
from tests.e2e.systems import ObservedSystem
from tests.waiting import wait_for

EVENTS_S = 500
"""Events a second of each pipeline, about."""
IN_HAND_S = 0.4


@fault("kill-apis")
def kill_apis(trial: Trial) -> None:
    """kill -9 of API processes under load, pipelines sending through the SDK: nothing lost, nothing double."""
    service = trial.start_service("--api-processes", "2")
    kinds = {"memory": "", "spool": str(trial.folder / "spool")}
    pipelines = [Pipeline(service.url, f"sdk-{kind}", spool) for kind, spool in kinds.items()]
    for pipeline in pipelines:
        pipeline.start()
    kills, in_hand = trial.size(3, 30), 0
    for turn in range(kills):
        time.sleep(
            trial.dice.uniform(0.1, trial.size(0.6, 4.0))
        )  # a process that keeps dying is started later and later
        victims = wait_for(lambda: service.children("api"), "there is an API process")
        if turn % 2:
            victims = [trial.dice.choice(victims)]
        for victim in victims:  # stopped first, so that some request is in their hands
            victim.suspend()
        time.sleep(IN_HAND_S)
        in_hand += any(pipeline.waits() for pipeline in pipelines)
        for victim in victims:
            victim.kill()
    for pipeline in pipelines:
        pipeline.end()
    trial.figures.update(kills=kills, with_batches_in_hand=in_hand, events=sum(one.sent for one in pipelines))
    trial.check(in_hand > 0, "no batch was in the hands of what was killed, so that nothing is shown")
    with service.client() as http:
        for pipeline in pipelines:
            (found,) = http.get("/systems", params={"name": pipeline.name}).json()["items"]
            system = ObservedSystem(http, found)
            system.health_with(total=pipeline.sent, within=30)
            time.sleep(0.5)  # a second delivery would be counted now
            counted = int(system.health()["total"])
            trial.figures[f"{pipeline.name}_lost"] = max(0, pipeline.sent - counted)
            trial.figures[f"{pipeline.name}_double"] = max(0, counted - pipeline.sent)
            trial.check(counted == pipeline.sent, f"{pipeline.name}: {counted} of {pipeline.sent} events are counted")


class Pipeline(threading.Thread):
    """Emits events one by one until it is ended."""

    def __init__(self, url: str, name: str, spool: str) -> None:
        super().__init__(daemon=True)
        self.name = name
        self.sent = 0
        self._client = Client(url=url, system=name, spool_dir=spool or None)
        self._ending = threading.Event()

    def run(self) -> None:
        """Emit."""
        while not self._ending.wait(0.01):
            for _ in range(EVENTS_S // 100):
                self._client.event("success", latency_ms=1.0)
                self.sent += 1

    def waits(self) -> bool:
        """Whether some batch was sent, or is about to be, and is not answered."""
        return bool(self._client.stats()["pending_batches"])

    def end(self) -> None:
        """Stop, and deliver everything."""
        self._ending.set()
        self.join()
        delivered = self._client.flush(60)
        stats = self._client.stats()
        self._client.close()
        assert delivered, f"{self.name} could not deliver: {stats}"
        assert not stats["dropped"], f"{self.name} dropped events: {stats}"
