"""GET /systems/{id}/runs and what lies below: runs as their events tell them, their deadlines, lists and ranks."""

import contextlib
import itertools
import json
import time
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from lso_core import client as sdk
from tests.e2e.answers import RFC3339_MS, from_now, problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import Json, ObservedSystem, event, events
from tests.waiting import wait_for

RUN: Final = {
    "system_id",
    "run_id",
    "state",
    "attempts",
    "started_at",
    "ended_at",
    "duration_ms",
    "last_event_at",
    "events",
    "errors",
    "error_summary",
    "rows",
    "rows_in",
    "rows_out",
    "bytes",
    "stages",
}


def of_run(kind: str, run_id: str, ms: int | None = None, **members: Any) -> Json:
    """An event of a run, `ms` from now."""
    given = {} if ms is None else {"ts": from_now(ms / 1_000)}
    return {"event_type": kind, "status": "error" if kind == "failure" else "ok", "run_id": run_id, **given, **members}


def runs(system: ObservedSystem, **query: Any) -> Json:
    answer = system.http.get(f"{system.path}/runs", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(system: ObservedSystem, **query: Any) -> list[str]:
    return [one["run_id"] for one in runs(system, **query)["items"]]


def run_with(system: ObservedSystem, run_id: str, within: float = 15, **members: Any) -> Json:
    """The first answer for a run that has these members."""
    last: list[Any] = []

    def found() -> Json | None:
        answer = system.http.get(f"{system.path}/runs/{quote(run_id, safe='')}")
        last[:] = [answer.text]
        body = answer.json() if answer.status_code == 200 else {}
        return body if members.items() <= body.items() and body else None

    try:
        return wait_for(found, f"run {run_id} shows {members}", within) or {}
    except AssertionError as error:
        raise AssertionError(f"{error}; it shows {last}") from None


def test_a_run_tells_its_stages_sums_and_events(system: ObservedSystem) -> None:
    system.take(
        [
            of_run("start", "night/1", -20_000),
            of_run("success", "night/1", -15_000, stage="extract", latency_ms=4_000, payload={"rows": 10, "bytes": 5}),
            of_run("success", "other", -15_000, stage="extract", latency_ms=4_000, payload={"rows": 99}),
            of_run("heartbeat", "night/1", -12_000),
            of_run(
                "failure",
                "night/1",
                -10_000,
                stage="load",
                latency_ms=900,
                payload={"error": "disk full", "rows_in": 4},
            ),
            of_run("end", "night/1", -9_000, status="error"),
        ]
    )
    run = run_with(system, "night/1", state="FAILED")
    assert RUN | {"rank", "timeline"} == run.keys()
    assert (1, 5, 2, "disk full") == tuple(run[name] for name in ("attempts", "events", "errors", "error_summary"))
    assert pytest.approx(11_000, abs=900) == run["duration_ms"]
    assert (10, 4, None, 5) == tuple(run[name] for name in ("rows", "rows_in", "rows_out", "bytes"))
    assert [("extract", "SUCCESS", 4_000.0, 10), ("load", "FAILED", 900.0, None)] == [
        tuple(stage[name] for name in ("name", "state", "duration_ms", "rows")) for stage in run["stages"]
    ]
    for name in ("started_at", "ended_at", "last_event_at"):
        assert RFC3339_MS.fullmatch(run[name]), name
    timeline = run["timeline"]
    assert ["end", "failure", "heartbeat", "success", "start"] == [one["event_type"] for one in timeline["items"]]
    assert ({"night/1"}, None) == ({one["run_id"] for one in timeline["items"]}, timeline["next"])
    assert ["night/1"] == ids(system)
    first = system.http.get(f"{system.path}/runs/{quote('night/1', safe='')}", params={"limit": 2}).json()["timeline"]
    rest = system.http.get(f"{system.path}/runs/latest", params={"cursor": first["next"]}).json()["timeline"]
    assert timeline["items"] == first["items"] + rest["items"]


def test_any_order_of_the_posts_makes_the_same_run(new_system: NewSystem) -> None:
    at = from_now(-30)
    story = [
        of_run("success", "r", stage="extract", latency_ms=5, payload={"rows": 3}, ts=at[:-4] + "100Z"),
        of_run("start", "r", ts=at[:-4] + "000Z"),
        of_run("failure", "r", stage="load", latency_ms=5, payload={"error_message": "no"}, ts=at[:-4] + "300Z"),
        of_run("end", "r", ts=at[:-4] + "400Z"),
    ]
    shown = []
    for order in itertools.islice(itertools.permutations(story), 0, 24, 5):
        system = new_system()
        for one in (*order, order[0]):
            system.take([one])
        run = run_with(system, "r", state="SUCCESS", events=4)
        shown.append({name: run[name] for name in RUN - {"system_id"}})
    assert [shown[0]] * len(shown) == shown
    assert (3, 1, "no", 400.0) == tuple(shown[0][name] for name in ("rows", "errors", "error_summary", "duration_ms"))


def test_other_run_ids_make_no_runs(system: ObservedSystem) -> None:
    system.take([event(run_id=f"request-{at}", stage="serve") for at in range(2_000)])
    system.health_with(total=2_000)
    assert [] == ids(system)
    assert "request-7" == system.events(run_id="request-7")["items"][0]["run_id"]


def test_a_run_that_does_not_end_in_time_degrades_its_system_until_it_ends(new_system: NewSystem) -> None:
    system = new_system(max_runtime_seconds=3)
    system.take([of_run("start", "slow")])
    run_with(system, "slow", state="RUNNING")
    health = system.health_with(health="DEGRADED", within=20)  # no event came that would have made it so
    assert health["reason"].startswith("run slow has not ended within 3 s; it started at ")
    for at in range(5):
        system.take([of_run("start", f"fast-{at}"), event(run_id=f"fast-{at}")])
    health = system.health_with(total=5)
    assert ("DEGRADED", True) == (health["health"], health["reason"].startswith("run slow has not"))
    assert "TIMED_OUT" == run_with(system, "slow")["state"]
    assert (["slow"], 1) == (ids(system, state="TIMED_OUT"), runs(system)["counts"]["timed_out"])
    system.take([of_run("end", "slow")])
    system.health_with(health="OK")
    assert "SUCCESS" == run_with(system, "slow")["state"]


def test_a_limit_that_is_set_later_is_held_against_runs_under_way(system: ObservedSystem) -> None:
    system.take([of_run("start", "r", -3_600_000)])
    assert 3_590_000 < run_with(system, "r", state="RUNNING")["duration_ms"] < 3_700_000
    answer = system.http.patch(system.path, json={"max_runtime_seconds": 60})
    assert (200, 60, None) == (
        answer.status_code,
        answer.json()["max_runtime_seconds"],
        answer.json()["heartbeat_timeout_seconds"],
    )
    run_with(system, "r", state="TIMED_OUT")
    system.http.patch(system.path, json={"max_runtime_seconds": None})
    run_with(system, "r", state="RUNNING")


def test_a_run_without_heartbeats_is_lost_and_comes_back(new_system: NewSystem) -> None:
    system = new_system(heartbeat_timeout_seconds=2)
    system.take([of_run("start", "r")])
    lost = run_with(system, "r", state="LOST")
    assert (None, None) == (lost["rank"], lost["ended_at"])
    assert system.health_with(health="DEGRADED")["reason"].startswith(
        "run r is lost: it gave no sign of life within 2 s"
    )
    system.take([of_run("heartbeat", "r")])
    run_with(system, "r", state="RUNNING")
    system.take([of_run("success", "r", latency_ms=5.0)])
    run_with(system, "r", state="SUCCESS")


def test_a_retry_is_another_attempt_of_the_run(system: ObservedSystem) -> None:
    system.take([of_run("start", "r", -9_000), of_run("failure", "r", -8_000, latency_ms=1_000)])
    run_with(system, "r", state="FAILED", attempts=1)
    system.take([of_run("start", "r", -5_000)])
    assert run_with(system, "r", state="RUNNING", attempts=2)["ended_at"] is None
    system.take([of_run("success", "r", -4_000, latency_ms=1_000)])
    assert pytest.approx(1_000, abs=900) == run_with(system, "r", state="SUCCESS", attempts=2)["duration_ms"]


def test_lists_are_newest_first_whatever_comes_meanwhile(system: ObservedSystem) -> None:
    system.take([of_run("success", f"r{at:03d}", -60_000 + at, latency_ms=0.0) for at in range(300)])
    wait_for(lambda: len(ids(system, limit=500)) == 300, "the runs are there")
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = runs(system, limit=70, **cursor)
        found += [one["run_id"] for one in page["items"]]
        system.take([of_run("success", f"new-{len(found)}", latency_ms=0.0)])
        run_with(system, f"new-{len(found)}")
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [f"r{at:03d}" for at in reversed(range(300))] == found
    assert "new-300" == system.http.get(f"{system.path}/runs/latest").json()["run_id"]


def test_lists_are_filtered_by_state_and_start(system: ObservedSystem) -> None:
    stamps = {at: from_now(at - 600) for at in range(4)}
    system.take(
        [of_run("failure" if at % 2 else "success", f"r{at}", latency_ms=0.0, ts=ts) for at, ts in stamps.items()]
    )
    wait_for(lambda: len(ids(system)) == 4, "the runs are there")
    assert ["r3", "r1"] == ids(system, state="FAILED")
    assert ["r2", "r1"] == ids(system, **{"from": stamps[1], "to": stamps[3]})
    assert ["r2"] == ids(system, state="SUCCESS", limit=1)
    assert ["r0"] == ids(system, state="SUCCESS", limit=1, cursor=runs(system, state="SUCCESS", limit=1)["next"])


def test_a_run_knows_its_rank_also_while_it_is_running(system: ObservedSystem) -> None:
    took = [100 * (at + 1) for at in range(340)]
    system.take([of_run("success", f"r{ms}", -100_000, latency_ms=ms) for ms in took])
    wait_for(lambda: len(ids(system, limit=500)) == 340, "the runs are there")
    rank = run_with(system, "r33100")["rank"]
    assert {"runs": 339, "slower_than": 330, "percent": 97.3, "text": "slower than 97 % of 339 runs"} == rank
    assert "slower than 0 % of 339 runs" == run_with(system, "r100")["rank"]["text"]
    system.take([of_run("start", "now", -33_050)])
    rank = run_with(system, "now", state="RUNNING")["rank"]
    assert (340, True) == (rank["runs"], rank["slower_than"] >= 330)
    assert rank["text"].startswith("already slower than 9")


def test_past_a_thousand_open_runs_the_oldest_is_closed_as_lost(system: ObservedSystem) -> None:
    system.take([of_run("start", f"r{at}", -50_000 + at) for at in range(1_005)])
    wait_for(lambda: len(ids(system, state="LOST")) == 5, "the oldest are closed")
    assert ["r4", "r3", "r2", "r1", "r0"] == ids(system, state="LOST")
    assert (1_000, 5) == tuple(runs(system)["counts"][name] for name in ("running", "closed_as_lost"))
    assert "UNKNOWN" == system.health()["health"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "DONE"}, "state"),
        ({"from": "yesterday"}, "from"),
        ({"to": "1"}, "to"),
        ({"cursor": "5-1"}, "cursor"),
        ({"cursor": "x.y"}, "cursor"),
        ({"limit": "0"}, "limit"),
        ({"stage": "a"}, "stage"),
    ],
)
def test_a_wrong_query_is_named(system: ObservedSystem, query: dict[str, str], field: str) -> None:
    body = problem(system.http.get(f"{system.path}/runs", params=query), 422)
    assert field == body["errors"][0]["field"]


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"max_runtime_seconds": 0}, "max_runtime_seconds"),
        ({"max_runtime_seconds": "1h"}, "max_runtime_seconds"),
        ({"heartbeat_timeout_seconds": 2_592_001}, "heartbeat_timeout_seconds"),
    ],
)
def test_a_wrong_limit_is_named(system: ObservedSystem, members: Json, field: str) -> None:
    for answer in (
        system.http.patch(system.path, json=members),
        system.http.post("/systems", json={"name": "never", **members}),
    ):
        found = problem(answer, 422)["errors"][0]
        assert field == found["field"]
        assert f"{field} must be a whole number from 1 to 2592000" == found["message"]


