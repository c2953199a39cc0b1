"""`lso demo`: its story is a pure function of seed and time, and an LSO makes of it what the scenario says."""

import itertools
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.cli.demo.cast import CAST, Member
from lso_core.cli.demo.scenarios import SCENARIOS, trouble_of
from lso_core.cli.demo.story import PAST_RUNS, Story, Told, stamp
from tests.cli.conftest import LSO, RunLso, StartLso, end, environ
from tests.client.faulty_proxy import FaultyProxy
from tests.e2e.service import Service
from tests.waiting import wait_for

NOON = 1_765_713_600_000
HOUR = 3_600_000
MEMBERS = {member.name: member for member in CAST}


def window(scenario: str, member: Member, began_ms: int, *, seed: int = 1, speed: float = 1.0) -> list[Told]:
    """What fills a system's window when the demo begins."""
    story = Story(scenario, seed, speed, began_ms)
    return list(story.events(member, began_ms - member.window_s * 1_000 + 5_000, began_ms))


def judged(member: Member, told: list[Told]) -> str:
    """The state that the thresholds give."""
    counted = [t for t in told if "latency_ms" in t.event and t.event["ts"] == stamp(t.due_ms)]
    if not counted:
        return "UNKNOWN"
    rate = sum(t.event["status"] == "error" for t in counted) / len(counted)
    p95 = sorted(t.event["latency_ms"] for t in counted)[-(-len(counted) * 95 // 100) - 1]
    if rate > 0.20 or p95 > member.p95_crit_ms:
        return "UNHEALTHY"
    return "DEGRADED" if rate > 0.05 or p95 > member.p95_warn_ms else "OK"


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CAST), st.sampled_from(sorted(SCENARIOS)), st.integers(0, 9), st.sampled_from([0.5, 1.0, 7.3]),
    st.integers(-60_000, 240_000), st.lists(st.integers(0, 30_000), max_size=5),
)  # fmt: skip
def test_a_span_told_in_pieces_is_the_span_told_at_once(
    member: Member, scenario: str, seed: int, speed: float, start: int, cuts: list[int]
) -> None:
    story, first = Story(scenario, seed, speed, NOON), NOON + start
    marks = sorted({first, first + 30_000, *(first + cut for cut in cuts)})
    pieces = [told for a, b in itertools.pairwise(marks) for told in story.events(member, a, b)]
    whole = list(story.events(member, first, first + 30_000))
    assert whole == pieces
    assert all(before.due_ms <= after.due_ms for before, after in itertools.pairwise(whole))
    assert all(first <= told.due_ms < first + 30_000 for told in whole)


def test_a_seed_always_tells_the_same_and_another_seed_something_else() -> None:
    member = MEMBERS["payments-stream"]
    told = window("mixed", member, NOON)
    assert told == window("mixed", member, NOON)
    assert told != window("mixed", member, NOON, seed=2)
    assert ["2025-12-14T11:59:05.136Z", "failure", 391.308, "authorize"] == [
        told[0].event[field] for field in ("ts", "event_type", "latency_ms", "stage")
    ]


@pytest.mark.parametrize(("seed", "hour"), [(1, 0), (2, 2.5), (3, 7.5), (4, 13), (5, 20)])
def test_every_scenario_shows_its_states_at_any_hour(seed: int, hour: float) -> None:
    began = NOON + round(hour * HOUR)
    for scenario, troubles in SCENARIOS.items():
        for member in CAST:
            state = judged(member, window(scenario, member, began, seed=seed))
            word = troubles[member.name].word if member.name in troubles else ""
            wanted = {"fails": {"UNHEALTHY"}, "errs": {"DEGRADED", "UNHEALTHY"}, "is slow": {"DEGRADED"}}.get(
                word, {"OK"}
            )
            assert state in wanted, (scenario, member.name, hour)


def test_traffic_follows_the_day() -> None:
    payments, warehouse = MEMBERS["payments-stream"], MEMBERS["warehouse-nightly"]
    evening, morning = (len(window("all-green", payments, NOON + h * HOUR)) for h in (6, 18))
    night, day = (len(window("all-green", warehouse, NOON + h * HOUR)) for h in (15, 3))
    assert evening > 2 * morning
    assert night > 3 * day


def test_a_run_has_a_beginning_and_an_end_and_its_events_name_it() -> None:
    member = MEMBERS["weather-observations"]
    told = list(Story("all-green", 1, 1.0, NOON).events(member, NOON, NOON + 600_000))
    kinds = Counter(t.event["event_type"] for t in told)
    assert (1, 1, 3) == (kinds["start"], kinds["end"], kinds["heartbeat"])
    assert {"weather-observations-20251214T120000", None} == {t.event.get("run_id") for t in told}


def test_speed_makes_the_day_go_by_faster() -> None:
    member = MEMBERS["inventory-feed"]
    usual, fast = (len(window("all-green", member, NOON, speed=speed)) for speed in (1.0, 10.0))
    assert 8 * usual < fast < 12 * usual


