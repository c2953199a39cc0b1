"""`lso health`."""

import json
from typing import Any

import httpx
import pytest

from tests.cli.conftest import OpenScreen, RunLso, StartLso, end
from tests.waiting import wait_for


def take(http: httpx.Client, name: str, ok: int, errors: int) -> int:
    """Register a system where it is not known, and send events; its id."""
    known = http.get("/systems", params={"name": name}).json()["items"]
    system_id = known[0]["system_id"] if known else http.post("/systems", json={"name": name}).json()["system_id"]
    events: list[dict[str, Any]] = [{"event_type": "success", "status": "ok", "latency_ms": 12.5}] * ok
    events += [{"event_type": "failure", "status": "error", "latency_ms": 12.5}] * errors
    if events:
        before = http.get(f"/systems/{system_id}/health").json()["total"]
        assert 202 == http.post(f"/systems/{system_id}/events", json={"events": events}).status_code
        wait_for(
            lambda: http.get(f"/systems/{system_id}/health").json()["total"] == before + len(events), "they are folded"
        )
    return int(system_id)


@pytest.mark.parametrize(
    ("ok", "errors", "state", "status"),
    [(20, 0, "OK", 0), (18, 2, "DEGRADED", 1), (10, 10, "UNHEALTHY", 2), (0, 0, "UNKNOWN", 3)],
)
def test_the_exit_code_is_the_verdict(
    lso: RunLso, http: httpx.Client, name: str, ok: int, errors: int, state: str, status: int
) -> None:
    take(http, name, ok, errors)
    asked = lso("health", name, "--exit-code")
    assert (status, 0) == (asked.returncode, lso("health", name).returncode)
    assert f" {state}: " in asked.stdout.splitlines()[0]
    assert state == json.loads(lso("health", name, "--json").stdout)["health"]


def test_whatever_keeps_it_from_a_verdict_is_unknown_and_not_unhealthy(lso: RunLso, name: str) -> None:
    for words in ((name,), ("--no-such-option",), ("--url", "http://127.0.0.1:1"), ("--url", "nonsense")):
        asked = lso("health", "--exit-code", *words)
        assert (3, "") == (asked.returncode, asked.stdout)
        assert asked.stderr


def test_the_fleet_shows_its_worst(lso: RunLso, http: httpx.Client, name: str) -> None:
    take(http, name, 1, 9)
    asked = lso("health", "--exit-code")
    assert 2 == asked.returncode
    line = next(line for line in asked.stdout.splitlines() if name in line)
    assert line.startswith("■ UNHEALTHY")
    assert "90.0 %" in line
    assert "\x1b" not in asked.stdout


def test_an_ascii_terminal_still_gets_shapes(lso: RunLso, http: httpx.Client, name: str) -> None:
    take(http, name, 10, 0)
    assert "o OK" in lso("health", name, PYTHONIOENCODING="ascii").stdout


def test_watching_says_every_change_once(start_lso: StartLso, http: httpx.Client, name: str) -> None:
    take(http, name, 20, 0)
    watching = start_lso("health", name, "--watch", "--interval", "0.1", "--json", "--exit-code")
    assert watching.stdout is not None
    assert "OK" == json.loads(watching.stdout.readline())["health"]
    take(http, name, 0, 30)
    assert "UNHEALTHY" == json.loads(watching.stdout.readline())["health"]
    assert 2 == end(watching, 2)


def test_on_a_terminal_watching_is_in_place_and_in_colour(
    open_screen: OpenScreen, http: httpx.Client, name: str
) -> None:
    take(http, name, 20, 0)
    screen = open_screen(f"lso health {name} --watch --interval 0.1")
    screen.shows("● OK", "20 events")
    assert "\x1b[32m" in screen.colours()
    take(http, name, 0, 30)
    shown = screen.shows("■ UNHEALTHY", "50 events")
    assert "● OK" not in shown
    screen.press("C-c")
    screen.shows("ended with 0")
