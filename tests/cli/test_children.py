"""When a child is started again, and what it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.cli.children import Backoff, child_environ, ended
from lso_core.cli.processes import ROOT
from lso_core.cli.supervisor import default_workers


def test_the_first_start_is_at_once_and_the_next_ones_wait_up_to_two_seconds() -> None:
    backoff = Backoff()
    assert [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0] == [backoff.pause(alive_s=0.1) for _ in range(8)]


def test_five_seconds_alive_forgive_what_was_before() -> None:
    backoff = Backoff()
    assert [0.0, 0.1, 0.2, 0.0, 0.1] == [backoff.pause(alive_s) for alive_s in (0, 0, 4.9, 5.0, 0)]


@given(st.lists(st.floats(0, 4.9), max_size=2_000))
def test_no_pause_is_longer_than_two_seconds(lives: list[float]) -> None:
    backoff = Backoff()
    assert all(0 <= backoff.pause(alive_s) <= 2.0 for alive_s in lives)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (1, "ended with status 1"),
        (-9, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert words == ended(status)


def test_children_find_our_packages_before_any_other() -> None:
    environ = child_environ({"PYTHONPATH": "/elsewhere", "LSO_PORT": "1"}, {"LSO_PORT": "2"})
    assert environ == {"PYTHONPATH": f"{ROOT}:/elsewhere", "LSO_PORT": "2"}
    assert child_environ({}, {})["PYTHONPATH"] == str(ROOT)


def test_a_small_machine_gets_one_worker_and_a_larger_one_two() -> None:
    assert [1, 1, 1, 2, 2] == [default_workers(cores) for cores in (1, 2, 3, 4, 64)]
