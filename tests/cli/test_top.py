"""`lso top`: in a real terminal, and its parts without one."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.cli import show
from lso_core.cli.top.board import Board, Picture
from lso_core.cli.top.screen import Size, draw
from lso_core.cli.top.terminal import keys
from tests.cli.conftest import OpenScreen, RunLso
from tests.cli.test_health import take
from tests.client.faulty_proxy import FaultyProxy
from tests.waiting import wait_for


def line(number: int, health: str = "OK", **figures: Any) -> dict[str, Any]:
    """A system on the fleet page."""
    usual = {
        "system_id": number, "name": f"system-{number}", "health": health, "since": "2025-12-14T14:00:00.000Z",
        "reason": f"reason {number}", "total": 10, "errors": 0, "error_rate": 0.0, "rps": 1.0, "p95_latency": 10.0,
        "last_event_at": "2025-12-14T14:00:00.000Z",
    }  # fmt: skip
    return {**usual, **figures}


def board_of(*lines: dict[str, Any]) -> Board:
    board = Board()
    board.show_picture(Picture({"OK": len(lines)}, list(lines), {"workers": 1}, 1_765_720_800.0))
    return board


def names(board: Board) -> list[int]:
    return [row["system_id"] for row in board.rows()]


def test_the_fleet_is_shown_sorted_and_filtered(open_screen: OpenScreen, http: httpx.Client, name: str) -> None:
    take(http, f"{name}-bad", 5, 15)
    take(http, f"{name}-good", 20, 0)
    http.post("/systems", json={"name": f"{name}-new"})
    screen = open_screen(f"lso top --interval 0.2 --filter {name}", width=150)
    shown = screen.shows("■ UNHEALTHY", "? UNKNOWN", "● OK", "75.0 %", "observer:", "error rate 75.0 % (15 of 20)")
    places = [shown.index(f"{name}-{what}") for what in ("bad", "new", "good")]
    assert sorted(places) == places
    assert "\x1b[31m" in screen.colours()
    screen.press("n")
    screen.shows("system▾")
    screen.press("n")
    shown = screen.shows("system▴")
    assert shown.index(f"{name}-new") < shown.index(f"{name}-good") < shown.index(f"{name}-bad")
    screen.press("/")
    screen.type("-good")
    shown = screen.shows(f"/{name}-good_")
    screen.press("Enter")
    shown = screen.shows(f"only: {name}-good")
    assert f"{name}-bad" not in shown
    screen.press("Escape")
    wait_for(lambda: "only:" not in screen.text(), "all are shown again")


def test_arrows_choose_and_q_leaves_the_terminal_as_it_was(
    open_screen: OpenScreen, http: httpx.Client, name: str
) -> None:
    take(http, f"{name}-a", 20, 0)
    take(http, f"{name}-b", 5, 15)
    screen = open_screen(f"echo before; lso top --interval 0.2 --filter {name}", width=100, height=16)
    screen.shows(f"{name}-b: error rate 75.0 %")
    screen.press("Down")
    screen.shows(f"{name}-a: error rate 0.0 %")
    screen.resize(50, 10)
    screen.shows("●  ", f"{name}-b")
    screen.press("?")
    screen.shows("sort by state, name")
    screen.press("x")
    screen.press("q")
    shown = screen.shows("before", "ended with 0", "icanon echo")
    assert "observer" not in shown


def test_a_lost_server_keeps_the_picture_and_says_its_age(
    open_screen: OpenScreen, http: httpx.Client, name: str, proxy: FaultyProxy
) -> None:
    take(http, name, 20, 0)
    screen = open_screen(f"lso top --interval 0.1 --filter {name}", url=proxy.url)
    screen.shows("● OK", "observer:")
    proxy.refuse()
    screen.shows("the picture is 0s old: LSO at", "cannot be reached", name)
    screen.shows("the picture is 1s old", name)
    proxy.accept()
    screen.shows("observer:", name)


def test_a_server_that_was_never_there_is_said_too(open_screen: OpenScreen) -> None:
    screen = open_screen("lso top", url="http://127.0.0.1:1")
    screen.shows("there is no picture yet", "cannot be reached")
    screen.press("C-c")
    screen.shows("ended with 0", "icanon echo")


def test_without_a_terminal_it_says_what_to_use(lso: RunLso) -> None:
    done = lso("top")
    assert (2, "lso: top needs a terminal; `lso top --json` or `lso health` do without\n") == (
        done.returncode,
        done.stderr,
    )
    assert {"counts", "items", "autoscale"} == set(json.loads(lso("top", "--json").stdout))


def test_each_sort_key_puts_what_matters_first_and_again_last() -> None:
    board = board_of(
        line(1, rps=5, error_rate=0.1, p95_latency=None),
        line(2, "UNHEALTHY", rps=1, error_rate=None, p95_latency=30),
        line(3, "UNKNOWN", rps=9, error_rate=0.5, p95_latency=20, last_event_at=None),
    )
    found = {}
    for key in "nrepls":
        board.press(key)
        found[key] = names(board)
    assert {"n": [1, 2, 3], "r": [3, 1, 2], "e": [3, 1, 2], "p": [2, 3, 1], "l": [3, 1, 2], "s": [2, 3, 1]} == found
    board.press("s")
    assert [1, 3, 2] == names(board)


def test_the_choice_stays_with_its_system_when_the_order_changes() -> None:
    board = board_of(line(1), line(2), line(3))
    board.press("down")
    board.press("n")
    board.press("n")
    assert 2 == board.rows()[board.position(board.rows())]["system_id"]
    board.press("end")
    board.press("pagedown")
    assert 1 == board.selected


def test_history_is_kept_while_a_system_is_there() -> None:
    board = board_of(line(1, p95_latency=1.0), line(2))
    board.show_picture(Picture({}, [line(1, p95_latency=None)], {}, 1.0))
    assert {1: [1.0, None]} == {number: list(values) for number, values in board.history.items()}


texts = st.text(max_size=30)


@given(
    st.lists(st.tuples(st.sampled_from([*show.LOOKS, "NEW"]), texts, texts), max_size=12),
    st.integers(1, 200),
    st.integers(1, 60),
    st.lists(st.sampled_from(["down", "end", "?", "/", "a", "enter", "s", "r"]), max_size=6),
    st.booleans(),
)
def test_the_screen_is_never_larger_than_the_terminal(
    systems: list[tuple[str, str, str]], width: int, height: int, pressed: list[str], plain: bool
) -> None:
    board = board_of(*(line(n, health, name=name, reason=reason) for n, (health, name, reason) in enumerate(systems)))
    for key in pressed:
        board.press(key)
    drawn = draw(board, Size(width, height), 1_765_720_900.0, plain=plain, where="http://x")
    rows = drawn.split("\n", allow_blank=True)
    assert len(rows) <= height
    assert max(row.cell_len for row in rows) <= width
    assert drawn.plain.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("\x1b[A\x1bOB", ["up", "down"]),
        ("q", ["q"]),
        ("\x1b", ["esc"]),
        ("\x1b[5~\x1b[6~", ["pageup", "pagedown"]),
        ("\x1b[1;5Cx", ["x"]),
        ("aé\r\x7f", ["a", "é", "enter", "backspace"]),
    ],
)
def test_typed_bytes_become_keys(typed: str, wanted: list[str]) -> None:
    assert wanted == list(keys(typed))


def test_a_sparkline_spans_its_values_and_stays_flat_for_noise() -> None:
    assert "▁▅█" == show.sparkline([0, 50, 100])
    assert "▁▂ ▁" == show.sparkline([100, 103, None, 100])
    assert ("", "") == (show.sparkline([]), show.sparkline([None]))
    assert show.sparkline([1, 2, 3], plain=True).isascii()
