"""The circuit breaker, on a clock that the test turns."""

import asyncio

import pytest

from lso_core.model.errors import StoreError
from lso_core.store.breaker import FAILURES, PROBE_S, STALLED_S, SURE_S, Breaker, Breakers
from lso_core.store.trips import Way


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


def test_one_probe_at_a_time_looks_and_nobody_else_passes(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert breaker.begin_probe() is None
    clock.now += PROBE_S
    probe = breaker.begin_probe()
    assert (probe is not None, breaker.state) == (True, "half-open")
    assert breaker.begin_probe() is None
    with pytest.raises(StoreError):
        breaker.begin()
    breaker.end(probe or 0, answered=False)
    assert breaker.state == "open"
    clock.now += PROBE_S
    with pytest.raises(StoreError):
        breaker.begin()
    breaker.end(breaker.begin_probe() or 0, answered=True)
    assert (breaker.state, breaker.opens) == ("closed", 1)
    assert breaker.begin_probe() is None


def test_a_probe_that_hangs_keeps_nobody_from_looking_again(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += PROBE_S
    assert breaker.begin_probe() is not None
    clock.now += PROBE_S
    breaker.end(breaker.begin_probe() or 0, answered=True)
    assert breaker.state == "closed"


def test_a_trip_that_was_given_up_says_nothing(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        breaker.end(breaker.begin(), answered=None)
    assert breaker.state == "closed"


async def test_while_it_is_open_a_ping_looks_and_no_caller_waits(breaker: Breaker, clock: Clock) -> None:
    pings: list[float] = []
    back = asyncio.Event()

    async def ping() -> None:
        pings.append(clock.now)
        await back.wait()

    way = Way(opened(breaker), ping)
    for _ in range(3):
        with pytest.raises(StoreError), way.trip():
            pytest.fail("it was let through")
        clock.now += PROBE_S
        await asyncio.sleep(0)
    assert len(pings) == 2
    back.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with way.trip():
        assert breaker.state == "closed"


def test_each_server_has_its_own(clock: Clock) -> None:
    breakers = Breakers(clock)
    opened(breakers.of(("127.0.0.1", 1)))
    with pytest.raises(StoreError):
        breakers.of(("127.0.0.1", 1)).begin()
    trip(breakers.of(("127.0.0.1", 2)), answered=True)
    assert (breakers.opens, breakers.refused, breakers.not_closed) == (1, 1, 1)
