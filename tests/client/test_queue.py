"""The queue in memory: bounded, newest refused, every event counted, safe wherever it is called from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.client.queue import CHUNK_BYTES, QUEUE_BYTES, Bell, Chunk, EventQueue
from tests.client.conftest import relaxed


def lines_of(chunks: list[Chunk]) -> list[bytes]:
    return [line for chunk in chunks for line in chunk.lines]


def test_the_newest_is_refused_when_the_queue_is_full() -> None:
    queue = EventQueue(3, 10)
    taken = [queue.offer(b"%d" % number) for number in range(5)]
    assert taken == [True, True, True, False, False]
    assert (queue.accepted, queue.refused, queue.waiting) == (3, 2, 3)
    assert lines_of(queue.take_all()) == [b"0", b"1", b"2"]


def test_few_large_events_fill_the_queue_too() -> None:
    queue = EventQueue(10_000, 10_000)
    line = b"x" * CHUNK_BYTES
    assert sum(queue.offer(line) for _ in range(40)) == QUEUE_BYTES // CHUNK_BYTES
    assert all(len(chunk.lines) == 1 for chunk in queue.take_all())


@relaxed
@given(st.integers(1, 7), st.integers(0, 40))
def test_chunks_are_full_but_for_the_last(size: int, events: int) -> None:
    queue = EventQueue(1_000, size)
    for number in range(events):
        queue.offer(b"%d" % number)
    chunks = queue.take_all()
    assert [len(chunk.lines) for chunk in chunks] == [size] * (events // size) + [events % size] * (events % size > 0)
    assert [chunk.first for chunk in chunks] == list(range(0, events, size))
    assert queue.waiting == 0


def test_a_report_goes_in_even_when_the_queue_is_full() -> None:
    queue = EventQueue(1, 10)
    queue.offer(b"event")
    queue.force(b"report")
    assert lines_of(queue.take_all()) == [b"event", b"report"]


def test_the_bell_rings_for_the_first_event_and_for_each_full_chunk() -> None:
    bell = Bell()
    queue = EventQueue(100, 3, bell)
    rung = []
    for _ in range(4):
        queue.offer(b"x")
        rung.append(bell.wait(0))
    assert rung == [True, False, True, False]


def test_a_full_chunk_is_due_at_once_and_others_after_lingering() -> None:
    queue = EventQueue(100, 2)
    assert queue.due_in(60.0) is None
    queue.offer(b"x")
    due = queue.due_in(60.0)
    assert due is not None
    assert 0 < due <= 60
    assert queue.due_in(0.0) == 0.0
    queue.offer(b"x")
    assert queue.due_in(60.0) == 0.0


def test_no_event_is_lost_or_doubled_between_threads() -> None:
    queue = EventQueue(100_000, 100)
    taken: list[bytes] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or queue.waiting:
            taken.extend(lines_of(queue.take_all()))

    def offer(start: int) -> None:
        for number in range(start, start + 5_000):
            assert queue.offer(b"%d" % number)

    taker = threading.Thread(target=take)
    offerers = [threading.Thread(target=offer, args=(start,)) for start in range(0, 20_000, 5_000)]
    for thread in [taker, *offerers]:
        thread.start()
    for thread in offerers:
        thread.join()
    done.set()
    taker.join()
    assert sorted(map(int, taken)) == list(range(20_000))


@pytest.fixture
def _alarms() -> Iterator[None]:
    before = signal.getsignal(signal.SIGVTALRM)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.usefixtures("_alarms")
@pytest.mark.timeout(30)
def test_a_signal_handler_may_emit_while_the_same_thread_emits() -> None:
    queue = EventQueue(10_000_000, 10, Bell(), Bell())
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        queue.offer(b"signal")

    signal.signal(signal.SIGVTALRM, handle)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    offered = 0
    while handled < 100:
        queue.offer(b"event")
        offered += 1
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert len(lines_of(queue.take_all())) == offered + handled
