"""The run ids of a batch: what is told comes back, few ids are told whole, and many cost no more than what makes runs."""

import json

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.compute import arrow, batches, columns, run_ids
from lso_core.compute.batches import Post
from lso_core.compute.columns import BodyKind, Columns, CorruptEntryError
from lso_core.compute.readback import said
from lso_core.model.batches import StoredEntry
from lso_core.model.events import Event

types = st.sampled_from(["start", "heartbeat", "end", "log", "success", "failure", "other"])
events = st.builds(
    Event,
    event_type=types,
    status=st.sampled_from(["ok", "error"]),
    latency_ms=st.just(1.0),
    run_id=st.none() | st.sampled_from(["a", "b", "é", "x" * 200]),
    stage=st.none() | st.just("load"),
)


def makes_a_run(event: Event) -> bool:
    if event.run_id is None:
        return False
    return event.event_type in {"start", "end"} or (event.event_type in {"success", "failure"} and event.stage is None)


def told(block: Columns) -> list[str | None]:
    """The run id of every event; of a block that tells all of them."""
    assert block.runs is not None
    assert block.runs.whole
    return [block.runs.ids[number - 1] if number else None for number in block.runs.number.tolist()]


def makers(block: Columns) -> list[tuple[int, str]]:
    """Places and ids of the events that make runs."""
    if block.runs is None:
        return []
    numbers = block.runs.of_makers().tolist()
    return [(at, block.runs.ids[n - 1]) for at, n in zip(block.runs.makers.tolist(), numbers, strict=True)]


def expected_makers(some: list[Event]) -> list[tuple[int, str]]:
    return [(at, str(event.run_id)) for at, event in enumerate(some) if makes_a_run(event)]


def there_and_back(some: list[Event]) -> Columns:
    return columns.decode(columns.encode(columns.cut(some)))


@given(st.lists(events, min_size=1, max_size=40))
def test_a_few_ids_are_told_of_every_event(some: list[Event]) -> None:
    back = there_and_back(some)
    if all(event.run_id is None for event in some):
        assert back.runs is None
    else:
        assert told(back) == [event.run_id for event in some]
    assert makers(back) == expected_makers(some)


def single(number: int, event_type: str = "success", stage: str | None = "load") -> Event:
    return Event(event_type, "ok", 1.0, run_id=f"r{number}", stage=stage)


def test_ids_that_do_not_repeat_cost_nothing_in_the_block() -> None:
    with_ids = [single(at) for at in range(2_000)]
    without = [Event("success", "ok", 1.0, stage="load")] * 2_000
    assert columns.encode(columns.cut(with_ids)) == columns.encode(columns.cut(without))


def test_outcomes_without_a_stage_are_told_also_among_many_ids() -> None:
    some = [single(at, stage=None if at % 100 == 7 else "load") for at in range(2_000)]
    back = there_and_back(some)
    assert back.runs is not None
    assert not back.runs.whole
    assert makers(back) == expected_makers(some)


def test_of_very_many_outcomes_the_last_are_told() -> None:
    some = [single(at, stage=None) for at in range(3_000)]
    assert makers(there_and_back(some)) == expected_makers(some)[-run_ids.MOST_OUTCOMES :]


def test_ids_are_told_of_every_event_beside_a_start() -> None:
    some = [single(at) for at in range(2_000)] + [single(7, "start", None)]
    back = there_and_back(some)
    assert told(back) == [event.run_id for event in some]
    assert makers(back) == [(2_000, "r7")]


def test_many_ids_are_told_where_they_repeat() -> None:
    some = [single(at % 500) for at in range(2_000)]
    assert told(there_and_back(some)) == [event.run_id for event in some]


def test_ids_that_repeat_only_at_first_are_many() -> None:
    some = [single(at % 200) for at in range(600)] + [single(at) for at in range(2_000)]
    assert there_and_back(some).runs is None


def test_one_id_takes_a_few_bytes() -> None:
    plain = [Event("success", "ok", 1.0, stage="load")] * 1_000
    named = [Event("success", "ok", 1.0, stage="load", run_id="the run")] * 1_000
    assert len(columns.encode(columns.cut(named))) - len(columns.encode(columns.cut(plain))) < 30
    assert told(there_and_back(named)) == ["the run"] * 1_000


