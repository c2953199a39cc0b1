"""Batches as Arrow streams: as JSON in everything that can be seen from outside."""

import gzip
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.e2e.answers import problem
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, accepted, register
from tests.streams import mutated, stream

ARROW = "application/vnd.apache.arrow.stream"
Json = dict[str, Any]


def made(rows: int = 3, **fields: Any) -> pa.Table:
    """A table of events that end in an error."""
    now = datetime.now(UTC)
    columns = {
        "event_type": pa.array(["success"] * (rows - 1) + ["failure"]).dictionary_encode(),
        "status": pa.array(["ok"] * (rows - 1) + ["error"]),
        "latency_ms": pa.array([12.3456 + row for row in range(rows)]),
        "ts": pa.array([now] * rows, pa.timestamp("us", tz="UTC")),
        "run_id": pa.array([f"r{row}" for row in range(rows)]),
        "stage": pa.array(["load", None, *["extract"] * (rows - 2)]),
        "payload": pa.array([json.dumps({"row": row, "deep": {"é": [1]}}) for row in range(rows)]),
    }
    return pa.table(columns | fields)


def as_events(table: pa.Table) -> list[Json]:
    """The same events for JSON."""
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return [{**row, "ts": row["ts"].isoformat(), "payload": json.loads(row["payload"])} for row in rows]


def send(system: ObservedSystem, body: bytes, headers: Json | None = None, **params: str) -> httpx.Response:
    return system.post_body(body, headers, ARROW, **params)


def seen(system: ObservedSystem) -> list[Json]:
    return [{k: v for k, v in one.items() if k not in {"entry", "at", "system_id"}} for one in system.events()["items"]]


def test_arrow_is_counted_and_shown_as_json_is(system: ObservedSystem, http: httpx.Client) -> None:
    table = made()
    assert {"accepted": 3, "duplicate": False} == without_entries(accepted(send(system, stream(table))))
    health = system.health_with(total=3)
    other = register(http)
    other.take(as_events(table))
    expected = other.health_with(total=3)
    assert [expected[name] for name in ("errors", "p95_latency")] == [
        health[name] for name in ("errors", "p95_latency")
    ]
    assert seen(other) == seen(system)
    assert [2] == [one["index"] for one in system.events(run_id="r2", status="error")["items"]]


def without_entries(receipt: Json) -> Json:
    return {name: value for name, value in receipt.items() if name != "entries"}


def test_ten_thousand_in_several_record_batches_are_one_entry(system: ObservedSystem) -> None:
    table = made(10_000)
    receipt = accepted(send(system, stream(*(table.slice(at, 1_000) for at in range(0, 10_000, 1_000)))))
    assert 10_000 == receipt["accepted"]
    assert receipt["entries"][0] == receipt["entries"][1]
    system.health_with(total=10_000)
    assert "the batch has 10001 events; the cap is 10000" in problem(send(system, stream(made(10_001))), 422)["detail"]


def test_a_retry_is_counted_once_and_another_body_is_refused(system: ObservedSystem) -> None:
    body, key = stream(made()), {"Idempotency-Key": "a"}
    assert not accepted(send(system, body, key))["duplicate"]
    assert accepted(send(system, body, key))["duplicate"]
    problem(send(system, stream(made()), key), 422)
    system.health_with(total=3)


def test_a_body_may_be_compressed_as_a_whole(system: ObservedSystem) -> None:
    assert 3 == accepted(send(system, gzip.compress(stream(made())), {"Content-Encoding": "gzip"}))["accepted"]


def test_skip_keeps_the_good_ones(system: ObservedSystem) -> None:
    table = made(3, payload=pa.array(["{}", "{", '{"a": 1}']))
    assert [(1, "payload")] == [(e["index"], e["field"]) for e in problem(send(system, stream(table)), 422)["errors"]]
    receipt = accepted(send(system, stream(table), on_invalid="skip"))
    assert (2, 1) == (receipt["accepted"], receipt["rejected"])
    assert [{"a": 1}, {}] == [one["payload"] for one in seen(system)]


def test_an_event_too_far_ahead_is_named(system: ObservedSystem) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    table = made(2, ts=pa.array([datetime.now(UTC), ahead], pa.timestamp("ms", tz="Europe/Berlin")), stage=pa.nulls(2))
    (error,) = problem(send(system, stream(table)), 422)["errors"]
    assert (1, "ts") == (error["index"], error["field"])


def test_an_unknown_system_is_404(http: httpx.Client) -> None:
    answer = http.post("/systems/999999999/events", content=stream(made()), headers={"Content-Type": ARROW})
    problem(answer, 404)


def test_no_bytes_make_the_service_fail(system: ObservedSystem) -> None:
    dice, good = random.Random(5), stream(made(20))
    statuses = {send(system, mutated(dice, good), on_invalid="skip").status_code for _ in range(300)}
    assert statuses <= {202, 422}
    assert 422 in statuses
    accepted(send(system, good))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose Python has no pyarrow."""
    folder = Path(tmp_path_factory.mktemp("no-pyarrow"))
    (folder / "pyarrow.py").write_text("raise ModuleNotFoundError('pyarrow')")
    service = Service.start(folder, environ={"PYTHONPATH": str(folder)})
    yield service
    service.stop()


def test_without_the_extra_it_is_415_that_names_it(bare: Service) -> None:
    with bare.client() as http:
        system = register(http)
        assert 'pip install "lso[arrow]"' in problem(send(system, stream(made())), 415)["detail"]
        system.take([{"event_type": "success", "status": "ok", "latency_ms": 1}])
