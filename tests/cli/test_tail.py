"""`lso tail`."""

import json
from typing import Any

import httpx

from tests.cli.conftest import OpenScreen, RunLso, StartLso, end
from tests.client.faulty_proxy import FaultyProxy


def send(http: httpx.Client, name: str, *numbers: int, **fields: Any) -> None:
    """Events with these numbers in their payload."""
    http.post("/systems", json={"name": name})
    system_id = http.get("/systems", params={"name": name}).json()["items"][0]["system_id"]
    event = {"event_type": "success", "status": "ok", "latency_ms": 1, **fields}
    sent = [{**event, "payload": {"n": n, **fields.get("payload", {})}} for n in numbers]
    assert 202 == http.post(f"/systems/{system_id}/events", json={"events": sent}).status_code


def numbers(output: str) -> list[int]:
    return [json.loads(line)["payload"]["n"] for line in output.splitlines()]


def test_it_begins_with_the_last_events_oldest_first(lso: RunLso, http: httpx.Client, name: str) -> None:
    send(http, name, *range(30))
    assert [*range(20, 30)] == numbers(lso("tail", name, "--no-follow", "--json").stdout)
    assert [28, 29] == numbers(lso("tail", name, "-n", "2", "--no-follow", "--json").stdout)
    assert "" == lso("tail", name, "-n", "0", "--no-follow").stdout


def test_it_follows_and_shows_every_event_once(start_lso: StartLso, http: httpx.Client, name: str) -> None:
    send(http, name, 0, 1)
    following = start_lso("tail", name, "-n", "1", "--interval", "0.05", "--json")
    assert following.stdout is not None
    assert [1] == numbers(following.stdout.readline().decode())
    for batch in ((2,), (3, 4, 5), (6,)):
        send(http, name, *batch)
        assert list(batch) == [n for _ in batch for n in numbers(following.stdout.readline().decode())]
    assert -2 == end(following, 2) or following.returncode == 130


def test_filters_pass_only_what_is_wanted(start_lso: StartLso, http: httpx.Client, name: str) -> None:
    send(http, name, *range(5))
    following = start_lso("tail", name, "--interval", "0.05", "--json", "--stage", "load", "--status", "error")
    send(http, name, 5, stage="load")
    send(http, name, 6, stage="load", status="error")
    send(http, name, 7, stage="extract", status="error")
    send(http, name, 8, stage="load", status="error")
    assert following.stdout is not None
    assert [6, 8] == [n for _ in range(2) for n in numbers(following.stdout.readline().decode())]


def test_nothing_in_an_event_can_steer_the_terminal(lso: RunLso, http: httpx.Client, name: str) -> None:
    send(http, name, 1, stage="a\x1b[2Jb", payload={"x": "\x1b]0;title\x07"})
    shown = lso("tail", name, "--no-follow").stdout
    assert "stage=a\ufffd[2Jb" in shown
    assert "\x1b" not in shown


def test_on_a_terminal_errors_are_red(open_screen: OpenScreen, http: httpx.Client, name: str) -> None:
    send(http, name, 1, status="error", event_type="failure")
    screen = open_screen(f"lso tail {name} --interval 0.1")
    screen.shows("error", "failure")
    assert "\x1b[1m\x1b[31merror" in screen.colours()


def test_it_survives_a_service_that_goes_away(
    start_lso: StartLso, http: httpx.Client, name: str, proxy: FaultyProxy
) -> None:
    send(http, name, 1)
    following = start_lso("tail", name, "--interval", "0.05", "--json", url=proxy.url)
    assert following.stdout is not None
    assert following.stderr is not None
    assert [1] == numbers(following.stdout.readline().decode())
    proxy.refuse()
    assert b"trying again" in following.stderr.readline()
    send(http, name, 2)
    proxy.accept()
    assert [2] == numbers(following.stdout.readline().decode())