@pytest.mark.parametrize("ndjson", [False, True])
@pytest.mark.parametrize("stage", [None, "load"])
@pytest.mark.parametrize("distinct", [1, 7, 300, 600])
def test_batches_that_are_written_alike_tell_the_same(distinct: int, stage: str | None, ndjson: bool) -> None:
    some = [
        {
            "event_type": ("success", "failure")[at % 2],
            "status": "ok",
            "latency_ms": 1.0,
            "run_id": f"run-{at % distinct:05d}",
            "stage": stage,
            "payload": {"rows": at, "error": f"m{at}"},
        }
        for at in range(600)
    ]
    lines = [json.dumps(event) for event in some]
    body = ("\n".join(lines) if ndjson else '{"events": [' + ", ".join(lines) + "]}").encode()
    batch = batches.quick(Post(body, 1, 10_000, ndjson=ndjson))
    assert batch is not None
    assert columns.unpack_body(batch.body)[1] is BodyKind.PARTS
    alike = columns.decode(batch.columns)
    as_events = [msgspec.convert(event, Event) for event in some]
    one_by_one = there_and_back(as_events)
    assert makers(alike) == makers(one_by_one)
    assert (alike.runs is None) == (one_by_one.runs is None)
    if alike.runs is not None and alike.runs.whole:
        assert told(alike) == told(one_by_one)
    told_of = said(StoredEntry("5-1", 5, 600, b"", batch.body), alike, np.array([3, 599]))
    assert told_of.numbers[0].tolist() == [3.0, 599.0]


BLOCK = columns.encode(columns.cut([single(1, "start", None), single(2), Event("log", "ok"), single(1, "end", None)]))


@pytest.mark.parametrize("at", range(len(BLOCK)))
def test_a_damaged_block_is_not_read(at: int) -> None:
    damaged = bytearray(BLOCK)
    damaged[at] ^= 0x81
    with pytest.raises((CorruptEntryError, columns.NewerFormatError)):
        columns.decode(bytes(damaged))
    with pytest.raises(CorruptEntryError):
        columns.decode(BLOCK[:at])


@pytest.mark.parametrize(
    "wrong",
    [
        run_ids.RunIds(("a",), np.array([4]), np.array([1, 1, 1, 1]), whole=True),
        run_ids.RunIds(("a", "b"), np.array([0]), np.array([2, 3, 1, 1]), whole=True),
        run_ids.RunIds(("a",), np.array([0]), np.array([1, 1, 0]), whole=True),
    ],
)
def test_places_and_ids_that_there_are_not_are_corrupt(wrong: run_ids.RunIds) -> None:
    with pytest.raises(ValueError):
        run_ids.decode(memoryview(run_ids.encode(wrong)), 4)


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("distinct", [3, 40, 1_500])
def test_arrow_tells_what_json_tells(coded: bool, distinct: int) -> None:
    some = [
        {
            "event_type": ("success", "failure", "log")[at % 3],
            "status": "ok",
            "latency_ms": 1.0,
            "run_id": None if at % 7 == 0 else f"r{at % distinct}",
            "stage": None if at % 5 == 0 else "load",
        }
        for at in range(1_500)
    ]
    table = pa.table({name: pa.array([event[name] for event in some]) for name in some[0]})
    if coded:
        table = table.set_column(3, "run_id", table["run_id"].cast(pa.large_string()).dictionary_encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=400)
    by_arrow = arrow.quick(Post(bytes(sink.getvalue()), 1, 10_000))
    by_json = batches.quick(Post(json.dumps({"events": some}).encode(), 1, 10_000))
    assert by_arrow is not None
    assert by_json is not None
    ours, theirs = columns.decode(by_arrow.columns), columns.decode(by_json.columns)
    assert makers(ours) == makers(theirs)
    assert (ours.runs is not None and ours.runs.whole) == (distinct < 1_000)
    if distinct < 1_000:
        assert told(ours) == told(theirs)
