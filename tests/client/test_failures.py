"""Trouble on the way: every event is counted once, whatever the server or the network does meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from lso_core.client import Client
from tests.client.conftest import SYSTEM, until
from tests.client.faulty_proxy import (
    DRIP,
    HANG,
    RESET,
    RESET_AFTER,
    SWALLOW,
    UNAVAILABLE,
    UNAVAILABLE_RETRY_1,
    Fault,
    FaultyProxy,
)
from tests.client.observatory import Observatory

Connect = Callable[..., Client]
FAULTS = {
    "503": UNAVAILABLE,
    "503 with Retry-After": UNAVAILABLE_RETRY_1,
    "500": Fault("answer", 500),
    "429": Fault("answer", 429),
    "a page that is not LSO's": Fault("answer", 200, body=b"<html>welcome</html>"),
    "hangs": HANG,
    "counts and hangs": SWALLOW,
    "resets": RESET,
    "counts and resets": RESET_AFTER,
    "drips": DRIP,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_every_event_is_counted_once(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: object, fault: Fault, *, spooled: bool
) -> None:
    client = connect(timeout_s=0.3, **({"spool_dir": tmp_path} if spooled else {}))
    client.event("success", latency_ms=1, n=0)
    assert client.flush()
    proxy.fault = fault
    for number in range(1, 20):
        client.event("success", latency_ms=1, n=number)
        client.flush(0.02)
    until(lambda: client.stats()["retries"] >= 2)
    proxy.fault = Fault()
    until(lambda: client.flush(1))  # each tries at once, however long the pause has become
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(20), 1)
    assert client.stats()["dropped"] == 0


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_every_event_is_counted_once_when_nobody_listens(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: object, *, spooled: bool
) -> None:
    client = connect(**({"spool_dir": tmp_path} if spooled else {}))
    proxy.refuse()
    for number in range(20):
        client.event("success", latency_ms=1, n=number)
    until(lambda: client.stats()["retries"] >= 2)
    proxy.accept()
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(20), 1)


def test_a_retry_carries_the_key_and_the_body_of_the_first_attempt(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory
) -> None:
    client = connect()
    proxy.first(Fault(), Fault(), RESET_AFTER)
    client.event("success", latency_ms=1, n=1)
    client.flush(0.05)
    client.event("success", latency_ms=1, n=2)
    assert client.flush(10)
    first, again = [post for post in proxy.posts() if b'"n":1' in post.body]
    assert (first.headers["Idempotency-Key"], first.body) == (again.headers["Idempotency-Key"], again.body)
    assert observatory.duplicates == 1
    assert client.stats()["duplicate_batches"] == 1
    assert observatory.numbers(SYSTEM) == {1: 1, 2: 1}


def test_retry_after_is_waited_for(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect(system=1)
    proxy.first(UNAVAILABLE_RETRY_1)
    client.event("success", latency_ms=1)
    assert not client.flush(0.5)
    client.flush(10)
    first, second = proxy.posts()[:2]
    assert 1.0 <= second.at - first.at < 2.0


def test_pauses_grow(connect: Connect, proxy: FaultyProxy) -> None:
    client = connect(system=1)
    proxy.fault = UNAVAILABLE
    client.event("success", latency_ms=1)
    until(lambda: len(proxy.posts()) >= 4)
    times = [post.at for post in proxy.posts()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 0.2 < gaps[0] < 0.9 < gaps[2] < 3


def test_a_server_that_drips_holds_the_sender_no_longer_than_one_that_hangs(
    connect: Connect, proxy: FaultyProxy
) -> None:
    client = connect(system=1, timeout_s=0.3)
    proxy.fault = DRIP
    began = time.monotonic()
    client.event("success", latency_ms=1)
    until(lambda: client.stats()["retries"] == 1)
    assert time.monotonic() - began < 1.5


def test_what_does_not_fit_is_dropped_counted_and_reported(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory
) -> None:
    client = connect(queue_events=10, batch_events=10)
    proxy.refuse()
    client.event("success", latency_ms=1, n=0)
    until(lambda: client.stats()["waiting"] == 0)
    for number in range(1, 31):
        client.event("success", latency_ms=1, n=number)
    assert client.stats()["dropped_by_reason"] == {"queue_full": 20}
    proxy.accept()
    assert client.flush(10)
    assert client.flush(10)
    assert set(observatory.numbers(SYSTEM)) == set(range(11))
    (report,) = [event for event in observatory.of(SYSTEM) if event["event_type"] == "log"]
    assert report["payload"]["lost"] == {"queue_full": 20}


@pytest.mark.parametrize("fault", [UNAVAILABLE, HANG, RESET], ids=["503", "hang", "reset"])
def test_emitting_does_not_wait_for_a_server_in_trouble(connect: Connect, proxy: FaultyProxy, fault: Fault) -> None:
    proxy.fault = fault
    client = connect()
    spent = []
    for number in range(2_000):
        began = time.perf_counter()
        client.event("success", latency_ms=1, n=number)
        spent.append(time.perf_counter() - began)
    assert sorted(spent)[1_980] < 0.001


def test_trouble_is_logged_once_and_so_is_its_end(
    connect: Connect, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = connect()
    proxy.refuse()
    for _ in range(5):
        client.event("success", latency_ms=1)
    until(lambda: client.stats()["retries"] >= 3)
    proxy.accept()
    assert client.flush(10)
    warnings = [record.getMessage() for record in caplog.records if record.name == "lso"]
    assert len(warnings) == 2
    assert "cannot be reached" in warnings[0]
    assert "takes events again" in warnings[1]
