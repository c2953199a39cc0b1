"""The circuit breaker, on a clock that the test turns."""

import pytest

from lso_core.model.errors import StoreError
from lso_core.store.breaker import FAILURES, PROBE_S, STALLED_S, SURE_S, Breaker, Breakers


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def trip(breaker: Breaker, *, answered: bool) -> None:
    breaker.end(breaker.begin(), answered=answered)


def opened(breaker: Breaker) -> Breaker:
    for _ in range(FAILURES):
        trip(breaker, answered=False)
    assert breaker.state == "open"
    return breaker


def test_an_answer_now_and_then_keeps_it_closed(breaker: Breaker) -> None:
    for _ in range(10):
        for _ in range(FAILURES - 1):
            trip(breaker, answered=False)
        trip(breaker, answered=True)
    assert (breaker.state, breaker.opens, breaker.refused) == ("closed", 0, 0)


def test_failures_in_a_row_open_it_and_everybody_is_refused(breaker: Breaker) -> None:
    opened(breaker)
    for _ in range(5):
        with pytest.raises(StoreError, match="Redis does not answer"):
            breaker.begin()
    assert (breaker.opens, breaker.refused) == (1, 5)


def test_a_server_that_hangs_opens_it_before_anything_has_failed(breaker: Breaker, clock: Clock) -> None:
    hanging = breaker.begin()
    clock.now += STALLED_S + 0.01
    breaker.begin()  # it may be this process that was busy
    clock.now += SURE_S + 0.01
    with pytest.raises(StoreError):
        breaker.begin()
    assert breaker.state == "open"
    breaker.end(hanging, answered=True)
    assert breaker.state == "closed"
    breaker.begin()


def test_a_process_that_was_busy_itself_finds_its_answers(breaker: Breaker, clock: Clock) -> None:
    waiting = breaker.begin()
    clock.now += 60
    breaker.begin()
    breaker.end(waiting, answered=True)
    clock.now += SURE_S + 0.01
    breaker.begin()
    assert (breaker.state, breaker.opens) == ("closed", 0)


def test_one_at_a_time_is_let_through_to_see(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += PROBE_S
    probe = breaker.begin()
    assert breaker.state == "half-open"
    with pytest.raises(StoreError):
        breaker.begin()
    breaker.end(probe, answered=False)
    assert breaker.state == "open"
    with pytest.raises(StoreError):
        breaker.begin()
    clock.now += PROBE_S
    breaker.end(breaker.begin(), answered=True)
    assert (breaker.state, breaker.opens) == ("closed", 1)


def test_a_probe_that_hangs_keeps_nobody_from_looking_again(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += PROBE_S
    breaker.begin()
    clock.now += PROBE_S
    breaker.end(breaker.begin(), answered=True)
    assert breaker.state == "closed"


def test_each_server_has_its_own(clock: Clock) -> None:
    breakers = Breakers(clock)
    opened(breakers.of(("127.0.0.1", 1)))
    with pytest.raises(StoreError):
        breakers.of(("127.0.0.1", 1)).begin()
    trip(breakers.of(("127.0.0.1", 2)), answered=True)
    assert (breakers.opens, breakers.refused, breakers.not_closed) == (1, 1, 1)
