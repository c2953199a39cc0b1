"""Caps, keys and rates: services started with settings of their own."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.e2e import wire
from tests.e2e.answers import problem
from tests.e2e.conftest import StartService
from tests.e2e.service import Service, launch
from tests.e2e.systems import ObservedSystem, event, events, register
from tests.waiting import wait_for

KEYS = {"LSO_API_KEYS": "read:r-secret,write:w-secret,admin:a-secret"}


@pytest.fixture
def guarded(start_service: StartService) -> Iterator[httpx.Client]:
    """A client without a key, of a service that wants one."""
    with start_service(environ=KEYS).client() as http:
        yield http


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_with_api_keys_a_role_reaches_as_far_as_its_name_says(guarded: httpx.Client) -> None:
    admin, write, read = (with_key(f"{role}-secret") for role in "awr")
    created = guarded.post("/systems", json={"name": "guarded"}, headers=admin)
    assert 201 == created.status_code
    path = created.headers["Location"]
    body = {"events": [event()]}
    for headers in ({}, with_key("wrong"), {"Authorization": "Basic r-secret"}, {"X-API-Key": "wrong"}):
        for method, below in (("GET", "/health"), ("POST", "/events"), ("GET", ""), ("DELETE", "")):
            answer = guarded.request(method, path + below, headers=headers)
            problem(answer, 401)
            assert answer.headers["WWW-Authenticate"]
    for headers in (read, write, admin, {"X-API-Key": "r-secret"}):
        assert 200 == guarded.get(f"{path}/health", headers=headers).status_code
    problem(guarded.post(f"{path}/events", json=body, headers=read), 403)
    for headers in (write, admin, {"X-API-Key": "w-secret"}):
        assert 202 == guarded.post(f"{path}/events", json=body, headers=headers).status_code
    for headers in (read, write):
        problem(guarded.delete(path, headers=headers), 403)
    assert 204 == guarded.delete(path, headers=admin).status_code
    assert 200 == guarded.get("/healthz").status_code


def test_a_bind_to_every_address_without_keys_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "lso.log"
    given = ["up", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with launch(given, output) as process:
        status = process.wait(30)
    said = output.read_text()
    assert status != 0
    assert "LSO_API_KEYS" in said
    assert "--insecure" in said
    assert "Traceback" not in said
    assert 1 == len(said.strip().splitlines())


def test_over_its_rate_a_system_gets_429(start_service: StartService) -> None:
    with start_service(environ={"LSO_RATE_EVENTS": "100"}).client() as http:
        calm, busy = register(http), register(http)
        answers = [busy.post(events(50)) for _ in range(10)]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert refused
        for answer in refused:
            problem(answer, 429)
        calm.take(events(50))
        taken = sum(answer.json()["accepted"] for answer in answers if answer.status_code == 202)
        wait_for(lambda: busy.post([event()]).status_code == 202, "the rate lets more in again")
        busy.health_with(total=taken + 1)


def test_past_a_backlog_cap_it_is_503_that_names_the_cap_and_nothing_accepted_is_lost(
    start_service: StartService,
) -> None:
    service = start_service(environ={"LSO_BACKLOG_EVENTS": "1000", "LSO_STALE_AFTER": "60"})
    with service.client() as http:
        system, other = register(http), register(http)
        system.take([event()])
        system.health_with(total=1)
        for worker in service.children("worker"):
            worker.suspend()
        taken = 1 + fill(system)
        other.take(events(100))
        service.resume()
        system.health_with(total=taken, within=20)
        assert 202 == system.post(events(100)).status_code
        system.health_with(total=taken + 100)


def fill(system: ObservedSystem) -> int:
    """Post until the cap of 1,000 refuses; how many events were taken."""
    taken = 0
    for _ in range(20):
        answer = system.post(events(100))
        if answer.status_code != 202:
            body = problem(answer, 503)
            assert "2" == answer.headers["Retry-After"]
            assert "1000" in body["detail"].replace(",", "")
            return taken
        taken += answer.json()["accepted"]
    raise AssertionError(f"{taken} events were taken past a cap of 1,000")


def test_past_the_cap_of_bytes_it_is_503_that_names_it(start_service: StartService) -> None:
    service = start_service(environ={"LSO_BACKLOG_BYTES": str(1024 * 1024), "LSO_STALE_AFTER": "60"})
    with service.client() as http:
        system = register(http)
        for worker in service.children("worker"):
            worker.suspend()
        taken = 0

        def refused() -> httpx.Response | None:
            nonlocal taken
            filled = [event(payload={"text": secrets.token_hex(4_000)}) for _ in range(50)]  # hard to compress
            answer = system.post(filled)
            taken += 50 * (answer.status_code == 202)
            return None if answer.status_code == 202 else answer

        answer = wait_for(refused, "the cap is reached")
        assert answer is not None
        problem(answer, 503)
        assert "2" == answer.headers["Retry-After"]
        service.resume()
        system.health_with(total=taken, within=20)


def test_over_its_connections_a_process_answers_503(start_service: StartService) -> None:
    service = start_service("--api-processes", "1", environ={"LSO_MAX_CONNECTIONS": "5"})
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        statuses = []
        for _ in range(8):
            connection = stack.enter_context(socket.create_connection(service.address, timeout=10))
            connection.sendall(request)
            statuses.append(wire.status_of(connection.recv(65_536)))
    assert {200, 503} == set(statuses)
    assert sorted(statuses) == statuses
    wait_for(service.is_ready, "it serves again once they are gone")


def test_the_cap_of_a_batch_and_of_a_body_can_be_set(start_service: StartService) -> None:
    environ = {"LSO_MAX_BATCH_EVENTS": "10", "LSO_MAX_BODY_BYTES": "2048", "LSO_WINDOW_SECONDS": "60"}
    service = start_service(environ=environ)
    with service.client() as http:
        system = register(http)
        assert 60 == system.health()["window_seconds"]
        assert 10 == system.take(events(10))["accepted"]
        assert system.post(events(11)).status_code in {413, 422}
        assert "2048" in problem(system.post_body(b" " * 2_049), 413)["detail"].replace(",", "")


def test_the_metrics_of_the_service_do_not_fall_when_an_api_process_is_killed(start_service: StartService) -> None:
    service = start_service("--api-processes", "2")
    with service.client() as http:
        system = register(http)
        for _ in range(30):
            with service.client() as one:  # a connection of its own, so that both processes get some
                ObservedSystem(one, http.get(system.path).json()).take(events(10))
        before = wait_for(lambda: accepted_events(service, at_least=300), "300 accepted events show")
        service.children("api")[0].kill()
        wait_for(lambda: len(service.children("api")) == 2, "it is started again")
        wait_for(service.is_ready, "it is ready")
        assert accepted_events(service, at_least=0) >= before
        system.health_with(total=300)


def accepted_events(service: Service, at_least: float) -> float:
    """The largest accepted counter of /metrics; 0 while it is below `at_least`."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    found = [float(line.rpartition(" ")[2]) for line in lines if "accepted" in line and not line.startswith("#")]
    largest = max(found, default=0.0)
    return largest if largest >= at_least else 0.0
