"""GET /systems/{id}/events: the hot tier, newest first, filtered."""

import json
from typing import Any

import httpx
import pytest

from tests.e2e.answers import from_now, pages, problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem, accepted, error, event


def payloads(items: list[dict[str, Any]]) -> list[Any]:
    """The numbers that the events of these tests carry."""
    return [item["payload"]["n"] for item in items]


def test_an_event_comes_back_as_it_was_sent(system: ObservedSystem) -> None:
    sent = {
        "system_id": system.id,
        "ts": from_now(-2),
        "run_id": "run-1",
        "stage": "extract",
        "event_type": "success",
        "status": "ok",
        "latency_ms": 12.5,
        "payload": {
            "rows": 168,
            "text": "Größe \u0000 \U0001f600",
            "deep": [{"a": [1.5, None, True]}],
            "big": 2**53 + 1,
        },
    }
    system.take([sent])
    page = system.events()
    assert {"items", "next"} == page.keys()
    assert sent.items() <= page["items"][0].items()


def test_the_newest_arrival_comes_first(system: ObservedSystem) -> None:
    for number in range(5):
        system.take([event(payload={"n": 2 * number}), event(payload={"n": 2 * number + 1})])
    assert list(reversed(range(10))) == payloads(system.events()["items"])


def test_pages_join_without_gap_or_repetition_while_more_arrives(system: ObservedSystem) -> None:
    for number in range(0, 60, 20):
        system.take([event(payload={"n": number + place}) for place in range(20)])
    seen = []
    for page in pages(system.http, f"{system.path}/events", limit="7"):
        seen += payloads(page)
        assert len(page) <= 7
        system.take([event(payload={"n": 1_000})])
    assert list(reversed(range(60))) == seen


def test_pages_of_events_that_take_turns_at_large_payloads_join(system: ObservedSystem) -> None:
    for number in range(6):
        system.take([event(payload={"n": number * 200 + place, "fill": "x" * 16_000}) for place in range(200)])
    seen = [number for page in pages(system.http, f"{system.path}/events", limit="500") for number in payloads(page)]
    assert list(reversed(range(1_200))) == seen


@pytest.fixture
def mixed(new_system: NewSystem) -> ObservedSystem:
    """A system with eight events that differ in everything a filter can ask for."""
    system = new_system()
    system.take(
        [
            event(payload={"n": 0}, stage="extract", run_id="a", ts=from_now(-200)),
            event(payload={"n": 1}, stage="load", run_id="a", ts=from_now(-150)),
            error(payload={"n": 2}, stage="load", run_id="b", ts=from_now(-100)),
            error(payload={"n": 3}, stage="extract", run_id="b", ts=from_now(-50)),
        ]
    )
    system.take(
        [event(payload={"n": 4}), error(payload={"n": 5}), event(event_type="log", latency_ms=None, payload={"n": 6})]
    )
    return system


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        ([3, 0], {"stage": "extract"}),
        ([5, 3, 2], {"status": "error"}),
        ([6], {"event_type": "log"}),
        ([3, 2], {"run_id": "b"}),
        ([2], {"stage": "load", "status": "error"}),
        ([], {"stage": "load", "run_id": "c"}),
    ],
)
def test_filters_keep_what_they_name(mixed: ObservedSystem, wanted: list[int], query: dict[str, str]) -> None:
    assert wanted == payloads(mixed.events(**query)["items"])


def test_a_time_range_keeps_what_lies_within(mixed: ObservedSystem) -> None:
    found = mixed.events(**{"from": from_now(-175), "to": from_now(-75)})
    assert [2, 1] == payloads(found["items"])


def test_a_filter_that_finds_little_still_comes_to_the_end(system: ObservedSystem) -> None:
    system.take([event(payload={"n": 0}, stage="rare")])
    for _ in range(5):
        system.take([event(payload={"n": 1}) for _ in range(2_000)])
    seen = [number for page in pages(system.http, f"{system.path}/events", stage="rare") for number in payloads(page)]
    assert [0] == seen


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=1000000",
        "status=fine",
        "cursor=nonsense",
        "from=yesterday",
        "colour=red",
        "limit=5&limit=6",
    ],
)
def test_a_wrong_query_is_422(http: httpx.Client, system: ObservedSystem, query: str) -> None:
    problem(http.get(f"{system.path}/events?{query}"), 422)


def test_a_system_without_events_has_an_empty_page(system: ObservedSystem) -> None:
    assert {"items": [], "next": None} == system.events()


def test_large_numbers_and_escapes_in_payloads_survive(system: ObservedSystem) -> None:
    text = '{"n": 0, "big": 123456789012345678901234567890, "small": 5e-324, "e": "\\u20ac\\n\\"", "": ""}'
    body = f'{{"events": [{{"event_type": "success", "status": "ok", "latency_ms": 1, "payload": {text}}}]}}'
    accepted(system.post_body(body))
    assert json.loads(text) == system.events()["items"][0]["payload"]
