"""The registry over HTTP: POST, GET, PATCH and DELETE of systems, and their list."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.e2e.answers import RFC3339_MS, pages, problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem, event

UNKNOWN = "/systems/999999999"
THRESHOLDS = {
    "error_rate": {"warn": 0.01, "crit": 0.5},
    "p95_latency": {"warn": 100, "crit": 250.5},
    "min_events": 10,
}


def test_a_registered_system_is_answered_with_201_its_location_and_itself(http: httpx.Client, unique_name: str) -> None:
    spec = {
        "name": unique_name,
        "description": "Nightly load, Größe 5 €",
        "tags": ["etl", "nightly"],
        "window_seconds": 600,
        "thresholds": THRESHOLDS,
    }
    answer = http.post("/systems", json=spec)
    system = answer.json()
    assert 201 == answer.status_code
    assert f"/systems/{system['system_id']}" == answer.headers["Location"]
    assert "application/json" == answer.headers["Content-Type"].partition(";")[0]
    assert answer.headers["X-Request-Id"]
    assert isinstance(system["system_id"], int)
    assert spec == {member: system[member] for member in spec}
    assert system == http.get(answer.headers["Location"]).json()


def test_only_a_name_is_needed_and_the_rest_has_defaults(http: httpx.Client, unique_name: str) -> None:
    system = http.post("/systems", json={"name": unique_name}).json()
    assert 300 == system["window_seconds"]
    assert {"warn": 0.05, "crit": 0.2} == system["thresholds"]["error_rate"]
    assert {"warn": None, "crit": None} == system["thresholds"]["p95_latency"]
    assert 5 == system["thresholds"]["min_events"]
    assert ("", []) == (system["description"], system["tags"])
    assert RFC3339_MS.fullmatch(system["created_at"])


def test_a_missing_content_type_is_taken_as_json(http: httpx.Client, unique_name: str) -> None:
    answer = http.post("/systems", content=json.dumps({"name": unique_name}))
    assert 201 == answer.status_code


def test_another_content_type_is_415(http: httpx.Client, unique_name: str) -> None:
    answer = http.post("/systems", content=f"name\n{unique_name}\n", headers={"Content-Type": "text/csv"})
    problem(answer, 415)


def test_a_taken_name_is_409(http: httpx.Client, system: ObservedSystem) -> None:
    body = problem(http.post("/systems", json={"name": system.name}), 409)
    assert system.name in body["detail"]


def test_of_many_who_want_one_name_at_once_one_gets_it(http: httpx.Client, unique_name: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: http.post("/systems", json={"name": unique_name}), range(20)))
    assert [201] + [409] * 19 == sorted(answer.status_code for answer in answers)
    assert 1 == len(http.get("/systems", params={"name": unique_name}).json()["items"])


@pytest.mark.parametrize("name", ["x" * 200, "€" * 66 + "xx", "a b/c?d&e=f#g%20", "\u4e2d\u6587"])
def test_a_name_of_up_to_200_bytes_is_taken_as_it_is(http: httpx.Client, unique_name: str, name: str) -> None:
    room = 200 - len(unique_name)
    wanted = unique_name + name if len((unique_name + name).encode()) <= 200 else unique_name + "x" * room
    system = http.post("/systems", json={"name": wanted}).json()
    assert wanted == system["name"]
    assert [system] == http.get("/systems", params={"name": wanted}).json()["items"]


@pytest.mark.parametrize(
    ("field", "body"),
    [
        pytest.param("name", b"{}", id="no name"),
        pytest.param("name", b'{"name": ""}', id="empty name"),
        pytest.param("name", b'{"name": 5}', id="number as name"),
        pytest.param("name", b'{"name": null}', id="null as name"),
        pytest.param("name", json.dumps({"name": "x" * 201}).encode(), id="name of 201 bytes"),
        pytest.param("name", json.dumps({"name": "€" * 67}, ensure_ascii=False).encode(), id="67 letters of 3 bytes"),
        pytest.param(None, b'{"name": "\\ud800"}', id="lone surrogate in a name"),
        pytest.param(None, b'{"name": "\xff"}', id="wrong UTF-8 in a name"),
        pytest.param(None, b'{"name": "x", "description": "\xc3"}', id="wrong UTF-8 in a description"),
        pytest.param("window_seconds", b'{"name": "x", "window_seconds": 59}', id="window too short"),
        pytest.param("window_seconds", b'{"name": "x", "window_seconds": 3601}', id="window too long"),
        pytest.param("window_seconds", b'{"name": "x", "window_seconds": "300"}', id="window as a string"),
        pytest.param("window_seconds", b'{"name": "x", "window_seconds": 300.5}', id="half a second of window"),
        pytest.param("tags", b'{"name": "x", "tags": "etl"}', id="tags as a string"),
        pytest.param("tags[0]", b'{"name": "x", "tags": [""]}', id="empty tag"),
        pytest.param("tags[0]", json.dumps({"name": "x", "tags": ["t" * 201]}).encode(), id="tag of 201 bytes"),
        pytest.param("colour", b'{"name": "x", "colour": "red"}', id="unknown field"),
        pytest.param(None, b"[]", id="an array"),
        pytest.param(None, b"null", id="null"),
        pytest.param(None, b"", id="nothing"),
        pytest.param(None, b'{"name": "x"', id="cut off"),
        pytest.param(None, b'{"name": "x"} {}', id="more than one value"),
        pytest.param(None, b'{"name": ' + b"[" * 3_000 + b"]" * 3_000 + b"}", id="3,000 levels deep"),
        pytest.param(None, b"[" * 200_000, id="200,000 levels deep"),
    ],
)
def test_a_wrong_description_is_422_with_the_field(http: httpx.Client, field: str | None, body: bytes) -> None:
    found = problem(http.post("/systems", content=body, headers={"Content-Type": "application/json"}), 422)
    if field is not None:
        assert field in [finding["field"] for finding in found["errors"]]


@pytest.mark.parametrize("window_seconds", [60, 3600])
def test_the_window_may_be_60_to_3600_seconds(new_system: NewSystem, window_seconds: int) -> None:
    system = new_system(window_seconds=window_seconds)
    assert window_seconds == system.health()["window_seconds"]


@pytest.mark.parametrize(
    ("field", "thresholds"),
    [
        ("error_rate", {"error_rate": {"warn": 0.3, "crit": 0.2}}),
        ("error_rate", {"error_rate": {"warn": 0.2, "crit": 0.2}}),
        ("error_rate", {"error_rate": {"warn": 0, "crit": 0.2}}),
        ("error_rate", {"error_rate": {"warn": -0.1, "crit": 0.2}}),
        ("error_rate", {"error_rate": {"crit": 0}}),
        ("p95_latency", {"p95_latency": {"warn": 500, "crit": 100}}),
        ("p95_latency", {"p95_latency": {"warn": 0}}),
        ("p95_latency", {"p95_latency": {"crit": -5}}),
        ("p95_latency", {"p95_latency": {"warn": "fast"}}),
        ("min_events", {"min_events": -1}),
        ("thresholds", {"p99_latency": {"warn": 5}}),
        ("thresholds", []),
    ],
)
def test_thresholds_that_make_no_sense_are_422(
    http: httpx.Client, unique_name: str, system: ObservedSystem, field: str, thresholds: Any
) -> None:
    created = problem(http.post("/systems", json={"name": unique_name, "thresholds": thresholds}), 422)
    patched = problem(http.patch(system.path, json={"thresholds": thresholds}), 422)
    for body in (created, patched):
        assert any(field in finding["field"] for finding in body["errors"])
    assert [] == http.get("/systems", params={"name": unique_name}).json()["items"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "9" * 400])
def test_a_threshold_that_is_no_number_is_422(http: httpx.Client, unique_name: str, number: str) -> None:
    body = f'{{"name": "{unique_name}", "thresholds": {{"p95_latency": {{"warn": {number}}}}}}}'
    problem(http.post("/systems", content=body, headers={"Content-Type": "application/json"}), 422)


def test_a_patch_changes_what_it_names_and_nothing_else(http: httpx.Client, new_system: NewSystem) -> None:
    system = new_system(description="before", tags=["a"], window_seconds=600, thresholds=THRESHOLDS)
    before = http.get(system.path).json()
    changes: tuple[dict[str, Any], ...] = (
        {"description": "after"},
        {"tags": []},
        {"window_seconds": 60},
        {"thresholds": {**THRESHOLDS, "min_events": 1}},
        {"name": system.name + "-renamed"},
        {},
    )
    for change in changes:
        answer = http.patch(system.path, json=change)
        before |= change
        assert (200, before) == (answer.status_code, answer.json())
        assert before == http.get(system.path).json()


def test_a_rename_frees_the_old_name_and_takes_the_new_one(http: httpx.Client, new_system: NewSystem) -> None:
    system = new_system()
    assert 200 == http.patch(system.path, json={"name": system.name + "-2"}).status_code
    assert [] == http.get("/systems", params={"name": system.name}).json()["items"]
    assert 201 == http.post("/systems", json={"name": system.name}).status_code
    problem(http.post("/systems", json={"name": system.name + "-2"}), 409)


def test_a_rename_to_a_taken_name_is_409_and_changes_nothing(http: httpx.Client, new_system: NewSystem) -> None:
    one, other = new_system(), new_system()
    problem(http.patch(one.path, json={"name": other.name, "description": "changed"}), 409)
    assert (one.name, "") == tuple(http.get(one.path).json()[member] for member in ("name", "description"))


def test_a_rename_to_its_own_name_is_fine(http: httpx.Client, system: ObservedSystem) -> None:
    assert 200 == http.patch(system.path, json={"name": system.name}).status_code


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("name", {"name": ""}),
        ("window_seconds", {"window_seconds": 59}),
        ("window_seconds", {"window_seconds": 3601}),
        ("colour", {"colour": "red"}),
        ("system_id", {"system_id": 5}),
    ],
)
def test_a_wrong_patch_is_422_with_the_field(
    http: httpx.Client, system: ObservedSystem, field: str, change: dict[str, Any]
) -> None:
    body = problem(http.patch(system.path, json=change), 422)
    assert field in [finding["field"] for finding in body["errors"]]


def test_patched_thresholds_judge_what_is_in_the_window_already(http: httpx.Client, system: ObservedSystem) -> None:
    system.take([event(latency_ms=100) for _ in range(10)])
    system.health_with(total=10, health="OK")
    assert 200 == http.patch(system.path, json={"thresholds": {"p95_latency": {"crit": 50}}}).status_code
    assert 10 == system.health_with(health="UNHEALTHY")["total"]


def test_a_patched_window_is_the_one_that_health_shows(http: httpx.Client, system: ObservedSystem) -> None:
    system.take([event() for _ in range(10)])
    system.health_with(total=10)
    assert 200 == http.patch(system.path, json={"window_seconds": 60}).status_code
    system.health_with(window_seconds=60, total=10)


def test_a_deleted_system_is_gone_everywhere(http: httpx.Client, system: ObservedSystem) -> None:
    system.take([event()])
    answer = http.delete(system.path)
    assert (204, b"") == (answer.status_code, answer.content)
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/health"),
        ("GET", "/health?strict=1"),
        ("GET", "/metrics"),
        ("GET", "/events"),
        ("POST", "/events"),
    ):
        problem(http.request(method, system.path + path, json={"events": [event()]}), 404)
    assert [] == http.get("/systems", params={"name": system.name}).json()["items"]
    assert system.id not in [line["system_id"] for page in pages(http, "/health") for line in page]


def test_the_id_of_a_deleted_system_is_never_used_again(http: httpx.Client, new_system: NewSystem) -> None:
    system = new_system()
    http.delete(system.path)
    again = new_system(name=system.name)
    assert again.id > system.id
    assert (0, None) == (again.health()["total"], again.health()["last_event_at"])


@pytest.mark.parametrize(
    "path", [UNKNOWN, "/systems/0", "/systems/-1", "/systems/abc", "/systems/1e3", "/systems/" + "9" * 30]
)
@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/events"),
        ("GET", "/events?from=2026-01-01T00:00:00Z"),
        ("GET", "/series?metric=p95&from=-1h"),
        ("GET", "/histogram"),
        ("GET", "/slo?objective=99"),
        ("GET", "/runs"),
        ("GET", "/runs/x"),
        ("POST", "/events"),
    ],
)
def test_an_unknown_system_is_404(http: httpx.Client, path: str, method: str, below: str) -> None:
    problem(http.request(method, path + below, json={"events": [event()]}), 404)


def test_404_wins_over_422(http: httpx.Client) -> None:
    problem(http.patch(UNKNOWN, json={"window_seconds": 1}), 404)
    problem(http.patch(UNKNOWN, content=b"{"), 404)
    problem(http.post(f"{UNKNOWN}/events", json={"events": []}), 404)
    problem(http.post(f"{UNKNOWN}/events", content=b"\xff"), 404)
    problem(http.post(f"{UNKNOWN}/events?on_invalid=maybe", json={"events": [event()]}), 404)
    problem(http.post(f"{UNKNOWN}/events", json={"events": [event()]}, headers={"Idempotency-Key": "k" * 129}), 404)
    problem(http.get(f"{UNKNOWN}/events?limit=no"), 404)
    problem(http.get(f"{UNKNOWN}/health?strict=perhaps"), 404)


def test_404_wins_over_413(http: httpx.Client) -> None:
    problem(http.post(f"{UNKNOWN}/events", content=b" " * (17 * 1024 * 1024)), 404)


def test_the_list_is_newest_first_and_its_pages_join(http: httpx.Client, new_system: NewSystem) -> None:
    made = [new_system().id for _ in range(7)]
    seen = [[line["system_id"] for line in page] for page in pages(http, "/systems", limit="3")]
    assert {3} == {len(page) for page in seen[:-1]}
    ids = [system_id for page in seen for system_id in page]
    assert sorted(ids, reverse=True) == ids
    assert list(reversed(made)) == ids[:7]


def test_the_list_keeps_its_place_while_systems_are_made_and_deleted(http: httpx.Client, new_system: NewSystem) -> None:
    before = [new_system() for _ in range(8)]
    wanted = {system.id for system in before}
    seen: list[int] = []
    for number, page in enumerate(pages(http, "/systems", limit="2")):
        seen += [line["system_id"] for line in page]
        if wanted <= set(seen):
            break
        new_system()
        if number == 1:  # one that was seen, which the cursor may even stand on
            http.delete(f"/systems/{seen[-1]}")
    assert sorted(set(seen), reverse=True) == seen
    assert wanted == wanted & set(seen)
    assert max(wanted) == seen[0]


def test_a_line_of_the_list_is_the_system_itself(http: httpx.Client, system: ObservedSystem) -> None:
    answer = http.get("/systems", params={"limit": 1}).json()
    assert {"items", "next"} == answer.keys()
    assert [http.get(system.path).json()] == answer["items"]


def test_a_name_that_nobody_has_gives_an_empty_list(http: httpx.Client, unique_name: str) -> None:
    assert {"items": [], "next": None} == http.get("/systems", params={"name": unique_name}).json()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=many", "limit=1000000", "cursor=%00nonsense", "colour=red"]
)
def test_a_wrong_query_of_the_list_is_422(http: httpx.Client, query: str) -> None:
    problem(http.get(f"/systems?{query}"), 422)
