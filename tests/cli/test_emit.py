"""`lso emit`."""

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.cli.emit.cutting import Cut, Cutter
from tests.cli.conftest import OpenScreen, RunLso, StartLso
from tests.client.faulty_proxy import RESET_AFTER, SWALLOW, UNAVAILABLE, FaultyProxy
from tests.waiting import wait_for


def ndjson(numbers: Iterable[int]) -> str:
    event = {"event_type": "success", "status": "ok", "latency_ms": 1.5}
    return "".join(json.dumps({**event, "payload": {"n": n}}) + "\n" for n in numbers)


def total(http: httpx.Client, name: str) -> int:
    """Events of a system that are counted."""
    found = http.get("/systems", params={"name": name}).json()["items"]
    return int(http.get(f"/systems/{found[0]['system_id']}/health").json()["total"]) if found else 0


def has(http: httpx.Client, name: str, count: int) -> bool:
    return total(http, name) == count


def settles_at(http: httpx.Client, name: str, count: int) -> None:
    """Wait until everything accepted is folded; then exactly `count` events are counted."""
    wait_for(lambda: http.get("/autoscale").json()["backlog"]["events"] == 0, "all is folded")
    wait_for(lambda: total(http, name) >= count, f"{count} events are counted")
    assert count == total(http, name)


def seen(http: httpx.Client, name: str) -> list[dict[str, Any]]:
    """Stored events, newest first."""
    found = http.get("/systems", params={"name": name}).json()["items"]
    return list(http.get(f"/systems/{found[0]['system_id']}/events").json()["items"])


