"""Reading by the kernel: never takes what the careful reading refuses, stores the same, and takes what pipelines send."""

import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import batches, columns, kernel, parts, reader
from lso_core.compute.batches import Post
from lso_core.compute.columns import BodyKind, CorruptEntryError
from lso_core.compute.readback import Reading, Wanted
from lso_core.compute.reader import Read
from lso_core.model.batches import Batch, StoredEntry
from lso_core.model.errors import InputError
from lso_core.model.events import CONTAINERS, NAME_BYTES, PAYLOAD_BYTES, PAYLOAD_DEPTH
from tests.compute.plainly import needs_kernels, plainly

SYSTEM = 7
MOST = 10_000
EVENT = {"event_type": "success", "status": "ok", "latency_ms": 12.5}

pytestmark = pytest.mark.skipif(kernel.trouble() is not None, reason=str(kernel.trouble()))


def post_of(body: bytes, *, ndjson: bool = False) -> Post:
    return Post(body, SYSTEM, MOST, ndjson=ndjson)


def taken(body: bytes, *, ndjson: bool = False, most_events: int = MOST) -> Read | None:
    return reader.read(body, SYSTEM, most_events, CONTAINERS, lines=ndjson)


def truth(body: bytes, *, ndjson: bool = False) -> Batch | None:
    """The batch of the careful reading, None where it refuses."""
    try:
        return batches.careful(post_of(body, ndjson=ndjson))
    except InputError:
        return None


def seen(batch: Batch) -> list[dict[str, Any]]:
    """The events as they are read back."""
    reading = Reading(SYSTEM, Wanted(), None, MOST)
    reading.feed([StoredEntry("1-0", 1_765_722_790_529, batch.count, batch.columns, batch.body)])
    assert reading.unreadable == []
    return [{**msgspec.structs.asdict(one), "payload": json.loads(bytes(one.payload))} for one in reading.items]


def told(batch: Batch) -> tuple[Any, ...]:
    """Everything of a batch, whichever reading made it; its body may be written in another way."""
    return batch.count, batch.columns, batch.latest_ts_ms, batch.digest, batch.rejects, seen(batch)


def agrees(body: bytes, *, ndjson: bool) -> bool:
    """Whether the kernel takes a body; then it must make of it what the careful reading makes."""
    if taken(body, ndjson=ndjson) is None:
        return False
    careful, quick = truth(body, ndjson=ndjson), batches.quick(post_of(body, ndjson=ndjson))
    assert careful is not None
    assert quick is not None
    assert told(careful) == told(quick)
    return True


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


SPLICES = [
    b"",
    *(bytes((one,)) for one in b'{}[]",:\\ \n019.-eE\x00\xff'),
    b'"}, {"',
    b"null",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
]


