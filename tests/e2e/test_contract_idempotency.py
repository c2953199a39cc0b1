"""A retried POST is counted once."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.answers import problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem, accepted, event, events


def test_a_retried_batch_is_answered_as_the_first_was_and_counted_once(system: ObservedSystem) -> None:
    first = system.take(events(5), key="batch-1")
    again = [system.take(events(5), key="batch-1") for _ in range(3)]
    assert [{**first, "duplicate": True}] * 3 == again
    system.take([event()], key="batch-2")
    system.health_with(total=6)
    assert 6 == len(system.events()["items"])


def test_a_retry_after_folding_is_counted_once_too(system: ObservedSystem) -> None:
    first = system.take(events(5), key="batch")
    system.health_with(total=5)
    assert {**first, "duplicate": True} == system.take(events(5), key="batch")
    system.take([event()])
    system.health_with(total=6)


def test_without_a_key_the_same_batch_counts_each_time(system: ObservedSystem) -> None:
    receipts = [system.take(events(5)) for _ in range(2)]
    assert [False, False] == [receipt["duplicate"] for receipt in receipts]
    system.health_with(total=10)


def test_the_same_key_with_another_body_is_422_and_counts_nothing(system: ObservedSystem) -> None:
    system.take(events(5), key="batch")
    problem(system.post(events(6), key="batch"), 422)
    problem(system.post(events(4, 1), key="batch"), 422)
    system.take([event()])
    system.health_with(total=6)


def test_the_same_body_compressed_is_the_same_body(system: ObservedSystem) -> None:
    body = json.dumps({"events": events(5)}).encode()
    first = accepted(system.post_body(body, {"Idempotency-Key": "batch"}))
    again = system.post_body(gzip.compress(body), {"Idempotency-Key": "batch", "Content-Encoding": "gzip"})
    assert {**first, "duplicate": True} == accepted(again)


def test_a_key_belongs_to_its_system(new_system: NewSystem) -> None:
    receipts = [new_system().take(events(5), key="batch") for _ in range(2)]
    assert [False, False] == [receipt["duplicate"] for receipt in receipts]


def test_a_key_may_have_128_bytes_and_no_more(system: ObservedSystem) -> None:
    assert 1 == system.take([event()], key="k" * 128)["accepted"]
    problem(system.post([event()], key="k" * 129), 422)
    problem(system.post_body(json.dumps({"events": [event()]}), {"Idempotency-Key": ""}), 422)


def test_keys_that_share_128_bytes_but_one_are_different(system: ObservedSystem) -> None:
    receipts = [system.take([event()], key="k" * 127 + last) for last in "ab"]
    assert [False, False] == [receipt["duplicate"] for receipt in receipts]


def test_a_refused_batch_does_not_use_up_its_key(system: ObservedSystem) -> None:
    problem(system.post([event(latency_ms=-1)], key="batch"), 422)
    assert system.take([event()], key="batch")["duplicate"] is False


def test_of_many_at_once_under_one_key_one_is_counted(system: ObservedSystem) -> None:
    with ThreadPoolExecutor(10) as pool:
        receipts = list(pool.map(lambda _: system.take(events(5), key="batch"), range(30)))
    assert 29 == sum(receipt["duplicate"] for receipt in receipts)
    assert 1 == len({tuple(receipt["entries"]) for receipt in receipts})
    system.take([event()])
    system.health_with(total=6)


@pytest.mark.parametrize("bad", [1, 3])
def test_a_retry_with_skip_is_answered_as_the_first_was(system: ObservedSystem, bad: int) -> None:
    sent = events(3) + [event(latency_ms=-1)] * bad
    first = system.take(sent, key="batch", on_invalid="skip")
    assert {**first, "duplicate": True} == system.take(sent, key="batch", on_invalid="skip")
    system.take([event()])
    system.health_with(total=4)


def test_a_retry_of_nothing_but_bad_events_is_answered_as_the_first_was(system: ObservedSystem) -> None:
    first = system.take([event(latency_ms=-1)] * 3, key="batch", on_invalid="skip")
    assert {**first, "duplicate": True} == system.take([event(latency_ms=-1)] * 3, key="batch", on_invalid="skip")
