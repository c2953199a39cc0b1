"""What was acknowledged, set against what Redis remembers and what was counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import httpx
import redis

from lso_core.store import keys
from tests.e2e.load import Load, Taken
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem
from tests.waiting import wait_for

SETTLED_S = 60.0


class Ledger:
    """The books of one load, closed after it ended."""

    def __init__(
        self,
        service: Service,
        systems: Sequence[ObservedSystem],
        load: Load,
        also: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """`also`: events that were accepted besides the load, by system."""
        self.batches = load.batches
        self.lost = lost_batches(service, load.batches)
        """Batches that were answered with 202 and are not there."""
        lost = Counter[int]()
        for batch in self.lost:
            lost[batch.system_id] += batch.events
        self.wanted = {one.id: load.accepted[one.id] + also.get(one.id, 0) - lost[one.id] for one in systems}
        """Events that must be counted, by system."""
        self.counted: dict[int, int] = {}
        """Those that were, once the books are closed."""
        self._service = service
        self._systems = systems
        self.problems = [f"a batch was not taken: {failure}" for failure in load.failures]

    @property
    def lost_events(self) -> int:
        return sum(batch.events for batch in self.lost)

    def close(self) -> list[str]:
        """Wait until everything is folded, and compare; what does not agree, a sentence each."""
        found: list[str] = []
        with self._service.client() as http:

            def nothing_waits() -> bool:
                answer = http.get("/autoscale")
                return answer.status_code == 200 and answer.json()["backlog"]["events"] == 0

            wait_for(nothing_waits, "the backlog is empty", SETTLED_S)
            for system in self._systems:
                wanted = self.wanted[system.id]
                try:
                    wait_for(lambda: counted(http, system.id) == wanted, "counted is what was accepted", 10)  # noqa: B023
                except AssertionError:
                    found.append(f"system {system.id} counts {counted(http, system.id)} of {wanted} events")
                self.counted[system.id] = counted(http, system.id)
        with self._service.redis() as store:
            for system in self._systems:
                added, entries = numbers(store, keys.system(system.id), "added", "entries")
                folded, done = numbers(store, keys.state(system.id), "n", "e")
                if not added == folded == self.wanted[system.id] or entries != done:
                    found.append(
                        f"system {system.id}: added {added}, folded {folded}, accepted {self.wanted[system.id]}; "
                        f"entries {entries}, folded {done}"
                    )
                lag = [group["lag"] for group in store.xinfo_groups(keys.stream(system.id))]
                if lag != [0]:
                    found.append(f"system {system.id} shows a lag of {lag}")
        return self.problems + found


def counted(http: httpx.Client, system_id: int) -> int:
    """What /health counts; -1 where it does not answer."""
    answer = http.get(f"/systems/{system_id}/health")
    return int(answer.json()["total"]) if answer.status_code == 200 else -1


def lost_batches(service: Service, batches: Sequence[Taken]) -> list[Taken]:
    """Acknowledged batches whose Idempotency-Key, stored with the entry, is not known any more."""
    with service.redis() as store:
        known = {one: known_entries(store, one) for one in {batch.system_id for batch in batches}}
    return [batch for batch in batches if batch.entry not in known[batch.system_id]]


def known_entries(store: redis.Redis, system_id: int) -> set[str]:
    """The entries of all remembered keys of a system."""
    buckets = store.scan_iter(match=keys.idempotency(system_id) + "*", count=1_000)
    found: list[Any] = [store.hvals(bucket) for bucket in buckets]
    return {value[16:].split(b" ")[1].decode() for values in found for value in values}


def folded_events(store: redis.Redis, systems: Sequence[ObservedSystem]) -> int:
    """Events folded so far over all systems."""
    return sum(numbers(store, keys.state(one.id), "n")[0] for one in systems)


def numbers(store: redis.Redis, key: str, *fields: str) -> list[int]:
    """Fields of a hash; 0 for one that is not there."""
    found: Any = store.hmget(key, list(fields))
    return [int(one or 0) for one in found]
