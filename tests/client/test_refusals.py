"""Answers that are final: nothing is retried as it was, and one bad event does not cost the others theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lso_core.client import Client
from tests.client.conftest import SYSTEM
from tests.client.faulty_proxy import Fault, FaultyProxy
from tests.client.observatory import Observatory

Connect = Callable[..., Client]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422])
def test_a_refused_batch_is_never_retried(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, status: int
) -> None:
    observatory.add("numbered")
    client = connect(system=1)
    proxy.first(Fault("answer", status))
    client.event("success", latency_ms=1, n=1)
    assert client.flush()
    client.event("success", latency_ms=1, n=2)
    assert client.flush()
    assert len(proxy.posts()) == 2
    assert observatory.numbers("numbered") == {2: 1}
    assert client.stats()["dropped_by_reason"] == {"refused": 1}


def test_a_wrong_key_says_so_once(connect: Connect, observatory: Observatory, caplog: pytest.LogCaptureFixture) -> None:
    observatory.api_key = "right"
    client = connect(api_key="wrong")
    for _ in range(3):
        client.event("success", latency_ms=1)
        assert client.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "1 events are lost: LSO answered 401: no key, or an unknown one"
    ]


def test_a_batch_that_is_too_large_is_halved_until_it_fits(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory
) -> None:
    observatory.max_body = 1_000
    client = connect()
    for number in range(64):
        client.event("success", latency_ms=1, n=number)
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(64), 1)
    keys = [post.headers["Idempotency-Key"] for post in proxy.posts()]
    assert len(set(keys)) == len(keys) > 8


def test_an_event_that_is_too_large_by_itself_is_dropped_alone(connect: Connect, observatory: Observatory) -> None:
    observatory.max_body = 1_000
    client = connect()
    for number in range(9):
        client.event("success", latency_ms=1, n=number, text="x" * (2_000 if number == 4 else 1))
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == {number: 1 for number in range(9) if number != 4}
    assert client.stats()["dropped_by_reason"] == {"refused": 1}


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_only_the_events_that_were_refused_by_name_are_dropped(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: object, *, spooled: bool
) -> None:
    observatory.refuse_value = 7
    client = connect(**({"spool_dir": tmp_path} if spooled else {}))
    for number in range(20):
        client.event("success", latency_ms=1, n=number)
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == {number: 1 for number in range(20) if number != 7}
    first, second = [post.headers["Idempotency-Key"] for post in proxy.posts()][:2]
    assert first != second
    assert client.stats()["dropped_by_reason"] == {"refused": 1}


def test_more_bad_events_than_one_answer_names_are_dropped_in_turns(connect: Connect, observatory: Observatory) -> None:
    observatory.refuse_value = 7
    client = connect()
    for number in range(600):
        client.event("success", latency_ms=1, n=7 if number % 2 else number)
    assert client.flush(10)
    assert len(observatory.of(SYSTEM)) >= 300
    assert client.stats()["dropped_by_reason"] == {"refused": 300}


def test_a_batch_of_nothing_but_bad_events_is_dropped(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory
) -> None:
    observatory.refuse_value = 7
    client = connect()
    for _ in range(3):
        client.event("success", latency_ms=1, n=7)
    assert client.flush(10)
    assert len(proxy.posts()) == 1
    assert client.stats()["dropped_by_reason"] == {"refused": 3}


def test_events_of_a_clock_that_is_ahead_are_counted_at_their_arrival(
    connect: Connect, observatory: Observatory
) -> None:
    client = connect()
    client.event("success", latency_ms=1, n=1, ts=4_000_000_000)
    client.event("success", latency_ms=1, n=2)
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == {1: 1, 2: 1}
    assert ["ts" in event for event in observatory.of(SYSTEM) if event["event_type"] == "success"] == [False, True]
    assert client.stats()["dropped"] == 0


def test_a_whole_batch_of_a_clock_that_is_ahead_is_counted(connect: Connect, observatory: Observatory) -> None:
    client = connect()
    for number in range(450):
        client.event("success", latency_ms=1, n=number, ts=4_000_000_000)
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(450), 1)


def test_a_system_that_was_deleted_is_asked_for_again(connect: Connect, observatory: Observatory) -> None:
    client = connect()
    client.event("success", latency_ms=1, n=1)
    assert client.flush()
    del observatory.events[observatory.systems.pop(SYSTEM)]
    client.event("success", latency_ms=1, n=2)
    assert client.flush()
    client.event("success", latency_ms=1, n=3)
    assert client.flush()
    assert observatory.numbers(SYSTEM) == {3: 1}


def test_an_event_the_client_itself_refuses_is_counted_and_said_once(
    connect: Connect, observatory: Observatory, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect()
    for _ in range(3):
        client.event("success")
    client.event("success", latency_ms=1)
    assert client.flush()
    assert client.stats()["dropped_by_reason"] == {"invalid": 3}
    assert [record.getMessage() for record in caplog.records][:1] == [
        'an event is not sent (said once, counted always): an event of type "success" is counted and needs latency_ms'
    ]
    assert len([event for event in observatory.of(SYSTEM) if event["event_type"] == "success"]) == 1
