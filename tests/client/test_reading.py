"""Asking LSO: answers as they are, and errors that are sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lso_core import client as lso
from tests.client.conftest import SYSTEM
from tests.client.faulty_proxy import HANG, UNAVAILABLE, Fault, FaultyProxy
from tests.client.observatory import Observatory

Connect = Callable[..., lso.Client]


def test_health_systems_and_fleet_are_answered(connect: Connect, observatory: Observatory) -> None:
    system_id = observatory.add(SYSTEM)
    client = connect()
    assert client.health() == {"system_id": system_id, "health": "OK", "total": 0}
    assert client.systems() == client.systems(SYSTEM) == [{"system_id": system_id, "name": SYSTEM}]
    assert client.systems("other") == []
    assert client.fleet()["counts"] == {"OK": 1}


def test_the_module_reads_with_the_client_of_init(observatory: Observatory) -> None:
    observatory.add(SYSTEM)
    lso.init(observatory.url, SYSTEM)
    assert lso.health()["health"] == "OK"
    assert lso.systems()[0]["name"] == SYSTEM
    assert lso.fleet()["items"] == []


def test_all_pages_are_read(connect: Connect, proxy: FaultyProxy) -> None:
    proxy.first(
        Fault("answer", 200, body=b'{"items": [{"system_id": 2}], "next": "a b"}'),
        Fault("answer", 200, body=b'{"items": [{"system_id": 1}], "next": null}'),
    )
    assert connect().systems() == [{"system_id": 2}, {"system_id": 1}]
    assert proxy.seen[1].path == "/systems?cursor=a%20b"


@pytest.mark.parametrize(
    ("fault", "status"), [(UNAVAILABLE, 503), (HANG, 0), (Fault("answer", 404), 404)], ids=["503", "hangs", "404"]
)
def test_no_answer_is_an_error_with_its_status(connect: Connect, proxy: FaultyProxy, fault: Fault, status: int) -> None:
    proxy.fault = fault
    with pytest.raises(lso.ReadError) as caught:
        connect(system=1).health()
    assert caught.value.status == status


def test_an_unknown_system_is_not_registered_by_reading(connect: Connect, observatory: Observatory) -> None:
    with pytest.raises(lso.ReadError, match="knows no system 'weather-etl'"):
        connect().health()
    assert observatory.systems == {}


def test_a_client_that_is_off_says_so() -> None:
    with pytest.raises(lso.ReadError, match="LSO is off"):
        lso.Client().health()
