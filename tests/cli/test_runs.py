"""`lso runs`, and the runs that `lso run` makes."""

import json
import sys
from typing import Any

from tests.cli.conftest import RunLso
from tests.waiting import wait_for


def shown(lso: RunLso, *words: str) -> Any:
    answer = lso("runs", *words, "--json")
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def test_a_command_that_was_observed_is_a_run(lso: RunLso, name: str) -> None:
    fails = "print('rows went missing'); raise SystemExit(3)"
    assert (
        0
        == lso(
            "run", "-s", name, "--run-id", "good/1", "--stage", "dump", "--", sys.executable, "-c", "pass"
        ).returncode
    )
    assert 3 == lso("run", "-s", name, "--run-id", "bad", "--", sys.executable, "-c", fails).returncode
    wait_for(lambda: len(shown(lso, name) or ()) == 2, "both runs are there", 10)
    assert ["bad", "good/1"] == [one["run_id"] for one in shown(lso, name)]
    good, bad = shown(lso, name, "good/1"), shown(lso, name, "latest")
    assert ("SUCCESS", ["dump"]) == (good["state"], [one["name"] for one in good["stages"]])
    assert ("FAILED", "CommandFailedError: exit status 3") == (bad["state"], bad["error_summary"])
    listed, one = lso("runs", name, "--state", "failed").stdout, lso("runs", name, "good/1").stdout
    assert ("FAILED" in listed, "good/1" in listed) == (True, False)
    assert ["SUCCESS: good/1", "start", "dump"] == [
        word for word in ("SUCCESS: good/1", "start", "dump") if word in one
    ]


def test_a_run_that_hangs_is_ended_by_hand(lso: RunLso, name: str) -> None:
    lso("systems", "add", name, "--max-runtime", "1", "--heartbeat-timeout", "none")
    lso("emit", "-s", name, "--type", "start", "--run-id", "r")
    wait_for(lambda: [one["state"] for one in shown(lso, name) or ()] == ["TIMED_OUT"], "the run is timed out", 15)
    health = json.loads(lso("health", name, "--json").stdout)
    assert ("DEGRADED", True) == (health["health"], health["reason"].startswith("run r has not ended within 1 s"))
    assert "run r is ended as FAILED\n" == lso("runs", name, "r", "--end").stdout
    wait_for(lambda: shown(lso, name, "r")["state"] == "FAILED", "the run has ended", 10)
    assert "ended by hand" in shown(lso, name, "r")["error_summary"]


def test_limits_of_runs_are_set_shown_and_taken_away(lso: RunLso, name: str) -> None:
    lso("systems", "add", name, "--max-runtime", "3600")
    assert "3600 s" in lso("systems", "show", name).stdout
    changed = json.loads(
        lso("systems", "set", name, "--max-runtime", "none", "--heartbeat-timeout", "90", "--json").stdout
    )
    assert (None, 90) == (changed["max_runtime_seconds"], changed["heartbeat_timeout_seconds"])


def test_what_cannot_be_shown_is_said_in_one_sentence(lso: RunLso, name: str) -> None:
    lso("systems", "add", name)
    for words, sentence in (
        (("runs", name, "none such"), "has no run 'none such'"),
        (("runs", name, "latest"), "has no runs"),
        (("runs", name, "--end"), "--end needs the RUN"),
    ):
        answer = lso(*words)
        assert (2, True) == (answer.returncode, sentence in answer.stderr), answer.stderr
    assert "no runs\n" == lso("runs", name).stdout
