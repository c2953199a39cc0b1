"""Log records travel as `log` events, with the run and the stage they came from, and never in a circle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lso_core import client as lso
from tests.client.conftest import SYSTEM, until
from tests.client.faulty_proxy import FaultyProxy
from tests.client.observatory import Observatory


@pytest.fixture
def client(connect: Callable[..., lso.Client]) -> lso.Client:
    return connect()


@pytest.fixture
def log(client: lso.Client) -> Iterator[logging.Logger]:
    """The root logger, with the handler on it."""
    root = logging.getLogger()
    handler = lso.LogHandler(level=logging.INFO, client=client)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield root
    root.removeHandler(handler)
    root.setLevel(level)


def logs(observatory: Observatory) -> list[dict[str, Any]]:
    return [event for event in observatory.of(SYSTEM) if event["event_type"] == "log"]


def test_a_record_carries_the_current_run_and_stage(
    client: lso.Client, log: logging.Logger, observatory: Observatory
) -> None:
    with client.run("run-1") as run, run.stage("load"):
        logging.getLogger("pipeline.load").error("lost %d rows", 3)
    log.info("done")
    log.debug("below the level")
    assert client.flush()
    first, second = logs(observatory)
    assert (first["status"], first["run_id"], first["stage"]) == ("error", "run-1", "load")
    assert first["payload"] == {"logger": "pipeline.load", "level": "ERROR", "message": "lost 3 rows"}
    assert (second["status"], "run_id" in second, second["payload"]["message"]) == ("ok", False, "done")


def test_an_exception_travels_with_the_end_of_its_traceback(
    client: lso.Client, log: logging.Logger, observatory: Observatory
) -> None:
    try:
        raise ValueError("x" * 20_000 + "the end")
    except ValueError:
        log.exception("failed")
    assert client.flush()
    (event,) = logs(observatory)
    assert event["payload"]["message"] == "failed"
    assert event["payload"]["exception"].endswith("the end")
    assert len(event["payload"]["exception"]) == 8_000


def test_a_record_that_cannot_be_formatted_travels_as_it_is(client: lso.Client, observatory: Observatory) -> None:
    handler = lso.LogHandler(client=client)
    handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, "%d and %d", ("one",), None))
    assert client.flush()
    assert logs(observatory)[0]["payload"]["message"] == "%d and %d"


def test_a_long_message_is_cut(client: lso.Client, log: logging.Logger, observatory: Observatory) -> None:
    log.error("x" * 50_000)
    assert client.flush()
    assert len(logs(observatory)[0]["payload"]["message"]) == 4_000


def test_the_client_s_own_lines_do_not_travel(
    client: lso.Client, log: logging.Logger, proxy: FaultyProxy, observatory: Observatory
) -> None:
    proxy.refuse()
    log.error("mine")
    until(lambda: client.stats()["retries"] >= 2)
    proxy.accept()
    assert client.flush(10)
    assert [event["payload"]["message"] for event in logs(observatory)] == ["mine"]
    assert client.stats()["emitted"] == 1


def test_what_the_sending_thread_logs_does_not_travel(
    client: lso.Client, log: logging.Logger, observatory: Observatory
) -> None:
    class Chatty:
        calls = 0

    def chat() -> None:
        Chatty.calls += 1
        logging.getLogger("http.client").error("from the sender")

    client.beat(1, 0.05, chat)
    until(lambda: Chatty.calls >= 2)
    client.beat_no_more(1)
    log.error("mine")
    assert client.flush()
    assert [event["payload"]["message"] for event in logs(observatory)] == ["mine"]


def test_an_object_that_logs_when_it_is_printed_does_not_hang_the_pipeline(
    client: lso.Client, observatory: Observatory
) -> None:
    log = logging.getLogger("pipeline.noisy")
    log.propagate = False
    log.addHandler(lso.LogHandler(client=client))

    class Noisy:
        def __str__(self) -> str:
            log.error("printing")
            return "noisy"

    log.error("%s", Noisy())
    assert client.flush()
    assert [event["payload"]["message"] for event in logs(observatory)] == ["printing", "noisy"]


def test_without_a_client_of_its_own_it_uses_the_one_of_init(observatory: Observatory) -> None:
    logger = logging.getLogger("pipeline.early")
    logger.addHandler(handler := lso.LogHandler(level="ERROR"))
    try:
        lso.init(observatory.url, SYSTEM)
        logger.error("boo")
        logger.warning("not that bad")
        assert lso.flush(5)
    finally:
        logger.removeHandler(handler)
    assert [event["payload"]["message"] for event in logs(observatory)] == ["boo"]


def test_a_handler_on_the_root_logger_without_a_configuration_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().addHandler(handler := lso.LogHandler(level=logging.INFO))
    try:
        logging.getLogger("pipeline").error("boo")
        logging.getLogger("pipeline").error("boo")
    finally:
        logging.getLogger().removeHandler(handler)
    assert [record.name for record in caplog.records] == ["pipeline", "lso", "pipeline"]
