"""Reading by columns: never takes what the careful reading refuses, tells the same, and takes what pipelines send."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import batches, columns, parts, regular
from lso_core.compute.batches import Post
from lso_core.compute.columns import BodyKind, Columns, CorruptEntryError
from lso_core.compute.readback import Reading, Wanted
from lso_core.model.batches import Batch, StoredEntry
from lso_core.model.errors import InputError
from lso_core.model.events import PAYLOAD_BYTES

SYSTEM = 7
MOST = 10_000
FEWEST = 32
"""Enough here: large batches take no other way, only longer."""
EVENT = {"event_type": "success", "status": "ok", "latency_ms": 12.5}


@pytest.fixture(autouse=True, scope="module")
def _few_are_enough() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regular, "FEWEST", FEWEST)
        yield


def cut(body: bytes, *, ndjson: bool = False, most_events: int = MOST) -> Columns | None:
    found = regular.read(body, SYSTEM, most_events, ndjson=ndjson)
    return None if found is None else found.columns


def body_of(texts: list[bytes], *, ndjson: bool = False, spaced: bool = True) -> bytes:
    if ndjson:
        return b"\n".join(texts)
    return b'{"events": [' + b", ".join(texts) + b"]}" if spaced else b'{"events":[' + b",".join(texts) + b"]}"


def bodies_of(events: list[dict[str, Any]]) -> list[tuple[bytes, bool]]:
    """The same events in every usual way of writing; and whether that is NDJSON."""
    found = []
    for separators in ((", ", ": "), (",", ":")):
        texts = [json.dumps(one, separators=separators).encode() for one in events]
        found += [(body_of(texts, ndjson=ndjson, spaced=" " in separators[0]), ndjson) for ndjson in (False, True)]
    pretty = json.dumps({"events": events}, indent=2).encode()
    return [*found, (found[1][0] + b"\n", True), (found[1][0].replace(b"\n", b"\r\n"), True), (pretty, False)]


def told(cut: Columns) -> tuple[Any, ...]:
    arrays = (cut.ts_ms, cut.has_ts, cut.latency_us, cut.has_latency, cut.error, cut.stage, cut.event_type)
    return [array.tolist() for array in arrays], cut.stages, cut.event_types


def truth(body: bytes, *, ndjson: bool = False) -> tuple[Any, ...] | None:
    """What the careful reading tells, None where it refuses."""
    try:
        return told(columns.decode(batches.careful(Post(body, SYSTEM, MOST, ndjson=ndjson)).columns))
    except InputError:
        return None


def seen(batch: Batch) -> list[dict[str, Any]]:
    """The events as they are read back."""
    reading = Reading(SYSTEM, Wanted(), None, MOST)
    reading.feed([StoredEntry("1-0", 1_765_722_790_529, batch.count, batch.columns, batch.body)])
    assert reading.unreadable == []
    return [{**msgspec.structs.asdict(one), "payload": json.loads(bytes(one.payload))} for one in reading.items]


def batches_of(body: bytes, *, ndjson: bool = False) -> tuple[Batch, Batch]:
    """A good batch as the quick reading and as the careful one make it."""
    post = Post(body, SYSTEM, MOST, ndjson=ndjson)
    quick = batches.quick(post)
    assert quick is not None
    return quick, batches.careful(post)


# --- generated batches ------------------------------------------------------------------------------------------------

texts = st.sampled_from(
    ["a", "extract", "start", "", "transform", "x" * 31, "x" * 32, "é", 'q"', "b\\", "new\nline", "tab\t"]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "event_type": st.sampled_from(["success", "failure", "start", "end"]) | texts,
    "status": st.sampled_from(["ok", "error", "ok", "error", "OK", "oks"]),
    "latency_ms": st.one_of(
        st.integers(0, 10**9),
        st.floats(0, 1e9),
        st.decimals(0, 9999, places=3).map(float),
        st.sampled_from([0, 0.0, -0.0, -1, 604_800_000, 604_800_001, 1e300, 0.001, 1e-7, None, "1", True]),
    ),
    "ts": st.sampled_from(["2025-12-14T14:33:10.529Z", "2024-02-29T23:59:59.999Z"])
    | st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z")
    | st.sampled_from(["2025-02-29T00:00:00.000Z", "2025-12-14T24:00:00.000Z", "2025-12-14t14:33:10+01:00", None, 3]),
    "run_id": st.uuids().map(str) | texts,
    "stage": st.sampled_from(["extract", "load"]) | texts | st.none(),
    "system_id": st.sampled_from([SYSTEM, SYSTEM, 8, 7.0, "7", True]),
    "payload": st.one_of(
        st.fixed_dictionaries({"rows": st.integers(0, 10**6)}),
        st.dictionaries(
            st.text('ae{}[]"\\,:1 é', max_size=4), st.text(max_size=9) | st.floats() | st.integers(), max_size=3
        ),
        st.sampled_from([{}, {"a": {"b": [1, {"c": None}]}}, {"a": 10**400}, {"a": "x" * 300}, None, [], 1]),
        st.just({"event_type": "a", "status": "ok", "latency_ms": 1}),
    ),
}
"""Values that a field may have over the batch; mostly good ones."""


@st.composite
def regular_bodies(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Batches of one form, of values that are good or not; a byte or two of some are changed. And whether it is NDJSON."""
    names = draw(st.permutations(["event_type", "status", *draw(st.sets(st.sampled_from(sorted(VALUES))))]))
    names = list(dict.fromkeys(names))
    if draw(st.booleans()):
        names.sort(key="payload".__eq__)
    # Few values each, so that a batch is good often enough.
    pools = {name: draw(st.lists(VALUES[name], min_size=1, max_size=2)) for name in names}
    turns = draw(st.lists(st.integers(0, 1), min_size=4, max_size=9))
    events = [
        {
            name: pool[turns[(at * 7 + place) % len(turns)] % len(pool)]
            for place, (name, pool) in enumerate(pools.items())
        }
        for at in range(draw(st.sampled_from([FEWEST, 33, 50])))
    ]
    body, ndjson = draw(st.sampled_from(bodies_of(events)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at, gone = draw(st.integers(0, len(body) - 1)), draw(st.integers(0, 2))
        put = draw(
            st.sampled_from([b"", *(bytes((one,)) for one in b'{}[]",:\\ \n019.-eE\x00\xff'), b'"}, {"', b"null"])
        )
        body = body[:at] + put + body[at + gone :]
    return body, ndjson


@settings(deadline=None, max_examples=300)
@given(regular_bodies())
def test_what_is_read_by_columns_is_what_the_careful_reading_tells(sent: tuple[bytes, bool]) -> None:
    body, ndjson = sent
    found = cut(body, ndjson=ndjson)
    if found is not None and batches.is_complete(found):
        assert truth(body, ndjson=ndjson) == told(found)
        quick, careful = batches_of(body, ndjson=ndjson)
        assert seen(careful) == seen(quick)


FULL = {
    "system_id": SYSTEM,
    "ts": "2025-12-14T14:33:10.529Z",
    "run_id": "8a6e0804-2bd0-4672-b79d-d97027f9071a",
    "stage": "load",
    **EVENT,
    "payload": {"rows": 12},
}


def batch(count: int = 40, **by_turn: Callable[[int], Any]) -> list[dict[str, Any]]:
    return [{**FULL, **{name: value(turn) for name, value in by_turn.items()}} for turn in range(count)]


USUAL = {
    "alike": batch(),
    "short": [EVENT] * 40,
    "stages": batch(stage=lambda turn: ("extract", "transform", "load")[turn % 3]),
    "no stage": batch(stage=lambda _: None),
    "run ids": batch(run_id=lambda turn: f"8a6e0804-2bd0-4672-b79d-{turn:012x}"),
    "whole": batch(latency_ms=lambda turn: turn * 997),
    "decimals": batch(latency_ms=lambda turn: turn * 97.125),
    "long": batch(latency_ms=lambda turn: turn / 7),
    "days": batch(ts=lambda turn: f"2025-12-{turn % 31 + 1:02}T00:00:00.{turn:03}Z"),
    "payloads": batch(
        payload=lambda turn: {"rows": turn, "path": "s3://" + "x" * turn, "deep": {"list": [turn, None]}}
    ),
    "large payloads": batch(payload=lambda turn: {"text": "é" * (40 * turn)}),
    "escapes": batch(payload=lambda turn: {"text": f'"{turn}" \\'}),
}


@pytest.mark.parametrize("name", USUAL)
def test_batches_of_usual_shape_are_read_by_columns(name: str) -> None:
    for body, ndjson in bodies_of(USUAL[name])[: 6 if "payload" in USUAL[name][0] else None]:
        found = cut(body, ndjson=ndjson)
        assert found is not None, body[:300]
        assert truth(body, ndjson=ndjson) == told(found)
        quick, careful = batches_of(body, ndjson=ndjson)
        assert seen(careful) == seen(quick)
        assert BodyKind.PARTS is columns.unpack_body(quick.body)[1]


def hidden(payload: bytes) -> bytes:
    """A batch with one event whose payload is this text."""
    text = json.dumps(FULL).encode()
    events = [text] * 40
    events[20] = text.replace(b'{"rows": 12}', payload)
    return body_of(events)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"rows": 12',
        b'{"rows": 12}}',
        b'{"rows": 1.}',
        b'{"rows": 012}',
        b'{"rows": NaN}',
        b'{"rows": 1e400}',
        b'{"rows": ' + b"9" * 400 + b"}",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": "x\ny"}',
        b'{"a": "' + b"x" * PAYLOAD_BYTES + b'"}',
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
        b"{}{}",
        b'{"a":"}',
        b'{","b":1}',
        b"[12]",
        b"12",
    ],
)
def test_a_wrong_payload_among_good_ones_is_not_taken(payload: bytes) -> None:
    assert cut(hidden(b'{"rows": 13}')) is not None
    assert cut(hidden(payload)) is None
    assert truth(hidden(payload)) is None


