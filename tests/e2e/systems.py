"""One registered system, with what its pipeline and its operator do over HTTP."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx

from lso_core.compute import columns
from lso_core.model.windows import partition_of
from lso_core.store import keys
from tests.e2e.service import Service
from tests.waiting import wait_for

Json = dict[str, Any]


class ObservedSystem:
    """A system of a running service."""

    def __init__(self, http: httpx.Client, created: Json) -> None:
        self.http = http
        self.id: int = created["system_id"]
        self.name: str = created["name"]

    @property
    def path(self) -> str:
        return f"/systems/{self.id}"

    def post(self, events: Sequence[Json], key: str | None = None, **params: str) -> httpx.Response:
        """Send a batch."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.http.post(f"{self.path}/events", json={"events": events}, headers=headers, params=params)

    def post_body(
        self,
        content: bytes | str,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = "application/json",
        **params: str,
    ) -> httpx.Response:
        """Send a body as it is."""
        given = {} if content_type is None else {"Content-Type": content_type}
        return self.http.post(
            f"{self.path}/events", content=content, headers={**given, **(headers or {})}, params=params
        )

    def take(self, events: Sequence[Json], **options: Any) -> Json:
        """Send a batch that must be taken; the receipt."""
        return accepted(self.post(events, **options))

    def health(self) -> Json:
        return self._get("health")

    def metrics(self) -> Json:
        return self._get("metrics")

    def events(self, **params: str) -> Json:
        """One page of the hot tier."""
        return self._get("events", **params)

    def _get(self, what: str, **params: str) -> Json:
        answer = self.http.get(f"{self.path}/{what}", params=params)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def health_with(self, within: float = 10, **members: Any) -> Json:
        """The first health answer that has these members."""
        return self._first(self.health, members, within)

    def metrics_with(self, within: float = 10, **members: Any) -> Json:
        """The first answer of /metrics that has these members."""
        return self._first(self.metrics, members, within)

    def _first(self, read: Any, members: Json, within: float) -> Json:
        last: Json = {}

        def found() -> Json | None:
            last.clear()
            last.update(read())
            return last if members.items() <= last.items() else None

        try:
            return wait_for(found, f"system {self.id} shows {members}", within) or {}
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {last}") from None


def register(http: httpx.Client, **members: Any) -> ObservedSystem:
    """A new system, of a name that no other has unless one is given."""
    answer = http.post("/systems", json={"name": f"test-{uuid4().hex}", **members})
    assert answer.status_code == 201, answer.text
    return ObservedSystem(http, answer.json())


def accepted(answer: httpx.Response) -> Json:
    """The receipt of a batch that must have been taken."""
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def event(**members: Any) -> Json:
    """A counted event; what is given replaces or adds."""
    return {"event_type": "success", "status": "ok", "latency_ms": 12, **members}


def error(**members: Any) -> Json:
    """A counted event that went wrong."""
    return event(event_type="failure", status="error", **members)


def events(good: int, bad: int = 0, **members: Any) -> list[Json]:
    """So many good ones and so many errors."""
    return [event(**members) for _ in range(good)] + [error(**members) for _ in range(bad)]


def spoil(service: Service, system: ObservedSystem, *, body: bool) -> None:
    """Put an entry that no worker can read among the good ones, as a fault would: its counters agree with it."""
    sent = json.dumps({"events": events(7)}).encode()
    packed = columns.pack_body(sent, columns.BodyKind.JSON) if body else b"nothing of the kind"
    with service.redis() as store:
        entry = store.xadd(
            keys.stream(system.id), {"at": store.time()[0] * 1_000, "n": 7, "c": b"rubbish", "b": packed}
        )
        for field, count in (("added", 7), ("entries", 1), ("bytes", 7 + len(packed))):
            store.hincrby(keys.system(system.id), field, count)
        store.hset(keys.system(system.id), "last", entry)
        store.zadd(keys.ready(partition_of(system.id)), {str(system.id): 1})
