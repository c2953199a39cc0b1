"""What the service says about itself: probes, /autoscale, /metrics, /docs, and the form of every answer."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.answers import Json, problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem, event, events
from tests.waiting import wait_for

ROUTES = {
    "/systems": {"get", "post"},
    "/systems/{system_id}": {"get", "patch", "delete"},
    "/systems/{system_id}/events": {"get", "post"},
    "/systems/{system_id}/health": {"get"},
    "/systems/{system_id}/metrics": {"get"},
    "/health": {"get"},
    "/autoscale": {"get"},
    "/metrics": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_the_probes_answer_200(http: httpx.Client, path: str) -> None:
    assert 200 == http.get(path).status_code


def test_autoscale_has_the_members_of_the_contract_and_they_are_numbers(http: httpx.Client) -> None:
    body = http.get("/autoscale").json()
    assert {"backlog", "workers", "desired_workers"} == body.keys()
    assert {"entries", "events", "oldest_age_s"} == body["backlog"].keys()
    numbers = [*body["backlog"].values(), body["workers"], body["desired_workers"]]
    assert all(isinstance(number, int | float) and number >= 0 for number in numbers)


def test_an_idle_service_wants_one_worker_and_has_no_backlog(http: httpx.Client, system: ObservedSystem) -> None:
    system.take(events(100))
    system.health_with(total=100)
    empty = {"entries": 0, "events": 0, "oldest_age_s": 0}
    wait_for(lambda: http.get("/autoscale").json()["backlog"] == empty, "the backlog is folded")
    body = http.get("/autoscale").json()
    assert 1 <= body["workers"]
    assert 1 <= body["desired_workers"] <= 32


def families(http: httpx.Client) -> dict[str, Metric]:
    """What /metrics shows, by name."""
    answer = http.get("/metrics")
    assert 200 == answer.status_code
    assert "text/plain" == answer.headers["Content-Type"].partition(";")[0]
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def test_metrics_is_prometheus_text_with_help_for_every_name(http: httpx.Client) -> None:
    found = families(http)
    assert found
    assert [] == [name for name, family in found.items() if not family.documentation or family.type == "unknown"]
    assert all(re.fullmatch(r"lso_[a-z0-9_]+", name) for name in found)


@pytest.mark.parametrize(
    "words",
    [
        ("requests",),
        ("accepted", "events"),
        ("duplicate",),
        ("refused",),
        ("fold", "seconds"),
        ("backlog", "entries"),
        ("backlog", "events"),
        ("oldest", "age"),
        ("snapshot", "age"),
        ("watermark", "delay"),
        ("redis", "round_trips"),
        ("worker",),
        ("fenced",),
    ],
    ids=" ".join,
)
def test_the_catalogue_of_metrics_has_what_operators_need(http: httpx.Client, words: tuple[str, ...]) -> None:
    assert [name for name in families(http) if all(word in name for word in words)]


def test_refusals_are_counted_by_reason(http: httpx.Client, system: ObservedSystem) -> None:
    def refused(reason: str) -> float:
        return sum(
            sample.value
            for name, family in families(http).items()
            if "refused" in name
            for sample in family.samples
            if any(reason in value for value in sample.labels.values()) and sample.name.endswith("_total")
        )

    before = {reason: refused(reason) for reason in ("input", "large", "type")}
    problem(system.post([event(latency_ms=-1)]), 422)
    problem(system.post_body(b" " * (16 * 1024 * 1024 + 1)), 413)
    problem(system.post_body(b"x", content_type="text/csv"), 415)
    for reason, count in before.items():
        wait_for(
            partial(lambda why, wanted: refused(why) == wanted, reason, count + 1), f"a refusal for {reason} shows"
        )


def total_of(http: httpx.Client, word: str) -> float:
    """The sum over the counters whose name has the word."""
    return sum(
        sample.value
        for name, family in families(http).items()
        if family.type == "counter" and word in name
        for sample in family.samples
        if sample.name.endswith("_total")
    )


def test_accepted_events_and_duplicates_are_counted(http: httpx.Client, system: ObservedSystem) -> None:
    accepted, duplicates = total_of(http, "events_accepted"), total_of(http, "duplicate")
    system.take(events(7), key="k")
    system.take(events(7), key="k")
    wait_for(lambda: total_of(http, "events_accepted") == accepted + 7, "the accepted events are counted")
    wait_for(lambda: total_of(http, "duplicate") == duplicates + 1, "the duplicate is counted")


def test_accepted_bytes_are_counted(http: httpx.Client, system: ObservedSystem) -> None:
    before = total_of(http, "bytes")
    system.take(events(1_000))
    wait_for(lambda: total_of(http, "bytes") >= before + 50_000, "the bytes are counted")


def test_a_system_has_gauges_of_its_own(http: httpx.Client, system: ObservedSystem) -> None:
    system.take(events(3, 1))
    system.health_with(total=4)

    def values() -> list[float]:
        return [
            sample.value
            for family in families(http).values()
            if family.type == "gauge"
            for sample in family.samples
            if str(system.id) in sample.labels.values() or system.name in sample.labels.values()
        ]

    wait_for(lambda: 4.0 in values(), "a gauge of the system shows its total")


def foreign(text: str) -> list[str]:
    """What a page would load from somewhere else."""
    loads = r"""(?:src|href|action)\s*=\s*["']?\s*((?:https?:)?//[^"'\s>]+)|url\(\s*["']?((?:https?:)?//[^"')]+)|@import\s+["']((?:https?:)?//[^"']+)"""
    return ["".join(found) for found in re.findall(loads, text)]


def assets(text: str) -> list[str]:
    """What a page loads from here."""
    return re.findall(r"""<(?:script|link)[^>]+(?:src|href)\s*=\s*["'](/?[^"':]+)["']""", text)


def test_docs_loads_nothing_from_anywhere_else(http: httpx.Client) -> None:
    page = http.get("/docs", follow_redirects=True)
    assert 200 == page.status_code
    assert "text/html" == page.headers["Content-Type"].partition(";")[0]
    assert [] == foreign(page.text)
    found = assets(page.text)
    assert found
    for path in found:
        asset = http.get(str(page.url.join(path)))
        assert 200 == asset.status_code
        if asset.headers["Content-Type"].startswith("text/css"):
            assert [] == foreign(asset.text)


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> Json:
    """The OpenAPI document that /docs shows."""
    page = http.get("/docs", follow_redirects=True)
    texts = [page.text, *(http.get(str(page.url.join(path))).text for path in assets(page.text))]
    linked = re.findall(r"""["']([^"'\s]*openapi[^"'\s]*\.json|/schema[^"'\s]*)["']""", "\n".join(texts))
    assert linked, "the page or its script names its document"
    return dict(http.get(str(page.url.join(linked[0]))).json())


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, method and description of every operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in {"get", "post", "patch", "put", "delete"}:
                yield path, method, operation


def test_the_document_is_openapi_31_and_has_every_route(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    found: dict[str, set[str]] = {}
    for path, method, _ in operations(document):
        found.setdefault(path, set()).add(method)
    assert {path: found.get(path, set()) for path in ROUTES} == ROUTES


def test_the_document_has_every_error_of_a_route(document: Json) -> None:
    answers = {(path, method): set(operation["responses"]) for path, method, operation in operations(document)}
    assert {"202", "404", "413", "415", "422", "429", "503"} <= answers["/systems/{system_id}/events", "post"]
    assert {"201", "409", "413", "415", "422", "503"} <= answers["/systems", "post"]
    assert {"200", "404", "409", "422", "503"} <= answers["/systems/{system_id}", "patch"]
    assert {"204", "404"} <= answers["/systems/{system_id}", "delete"]
    assert {"200", "404", "503"} <= answers["/systems/{system_id}/health", "get"]


def has_example(node: Any) -> bool:
    if isinstance(node, dict):
        return bool(node.keys() & {"example", "examples"}) or any(map(has_example, node.values()))
    return isinstance(node, list) and any(map(has_example, node))


def test_the_document_shows_examples(document: Json) -> None:
    for path, method, operation in operations(document):
        if method in {"post", "patch"} and not path.endswith(
            ("/requeue", "/rebuild", "/archive/run")
        ):  # they take no body
            assert has_example(operation["requestBody"]), (path, method)


def test_an_unknown_path_is_a_problem(http: httpx.Client) -> None:
    problem(http.get("/nonsense"), 404)


def test_an_unknown_method_is_a_problem_that_names_the_known_ones(http: httpx.Client, system: ObservedSystem) -> None:
    answer = http.put(system.path, json={})
    problem(answer, 405)
    assert {"GET", "PATCH", "DELETE"} <= set(re.split(r",\s*", answer.headers["Allow"]))


def test_every_answer_has_a_request_id_of_its_own(http: httpx.Client, new_system: NewSystem) -> None:
    system = new_system()
    paths = ["/healthz", "/health", "/metrics", system.path, f"{system.path}/health", "/nonsense", "/systems/999999999"]
    ids = [http.get(path).headers["X-Request-Id"] for path in paths * 2]
    assert len(set(ids)) == len(ids)


def test_a_request_id_that_comes_along_is_kept(http: httpx.Client, system: ObservedSystem) -> None:
    answer = http.get(f"{system.path}/health", headers={"X-Request-Id": "abc-123"})
    assert "abc-123" == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("given", [b"x" * 5_000, b"a b", b"\xe9", b"<script>"])
def test_a_strange_request_id_does_no_harm(http: httpx.Client, given: bytes) -> None:
    answer = http.get("/healthz", headers={b"X-Request-Id": given})
    assert 200 == answer.status_code
    assert 0 < len(answer.headers["X-Request-Id"]) <= 200


def test_json_answers_are_utf8(http: httpx.Client, new_system: NewSystem, unique_name: str) -> None:
    system = new_system(name=f"Größe-{unique_name}")
    assert "Größe" in http.get(system.path).content.decode("utf-8")
    system.take([event(stage="Öl")])
    assert "Öl" in system.metrics_with(total=1)["stages"]