def test_one_event_from_options_is_sent_as_it_was_described(lso: RunLso, http: httpx.Client, name: str) -> None:
    words = ("--type", "failure", "--latency-ms", "12.5", "--stage", "load", "--run-id", "r1")
    done = lso("emit", "-s", name, *words, "--payload", '{"a": [1]}', "--set", "rows=3", "--set", "file=x.csv")
    assert (0, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith("1 event accepted\n")
    event = seen(http, name)[0]
    assert ("failure", "error", 12.5, "load", "r1", {"a": [1], "rows": 3, "file": "x.csv"}) == (
        *(event[field] for field in ("event_type", "status", "latency_ms", "stage", "run_id")),
        event["payload"],
    )


def test_an_event_that_the_server_refuses_is_one_sentence(lso: RunLso, name: str) -> None:
    done = lso("emit", "-s", name, "--type", "success", "--quiet")
    assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert done.stderr.startswith("lso: latency_ms is missing")


def test_a_name_that_is_unknown_can_be_refused(lso: RunLso, http: httpx.Client, name: str) -> None:
    done = lso("emit", "-s", name, "--no-register", given=ndjson(range(3)))
    assert 2 == done.returncode
    assert [] == http.get("/systems", params={"name": name}).json()["items"]


def test_the_same_input_sent_twice_is_counted_once(lso: RunLso, http: httpx.Client, name: str, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(ndjson(range(2_500)))
    first = json.loads(lso("emit", "-s", name, str(file), "--json").stdout)
    again = json.loads(lso("emit", "-s", name, "--json", given=file.read_text()).stdout)
    assert (2_500, 0, 2) == (first["accepted"], first["known"], first["batches"])
    assert (0, 2_500) == (again["accepted"], again["known"])
    settles_at(http, name, 2_500)
    assert 2_500 == json.loads(lso("emit", "-s", name, str(file), "--again", "--json").stdout)["accepted"]
    settles_at(http, name, 5_000)


def test_killed_in_the_middle_and_run_again_everything_is_counted_once(
    lso: RunLso, start_lso: StartLso, http: httpx.Client, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(ndjson(range(3_000)))
    sending = start_lso("emit", "-s", name, "--batch", "100", "--linger", "60")
    assert sending.stdin is not None
    sending.stdin.write(file.read_bytes()[: file.stat().st_size // 2])
    wait_for(lambda: total(http, name) >= 500, "some batches are counted")
    sending.kill()
    sending.wait()
    done = json.loads(lso("emit", "-s", name, "--batch", "100", "--json", str(file)).stdout)
    assert done["known"] >= 500
    assert 3_000 == done["known"] + done["accepted"]
    settles_at(http, name, 3_000)


def test_a_state_file_keeps_the_cuts_of_an_input_that_trickles(
    lso: RunLso, start_lso: StartLso, http: httpx.Client, name: str, tmp_path: Path, proxy: FaultyProxy
) -> None:
    system = str(http.post("/systems", json={"name": name}).json()["system_id"])
    state, lines = tmp_path / "state", ndjson(range(100)).splitlines(keepends=True)
    sending = start_lso("emit", "-s", system, "--linger", "0.05", "--state", str(state), url=proxy.url)
    assert sending.stdin is not None
    sending.stdin.write("".join(lines[:7]).encode())
    wait_for(lambda: '"under_way": null' in (state.read_text() if state.exists() else ""), "7 are sent")
    proxy.fault = SWALLOW
    sending.stdin.write("".join(lines[7:20]).encode())
    wait_for(lambda: has(http, name, 20), "13 more are counted, which the sender is not told")
    sending.kill()
    sending.wait()
    done = json.loads(lso("emit", "-s", system, "--state", str(state), "--json", given="".join(lines)).stdout)
    assert (80, 13) == (done["accepted"], done["known"])
    settles_at(http, name, 100)


def test_a_file_that_has_grown_goes_on_from_its_state(
    lso: RunLso, http: httpx.Client, name: str, tmp_path: Path
) -> None:
    file, state = tmp_path / "events.ndjson", str(tmp_path / "state")
    for count, new in ((10, 10), (10, 0), (25, 15)):
        file.write_text(ndjson(range(count)))
        done = json.loads(lso("emit", "-s", name, str(file), "--state", state, "--json").stdout)
        assert (new, 0) == (done["accepted"], done["known"])
    settles_at(http, name, 25)


def test_a_state_file_of_another_input_is_refused(lso: RunLso, name: str, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    lso("emit", "-s", name, "--state", state, given=ndjson(range(10)))
    for other in (ndjson(range(100, 120)), ndjson(range(3))):
        done = lso("emit", "-s", name, "--state", state, given=other)
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))


def test_bad_lines_are_named_and_their_batch_is_not_sent(lso: RunLso, http: httpx.Client, name: str) -> None:
    lines = [*ndjson(range(5)).splitlines(), "", "nonsense", *ndjson([5]).splitlines()]
    done = lso("emit", "-s", name, "--batch", "3", given="\n".join(lines))
    assert 2 == done.returncode
    assert "lso: line 7: the event is malformed JSON" in done.stderr
    assert "lines 4 to 7 were not sent" in done.stderr
    assert "3 events are counted" in done.stderr
    skipped = lso("emit", "-s", name, "--batch", "3", "--on-invalid", "skip", given="\n".join(lines))
    assert (0, "3 events accepted, 3 were counted before, 1 bad ones went to the dead letters\n") == (
        skipped.returncode,
        skipped.stderr,
    )
    settles_at(http, name, 6)


def test_a_server_that_is_busy_or_breaks_off_is_tried_again(
    lso: RunLso, http: httpx.Client, name: str, proxy: FaultyProxy
) -> None:
    http.post("/systems", json={"name": name})
    found = http.get("/systems", params={"name": name}).json()["items"][0]["system_id"]
    proxy.first(UNAVAILABLE, RESET_AFTER)
    done = lso("emit", "-s", str(found), "--json", given=ndjson(range(50)), LSO_URL=proxy.url)
    told = json.loads(done.stdout)
    assert (0, 50, 0) == (done.returncode, told["known"], told["accepted"])
    assert told["retries"] >= 1
    settles_at(http, name, 50)


def test_patience_ends_with_the_line_to_go_on_from(
    lso: RunLso, http: httpx.Client, name: str, proxy: FaultyProxy
) -> None:
    system_id = http.post("/systems", json={"name": name}).json()["system_id"]
    proxy.fault = UNAVAILABLE
    words = ("emit", "-s", str(system_id), "--patience", "0", "--url", proxy.url)
    done = lso(*words, given=ndjson(range(5)))
    assert 1 == done.returncode
    assert "stopped before line 1; 0 events are counted" in done.stderr


def test_progress_is_shown_in_a_terminal_and_nowhere_else(
    lso: RunLso, open_screen: OpenScreen, http: httpx.Client, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(ndjson(range(4_000)))
    os.mkfifo(pipe := tmp_path / "pipe")
    screen = open_screen(f"lso emit -s {name} --batch 1000 --state {tmp_path / 'state'} {pipe}")
    with pipe.open("w") as feed:
        feed.write("".join(file.read_text().splitlines(keepends=True)[:2_500]))
        feed.flush()
        screen.shows("2,500 events", "━", within=15)
    screen.shows("2,500 events accepted", "ended with 0")
    full = open_screen(f"lso emit -s {name}-b --batch 1000 {file}")
    full.shows("4,000 events", "100%", "4,000 events accepted")
    assert "━" not in lso("emit", "-s", name, str(file), "--again").stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--stage", "x"),
        ("--type", "success", "--payload", "[]"),
        ("--type", "success", "--set", "novalue"),
        ("no-such-file",),
    ],
)
def test_options_that_make_no_sense_are_refused(lso: RunLso, name: str, words: tuple[str, ...]) -> None:
    assert 2 == lso("emit", "-s", name, *words).returncode


def cut_up(data: bytes, most: int, pieces: list[int]) -> list[Cut]:
    """The batches of data that comes in pieces."""
    cutter, at = Cutter(most), 0
    cuts: list[Cut] = []
    for piece in pieces:
        cuts += cutter.feed(data[at : at + piece])
        at += piece
    return [*cuts, *cutter.feed(data[at:]), *cutter.finish()]


lines = st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\n", b" ")), max_size=30)


@given(lines, st.integers(1, 7), st.lists(st.integers(0, 40), max_size=10), st.booleans())
def test_where_an_input_is_cut_depends_on_its_content_alone(
    lines: list[bytes], most: int, pieces: list[int], ended: bool
) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    whole, parts = cut_up(data, most, []), cut_up(data, most, pieces)
    assert whole == parts
    assert [line.strip() for line in data.split(b"\n") if line.strip()] == [line for cut in whole for line in cut.lines]
    assert [*range(len(whole))] == [*range(len({cut.key(1, "") for cut in whole}))]
    assert all(before.end == after.start for before, after in itertools.pairwise(whole))
    assert all(
        cut.lines[at].strip() == data.split(b"\n")[number - 1].strip()
        for cut in whole
        for at, number in enumerate(cut.numbers)
    )
