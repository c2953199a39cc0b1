"""`lso run`: the command must not notice, and LSO must learn everything."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from lso_core.cli.run.relay import last_lines
from tests.cli.conftest import OpenScreen, RunLso, StartLso
from tests.waiting import wait_for


def events(http: httpx.Client, name: str, count: int) -> list[dict[str, Any]]:
    """The first `count` events of a system, oldest first."""

    def found() -> list[dict[str, Any]]:
        items = http.get("/systems", params={"name": name}).json()["items"]
        seen = http.get(f"/systems/{items[0]['system_id']}/events").json()["items"] if items else []
        return list(seen[::-1]) if len(seen) >= count else []

    return wait_for(found, f"{count} events came")


def test_outputs_input_and_exit_code_pass_through_unchanged(lso: RunLso, name: str) -> None:
    program = "import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.stderr.write('oops'); sys.exit(7)"
    done = lso("run", "-s", name, "--", sys.executable, "-c", program, given="abc")
    assert (7, "cba", "oops") == (done.returncode, done.stdout, done.stderr)


def test_large_binary_output_passes_through_whole(start_lso: StartLso, name: str) -> None:
    program = "import os; [os.write(1, bytes(range(256)) * 256) for _ in range(64)]"
    process = start_lso("run", "-s", name, "--", sys.executable, "-c", program)
    out, err = process.communicate(timeout=20)
    assert (bytes(range(256)) * 256 * 64, b"", 0) == (out, err, process.returncode)


def test_success_is_start_and_a_counted_outcome(lso: RunLso, http: httpx.Client, name: str) -> None:
    lso("run", "-s", name, "--run-id", "night-1", "--", "true", "--a-flag-of-its-own")
    start, outcome = events(http, name, 2)
    assert ("start", "success", "ok") == (start["event_type"], outcome["event_type"], outcome["status"])
    assert {"night-1"} == {start["run_id"], outcome["run_id"]}
    assert {"command": "true", "exit_code": 0} == outcome["payload"]
    assert outcome["latency_ms"] > 0


def test_failure_carries_the_last_lines_without_colours(lso: RunLso, http: httpx.Client, name: str) -> None:
    done = lso(
        "run", "-s", name, "--lines", "3", "--", "sh", "-c", r"{ seq 9; printf '\033[31mred\033[0m\n'; } >&2; exit 3"
    )
    outcome = events(http, name, 2)[1]
    assert 3 == done.returncode
    assert ("failure", "error", 3, "exit status 3") == (
        outcome["event_type"],
        outcome["status"],
        outcome["payload"]["exit_code"],
        outcome["payload"]["error_message"],
    )
    assert "red" in outcome["payload"]["output"]
    assert "\x1b" not in outcome["payload"]["output"]
    assert 3 == len(outcome["payload"]["output"].splitlines())


def test_a_stage_is_counted_and_its_run_ends(lso: RunLso, http: httpx.Client, name: str) -> None:
    lso("run", "-s", name, "--stage", "load", "--", "false")
    seen = events(http, name, 3)
    assert [("start", None), ("failure", "load"), ("end", None)] == [(e["event_type"], e["stage"]) for e in seen]
    assert ["ok", "error", "error"] == [event["status"] for event in seen]


def test_a_long_command_shows_signs_of_life(start_lso: StartLso, http: httpx.Client, name: str) -> None:
    process = start_lso("run", "-s", name, "--heartbeat", "0.1", "--", "cat")
    kinds = [event["event_type"] for event in events(http, name, 3)]
    assert ["start", "heartbeat", "heartbeat"] == kinds[:3]
    process.communicate(timeout=10)


def test_output_comes_as_it_is_written(start_lso: StartLso, name: str) -> None:
    process = start_lso("run", "-s", name, "--", "sh", "-c", "echo first; read line; echo then $line")
    assert process.stdout is not None
    assert process.stdin is not None
    assert b"first\n" == process.stdout.readline()  # while the command waits for us
    process.stdin.write(b"go\n")
    assert b"then go\n" == process.stdout.readline()
    assert 0 == process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command_once(start_lso: StartLso, name: str, number: signal.Signals) -> None:
    program = (
        "import signal, sys; say = lambda n, _: print(n, flush=True); [signal.signal(n, say) for n in (1, 2, 15)];"
        "print('ready', flush=True); sys.stdin.readline(); sys.exit(9)"
    )
    process = start_lso("run", "-s", name, "--", sys.executable, "-c", program)
    assert process.stdout is not None
    assert b"ready\n" == process.stdout.readline()
    process.send_signal(number)
    assert f"{int(number)}\n".encode() == process.stdout.readline()
    assert (b"", b"") == process.communicate(b"\n", timeout=10)
    assert 9 == process.returncode


def test_a_command_that_a_signal_ends_ends_us_by_the_same(start_lso: StartLso, http: httpx.Client, name: str) -> None:
    process = start_lso("run", "-s", name, "--", "sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert -signal.SIGTERM == process.wait(10)
    assert "SIGTERM" == events(http, name, 2)[1]["payload"]["signal"]


def test_a_command_that_does_not_exist_is_127_and_a_failure(lso: RunLso, http: httpx.Client, name: str) -> None:
    done = lso("run", "-s", name, "--", "no-such-command-anywhere")
    assert (127, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert "failure" == events(http, name, 2)[1]["event_type"]
    assert 126 == lso("run", "-s", name, "--", "/").returncode


def test_an_lso_that_is_away_changes_nothing_for_the_command(lso: RunLso, name: str) -> None:
    done = lso("run", "-s", name, "--url", "http://127.0.0.1:1", "--", "sh", "-c", "echo out; exit 5")
    assert (5, "out\n") == (done.returncode, done.stdout)


def test_what_a_command_leaves_in_the_background_is_not_waited_for(lso: RunLso, name: str) -> None:
    done = lso("run", "-s", name, "--", "sh", "-c", "sleep 3 & echo done")
    assert (0, "done\n") == (done.returncode, done.stdout)


def test_in_a_terminal_the_command_has_a_terminal(open_screen: OpenScreen, http: httpx.Client, name: str) -> None:
    program = "import os,sys; print([os.isatty(n) for n in range(3)], os.get_terminal_size().columns); print('hello', input('who? '))"
    screen = open_screen(f'lso run -s {name} -- {sys.executable} -c "{program}"', width=91)
    screen.shows("[True, True, True] 91", "who?")
    screen.type("you")
    screen.press("Enter")
    screen.shows("hello you", "ended with 0", "icanon echo")
    assert 0 == events(http, name, 2)[1]["payload"]["exit_code"]


@pytest.mark.parametrize("target", ["", "out"])
def test_ctrl_c_in_a_terminal_reaches_the_command_once(
    open_screen: OpenScreen, name: str, tmp_path: Path, target: str
) -> None:
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(
        "import signal, sys\nsignal.signal(signal.SIGINT, lambda *_: print('caught', flush=True))\n"
        "print('ready', file=sys.stderr, flush=True)\nsys.stdin.readline()\nsys.exit(4)\n"
    )
    place = f"> {out}" if target else ""
    screen = open_screen(f"trap : INT; lso run -s {name} -- {sys.executable} {program} {place}")
    screen.shows("ready")

    def said() -> str:
        return out.read_text() if target else screen.text()

    screen.press("C-c")
    wait_for(lambda: "caught" in said(), "Ctrl-C arrived")
    screen.press("Enter")
    screen.shows("ended with 4", "icanon echo")
    assert 1 == said().count("caught")


def test_what_the_terminal_sent_to_all_is_not_sent_again(open_screen: OpenScreen, name: str, tmp_path: Path) -> None:
    program, out, pid = tmp_path / "program.py", tmp_path / "out", tmp_path / "pid"
    program.write_text(
        "import os, signal, sys\nfrom pathlib import Path\nos.setpgrp()  # so that what comes, comes from lso\n"
        "numbers = {signal.SIGINT, signal.SIGUSR1}\nsignal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        f"Path({str(pid)!r}).write_text(str(os.getppid()))\nprint('ready', file=sys.stderr, flush=True)\n"
        "print(int(signal.sigwait(numbers)), flush=True)\n"
    )
    screen = open_screen(f"trap : INT; lso run -s {name} -- {sys.executable} {program} > {out}")
    screen.shows("ready")
    screen.press("C-c")
    screen.shows("^C")
    os.kill(int(pid.read_text()), signal.SIGUSR1)
    screen.shows("ended with 0")
    assert f"{int(signal.SIGUSR1)}\n" == out.read_text()


def test_a_terminal_that_is_closed_is_told_to_the_command(open_screen: OpenScreen, name: str, tmp_path: Path) -> None:
    script, out = tmp_path / "script", tmp_path / "out"
    script.write_text(f"trap 'echo hung up > {out}; exit 1' HUP\necho ready\nwhile :; do sleep 0.05; done\n")
    screen = open_screen(f"lso run -s {name} -- sh {script}")
    screen.shows("ready")
    screen.hang_up()
    wait_for(out.exists, "the command heard of it")


def test_last_lines_are_what_a_person_would_have_seen() -> None:
    assert "100 %\nb" == last_lines(b"first\n10 %\r100 %\r\n\n\x1b[1mb\x1b[0m\n", 2, 1_000)
    assert "\u00e9" == last_lines("é".encode() * 2, 5, 3)
    assert "" == last_lines(b"", 5, 100)
    assert "x\ufffd" == last_lines(b"x\xff", 5, 100)


def test_the_reported_output_fits_an_event_whatever_it_is(lso: RunLso, http: httpx.Client, name: str) -> None:
    program = "print(chr(34) * 200_000); print(chr(92) * 200_000); raise SystemExit(1)"
    lso("run", "-s", name, "--lines", "100", "--", sys.executable, "-c", program)
    payload = events(http, name, 2)[1]["payload"]
    assert 6_000 < len(json.dumps(payload["output"])) < 16_384
