"""Events reach the server: batched, compressed, over one connection, for the system they name."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lso_core.client import Client
from tests.client.conftest import SYSTEM, until
from tests.client.faulty_proxy import FaultyProxy
from tests.client.observatory import Observatory

Connect = Callable[..., Client]


def test_events_arrive_once_and_in_order(connect: Connect, observatory: Observatory) -> None:
    client = connect()
    for number in range(2_500):
        client.event("success", latency_ms=1, n=number)
    assert client.flush(10)
    assert [event["payload"]["n"] for event in observatory.of(SYSTEM)] == list(range(2_500))
    assert client.stats()["sent"] == client.stats()["emitted"] == 2_500


def test_events_leave_by_themselves_within_half_a_second(connect: Connect, observatory: Observatory) -> None:
    client = connect()
    client.event("success", latency_ms=1)
    began = time.monotonic()
    until(lambda: observatory.of(SYSTEM))
    assert 0.3 < time.monotonic() - began < 3


def test_a_full_batch_does_not_linger(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect(batch_events=10)
    client.event("success", latency_ms=1)
    assert client.flush()
    for number in range(35):
        client.event("success", latency_ms=1, n=number)
    until(lambda: len(proxy.posts()) >= 4, 0.45)
    assert client.flush()
    assert [len(post.lines) for post in proxy.posts()] == [1, 10, 10, 10, 5]


def test_one_connection_serves_all_batches(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect()
    for number in range(5):
        client.event("success", latency_ms=1, n=number)
        assert client.flush()
    assert len(proxy.posts()) == 5
    assert proxy.connections == 1


def test_a_connection_that_the_server_closed_is_replaced_without_a_retry(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect()
    for _ in range(3):
        client.event("success", latency_ms=1)
        assert client.flush()
        proxy.cut()
    assert client.stats()["retries"] == 0
    assert client.stats()["sent"] == 3


def test_small_bodies_are_plain_and_large_ones_compressed(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect()
    client.event("success", latency_ms=1)
    client.flush()
    client.event("success", latency_ms=1, text="x" * 2_000)
    client.flush()
    assert [post.headers["Content-Encoding"] for post in proxy.posts()] == [None, "gzip"]
    assert len(proxy.posts()[1].body) < 500


def test_every_batch_has_a_key_of_its_own(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect(batch_events=5)
    for _ in range(50):
        client.event("success", latency_ms=1)
    assert client.flush()
    keys = [post.headers["Idempotency-Key"] for post in proxy.posts()]
    assert len(set(keys)) == len(keys) == 10
    assert all(0 < len(key) <= 128 for key in keys)


def test_an_unknown_name_is_looked_up_once_and_registered(connect: Connect, observatory: Observatory) -> None:
    client = connect(system="räumlich & neu")
    for _ in range(3):
        client.event("success", latency_ms=1)
        assert client.flush()
    assert (observatory.lookups, observatory.registered) == (1, 1)
    assert len(observatory.of("räumlich & neu")) == 3


def test_a_known_name_is_not_registered_again(connect: Connect, observatory: Observatory) -> None:
    observatory.add("other")
    observatory.add(SYSTEM)
    client = connect()
    client.event("success", latency_ms=1)
    assert client.flush()
    assert observatory.registered == 0
    assert len(observatory.of(SYSTEM)) == 1


@pytest.mark.parametrize("system", [2, "2"])
def test_a_number_is_an_id_and_needs_no_lookup(connect: Connect, observatory: Observatory, system: int | str) -> None:
    observatory.add("other")
    observatory.add("numbered")
    client = connect(system=system)
    client.event("success", latency_ms=1)
    assert client.flush()
    assert observatory.lookups == 0
    assert len(observatory.of("numbered")) == 1


def test_two_processes_that_register_the_same_name_at_once_share_it(connect: Connect, observatory: Observatory) -> None:
    clients = [connect() for _ in range(8)]
    for client in clients:
        client.event("success", latency_ms=1)
    until(lambda: len(observatory.of(SYSTEM)) == 8)
    assert observatory.registered == 1


def test_register_false_refuses_in_one_log_line(
    connect: Connect, observatory: Observatory, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(register=False)
    for _ in range(3):
        client.event("success", latency_ms=1)
        client.flush()
    assert observatory.systems == {}
    assert client.stats()["dropped_by_reason"] == {"refused": 3}
    assert [record.getMessage() for record in caplog.records if "register is off" in record.getMessage()] != []
    assert len(caplog.records) == 1


def test_clients_side_by_side_keep_to_their_systems(connect: Connect, observatory: Observatory) -> None:
    first, second = connect(system="a"), connect(system="b")
    with first.run("run-a"), second.run("run-b"):
        first.event("success", latency_ms=1)
        second.event("success", latency_ms=1)
    assert first.flush()
    assert second.flush()
    assert {event["run_id"] for event in observatory.of("a")} == {"run-a"}
    assert {event["run_id"] for event in observatory.of("b")} == {"run-b"}


def test_the_api_key_is_sent_as_a_bearer_token(connect: Connect, observatory: Observatory) -> None:
    observatory.api_key = "s3cret"
    client = connect(api_key="s3cret")
    client.event("success", latency_ms=1)
    assert client.flush()
    assert len(observatory.of(SYSTEM)) == 1


def test_flush_says_whether_everything_was_answered_for(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect()
    assert client.flush(0)
    proxy.refuse()
    client.event("success", latency_ms=1)
    assert not client.flush(0.2)
    proxy.accept()
    assert client.flush(5)


def test_a_closed_client_counts_what_comes_too_late(connect: Connect, observatory: Observatory) -> None:
    client = connect()
    client.event("success", latency_ms=1)
    client.close()
    client.event("success", latency_ms=1)
    assert len(observatory.of(SYSTEM)) == 1
    assert client.stats()["dropped_by_reason"] == {"lost_at_exit": 1}
