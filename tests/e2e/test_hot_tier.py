"""How long folded events stay readable, and that their end changes no number."""

import secrets
import time
from collections.abc import Iterator

import pytest

from tests.e2e.answers import pages
from tests.e2e.conftest import StartService
from tests.e2e.systems import ObservedSystem, event, events, register
from tests.waiting import wait_for

MIB = 1024 * 1024
MARK_BYTES = 4 * MIB
"""The hot tier is trimmed in pieces of at most this size (docs/decisions.md)."""


def readable(system: ObservedSystem) -> list[int]:
    """The numbers of the events that can still be read, newest first."""
    found = pages(system.http, f"{system.path}/events", limit="500")
    return [item["payload"]["n"] for page in found for item in page]


@pytest.mark.timeout(90)
def test_events_of_a_system_that_went_quiet_expire_and_its_numbers_stay(start_service: StartService) -> None:
    service = start_service(environ={"LSO_HOT_SECONDS": "3"})
    with service.client() as http, service.redis() as store:
        system, never_read = register(http), register(http)
        for one in (system, never_read):
            one.take([event(payload={"n": number}) for number in range(100)])
            one.health_with(total=100)
        assert list(reversed(range(100))) == readable(system)
        wait_for(lambda: not readable(system), "the events expire", within=40)
        streams = [f"lso:{{p{one.id % 32:02d}}}:stream:{one.id}" for one in (system, never_read)]
        wait_for(lambda: [store.xlen(name) for name in streams] == [0, 0], "the streams are empty", within=20)
        assert 100 == system.health()["total"]
        system.take(events(1, payload={"n": 100}))
        assert 101 == system.health_with(total=101)["total"]
        assert [0, 0] == [group["lag"] for name in streams for group in list(store.xinfo_groups(name))]


@pytest.mark.timeout(120)
def test_past_its_bytes_the_hot_tier_loses_the_oldest_and_no_number(start_service: StartService) -> None:
    """64 MiB over 32 partitions are 2 MiB for the one that these 16 MB go to, little by little."""
    service = start_service(environ={"LSO_HOT_BYTES": str(64 * MIB)})
    with service.client() as http:
        system = register(http)
        for total in range(250, 2_001, 250):
            system.take(
                [event(payload={"n": n, "text": secrets.token_urlsafe(6_000)}) for n in range(total - 250, total)]
            )
            system.health_with(total=total)
            assert [] == [newest for newest in newest_for_a_second(system) if newest != total - 1]
        most = (64 * MIB // 32 + MARK_BYTES) // 6_000
        wait_for(lambda: len(readable(system)) <= most, f"at most {most} events are left", within=20)
        left = readable(system)
        assert list(range(1_999, 1_999 - len(left), -1)) == left
        assert 2_000 == system.health()["total"]


def newest_for_a_second(system: ObservedSystem) -> Iterator[int | None]:
    """The newest event that can be read, again and again."""
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        items = system.events(limit="1")["items"]
        yield items[0]["payload"]["n"] if items else None
