"""What every answer has, whichever route gave it."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import EVENT, register
from tests.e2e.service import Service
from tests.waiting import wait_for


def test_a_sane_request_id_is_taken_over(http: httpx.Client) -> None:
    assert "a-1.b:2" == http.get("/healthz", headers={"X-Request-Id": "a-1.b:2"}).headers["x-request-id"]


@pytest.mark.parametrize("given", ["", "has space", "x" * 129, "a;b", '"'])
def test_any_other_is_replaced(http: httpx.Client, given: str) -> None:
    ids = {http.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", one) for one in ids)


def test_the_request_id_is_in_the_log(service: Service, http: httpx.Client) -> None:
    http.get("/systems/999999999", headers={"X-Request-Id": "look-for-me"})

    def found() -> list[dict[str, Any]]:
        return [json.loads(line) for line in service.said().splitlines() if "look-for-me" in line]

    (line,) = wait_for(found, "the line with the request id")
    assert ("request", "look-for-me", 404, "/systems/999999999") == tuple(
        line[name] for name in ("event", "request_id", "status", "path")
    )


def test_head_answers_as_get_without_the_body(http: httpx.Client, system_id: int) -> None:
    for path in (f"/systems/{system_id}", "/healthz", "/health", "/docs", "/systems/999999999"):
        head, get = http.head(path), http.get(path)
        assert (get.status_code, b"") == (head.status_code, head.content)
        assert head.headers["content-length"] == get.headers["content-length"]


def test_long_answers_are_compressed_for_whom_reads_that(http: httpx.Client) -> None:
    packed = http.get("/schema/openapi.json", headers={"Accept-Encoding": "br, gzip"})
    plain = http.get("/schema/openapi.json", headers={"Accept-Encoding": "identity"})
    short = http.get("/healthz", headers={"Accept-Encoding": "gzip"})
    assert plain.json() == packed.json()
    assert ["gzip", None, None] == [one.headers.get("content-encoding") for one in (packed, plain, short)]
    refused = http.get("/schema/openapi.json", headers={"Accept-Encoding": "gzip;q=0, *;q=0.1"})
    assert "content-encoding" not in refused.headers
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    assert ["accept-encoding", "accept-encoding", None] == [one.headers.get("vary") for one in (packed, plain, short)]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/systems", "GET, POST, HEAD, OPTIONS"),
        ("/systems/1", "GET, PATCH, DELETE, HEAD, OPTIONS"),
        ("/systems/1/events", "GET, POST, HEAD, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_and_405_name_the_methods(http: httpx.Client, path: str, allow: str) -> None:
    options, put = http.options(path), http.put(path)
    assert (204, allow) == (options.status_code, options.headers["allow"])
    assert (405, allow, "application/problem+json") == (
        put.status_code,
        put.headers["allow"],
        put.headers["content-type"],
    )


@pytest.mark.parametrize(
    "path", ["/nowhere", "/systems/abc", "/systems/-", "/docs/secret", "/docs/..%2fapp.py", "/systems/" + "9" * 5_000]
)
def test_nothing_is_at_other_paths(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert (404, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("colour=red", "colour"),
        ("cursor=", "cursor"),
        ("cursor=abc", "cursor"),
        ("limit=1&limit=2", ""),
        ("name=%ff", ""),
    ],
)
def test_a_wrong_parameter_is_named(http: httpx.Client, query: str, field: str) -> None:
    answer = http.get(f"/systems?{query}")
    assert (422, [field]) == (answer.status_code, [one["field"] for one in answer.json()["errors"]])


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (b"{}", [("name", "name is missing")]),
        (b'{"name":""}', [("name", "name must be a string of 1 to 200 bytes")]),
        (b'{"name":"a","tags":"b"}', [("tags", "tags must be an array of at most 20 strings of 1 to 200 bytes")]),
        (
            b'{"name":"a","window_seconds":59}',
            [("window_seconds", "window_seconds must be a whole number from 60 to 3600")],
        ),
        (b'{"name":"a","window_seconds":61}', [("window_seconds", "window_seconds must be a multiple of 5, not 61")]),
        (
            b'{"name":"a","thresholds":{"error_rate":{"warn":"x"}}}',
            [("thresholds.error_rate.warn", "thresholds.error_rate.warn must be a number or null")],
        ),
        (b'{"name":"a","thresholds":{"worse":1}}', [("thresholds", "thresholds must be a JSON object")]),
        (
            b'{"name":"a","thresholds":{"error_rate":{"warn":0.5,"crit":0.1}}}',
            [("thresholds.error_rate", "warn (0.5) must be below crit (0.1)")],
        ),
        (b"[]", [("", "the body must be a JSON object")]),
        (b'{"name":NaN}', [("", "the body is malformed JSON near byte 8")]),
        (b'{"name":"\xff"}', [("", "the body is not UTF-8 at byte 9")]),
        (b"[" * 3_000, [("", "the body nests deeper than 16 levels")]),
    ],
)
def test_a_wrong_system_is_explained_field_by_field(
    http: httpx.Client, body: bytes, errors: list[tuple[str, str]]
) -> None:
    answer = http.post("/systems", content=body)
    assert (422, errors) == (answer.status_code, [(one["field"], one["message"]) for one in answer.json()["errors"]])


def test_strict_health_answers_503_only_where_it_is_unhealthy(http: httpx.Client) -> None:
    system_id = register(http)
    url = f"/systems/{system_id}/health"
    assert 200 == http.get(url, params={"strict": "1"}).status_code
    http.post(f"/systems/{system_id}/events", json={"events": [{**EVENT, "status": "error"}] * 10})
    wait_for(lambda: http.get(url).json()["health"] == "UNHEALTHY", "the system is UNHEALTHY")
    strict, lenient = http.get(url, params={"strict": "true"}), http.get(url, params={"strict": "0"})
    assert (503, "UNHEALTHY", "application/json") == (
        strict.status_code,
        strict.json()["health"],
        strict.headers["content-type"],
    )
    assert strict.headers["retry-after"]
    assert (200, 422) == (lenient.status_code, http.get(url, params={"strict": "perhaps"}).status_code)


def sample(text: str, start: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))


def test_own_metrics_count_what_was_asked(http: httpx.Client) -> None:
    system_id = register(http)
    before = http.get("/metrics").text
    url = f"/systems/{system_id}/events"
    http.post(url, json={"events": [EVENT] * 3}, headers={"Idempotency-Key": "k"})
    http.post(url, json={"events": [EVENT] * 3}, headers={"Idempotency-Key": "k"})
    http.post(url, json={"events": [{}]})
    http.post(url + "?on_invalid=skip", json={"events": [EVENT, {}]})
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for name, more in {
        "lso_events_accepted_total": 4,
        "lso_batches_accepted_total": 2,
        "lso_batches_duplicate_total": 1,
        'lso_batches_refused_total{reason="invalid-input"}': 1,
        "lso_events_rejected_total": 1,
        'lso_http_requests_total{route="/systems/{system_id}/events",method="POST",status="202"}': 3,
    }.items():
        assert more == sample(answer.text, name) - sample(before, name), name
    assert sample(answer.text, "lso_redis_round_trips_total") > 0
    assert sample(answer.text, "lso_workers ") >= 1


def test_systems_have_gauges_up_to_a_number(as_role: Callable[[str], httpx.Client], http: httpx.Client) -> None:
    system_id = register(http)
    http.post(f"/systems/{system_id}/events", json={"events": [EVENT] * 10})

    def listed() -> str:
        text = http.get("/metrics").text
        return (
            text
            if f'lso_system_events{{system_id="{system_id}"' in text
            and sample(text, f'lso_system_events{{system_id="{system_id}"') == 10
            else ""
        )

    text = wait_for(listed, "the system's gauges")
    labels = f'{{system_id="{system_id}"'
    assert (3, 0, 0.012) == tuple(
        sample(text, name + labels)
        for name in ("lso_system_health", "lso_system_errors", "lso_system_p95_latency_seconds")
    )
    few = as_role("admin")
    for _ in range(4):
        register(few)
    lines = [line for line in few.get("/metrics").text.splitlines() if line.startswith("lso_system_health{")]
    assert 2 == len(lines)


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("GET", "/systems/{}/health", {}),
        ("GET", "/systems/{}/health?strict=1", {}),
        ("GET", "/systems/{}/health?colour=red", {}),
        ("HEAD", "/systems/{}/health", {}),
        ("GET", "/systems/999999999/health", {}),
        ("POST", "/systems/{}/events", {"json": {"events": [EVENT]}}),
        ("POST", "/systems/{}/events", {"content": b"{"}),
        ("POST", "/systems/{}/events", {"content": b"a,b", "headers": {"Content-Type": "text/csv"}}),
        ("POST", "/systems/999999999/events", {"content": b"{"}),
        ("PUT", "/systems/{}/events", {}),
    ],
)
def test_the_busiest_routes_answer_as_the_frameworks_routing_would(
    http: httpx.Client, system_id: int, method: str, path: str, given: dict[str, Any]
) -> None:
    direct = http.request(method, path.format(system_id), **given)
    route, _, query = path.format(system_id).partition("?")
    routed = http.request(method, f"{route}/?{query}", **given)  # the slash is the framework's to take off
    assert (direct.status_code, _shape(direct)) == (routed.status_code, _shape(routed))


def _shape(answer: httpx.Response) -> tuple[set[str], object]:
    """Which headers an answer has, and its body: of a good one only which members, whose values go with time."""
    body = json.loads(answer.content) if answer.content else None
    return {*answer.headers} - {"date"}, sorted(body) if answer.is_success and body else body


def test_a_strange_host_is_refused_on_the_busiest_routes_too(http: httpx.Client, system_id: int) -> None:
    answers = [http.get(path, headers={"Host": "a b"}) for path in (f"/systems/{system_id}/health", "/healthz")]
    assert [400, 400] == [answer.status_code for answer in answers]
