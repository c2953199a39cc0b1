"""When the next attempt is made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lso_core.client.pause import LONGEST_S, Pause
from tests.client.conftest import relaxed


class HandClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@relaxed
@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_between_half_and_all_of_its_doubling_length_and_30_s_at_most(failures: int, jitter: float) -> None:
    pause = Pause(lambda: jitter, HandClock())
    for _ in range(failures):
        pause.failed(None)
    longest = min(LONGEST_S, 0.5 * 2 ** (failures - 1))
    assert longest / 2 - 1e-9 <= pause.left() <= longest + 1e-9


def test_a_success_begins_anew() -> None:
    pause = Pause(lambda: 1.0, HandClock())
    for _ in range(8):
        pause.failed(None)
    pause.succeeded()
    assert pause.left() == 0
    pause.failed(None)
    assert pause.left() == 0.5


@relaxed
@given(st.floats(0, 600))
def test_what_the_server_asks_for_is_waited_for_even_by_a_flush(seconds: float) -> None:
    clock = HandClock()
    pause = Pause(lambda: 0.5, clock)
    pause.failed(seconds)
    pause.cut_short()
    assert seconds - 1e-6 <= pause.left() <= seconds + 0.1
    clock.now += seconds + 0.1
    assert pause.left() < 1e-6


def test_a_flush_cuts_the_client_s_own_pause_short() -> None:
    pause = Pause(lambda: 1.0, HandClock())
    pause.failed(None)
    pause.cut_short()
    assert pause.left() == 0


def test_no_server_silences_a_client_for_good() -> None:
    pause = Pause(lambda: 0.0, HandClock())
    pause.failed(1e12)
    assert pause.left() == 600