def test_what_is_not_there_is_404(system: ObservedSystem, http: httpx.Client) -> None:
    for path in (
        "/systems/999999/runs",
        "/systems/999999/runs/latest",
        "/systems/999999/runs/r",
        "/systems/999999/runs?x=1",
    ):
        assert "there is no system 999999" == problem(http.get(path), 404)["detail"]
    assert f"system {system.id} has no runs" == problem(http.get(f"{system.path}/runs/latest"), 404)["detail"]
    assert f"system {system.id} has no run 'a b/c'" == problem(http.get(f"{system.path}/runs/a%20b%2Fc"), 404)["detail"]
    assert [] == ids(system)


@pytest.mark.parametrize("run_id", ["a b", "a/b", "/a", "a//b", "a/", "ü%2F", "?x=1&y", "runs/latest", "latest.", "#1"])
def test_any_id_is_found(system: ObservedSystem, run_id: str) -> None:
    system.take([of_run("start", run_id)])
    assert run_id == run_with(system, run_id)["run_id"]
    assert [run_id] == ids(system)


def test_the_sdks_runs_are_runs(system: ObservedSystem, http: httpx.Client) -> None:
    with contextlib.closing(sdk.Client(str(http.base_url), system.id)) as lso:
        with lso.run("staged", source="crm") as run:
            with run.stage("extract") as stage:
                stage.set(rows=12)
            with run.stage("load", heartbeat=0.05) as stage:
                time.sleep(0.12)
                stage.set(rows=11, bytes=400)
        with pytest.raises(ZeroDivisionError), lso.run("broken"):
            1 / 0  # noqa: B018
        lso.flush()
    staged = run_with(system, "staged", state="SUCCESS")
    assert (["extract", "load"], 23, 400) == (
        [one["name"] for one in staged["stages"]],
        staged["rows"],
        staged["bytes"],
    )
    assert staged["duration_ms"] >= 100
    assert "heartbeat" in {one["event_type"] for one in staged["timeline"]["items"]}
    broken = run_with(system, "broken", state="FAILED")
    assert ("ZeroDivisionError: division by zero", []) == (broken["error_summary"], broken["stages"])


def test_a_deleted_systems_runs_are_gone(new_system: NewSystem) -> None:
    system = new_system()
    system.take([of_run("start", "r"), *json.loads(json.dumps(events(2)))])
    run_with(system, "r")
    assert 204 == system.http.delete(system.path).status_code
    assert 404 == system.http.get(f"{system.path}/runs/r").status_code