def test_texts_that_would_make_one_object_of_two_are_not_taken() -> None:
    """Two broken payloads that fit together, and a third that would make up for the count."""
    text = json.dumps(FULL).encode()
    payloads = [b'{"a":"}', b'{","b":1}', b"{}{}"]
    events = [text] * 40
    events[20:23] = [text.replace(b'{"rows": 12}', payload) for payload in payloads]
    for ndjson in (False, True):
        assert cut(body_of(events, ndjson=ndjson), ndjson=ndjson) is None


def test_an_event_within_a_payload_is_not_taken_for_one() -> None:
    inner = json.dumps(FULL).encode()
    body = hidden(b'{"a": 1, "event": ' + inner + b"}")
    found = cut(body)
    assert found is None or (len(found) == 40 and truth(body) == told(found))
    assert cut(hidden(inner[:-1] + b"}}, " + inner)) is None


@pytest.mark.parametrize("count", [0, 1, 2, 5, FEWEST - 1])
def test_few_events_are_left_to_the_decoder(count: int) -> None:
    assert cut(body_of([json.dumps(EVENT).encode()] * count)) is None


def test_a_thousand_events_are_read_back_as_they_were() -> None:
    events = batch(1_000, latency_ms=lambda turn: turn * 0.125, payload=lambda turn: {"rows": turn})
    for body, ndjson in bodies_of(events)[:4]:
        quick, careful = batches_of(body, ndjson=ndjson)
        assert BodyKind.PARTS is columns.unpack_body(quick.body)[1]
        assert seen(careful) == seen(quick)


