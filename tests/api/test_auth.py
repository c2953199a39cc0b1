"""API keys: three roles, and what is open to everybody."""

import hashlib
from collections.abc import Callable

import httpx
import pytest

from api.auth import Guard, Role, needed
from lso_core.model.errors import ConfigurationError, ForbiddenError, UnauthorizedError
from tests.api.conftest import EVENT, KEYS, register

AsRole = Callable[[str], httpx.Client]


@pytest.mark.parametrize("text", ["r-key", "reader:x", "read:", "read:a,:b", "write"])
def test_what_is_no_pair_of_role_and_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="LSO_API_KEYS") as caught:
        Guard.parse(text)
    assert "r-key" not in str(caught.value)


def test_a_key_may_be_given_by_its_digest() -> None:
    guard = Guard.parse(f"write:sha256:{hashlib.sha256(b'secret').hexdigest()}, read:other ,")
    guard.check("POST", "/systems/1/events", [(b"x-api-key", b"secret")])
    with pytest.raises(ForbiddenError):
        guard.check("POST", "/systems/1/events", [(b"authorization", b"bearer other")])
    with pytest.raises(UnauthorizedError):
        guard.check("GET", "/systems", [(b"authorization", b"Basic other")])


def test_without_keys_everything_is_open() -> None:
    Guard.parse("").check("DELETE", "/systems/1", [])


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/healthz", Role.OPEN),
        ("GET", "/readyz", Role.OPEN),
        ("GET", "/docs", Role.OPEN),
        ("GET", "/docs/swagger-ui.css", Role.OPEN),
        ("GET", "/schema/openapi.json", Role.OPEN),
        ("GET", "/metrics", Role.READ),
        ("GET", "/health", Role.READ),
        ("HEAD", "/systems/1/health", Role.READ),
        ("OPTIONS", "/systems", Role.READ),
        ("GET", "/nowhere", Role.READ),
        ("POST", "/systems", Role.WRITE),
        ("POST", "/systems/1/events", Role.WRITE),
        ("POST", "/systems/1/rebuild", Role.ADMIN),
        ("POST", "/archive/run", Role.ADMIN),
        ("PATCH", "/systems/1", Role.ADMIN),
        ("DELETE", "/systems/1", Role.ADMIN),
        ("PUT", "/systems/1", Role.ADMIN),
    ],
)
def test_each_request_needs_a_role(method: str, path: str, role: Role) -> None:
    assert role is needed(method, path)


def test_a_key_opens_what_its_role_reaches(as_role: AsRole) -> None:
    system_id = register(as_role("admin"))
    asked: dict[str, Callable[[httpx.Client], httpx.Response]] = {
        "read": lambda client: client.get(f"/systems/{system_id}/health"),
        "write": lambda client: client.post(f"/systems/{system_id}/events", json={"events": [EVENT]}),
        "admin": lambda client: client.patch(f"/systems/{system_id}", json={"description": "x"}),
    }
    roles = ["", "read", "write", "admin"]
    statuses = {need: [ask(as_role(role)).status_code for role in roles] for need, ask in asked.items()}
    assert statuses == {
        "read": [401, 200, 200, 200],
        "write": [401, 403, 202, 202],
        "admin": [401, 403, 403, 200],
    }


def test_401_is_a_problem_with_a_challenge_and_a_request_id(as_role: AsRole) -> None:
    answer = as_role("").get("/systems", headers={"X-Request-Id": "mine"})
    assert (401, "application/problem+json", "mine") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["x-request-id"],
    )
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_probes_and_documentation_are_open(as_role: AsRole) -> None:
    client = as_role("")
    paths = ["/healthz", "/readyz", "/docs", "/docs/swagger-ui.css", "/schema/openapi.json"]
    assert [200] * 5 == [client.get(path).status_code for path in paths]


def test_the_key_may_come_in_its_own_header(as_role: AsRole) -> None:
    assert 200 == as_role("").get("/systems", headers={"X-API-Key": KEYS["read"]}).status_code
    assert 401 == as_role("").get("/systems", headers={"X-API-Key": KEYS["read"] + "x"}).status_code
