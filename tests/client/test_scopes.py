"""Runs and stages: what they send, in sync and async code, as context managers and decorators, side by side."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lso_core import client as lso
from tests.client.conftest import SYSTEM, until
from tests.client.faulty_proxy import HANG, FaultyProxy
from tests.client.observatory import Observatory

Connect = Callable[..., lso.Client]
Sent = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def client(connect: Connect) -> lso.Client:
    return connect()


@pytest.fixture
def sent(client: lso.Client, observatory: Observatory) -> Sent:
    """Everything the client sent so far, without its times."""

    def sent() -> list[dict[str, Any]]:
        assert client.flush(5)
        return [{key: value for key, value in event.items() if key != "ts"} for event in observatory.of(SYSTEM)]

    return sent


def types(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(event["event_type"], event.get("stage")) for event in events]


def test_a_run_with_stages_ends_in_an_end_that_is_not_counted(client: lso.Client, sent: Sent) -> None:
    with client.run("run-1", day="2025-12-14") as run, run.stage("extract", table="obs") as stage:
        stage.set(rows=3)
    start, extract, end = sent()
    assert start == {"event_type": "start", "status": "ok", "run_id": "run-1", "payload": {"day": "2025-12-14"}}
    assert extract.pop("latency_ms") >= 0
    assert extract == {
        "event_type": "success",
        "status": "ok",
        "stage": "extract",
        "run_id": "run-1",
        "payload": {"table": "obs", "rows": 3},
    }
    assert end.pop("latency_ms") >= extract.get("latency_ms", 0)
    assert end == {"event_type": "end", "status": "ok", "run_id": "run-1", "payload": {"day": "2025-12-14"}}


def test_a_run_without_stages_ends_in_its_counted_outcome(client: lso.Client, sent: Sent) -> None:
    with client.run():
        pass
    with pytest.raises(ValueError, match="no rows"), client.run():
        raise ValueError("no rows")
    events = sent()
    assert types(events) == [("start", None), ("success", None), ("start", None), ("failure", None)]
    assert events[3]["payload"] == {"error_type": "ValueError", "error_message": "no rows"}
    assert events[0]["run_id"] == events[1]["run_id"] != events[2]["run_id"] == events[3]["run_id"]


def test_an_error_goes_through_and_is_told_with_stage_and_run(client: lso.Client, sent: Sent) -> None:
    with pytest.raises(KeyError), client.run() as run, run.stage("load"):
        raise KeyError("x" * 5_000)
    _, load, end = sent()
    assert (load["event_type"], load["status"], load["payload"]["error_type"]) == ("failure", "error", "KeyError")
    assert len(load["payload"]["error_message"]) == 1_000
    assert (end["event_type"], end["status"]) == ("end", "error")


@pytest.mark.parametrize(("code", "outcome"), [(None, "success"), (0, "success"), (3, "failure"), ("sorry", "failure")])
def test_sys_exit_counts_by_its_code(client: lso.Client, sent: Sent, code: object, outcome: str) -> None:
    with pytest.raises(SystemExit), client.run():
        sys.exit(code)  # type: ignore[arg-type]
    assert sent()[1]["event_type"] == outcome


def test_a_generator_that_is_not_read_to_its_end_is_no_failure(client: lso.Client, sent: Sent) -> None:
    def rows() -> Iterator[int]:
        with client.stage("read"):
            yield from range(10)

    reading = rows()
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert types(sent()) == [("success", "read")]


def test_the_same_object_decorates_sync_and_async_functions(client: lso.Client, sent: Sent) -> None:
    step = client.stage("transform")

    @step
    def double(rows: int, *, times: int = 2) -> int:
        """Doubles."""
        return rows * times

    @step
    async def later(rows: int) -> int:
        await asyncio.sleep(0)
        return rows + 1

    assert double(3, times=3) == 9
    assert asyncio.run(later(1)) == 2
    assert (double.__name__, double.__doc__) == ("double", "Doubles.")
    assert inspect.iscoroutinefunction(later)
    assert not inspect.iscoroutinefunction(double)
    assert types(sent()) == [("success", "transform")] * 2


def test_methods_partials_and_callable_objects_can_be_decorated(client: lso.Client, sent: Sent) -> None:
    class Job:
        @client.stage("method")
        def run(self, number: int) -> int:
            return number

        async def __call__(self) -> str:
            return "called"

    async def add(first: int, second: int) -> int:
        return first + second

    assert Job().run(4) == 4
    partial: Any = functools.partial(add, 1)
    decorated = client.stage("partial")(partial)
    called: Any = client.stage("object")(Job())
    assert inspect.iscoroutinefunction(decorated)
    assert asyncio.run(decorated(2)) == 3
    assert asyncio.run(called()) == "called"
    assert types(sent()) == [("success", "method"), ("success", "partial"), ("success", "object")]


def test_concurrent_calls_of_one_decorated_coroutine_have_times_and_errors_of_their_own(
    client: lso.Client, sent: Sent
) -> None:
    @client.stage("load")
    async def load(number: int) -> None:
        await asyncio.sleep(0.02 * number)
        if number == 2:
            raise ValueError(number)

    async def main() -> None:
        async with client.run("run-1"):
            await asyncio.gather(*(load(number) for number in range(5)), return_exceptions=True)

    asyncio.run(main())
    loads = [event for event in sent() if event.get("stage") == "load"]
    assert [event["event_type"] for event in loads] == ["success", "success", "failure", "success", "success"]
    assert [event["latency_ms"] >= 20 * number for number, event in enumerate(loads)] == [True] * 5
    assert loads[1]["latency_ms"] < loads[4]["latency_ms"]
    assert {event["run_id"] for event in loads} == {"run-1"}


def test_one_scope_entered_by_many_threads_keeps_them_apart(client: lso.Client, sent: Sent) -> None:
    step, barrier = client.stage("load"), threading.Barrier(4)

    def work(number: int) -> None:
        with step as stage:
            stage.set(n=number)
            barrier.wait(10)
            if number == 0:
                raise ValueError

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work, number) for number in range(4)]
    assert [future.exception() is None for future in futures] == [False, True, True, True]
    assert {event["payload"]["n"]: event["event_type"] for event in sent()} == {
        0: "failure", 1: "success", 2: "success", 3: "success"
    }  # fmt: skip


def test_a_cancelled_stage_counts_as_a_failure(client: lso.Client, sent: Sent) -> None:
    async def main() -> None:
        async with client.stage("load"):
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(main())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert sent()[0]["payload"]["error_type"] == "CancelledError"


def test_events_carry_the_current_run_and_stage(client: lso.Client, sent: Sent) -> None:
    with client.run("run-1") as run:
        client.event("success", latency_ms=1)
        with run.stage("load"):
            client.event("success", latency_ms=1)
            run.event("success", latency_ms=1, stage="other")
    client.event("success", latency_ms=1)
    places = [(event.get("run_id"), event.get("stage")) for event in sent() if event.get("latency_ms") == 1]
    assert places == [("run-1", None), ("run-1", "load"), ("run-1", "other"), (None, None)]


def test_the_current_run_follows_into_tasks_and_not_into_others(client: lso.Client, sent: Sent) -> None:
    async def one(name: str) -> None:
        async with client.run(name):
            await asyncio.sleep(0)
            client.event("success", latency_ms=1, owner=name)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(f"run-{number}") for number in range(5)))

    asyncio.run(main())
    marked = [event for event in sent() if "owner" in event.get("payload", {})]
    assert [event["run_id"] for event in marked] == [event["payload"]["owner"] for event in marked]
    assert len(marked) == 5


def test_a_stage_of_a_run_belongs_to_it_in_other_threads_too(client: lso.Client, sent: Sent) -> None:
    def work(run: lso.Run) -> None:
        with run.stage("load"):
            pass

    with client.run("run-1") as run, ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [run] * 4))
    assert [event["run_id"] for event in sent() if event.get("stage")] == ["run-1"] * 4


def test_a_decorated_run_is_a_new_run_each_time(client: lso.Client, sent: Sent) -> None:
    @client.run()
    def nightly() -> None:
        with lso_stage():
            pass

    def lso_stage() -> lso.StageScope:
        return client.stage("load")

    nightly()
    nightly()
    events = sent()
    assert types(events) == [("start", None), ("success", "load"), ("end", None)] * 2
    assert len({event["run_id"] for event in events}) == 2


def test_a_span_left_in_another_context_than_it_was_entered_in_does_no_harm(client: lso.Client, sent: Sent) -> None:
    async def rows() -> Any:
        with client.stage("read"):
            yield 1
            yield 2

    async def main() -> None:
        reading = rows()
        await asyncio.create_task(anext(reading))
        await asyncio.create_task(anext(reading))
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(anext(reading))

    asyncio.run(main())
    assert types(sent()) == [("success", "read")]


def test_a_decorated_generator_function_is_warned_about(client: lso.Client, caplog: pytest.LogCaptureFixture) -> None:
    @client.stage("read")
    def rows() -> Iterator[int]:
        yield 1

    assert list(rows()) == [1]
    assert "generator function" in caplog.text


def test_long_stages_send_signs_of_life_until_they_end(
    client: lso.Client, observatory: Observatory, sent: Sent
) -> None:
    def beats() -> list[dict[str, Any]]:
        return [event for event in observatory.of(SYSTEM) if event["event_type"] == "heartbeat"]

    with client.run("run-1") as run, run.stage("load", heartbeat=0.1):
        until(lambda: len(beats()) >= 3)
    sent()
    count = len(beats())
    assert {(beat["run_id"], beat["stage"], "latency_ms" in beat) for beat in beats()} == {("run-1", "load", False)}
    with client.run(heartbeat=0.1):
        until(lambda: len(beats()) > count)


def test_signs_of_life_do_not_wait_for_a_server_in_trouble(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory
) -> None:
    client = connect(timeout_s=0.2)
    proxy.fault = HANG
    with client.stage("load", heartbeat=0.05):
        until(lambda: client.stats()["emitted"] >= 5)


@pytest.mark.parametrize("heartbeat", ["often", object(), float("nan")])
def test_a_wrong_heartbeat_does_not_reach_the_pipeline(client: lso.Client, sent: Sent, heartbeat: Any) -> None:
    with client.stage("load", heartbeat=heartbeat):
        pass
    assert types(sent()) == [("success", "load")]


def test_the_functions_of_the_module_use_the_client_of_init(proxy: FaultyProxy, observatory: Observatory) -> None:
    decorated = lso.stage("before")(lambda: 1)  # made before init, used after it
    lso.init(proxy.url, system=SYSTEM)
    with lso.run() as run, run.stage("extract"):
        lso.event("success", latency_ms=1, n=1)
        assert decorated() == 1
    assert lso.flush(5)
    assert types(observatory.of(SYSTEM)) == [
        ("start", None), ("success", "extract"), ("success", "before"), ("success", "extract"), ("end", None)
    ]  # fmt: skip
    assert lso.stats()["sent"] == 5
