"""Small batches answered without ASGI get the answers that the application would give."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest

from api.lane import MOST_BYTES, head_of
from tests.api.conftest import EVENT, KEYS, SMALL_BODY, register
from tests.e2e.service import Service

TWICE = {"X-Twice": "a"}, {"X-Twice": "b"}
"""With a header that comes twice a request is left to the application."""


class Case(NamedTuple):
    """A request, but for its system."""

    body: bytes
    status: int
    headers: dict[str, str]


def batch(*events: dict[str, Any]) -> bytes:
    return json.dumps({"events": events}).encode()


JSON = {"Content-Type": "application/json"}
LATER = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
CASES = {
    "one event": Case(batch(EVENT), 202, JSON),
    "no type": Case(batch(EVENT, EVENT), 202, {}),
    "lines": Case(json.dumps(EVENT).encode() + b"\n", 202, {"Content-Type": "application/x-ndjson"}),
    "a key": Case(batch(EVENT), 202, {**JSON, "Idempotency-Key": "k"}),
    "no events": Case(batch(), 422, JSON),
    "a bad event": Case(batch(EVENT, {**EVENT, "status": "bad"}), 422, JSON),
    "no JSON": Case(b"{", 422, JSON),
    "lines that are none": Case(batch(EVENT), 422, {"Content-Type": "application/x-ndjson"}),
    "from the future": Case(batch({**EVENT, "ts": LATER}, EVENT), 422, JSON),
    "another type": Case(batch(EVENT), 415, {"Content-Type": "text/plain"}),
    "too many events": Case(batch(*[EVENT] * 51), 422, JSON),
    "too large": Case(batch({**EVENT, "payload": {"a": "b" * SMALL_BODY}}), 413, JSON),
}


def ask(service: Service, path: str, body: bytes, *headers: dict[str, str]) -> httpx.Response:
    """Send one request in one piece over a connection of its own."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for some in headers for name, value in some.items()]
    said = b""
    with socket.create_connection(service.address, timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        while piece := connection.recv(65_536):
            said += piece
    head, _, content = said.partition(b"\r\n\r\n")
    status, *found = head.decode().split("\r\n")
    pairs = [(name, value) for name, _, value in (line.partition(": ") for line in found)]
    return httpx.Response(int(status.split()[1]), headers=pairs, content=content)


def told(answer: httpx.Response) -> Any:
    """What of an answer must be the same."""
    headers = {name: answer.headers.get(name) for name in ("content-type", "connection", "retry-after")}
    body = answer.json()
    if body.get("entries"):
        body["entries"] = "some"
    assert answer.headers["x-request-id"]
    assert answer.headers["date"]
    return answer.status_code, headers, body


@pytest.mark.parametrize("name", CASES)
def test_both_ways_give_the_same_answer(keyed: Service, as_role: Callable[[str], httpx.Client], name: str) -> None:
    case, key = CASES[name], {"X-API-Key": KEYS["write"]}
    answers = []
    for more in ((), TWICE):
        path = f"/systems/{register(as_role('write'))}/events"
        answers.append(told(ask(keyed, path, case.body, key, case.headers, *more)))
    assert answers[0] == answers[1]
    assert answers[0][0] == case.status


def test_both_ways_know_the_same_keys_and_systems(service: Service, system_id: int) -> None:
    path, key = f"/systems/{system_id}/events", {"Idempotency-Key": "both"}
    first = ask(service, path, batch(EVENT), JSON, key).json()
    again = [ask(service, path, batch(EVENT), JSON, key, *more).json() for more in ((), TWICE)]
    assert again == [{**first, "duplicate": True}] * 2
    reused = [told(ask(service, path, batch(EVENT, EVENT), JSON, key, *more)) for more in ((), TWICE)]
    assert reused[0] == reused[1]
    missing = [told(ask(service, "/systems/999999999/events", batch(EVENT), JSON, *more)) for more in ((), TWICE)]
    assert missing[0] == missing[1]
    assert [reused[0][0], missing[0][0]] == [422, 404]


def test_both_ways_refuse_what_no_key_allows(keyed: Service) -> None:
    for key, status in (({}, 401), ({"X-API-Key": "none"}, 401), ({"X-API-Key": KEYS["read"]}, 403)):
        answers = [told(ask(keyed, "/systems/1/events", batch(EVENT), JSON, key, *more)) for more in ((), TWICE)]
        assert answers[0] == answers[1]
        assert answers[0][0] == status


def test_both_ways_slow_down_who_sends_too_much(keyed: Service, as_role: Callable[[str], httpx.Client]) -> None:
    path, key = f"/systems/{register(as_role('write'))}/events", {"X-API-Key": KEYS["write"]}
    for more in ((), TWICE):
        said = [ask(keyed, path, batch(*[EVENT] * 50), JSON, key, *more) for _ in range(6)]
        assert said[-1].status_code == 429
        assert int(said[-1].headers["retry-after"]) >= 1


def test_a_request_is_counted_and_logged_as_any_other(service: Service, http: httpx.Client) -> None:
    series = 'lso_http_requests_total{route="/systems/{system_id}/events",method="POST",status="404"}'

    def counted() -> float:
        time.sleep(1.2)  # figures are published once a second
        return next(
            (float(x.rsplit(" ", 1)[1]) for x in http.get("/metrics").text.splitlines() if x.startswith(series)), 0
        )

    before = counted()
    said = ask(service, "/systems/999999998/events", batch(EVENT), JSON, {"X-Request-Id": "lane-1"})
    assert said.headers["x-request-id"] == "lane-1"
    assert counted() == before + 1
    (line,) = [json.loads(line) for line in service.said().splitlines() if "lane-1" in line]
    assert (line["event"], line["status"], line["path"]) == ("request", 404, "/systems/999999998/events")


@pytest.mark.parametrize(
    ("taken", "method", "target", "headers"),
    [
        (True, b"POST", b"/systems/1/events", [(b"content-length", b"5"), (b"content-type", b"application/json")]),
        (True, b"POST", b"/systems/1/events", [(b"content-length", b"%d" % MOST_BYTES)]),
        (False, b"POST", b"/systems/1/events", [(b"content-length", b"%d" % (MOST_BYTES + 1))]),
        (False, b"POST", b"/systems/1/events", []),
        (False, b"GET", b"/systems/1/events", [(b"content-length", b"5")]),
        (False, b"POST", b"/systems/1/events?on_invalid=skip", [(b"content-length", b"5")]),
        (False, b"POST", b"/systems/1/rebuild", [(b"content-length", b"5")]),
        (False, b"POST", b"/systems/1/events", [(b"content-length", b"5"), (b"content-encoding", b"gzip")]),
        (False, b"POST", b"/systems/1/events", [(b"content-length", b"5"), (b"host", b"a b")]),
        (False, b"POST", b"/systems/1/events", [(b"content-length", b"5"), (b"idempotency-key", b"")]),
        (False, b"POST", b"/systems/1/events", [(b"content-length", b"5"), (b"idempotency-key", b"k" * 129)]),
        (False, b"POST", b"/systems/1/events", [(b"content-length", b"5"), (b"a", b"1"), (b"a", b"2")]),
    ],
)
def test_only_usual_heads_are_taken(
    taken: bool,
    method: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
) -> None:
    assert (head_of(method, target, headers) is not None) == taken