def test_more_events_than_may_be_are_not_taken() -> None:
    body = body_of([json.dumps(EVENT).encode()] * 50)
    assert cut(body, most_events=49) is None
    assert cut(body, most_events=50) is not None


@settings(deadline=None)
@given(
    st.lists(
        st.floats(0, 604_800_000) | st.integers(0, 604_800_000) | st.decimals(0, 99999, places=2).map(float),
        min_size=40,
        max_size=40,
    )
)
def test_every_latency_is_the_one_that_the_decoder_reads(values: list[float]) -> None:
    body = json.dumps({"events": [{**EVENT, "latency_ms": value} for value in values]}).encode()
    found = cut(body)
    if found is not None:
        wanted = np.rint(np.array(values, np.float64) * 1_000).astype(np.int64)
        assert wanted.tolist() == found.latency_us.tolist()


def test_much_white_space_in_the_first_event_takes_no_memory_for_all_of_them() -> None:
    text = json.dumps(EVENT).encode()
    wide = text.replace(b", ", b"," + b" " * 50_000, 1)
    body = body_of([wide, *[text] * 9_999])
    tracemalloc.start()
    try:
        assert cut(body) is None
        assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    finally:
        tracemalloc.stop()


PARTS = parts.encode(parts.Parts(b"abcdef", 3, b'[{"a":1},\n{}]', np.array([1.5, 2.5]).tobytes()))


@pytest.mark.parametrize("length", range(len(PARTS)))
def test_parts_cut_off_anywhere_are_corrupt(length: int) -> None:
    with pytest.raises(CorruptEntryError):
        parts.Rows(PARTS[:length], 2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_parts_of_another_number_of_events_are_corrupt(count: int) -> None:
    with pytest.raises(CorruptEntryError):
        parts.Rows(PARTS, count)
    for one in (
        parts.Parts(b"abc", 2),
        parts.Parts(payloads=b"[{},{}]"),
        parts.Parts(payloads=b"{}"),
        parts.Parts(latencies_ms=bytes(20)),
    ):
        with pytest.raises(CorruptEntryError):
            parts.Rows(parts.encode(one), 3)