def test_trouble_ends_and_comes_back() -> None:
    for scenario, troubles in SCENARIOS.items():
        for name in troubles:
            on = [trouble_of(scenario, MEMBERS[name], second) is not None for second in range(600)]
            changes = sum(before != after for before, after in itertools.pairwise(on))
            assert on[0], (scenario, name)
            assert changes >= 2, (scenario, name)


def seconds(text: str) -> float:
    """A time as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def stage(http: httpx.Client) -> Iterator[httpx.Client]:
    """The service without what an earlier demo left."""
    yield http
    for line in cast_on(http).values():
        assert 204 == http.delete(f"/systems/{line['system_id']}").status_code


def cast_on(http: httpx.Client) -> dict[str, dict[str, Any]]:
    """The demo's systems as the fleet page has them, by name."""
    items = http.get("/health").json()["items"]
    return {line["name"]: line for line in items if line["name"] in MEMBERS}


def states(http: httpx.Client) -> dict[str, str]:
    return {name: line["health"] for name, line in cast_on(http).items()}


def test_all_green_is_green_at_once_and_again_when_run_again(stage: httpx.Client, lso: RunLso) -> None:
    green = dict.fromkeys(MEMBERS, "OK")
    for _ in range(2):
        done = lso("demo", "--scenario", "all-green", "--duration", "0")
        assert 0 == done.returncode, done.stderr
        wait_for(lambda: states(stage) == green, "all is green")
    items = stage.get("/systems", params={"limit": "500"}).json()["items"]
    assert 8 == sum(item["name"] in MEMBERS for item in items)
    assert all("demo" in item["tags"] for item in items if item["name"] in MEMBERS)


def test_mixed_shows_every_state_and_late_events_and_ends_when_told(stage: httpx.Client, start_lso: StartLso) -> None:
    demo = start_lso("demo", USE_MOCK_DATA="1")
    wanted = {"payments-stream": "UNHEALTHY", "crm-sync": "DEGRADED", "inventory-feed": "UNKNOWN", "email-digest": "OK"}
    wait_for(lambda: wanted.items() <= states(stage).items(), "every state is there", within=25)
    late = cast_on(stage)["weather-observations"]["system_id"]
    assert stage.get(f"/systems/{late}/metrics").json()["late"] > 0
    runs = stage.get(f"/systems/{late}/runs").json()["items"]
    assert len(runs) > PAST_RUNS
    assert {"SUCCESS", "FAILED"} >= {one["state"] for one in runs[1:]}
    before = cast_on(stage)["payments-stream"]["last_event_at"]
    wait_for(lambda: cast_on(stage)["payments-stream"]["last_event_at"] > before, "it goes on")
    assert 0 == end(demo)


def test_what_happened_while_the_service_was_away_is_made_up_for(
    stage: httpx.Client, start_lso: StartLso, proxy: FaultyProxy
) -> None:
    demo = start_lso("demo", "--scenario", "all-green", url=proxy.url)
    assert demo.stderr is not None
    assert b"8 systems" in demo.stderr.readline()
    proxy.refuse()
    assert b"cannot be reached" in demo.stderr.readline()
    proxy.accept()
    assert b"LSO answers again" in demo.stderr.readline()
    assert 0 == end(demo)
    system_id = cast_on(stage)["clickstream-sessions"]["system_id"]
    events = stage.get(f"/systems/{system_id}/events", params={"limit": "500"}).json()["items"]
    times = sorted(event["ts"] for event in events)
    assert len(times) == len({(event["ts"], event["latency_ms"]) for event in events})
    gaps = [seconds(after) - seconds(before) for before, after in itertools.pairwise(times)]
    assert max(gaps) < 3


def test_what_was_said_goes_to_standard_error(stage: httpx.Client, lso: RunLso) -> None:
    done = lso("demo", "--duration", "0", USE_MOCK_DATA="outage")
    assert (0, "") == (done.returncode, done.stdout)
    assert "scenario outage, seed 1" in done.stderr


def test_a_scenario_that_there_is_not_is_refused(lso: RunLso) -> None:
    refused = lso("demo", USE_MOCK_DATA="nonsense")
    assert 2 == refused.returncode
    assert "late-data" in refused.stderr


def test_it_ends_with_the_process_that_started_it(stage: httpx.Client, service: Service) -> None:
    ours, its = os.pipe()
    command = [*LSO, "demo", "--parent-fd", str(ours), "--scenario", "unknown"]
    with subprocess.Popen(command, env=environ(service.url), pass_fds=(ours,), stderr=subprocess.PIPE) as demo:
        os.close(ours)
        assert demo.stderr is not None
        assert b"8 systems" in demo.stderr.readline()
        os.close(its)
        assert 1 == demo.wait(5)


def test_it_waits_for_a_service_that_is_still_starting_and_no_longer_than_told(lso: RunLso) -> None:
    done = lso("demo", "--url", "http://127.0.0.1:1", "--wait", "0.3")
    assert (1, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert "cannot be reached" in done.stderr
