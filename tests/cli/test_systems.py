"""`lso systems`."""

import json

import pytest

from tests.cli.conftest import RunLso


def test_a_system_is_added_shown_and_listed(lso: RunLso, name: str) -> None:
    added = lso("systems", "add", name, "--description", "what it is", "--tag", name, "--tag", "b", "--window", "60")
    shown = json.loads(lso("systems", "show", name, "--json").stdout)
    listed = json.loads(lso("systems", "list", "--tag", name, "--json").stdout)
    assert (0, f"{shown['system_id']}\n", "") == (added.returncode, added.stdout, added.stderr)
    assert (name, "what it is", [name, "b"], 60) == (
        shown["name"],
        shown["description"],
        shown["tags"],
        shown["window_seconds"],
    )
    assert [shown] == listed
    assert name in lso("systems", "list").stdout


def test_a_limit_that_is_not_named_stays(lso: RunLso, name: str) -> None:
    lso("systems", "add", name, "--error-warn", "4%", "--min-events", "9")
    changed = json.loads(lso("systems", "set", name, "--p95-warn", "250", "--error-crit", "none", "--json").stdout)
    assert {
        "error_rate": {"warn": 0.04, "crit": None},
        "p95_latency": {"warn": 250.0, "crit": None},
        "min_events": 9,
    } == changed["thresholds"]


def test_one_limit_of_a_new_system_leaves_the_other_at_its_default(lso: RunLso, name: str) -> None:
    added = json.loads(lso("systems", "add", name, "--error-warn", "0.1", "--json").stdout)
    assert {"warn": 0.1, "crit": 0.2} == added["thresholds"]["error_rate"]


def test_a_name_that_is_taken_is_refused_in_one_sentence(lso: RunLso, name: str) -> None:
    first = lso("systems", "add", name)
    again = lso("systems", "add", name)
    assert (2, "") == (again.returncode, again.stdout)
    assert [f"lso: LSO answered 409: a system named {name!r} exists already"] == again.stderr.splitlines()
    assert first.stdout == lso("systems", "add", name, "--if-absent").stdout


def test_what_the_server_refuses_is_said_in_one_sentence(lso: RunLso, name: str) -> None:
    refused = lso("systems", "add", name, "--window", "7")
    assert 2 == refused.returncode
    assert refused.stderr.startswith("lso: LSO answered 422: window_seconds must be")
    assert 1 == len(refused.stderr.splitlines())


def test_deleting_asks_and_where_nobody_can_be_asked_wants_yes(lso: RunLso, name: str) -> None:
    lso("systems", "add", name)
    assert 2 == lso("systems", "rm", name).returncode
    assert 0 == lso("systems", "rm", name, "--yes").returncode
    gone = lso("systems", "show", name)
    assert (2, f"lso: LSO knows no system {name!r}; `lso systems list` shows those there are\n") == (
        gone.returncode,
        gone.stderr,
    )


@pytest.mark.parametrize("command", [("systems", "list"), ("health",), ("tail", "1"), ("top", "--json")])
def test_a_service_that_is_away_is_one_sentence_and_status_1(lso: RunLso, command: tuple[str, ...]) -> None:
    away = lso(*command, "--url", "http://127.0.0.1:1")
    assert (1, "", 1) == (away.returncode, away.stdout, len(away.stderr.splitlines()))
    assert "http://127.0.0.1:1 cannot be reached" in away.stderr


def test_a_url_that_is_none_is_one_sentence_and_status_2(lso: RunLso) -> None:
    wrong = lso("systems", "list", "--url", "nonsense")
    assert (2, 1) == (wrong.returncode, len(wrong.stderr.splitlines()))
    assert "http://host:8000" in wrong.stderr