@st.composite
def sent_events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events whose values are good or not; with the same members in the same order, or each as it likes."""
    names = draw(st.permutations(["event_type", "status", *draw(st.sets(st.sampled_from(sorted(VALUES))))]))
    names = list(dict.fromkeys(names))
    # Few values each, so that a batch is good often enough.
    pools = {name: draw(st.lists(VALUES[name], min_size=1, max_size=2)) for name in names}
    turns = draw(st.lists(st.integers(0, 1), min_size=4, max_size=9))
    events = [
        {
            name: pool[turns[(at * 7 + place) % len(turns)] % len(pool)]
            for place, (name, pool) in enumerate(pools.items())
        }
        for at in range(draw(st.sampled_from([1, 2, 3, 7, 33])))
    ]
    if draw(st.booleans()):
        for event in events:
            order = draw(st.permutations(sorted(event)))
            gone = draw(st.sampled_from(["", "", *VALUES]))
            values = {name: event[name] for name in order if name != gone}
            event.clear()
            event.update(values)
    return events


@st.composite
def sent_bodies(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Batches written in one of the usual ways, some with a byte or two changed; and whether it is NDJSON."""
    body, ndjson = draw(st.sampled_from(bodies_of(draw(sent_events()))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at, gone = draw(st.integers(0, len(body) - 1)), draw(st.integers(0, 2))
        body = body[:at] + draw(st.sampled_from(SPLICES)) + body[at + gone :]
    return body, ndjson


@settings(deadline=None, max_examples=300)
@given(sent_bodies())
def test_what_the_kernel_takes_is_what_the_careful_reading_makes(sent: tuple[bytes, bool]) -> None:
    body, ndjson = sent
    agrees(body, ndjson=ndjson)


@settings(deadline=None)
@given(
    st.binary(max_size=80) | st.text('{}[]":,\\ \neventstatuslatency_msok0123.', max_size=80).map(str.encode),
    st.booleans(),
)
def test_any_bytes_at_all_end_nothing(body: bytes, ndjson: bool) -> None:
    agrees(body, ndjson=ndjson)
    agrees(b'{"events":[' + body + b"]}", ndjson=False)
    agrees(b'{"event_type":"a","status":"ok","latency_ms":1,' + body + b"}", ndjson=True)
    agrees(b'{"event_type":"a","status":"ok","latency_ms":1,"payload":{"a":' + body + b"}}", ndjson=True)


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


def shuffled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every event with its members in another order."""
    return [dict(sorted(one.items(), key=lambda item: hash((item[0], turn)))) for turn, one in enumerate(events)]


ALIKE: dict[str, list[dict[str, Any]]] = {
    "alike": batch(),
    "one": batch(1),
    "short": [EVENT] * 40,
    "stages": batch(stage=lambda turn: ("extract", "transform", "load")[turn % 3]),
    "no stage": batch(stage=lambda _: None),
    "run ids": batch(run_id=lambda turn: f"8a6e0804-2bd0-4672-b79d-{turn:012x}"),
    "many run ids": batch(700, run_id=lambda turn: f"8a6e0804-2bd0-4672-b79d-{turn:012x}"),
    "some run ids": batch(700, run_id=lambda turn: f"8a6e0804-2bd0-4672-b79d-{turn % 99:012x}"),
    "whole": batch(latency_ms=lambda turn: turn * 997),
    "decimals": batch(latency_ms=lambda turn: turn * 97.125),
    "long": batch(latency_ms=lambda turn: turn / 7),
    "days": batch(ts=lambda turn: f"2025-12-{turn % 31 + 1:02}T00:00:00.{turn:03}Z"),
    "offsets": batch(ts=lambda turn: f"2025-12-14T14:33:10.{turn:06}+0{turn % 10}:30"),
    "payloads": batch(
        payload=lambda turn: {"rows": turn, "path": "s3://" + "x" * turn, "deep": {"list": [turn, None]}}
    ),
    "large payloads": batch(payload=lambda turn: {"text": "é" * (40 * turn)}),
    "escapes": batch(payload=lambda turn: {"text": f'"{turn}" \\ \n \U0001f600'}),
    "shuffled": shuffled(batch()),
    "some without": [{**one, **({"payload": None} if turn % 3 else {})} for turn, one in enumerate(batch())],
    "life": [
        *batch(event_type=lambda turn: ("start", "heartbeat", "success", "end")[turn % 4]),
        {"event_type": "end", "status": "ok", "run_id": FULL["run_id"]},
    ],
    "untimed": [EVENT, {"event_type": "log", "status": "error"}, {**EVENT, "latency_ms": 0.1 + 0.2}] * 9,
}
"""Batches whose run ids have one length, or are one, or none: stored in parts."""
ODD: dict[str, list[dict[str, Any]]] = {
    "lengths": batch(run_id=lambda turn: f"run-{turn}"),
    "without": [FULL, EVENT] * 10,
    "many lengths": batch(700, run_id=lambda turn: f"run-{turn}"),
    "rare": batch(700, run_id=lambda turn: None if turn % 50 else f"run-{turn}"),
}


@pytest.mark.parametrize("name", [*ALIKE, *ODD])
def test_batches_that_pipelines_send_are_taken(name: str) -> None:
    for body, ndjson in bodies_of((ALIKE | ODD)[name]):
        assert agrees(body, ndjson=ndjson), body[:300]
        quick = batches.quick(post_of(body, ndjson=ndjson))
        assert quick is not None
        kind = columns.unpack_body(quick.body)[1]
        assert kind is (BodyKind.PARTS if name in ALIKE else BodyKind.NDJSON if ndjson else BodyKind.JSON)


@pytest.mark.parametrize("name", ["alike", "payloads", "escapes", "untimed", "lengths"])
def test_a_body_cut_off_anywhere_is_taken_only_where_what_is_left_is_whole(name: str) -> None:
    for body, ndjson in bodies_of((ALIKE | ODD)[name][:3]):
        for end in range(len(body)):
            assert agrees(body[:end], ndjson=ndjson) == (truth(body[:end], ndjson=ndjson) is not None)


def hidden(payload: bytes) -> bytes:
    """A batch with one event whose payload is this text."""
    text = json.dumps(FULL).encode()
    events = [text] * 3
    events[1] = text.replace(b'{"rows": 12}', payload)
    return body_of(events)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"rows": 12',
        b'{"rows": 12}}',
        b'{"rows": 1.}',
        b'{"rows": .1}',
        b'{"rows": +1}',
        b'{"rows": -}',
        b'{"rows": 1e}',
        b'{"rows": 012}',
        b'{"rows": -01}',
        b'{"rows": NaN}',
        b'{"rows": 1e400}',
        b'{"rows": ' + b"9" * 400 + b"}",
        b'{"rows": truth}',
        b'{"rows": 1,}',
        b'{"rows": [1,]}',
        b'{"rows": [1}}',
        b'{"rows": {1]}}',
        b'{"rows" 1}',
        b'{"rows": }',
        b"{1: 1}",
        b'{"a": "\xff"}',
        b'{"a": "\xc0\xaf"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\xf4\x90\x80\x80"}',
        b'{"a": "\xe2\x82"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\ud800\\u0041"}',
        b'{"a": "\\udc00"}',
        b'{"a": "\\x"}',
        b'{"a": "\\u12g4"}',
        b'{"a": "x\ny"}',
        b'{"a": "x\0y"}',
        b'{"a": "' + b"x" * PAYLOAD_BYTES + b'"}',
        b'{"a":' + b"[" * PAYLOAD_DEPTH + b"]" * PAYLOAD_DEPTH + b"}",
        b"{}{}",
        b'{"a":"}',
        b'{","b":1}',
        b"[12]",
        b"12",
    ],
)
def test_a_wrong_payload_among_good_ones_is_not_taken(payload: bytes) -> None:
    assert taken(hidden(b'{"rows": 13}')) is not None
    assert taken(hidden(payload)) is None
    assert truth(hidden(payload)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{ "a" : [ ] , "b" : { } }',
        b'{"a": [[], {}, [{"b": [1, -2.5e-3, true, false, null, ""]}]]}',
        b'{"a": "\\ud83d\\ude00 \\u00e9 \\/ \\b\\f\\n\\r\\t\\\\ \\""}',
        '{"a": "é € 😀 \u007f"}'.encode(),
        b'{"a": -0, "a": 1E+2, "": 0.0e0}',
        b'{"a": 123456789012345678901234567890}',
        b'{"a": "' + b"x" * (PAYLOAD_BYTES - 9) + b'"}',
        b'{"a":' + b"[" * (PAYLOAD_DEPTH - 1) + b"]" * (PAYLOAD_DEPTH - 1) + b"}",
    ],
)
def test_payloads_of_every_kind_are_taken(payload: bytes) -> None:
    assert agrees(hidden(payload), ndjson=False)


@pytest.mark.parametrize(
    "text",
    [
        b'{"event_type":"a","status":"ok"}',
        b'{"event_type":"a","latency_ms":1}',
        b'{"status":"ok","latency_ms":1}',
        b'{"event_type":"","status":"ok","latency_ms":1}',
        b'{"event_type":"' + b"x" * (NAME_BYTES + 1) + b'","status":"ok","latency_ms":1}',
        b'{"event_type":"a","status":"OK","latency_ms":1}',
        b'{"event_type":"a","status":"ok","latency_ms":-1}',
        b'{"event_type":"a","status":"ok","latency_ms":604800000.1}',
        b'{"event_type":"a","status":"ok","latency_ms":1,"more":1}',
        b'{"event_type":"a","status":"ok","latency_ms":1,"system_id":8}',
        b'{"event_type":"a","status":"ok","latency_ms":1,"system_id":7.5}',
        b'{"event_type":"a","status":null,"latency_ms":1}',
        b'{"event_type":null,"status":"ok","latency_ms":1}',
        b'{"event_type":"a","status":"ok","latency_ms":1,"ts":"2025-02-29T00:00:00.000Z"}',
        b'{"event_type":"a","status":"ok","latency_ms":1,"payload":1}',
        b'{"event_type":"a","status":"ok","latency_ms":1,}',
        b"{}",
        b"",
        b"1",
        b"null",
    ],
)
@pytest.mark.parametrize("ndjson", [False, True])
def test_a_wrong_event_among_good_ones_is_not_taken(text: bytes, ndjson: bool) -> None:
    good = json.dumps(FULL).encode()
    assert taken(body_of([good, text, good], ndjson=ndjson), ndjson=ndjson) is None


def test_an_event_within_a_payload_is_not_taken_for_one() -> None:
    inner = json.dumps(FULL).encode()
    found = taken(hidden(b'{"a": 1, "event": ' + inner + b"}"))
    assert found is not None
    assert 3 == found.events
    assert taken(hidden(inner[:-1] + b"}}, " + inner)) is None


def test_two_events_on_a_line_and_an_event_on_two_are_not_taken_as_lines() -> None:
    text = json.dumps(EVENT).encode()
    assert taken(text + b" " + text, ndjson=True) is None
    assert taken(text.replace(b", ", b",\n"), ndjson=True) is None
    assert agrees(text + b" \r\n" + text + b"\t", ndjson=True)


@pytest.mark.parametrize("name", ["event_type", "status", "latency_ms", "run_id", "payload"])
def test_a_member_that_comes_twice_is_left_to_the_decoder(name: str) -> None:
    text = json.dumps(FULL).encode()
    assert taken(text[:-1] + b', "%s": %s}' % (name.encode(), json.dumps(FULL[name]).encode()), ndjson=True) is None


def test_a_thousand_events_are_read_back_as_they_were() -> None:
    events = batch(1_000, latency_ms=lambda turn: turn * 0.125, payload=lambda turn: {"rows": turn})
    for body, ndjson in bodies_of(events)[:4]:
        assert agrees(body, ndjson=ndjson)


def test_as_many_event_types_and_stages_as_events_are_all_told() -> None:
    events = batch(
        3_000, event_type=lambda turn: f"type-{turn}", stage=lambda turn: f"stage-{turn}-{'x' * (turn % 99)}"
    )
    assert agrees(body_of([json.dumps(one).encode() for one in events]), ndjson=False)


def test_more_events_or_brackets_than_may_be_are_not_taken() -> None:
    body = body_of([json.dumps(EVENT).encode()] * 50)
    assert taken(body, most_events=49) is None
    assert taken(body, most_events=50) is not None
    assert reader.read(body, SYSTEM, MOST, 51, lines=False) is None
    assert reader.read(body, SYSTEM, MOST, 52, lines=False) is not None


@pytest.mark.parametrize("system_id", [0, -1, 1 << 63, 1 << 64, (1 << 64) + SYSTEM])
def test_another_system_is_not_taken_however_large_its_number(system_id: int) -> None:
    body = body_of([json.dumps(FULL).encode()])
    assert reader.read(body, system_id, MOST, CONTAINERS, lines=False) is None


NUMBERS = (
    st.floats(0, 604_800_000).map(repr)
    | st.integers(0, 604_800_001).map(str)
    | st.decimals(0, 99_999, places=3).map(str)
    | st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
    | st.from_regex(r"0\.0{0,9}[0-9]{10,18}", fullmatch=True)
    | st.text("0123456789.eE+-", max_size=12)
)


@settings(deadline=None, max_examples=300)
@given(st.lists(NUMBERS, min_size=1, max_size=10))
def test_every_latency_is_the_one_that_the_decoder_reads(numbers: list[str]) -> None:
    for number in numbers:
        agrees(b'{"event_type":"a","status":"ok","latency_ms":%s}' % number.encode(), ndjson=True)


@settings(deadline=None)
@given(st.lists(st.floats(1e-9, 604_800_000), min_size=1, max_size=40))
def test_latencies_of_seventeen_digits_are_taken(values: list[float]) -> None:
    assert agrees(json.dumps({"events": [{**EVENT, "latency_ms": value} for value in values]}).encode(), ndjson=False)


TIMES = st.from_regex(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{0,10})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])",
    fullmatch=True,
)


@settings(deadline=None, max_examples=500)
@given(TIMES | st.datetimes().map(lambda at: at.isoformat() + "Z") | st.text("0123456789-:TZ+. ", max_size=30))
def test_every_time_is_the_one_that_the_careful_reading_reads(text: str) -> None:
    body = b'{"event_type":"a","status":"ok","latency_ms":1,"ts":"%s"}' % text.encode()
    assert agrees(body, ndjson=True) == (truth(body, ndjson=True) is not None)


def test_much_white_space_takes_no_memory() -> None:
    text = json.dumps(EVENT).encode()
    wide = text.replace(b", ", b"," + b" " * 50_000, 1)
    body = body_of([wide, *[text] * 9_999])
    tracemalloc.start()
    try:
        assert taken(body) is not None
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()


PARTS = msgspec.msgpack.encode(parts.Parts(b"abcdef", 3, b'[{"a":1},\n{}]', np.array([1.5, 2.5]).tobytes()))


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
            parts.Rows(msgspec.msgpack.encode(one), 3)


PAYLOADS = st.lists(
    st.none()
    | st.dictionaries(st.text(max_size=4), st.none() | st.floats(-1e9, 1e9) | st.text(max_size=6), max_size=3),
    min_size=1,
    max_size=12,
)


@needs_kernels
@given(
    PAYLOADS,
    st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " :\r")]),
    st.booleans(),
    st.binary(min_size=1, max_size=1),
)
def test_payloads_are_split_with_and_without_kernels_alike(
    payloads: list[Any], separators: tuple[str, str], ascii_only: bool, byte: bytes
) -> None:
    """Also where they are damaged: what one way refuses the other does not take for something else."""
    text = ", ".join(json.dumps(one, separators=separators, ensure_ascii=ascii_only) for one in payloads)
    whole = b"[" + text.encode(errors="replace") + b"]"
    for stored in (whole, whole[:-1], whole[: len(whole) // 2] + byte + whole[len(whole) // 2 :]):
        body = msgspec.msgpack.encode(parts.Parts(payloads=stored))
        with plainly():
            plain = told_of(body, len(payloads))
        compiled = told_of(body, len(payloads))
        assert compiled == plain
        if stored == whole:
            assert plain is not None
            assert [None if one is None else json.loads(one) for one in plain] == payloads


def told_of(body: bytes, count: int) -> list[bytes | None] | None:
    """The payloads of stored parts; None where they are none."""
    try:
        rows = parts.Rows(body, count)
    except CorruptEntryError:
        return None
    assert [b"null" if one is None else one for one in map(rows.payloads.__getitem__, range(count))] == [
        bytes(rows.payload(at)) for at in range(count)
    ]
    return [rows.payloads[at] for at in range(count)]


# --- written as the one before -----------------------------------------------------------------------------------------

WRITTEN = (
    b'{"event_type": "success", "ts": "2025-12-14T14:33:10.529Z", "stage": "load", "status": "ok", "latency_ms": 1.5}'
)
NEARLY = {
    "spaces": WRITTEN.replace(b'", "', b'",   "').replace(b": ", b":  "),
    "many spaces": WRITTEN.replace(b', "stage"', b"," + b" " * 30 + b'"stage"'),
    "no spaces": WRITTEN.replace(b": ", b":").replace(b", ", b","),
    "tabs": WRITTEN.replace(b" ", b"\t"),
    "one less": WRITTEN.replace(b', "stage": "load"', b""),
    "one less at the end": b'{"event_type": "start", "ts": "2025-12-14T14:33:10.529Z", "stage": "load", "status": "ok"}',
    "one more": WRITTEN.replace(b', "status"', b', "run_id": "r", "status"'),
    "one more at the end": WRITTEN.replace(b"}", b', "run_id": "r"}'),
    "another order": b'{"status": "error", "latency_ms": 2, "stage": "load", "event_type": "success"}',
    "null": WRITTEN.replace(b'"load"', b"null"),
    "payload": WRITTEN.replace(b"}", b', "payload": {"stage": "load", "status": "ok"}}'),
}
WRONGLY = {
    "twice": WRITTEN.replace(b"}", b', "stage": "load"}'),
    "unknown": WRITTEN.replace(b'"stage"', b'"stagf"'),
    "longer": WRITTEN.replace(b'"stage"', b'"stages"'),
    "no colon": WRITTEN.replace(b'"stage":', b'"stage" '),
    "no comma": WRITTEN.replace(b'", "stage"', b'" "stage"'),
    "comma at the end": WRITTEN.replace(b"}", b",}"),
    "no status": WRITTEN.replace(b', "status": "ok"', b""),
    "status": WRITTEN.replace(b'"ok"', b'"okay"'),
    "status cut off": WRITTEN.replace(b'"ok"', b'"err"'),
    "second": WRITTEN.replace(b":10.", b":60."),
    "fraction": WRITTEN.replace(b".529", b".5x9"),
    "space of two events": WRITTEN.replace(b'"load"', b'"load'),
}


@pytest.mark.parametrize("how", NEARLY)
@pytest.mark.parametrize("ndjson", [False, True])
def test_an_event_that_is_written_otherwise_than_the_one_before(how: str, *, ndjson: bool) -> None:
    for events in ([WRITTEN, NEARLY[how], WRITTEN], [NEARLY[how], WRITTEN], [NEARLY[how]] * 3, [WRITTEN, NEARLY[how]]):
        assert agrees(body_of(events, ndjson=ndjson), ndjson=ndjson)


@pytest.mark.parametrize("how", WRONGLY)
@pytest.mark.parametrize("ndjson", [False, True])
def test_an_event_that_is_wrong_where_the_one_before_was_right(how: str, *, ndjson: bool) -> None:
    for events in ([WRITTEN, WRONGLY[how], WRITTEN], [WRITTEN, WRITTEN, WRONGLY[how]]):
        body = body_of(events, ndjson=ndjson)
        assert taken(body, ndjson=ndjson) is None
        assert truth(body, ndjson=ndjson) is None or how == "twice"  # which the decoder takes


def test_times_of_many_minutes() -> None:
    """Also such that take turns at the same place of memory."""
    minutes = ["14T14:33", "14T14:34", "14T15:33", "13T14:33", "14T14:35", "14 14:33", "14t14:33"]
    times = [
        f"2025-12-{minute}:{second:02}.{ms:03}Z" for minute in minutes for second, ms in ((0, 0), (59, 999), (7, 80))
    ]
    random.Random(1).shuffle(times)
    texts = [WRITTEN.replace(b"2025-12-14T14:33:10.529Z", one.encode()) for one in times * 3]
    assert agrees(body_of(texts), ndjson=False)
    wrong = ("\0" * 16 + ":00.000Z", "2025-12-14T14:60:00.000Z", "2025-02-29T14:33:00.000Z", "2025-12-14T24:33:00.000Z")
    for text in [WRITTEN.replace(b"2025-12-14T14:33:10.529Z", one.encode()) for one in wrong]:
        for body in (body_of([text, *texts]), body_of([*texts, text, text])):
            assert taken(body) is None
            assert truth(body) is None


@pytest.mark.parametrize("few", [["load", "loa", "l"], ["loading", "loadings", "loadingst", "loadingsu"], ["a"] * 2])
def test_names_that_begin_alike(few: list[str]) -> None:
    for names in (few, [*few, "extract", "transform", "x" * 31], [*few, 'lo"ad'.replace('"', "'")]):
        texts = [WRITTEN.replace(b'"load"', json.dumps(name).encode()) for name in names * 3]
        assert agrees(body_of(texts), ndjson=False)
        assert agrees(body_of(texts, ndjson=True), ndjson=True)


LATENCIES = (
    "0 7 0.5 12.345 604800000 123456789012.34 1234567.1234567 0.00000000000001 0.1e1 1E2 5e-1 0.1234567890123456789 "
    "9007199254740993e-10 00000000000000000001 01 1. .5 -1 1.e1 1e +1"
)


@pytest.mark.parametrize("number", LATENCIES.split())
def test_latencies_of_all_lengths(number: str) -> None:
    body = body_of([WRITTEN, WRITTEN.replace(b"1.5", number.encode()), WRITTEN])
    assert agrees(body, ndjson=False) == (truth(body) is not None)
