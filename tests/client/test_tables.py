"""Tables sent as Arrow, to the real service behind a proxy that misbehaves."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from lso_core import client as lso
from lso_core.client import Client, SendError
from tests.client.faulty_proxy import PASS, RESET_AFTER, UNAVAILABLE, FaultyProxy, faulty_proxy
from tests.e2e.service import Service, running_service
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as running:
        yield running


@pytest.fixture
def proxy(service: Service) -> Iterator[FaultyProxy]:
    with faulty_proxy(service.address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultyProxy) -> Iterator[Client]:
    client = Client(proxy.url, f"table-{uuid4().hex}")
    yield client
    client.close()


def made(rows: int, **columns: Any) -> pa.Table:
    base = {
        "event_type": pa.array(["success"] * rows),
        "status": pa.array(["ok"] * rows),
        "latency_ms": pa.array(range(rows)),
        "ts": pa.array([datetime.now(UTC)] * rows),
    }
    return pa.table(base | columns)


def counts(client: Client, total: int) -> None:
    assert wait_for(lambda: client.health()["total"] == total, f"{total} events are counted", 10)


def test_a_large_table_is_counted_once(client: Client) -> None:
    assert 25_000 == client.send_table(made(25_000))
    counts(client, 25_000)


def test_lost_answers_and_a_busy_server_cost_neither_an_event_nor_a_duplicate(
    client: Client, proxy: FaultyProxy
) -> None:
    client.send_table(made(1))
    proxy.fault = RESET_AFTER  # counted, and the answer is lost
    timer = threading.Timer(1.0, lambda: setattr(proxy, "fault", PASS))
    timer.start()
    assert 15_000 == client.send_table(made(15_000))
    timer.join()
    counts(client, 15_001)


def test_the_same_table_under_the_same_key_is_counted_once(client: Client, proxy: FaultyProxy) -> None:
    table = made(12_000)
    assert [12_000, 12_000] == [client.send_table(table, key="load-1") for _ in range(2)]
    counts(client, 12_000)
    with pytest.raises(SendError) as caught:
        client.send_table(made(12_000), key="load-1")
    assert (422, 0) == (caught.value.status, caught.value.sent)


def test_what_is_refused_is_said_with_how_much_was_sent(client: Client) -> None:
    table = made(12_000, latency_ms=pa.array([1] * 11_000 + [-1] * 1_000))
    with pytest.raises(SendError, match="latency_ms must be a number of milliseconds from 0") as caught:
        client.send_table(table)
    assert (422, 10_000) == (caught.value.status, caught.value.sent)
    counts(client, 10_000)


def test_it_gives_up_when_its_time_is_over(client: Client, proxy: FaultyProxy) -> None:
    proxy.fault = UNAVAILABLE
    with pytest.raises(SendError, match="gave up: LSO answered 503") as caught:
        client.send_table(made(1), timeout=1)
    assert 0 == caught.value.sent


def test_a_table_that_is_too_large_for_one_body_goes_in_halves(proxy: FaultyProxy) -> None:
    payload = '{"text": "%s"}' % ("x" * 4_000)
    client = Client(proxy.url, f"table-{uuid4().hex}")
    assert 6_000 == client.send_table(made(6_000, payload=pa.array([payload] * 6_000)))
    counts(client, 6_000)
    client.close()


def test_the_module_sends_with_its_client_and_says_when_it_is_off(proxy: FaultyProxy) -> None:
    first = lso.init(proxy.url, f"table-{uuid4().hex}")
    assert 3 == lso.send_table(made(3))
    counts(first, 3)
    with pytest.raises(lso.SendError, match="LSO is off"):
        Client("nonsense", 1).send_table(made(1))
