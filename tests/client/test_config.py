"""What a client is told: read once, checked once, and a mistake is one line in the log and nothing else."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from lso_core import client as lso
from lso_core.client.config import Address, ConfigError
from tests.client.conftest import SYSTEM
from tests.client.observatory import Observatory


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://lso:8000", "http://lso:8000"),
        ("HTTP://lso", "http://lso:80"),
        ("https://lso.example/", "https://lso.example:443"),
        ("https://example/tools/lso/", "https://example:443/tools/lso"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[::1]", "http://[::1]:80"),
    ],
)
def test_a_url_is_understood(url: str, normal: str) -> None:
    assert str(Address.parse(url)) == normal


@pytest.mark.parametrize(
    "url",
    [
        "lso:8000",
        "ftp://lso",
        "http://",
        "http://:8000",
        "http://lso:x",
        "http://lso:0",
        "http://lso:99999",
        "http://u:p@lso",
        "http://lso/?a=1",
    ],
)
def test_a_wrong_url_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        Address.parse(url)


def use(client: lso.Client) -> None:
    """Everything a pipeline may do."""
    with client.run() as run, run.stage("load", heartbeat=0.05) as stage:
        stage.set(rows=1)
        client.event("success", latency_ms=1)
        logging.getLogger("pipeline").error("boo")
    client.stage("decorated")(lambda: 1)()
    assert client.flush(0.1)
    client.close()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "LSO_URL is not set"),
        ({"url": "nonsense", "system": "x"}, "must look like http://host:8000, not 'nonsense'"),
        ({"url": "http://lso"}, "LSO_SYSTEM is not set"),
        ({"url": "http://lso", "system": "x" * 201}, "at most 200 bytes"),
        ({"url": "http://lso", "system": -3}, "an id or a name"),
        ({"url": "http://lso", "system": "x", "api_key": "a\nb"}, "API key"),
        ({"url": "http://lso", "system": "x", "colour": 1}, "colour"),
        ({"url": "http://lso", "system": "x", "timeout_s": "soon"}, "soon"),
        ({"url": 5, "system": "x"}, "LSO is off"),
    ],
)
def test_a_wrong_configuration_is_one_log_line_and_no_exception(
    arguments: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = lso.Client(**arguments)
    logging.getLogger("pipeline").addHandler(handler := lso.LogHandler(client=client))
    try:
        use(client)
    finally:
        logging.getLogger("pipeline").removeHandler(handler)
    (record,) = [record for record in caplog.records if record.name == "lso"]
    assert line in record.getMessage()
    assert client.stats()["enabled"] is False


def test_without_init_and_without_lso_url_nothing_happens_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        with lso.run() as run, run.stage("load"):
            lso.event("success", latency_ms=1)
    assert lso.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "LSO is off: LSO_URL is not set and no url was given, so nothing is sent"
    ]


def test_variables_serve_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch, observatory: Observatory) -> None:
    observatory.api_key = "s3cret"
    monkeypatch.setenv("LSO_URL", observatory.url)
    monkeypatch.setenv("LSO_SYSTEM", SYSTEM)
    monkeypatch.setenv("LSO_API_KEY", "s3cret")
    lso.event("success", latency_ms=1)
    assert lso.flush(5)
    assert len(observatory.of(SYSTEM)) == 1


def test_arguments_win_over_variables(monkeypatch: pytest.MonkeyPatch, observatory: Observatory) -> None:
    monkeypatch.setenv("LSO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LSO_SYSTEM", "other")
    lso.init(observatory.url, SYSTEM)
    lso.event("success", latency_ms=1)
    assert lso.flush(5)
    assert len(observatory.of(SYSTEM)) == 1


def test_a_second_init_replaces_the_client_and_the_first_one_s_events_still_go_out(observatory: Observatory) -> None:
    first = lso.init(observatory.url, "a")
    lso.event("success", latency_ms=1)
    lso.init(observatory.url, "b")
    lso.event("success", latency_ms=1)
    assert lso.flush(5)
    assert first.flush(5)
    first.close()
    assert (len(observatory.of("a")), len(observatory.of("b"))) == (1, 1)
