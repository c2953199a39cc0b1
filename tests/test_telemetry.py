"""The catalogue of LSO's own metrics, and its log."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from lso_core.model.errors import StoreError
from lso_core.settings import Settings
from lso_core.telemetry import (
    GAUGES,
    REQUEST_ID,
    Telemetry,
    configure_logging,
    gauge_families,
    publish_forever,
    render,
    series,
)


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples as Prometheus reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_samples_of_two_processes_add_up_to_what_prometheus_reads() -> None:
    one, other = Telemetry(), Telemetry()
    one.accepted.inc(3)
    other.accepted.inc(4)
    one.requests.labels("/systems", "GET", "200").inc()
    one.fold_seconds.observe(0.003)
    other.fold_seconds.observe(2)
    sums = one.samples()
    for name, value in other.samples().items():
        sums[name] = sums.get(name, 0.0) + value
    found = parsed(render(one.families(), sums))
    assert 7 == found[("lso_events_accepted_total", ())]
    assert 1 == found[("lso_http_requests_total", (("method", "GET"), ("route", "/systems"), ("status", "200")))]
    assert (1, 2, 2) == (
        found[("lso_fold_seconds_bucket", (("le", "0.005"),))],
        found[("lso_fold_seconds_bucket", (("le", "+Inf"),))],
        found[("lso_fold_seconds_count", ())],
    )


def test_the_catalogue_names_everything_that_is_promised() -> None:
    names = {family.name for family in [*Telemetry().families(), *gauge_families()]}
    assert names >= {
        "lso_http_requests_total",
        "lso_events_accepted_total",
        "lso_batches_duplicate_total",
        "lso_batches_refused_total",
        "lso_fold_seconds",
        "lso_backlog_events",
        "lso_backlog_oldest_age_seconds",
        "lso_snapshot_age_seconds",
        "lso_watermark_delay_seconds",
        "lso_redis_round_trips_total",
        "lso_worker_turns_total",
        "lso_commits_fenced_total",
    }
    assert all(family.text.endswith(".") for family in gauge_families())


def test_buckets_stand_in_the_order_of_their_bounds() -> None:
    telemetry = Telemetry()
    telemetry.request_seconds.labels("/a").observe(1)
    telemetry.request_seconds.labels("/b").observe(1)
    lines = [
        line
        for line in render(telemetry.families(), telemetry.samples()).splitlines()
        if "request_seconds_bucket" in line
    ]
    routes = [line.split('route="')[1][:2] for line in lines]
    bounds = [float(line.split('le="')[1].split('"')[0]) for line in lines]
    assert sorted(routes) == routes
    assert bounds[: len(bounds) // 2] == sorted(bounds[: len(bounds) // 2])


@settings(deadline=None)
@given(st.text(), st.floats(allow_nan=False))
def test_any_label_and_value_reads_back(name: str, value: float) -> None:
    text = render(gauge_families(), {series("lso_system_health", name=name): value})
    assert {("lso_system_health", (("name", name),)): value} == parsed(text)


def test_gauges_that_are_none_of_the_catalogue_stay_out() -> None:
    assert "unknown" not in render(gauge_families(), {"unknown": 1.0, next(iter(GAUGES)): 1.0})


def test_a_mirrored_counter_follows_what_counts_elsewhere() -> None:
    telemetry, counted = Telemetry(), [5.0]
    telemetry.mirror(telemetry.redis_round_trips, lambda: counted[0])
    assert 5 == telemetry.samples()["lso_redis_round_trips_total"]
    counted[0] = 7
    assert 7 == telemetry.samples()["lso_redis_round_trips_total"]


class Shelf:
    """Keeps what is published; away for the first call."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str, float]] = []
        self.calls = 0
        self.reached = asyncio.Event()

    async def publish(self, process: str, role: str, samples: dict[str, float]) -> None:
        self.calls += 1
        if self.calls == 1:
            raise StoreError("away")
        self.kept.append((process, role, samples["lso_events_accepted_total"]))
        self.reached.set()


async def test_publishing_goes_on_after_the_store_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso_core.telemetry.PUBLISH_S", 0.001)
    telemetry, shelf = Telemetry(), Shelf()
    telemetry.accepted.inc(2)
    task = asyncio.create_task(publish_forever(shelf, telemetry, process="1-a", role="api"))
    await asyncio.wait_for(shelf.reached.wait(), 5)
    task.cancel()
    assert ("1-a", "api", 2.0) == shelf.kept[0]


@pytest.fixture
def configure() -> Iterator[Callable[[Settings], None]]:
    """`configure_logging`; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield configure_logging
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_lines_are_json_with_the_request_id(
    configure: Callable[[Settings], None], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings())
    token = REQUEST_ID.set("abc-1")
    structlog.get_logger("api").info("request", status=200, odd=object)
    logging.getLogger("uvicorn.error").warning("a %s", "warning", extra={"color_message": "red"})
    REQUEST_ID.reset(token)
    structlog.get_logger("api").debug("too low to be said")
    ours, theirs = lines(capsys)
    assert ("request", "info", "api", "abc-1", 200) == tuple(
        ours[name] for name in ("event", "level", "logger", "request_id", "status")
    )
    assert ("a warning", "warning", "uvicorn.error", "abc-1") == tuple(
        theirs[name] for name in ("event", "level", "logger", "request_id")
    )
    assert "color_message" not in theirs
    assert all(str(line["timestamp"]).endswith("Z") for line in (ours, theirs))


def test_a_traceback_stays_within_its_line(
    configure: Callable[[Settings], None], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings())
    try:
        raise ValueError("boom")
    except ValueError:
        structlog.get_logger("api").exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: boom" in str(line["exception"])


def test_people_get_a_console_where_they_ask_for_it(
    configure: Callable[[Settings], None], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Settings(log_format="console"))
    structlog.get_logger("api").info("hello")
    said = capsys.readouterr().err
    assert "hello" in said
    assert not said.startswith("{")
