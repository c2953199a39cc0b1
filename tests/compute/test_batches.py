"""Decoding: the quick reading never accepts what the careful one refuses, and the careful one says what is wrong."""

import json
import re
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import batches, columns
from lso_core.compute.batches import Post
from lso_core.compute.readback import Reading, Wanted
from lso_core.model.batches import Batch, StoredEntry
from lso_core.model.errors import Finding, InputError
from lso_core.model.events import CONTAINERS, LATENCY_MS_MAX, LIFECYCLE, PAYLOAD_BYTES, PAYLOAD_DEPTH

SYSTEM = 7
EVENT = {"event_type": "success", "status": "ok", "latency_ms": 12}
NOT_FINITE = "holds a number that is not finite: NaN, Infinity and numbers beyond 1.8e308 are not taken"


def post(body: bytes, *, ndjson: bool = False, **more: Any) -> Post:
    return Post(body, SYSTEM, more.pop("most_events", 10_000), ndjson=ndjson, **more)


def envelope(*events: bytes) -> bytes:
    return b'{"events":[' + b",".join(events) + b"]}"


def event(**fields: Any) -> bytes:
    return json.dumps({**EVENT, **fields}).encode()


def raw_event(members: bytes) -> bytes:
    return b'{"event_type":"a","status":"ok","latency_ms":1,' + members + b"}"


def findings(body: bytes, *, ndjson: bool = False) -> list[Finding]:
    assert batches.quick(post(body, ndjson=ndjson)) is None
    with pytest.raises(InputError) as caught:
        batches.careful(post(body, ndjson=ndjson))
    return list(caught.value.findings)


def finding(body: bytes, *, ndjson: bool = False) -> Finding:
    (found,) = findings(body, ndjson=ndjson)
    return found


def seen(batch: Batch) -> list[Any]:
    """The events as they are read back."""
    reading = Reading(SYSTEM, Wanted(), None, 10_000)
    reading.feed([StoredEntry("1-0", 0, batch.count, batch.columns, batch.body)])
    assert reading.unreadable == []
    return [(msgspec.structs.replace(one, payload=None), json.loads(bytes(one.payload))) for one in reading.items]


def told(batch: Batch) -> tuple[Any, ...]:
    """Everything of a batch, whichever reading made it; its body may be written in another way."""
    return batch.count, batch.columns, batch.latest_ts_ms, batch.rejects, seen(batch)


def stored(batch: Batch) -> list[dict[str, Any]]:
    """The events of a batch that is not stored in parts, as they came."""
    body, kind = columns.unpack_body(batch.body)
    return (
        [json.loads(line) for line in body.splitlines()]
        if kind is columns.BodyKind.NDJSON
        else list(json.loads(body)["events"])
    )


# --- generated bodies -------------------------------------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["a", "extract", "start", "log", "", "é" * 100, "é" * 101, "x" * 200, "x" * 201]),
    st.text(max_size=8),
)
numbers = st.one_of(
    st.integers(-5, 10**9),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([LATENCY_MS_MAX, LATENCY_MS_MAX + 1, -0.0, 10**308, 10**309, -(10**400), 1e308]),
)
scalars = st.one_of(
    st.none(), st.booleans(), numbers, st.text(max_size=8), st.just("event_type"), st.just('"event_type"')
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("event_type"), inner, max_size=3)
    ),
)
payloads = st.one_of(st.none(), st.dictionaries(st.text(max_size=4), values, max_size=3), values)
times = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "2025-12-14T14:33:10.529Z",
            "2025-12-14t14:33:10+01:00",
            "2025-02-30T00:00:00Z",
            "now",
            "",
            "0001-01-01T00:00:00+01:00",
        ]
    ),
)
whole_events = st.fixed_dictionaries(
    {},
    optional={
        "event_type": st.one_of(names, st.just("success")),
        "status": st.sampled_from(["ok", "error", "ok", "OK", None]),
        "latency_ms": st.one_of(numbers, st.none(), st.just("1")),
        "ts": times,
        "run_id": st.one_of(st.none(), names),
        "stage": st.one_of(st.none(), names),
        "system_id": st.sampled_from([None, SYSTEM, SYSTEM, 8, True, 7.0, 10**30]),
        "payload": payloads,
        "extra": scalars,
    },
)
good_events = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["success", "start"]),
        "status": st.sampled_from(["ok", "error"]),
        "latency_ms": st.integers(0, 99),
    },
    optional={
        "ts": st.just("2025-12-14T14:33:10.529Z"),
        "stage": st.sampled_from(["a", "é", "b\n"]),
        "payload": st.dictionaries(st.text(max_size=4), st.text(max_size=9), max_size=2),
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Bodies of every kind of wrongness, some good; and whether they are NDJSON."""
    events = draw(st.lists(st.one_of(good_events, good_events, whole_events, scalars), max_size=4))
    ascii_only, spaced, ndjson = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    separators = (", ", ": ") if spaced else (",", ":")
    texts = [
        json.dumps(one, ensure_ascii=ascii_only, separators=separators).encode(errors="surrogatepass") for one in events
    ]
    body = (b"\n".join(texts) + draw(st.sampled_from([b"", b"\n", b"\n\n"]))) if ndjson else envelope(*texts)
    if draw(st.integers(0, 3)) == 0 and body:
        at, cut = draw(st.integers(0, len(body) - 1)), draw(st.integers(0, 3))
        body = (
            body[:at]
            + draw(
                st.sampled_from([b"", b",", b"}", b"]", b'"', b"\xff", b"NaN", b"\\", b"[", b"\\ud800", b" ", b"\n"])
            )
            + body[at + cut :]
        )
    return body, ndjson


@settings(deadline=None)
@given(bodies())
def test_the_quick_reading_agrees_with_the_careful_one(sent: tuple[bytes, bool]) -> None:
    body, ndjson = sent
    for quick in (batches.quick(post(body, ndjson=ndjson)), batches._decoded(post(body, ndjson=ndjson))):
        try:
            careful = batches.careful(post(body, ndjson=ndjson))
        except InputError:
            assert quick is None
        else:
            assert quick is None or told(careful) == told(quick)


@settings(deadline=None)
@given(st.lists(good_events, min_size=1, max_size=20), st.booleans())
def test_good_batches_of_usual_shape_take_the_quick_way(events: list[dict[str, Any]], ascii_only: bool) -> None:
    texts = [json.dumps(one, ensure_ascii=ascii_only).encode() for one in events]
    for quick in (batches.quick, batches._decoded):  # with kernels, and without
        assert quick(post(envelope(*texts))) is not None
        assert quick(post(b"\n".join(texts), ndjson=True)) is not None


@settings(deadline=None)
@given(bodies())
def test_skipping_keeps_exactly_the_good_events(sent: tuple[bytes, bool]) -> None:
    body, ndjson = sent
    try:
        batch = batches.careful(post(body, ndjson=ndjson), skip=True)
    except InputError:
        return  # not to be told into events at all
    assert batch.count == len(stored(batch)) if batch.count else batch.rejects
    again = envelope(*(json.dumps(one).encode() for one in stored(batch)))
    if batch.count:
        assert batch.count == batches.careful(post(again)).count


sizes = st.sampled_from(
    [0, 10, PAYLOAD_BYTES - 12, PAYLOAD_BYTES - 8, PAYLOAD_BYTES - 7, PAYLOAD_BYTES, 3 * PAYLOAD_BYTES]
)
fillings = st.sampled_from(
    [b"x", b'\\"', b'","event_type":"', b"\xc3\xa9", b"\\u0065", b' "event_type" '.replace(b'"', b'\\"')]
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(sizes, fillings, st.sampled_from([b'"payload"', b'"p\\u0061yload"', b'"payload" '])),
        min_size=1,
        max_size=5,
    )
)
def test_a_payload_over_its_cap_is_found_wherever_it_hides(shapes: list[tuple[int, bytes, bytes]]) -> None:
    events = [raw_event(name + b':{"p":"' + filling * (size // len(filling)) + b'"}') for size, filling, name in shapes]
    body = envelope(*events)
    wanted = []
    for index, one in enumerate(events):
        start, end = one.index(b':{"p"') + 1, len(one) - 1
        if end - start > PAYLOAD_BYTES:
            wanted.append((index, f"payload has {end - start} bytes; the cap is {PAYLOAD_BYTES}"))
    if wanted:
        assert wanted == [(found.index, found.message) for found in findings(body)]
    else:
        assert batches.careful(post(body)).count == len(events)
    small = batches._payloads_are_small(body, len(events))
    assert not (small and wanted)


@pytest.mark.parametrize(
    ("depth", "good"),
    [
        (1, True),
        (5, True),
        (7, True),
        (PAYLOAD_DEPTH, True),
        (PAYLOAD_DEPTH + 1, False),
        (3_000, False),
        (100_000, False),
    ],
)
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_nesting_is_capped(depth: int, good: bool, opening: bytes, closing: bytes) -> None:
    inner = opening * (depth - 1) + b"1" + closing * (depth - 1)
    body = envelope(event(), raw_event(b'"payload":{"p":' + inner + b"}"))
    if good:
        assert batches.careful(post(body)).count == 2
    else:
        assert Finding(1, "payload", f"payload nests deeper than {PAYLOAD_DEPTH} levels") == finding(body)


def crowd(inner: bytes, count: int) -> list[bytes]:
    """Events whose payloads hold `inner` so many times, none over its cap."""
    most = (PAYLOAD_BYTES - 20) // (len(inner) + 1)
    sizes = [most] * (count // most) + [count % most]
    return [raw_event(b'"payload":{"p":[' + b",".join([inner] * size) + b"]}") for size in sizes]


@pytest.mark.parametrize("ndjson", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("inner", "each"), [(b"[]", 1), (b"{}", 1), (b"[" * 28 + b"]" * 28, 28)])
def test_objects_and_arrays_of_a_batch_are_capped(inner: bytes, each: int, ndjson: bool, skip: bool) -> None:
    """Megabytes of brackets take seconds and gigabytes to decode; they are refused by a look at the bytes."""
    events = crowd(inner, CONTAINERS // each + 1)
    body = b"\n".join(events) if ndjson else envelope(*events)
    assert batches.quick(post(body, ndjson=ndjson)) is None
    with pytest.raises(InputError, match="more than 250000 objects and arrays, which is the cap"):
        batches.careful(post(body, ndjson=ndjson), skip=skip)


def test_brackets_within_strings_are_none() -> None:
    events = crowd(b'"[{[{[{[{"', CONTAINERS // 4)
    assert batches.careful(post(envelope(*events))).count == len(events)


@pytest.mark.parametrize("more", [0, 1])
def test_objects_and_arrays_up_to_the_cap_are_taken(more: int) -> None:
    body = envelope(*crowd(b"[]", CONTAINERS - 10_000))
    left = CONTAINERS - body.count(b"[") - body.count(b"{")
    last = [raw_event(b'"payload":{"p":[' + b",".join([b"[]"] * 1_000) + b"]}")] * (left // 1_003)
    last += [raw_event(b'"run_id":"r"')] * (left % 1_003 + more)
    body = body[:-2] + b"," + b",".join(last) + b"]}"
    assert body.count(b"[") + body.count(b"{") == CONTAINERS + more
    if more:
        assert "which is the cap" in finding(body).message
    else:
        assert batches.careful(post(body)).count == len(batches._events(post(body)))


# --- sentences --------------------------------------------------------------------------------------------------------

NAME = "must be a string of 1 to 200 bytes"
SENTENCES = [
    (b"NaN", "latency_ms", f"latency_ms {NOT_FINITE}"),
    (b"Infinity", "latency_ms", f"latency_ms {NOT_FINITE}"),
    (b"-Infinity", "latency_ms", f"latency_ms {NOT_FINITE}"),
    (b"1e400", "latency_ms", f"latency_ms must be a number of milliseconds from 0 to {LATENCY_MS_MAX} (seven days)"),
    (b"-1", "latency_ms", f"latency_ms must be a number of milliseconds from 0 to {LATENCY_MS_MAX} (seven days)"),
    (b'"1"', "latency_ms", f"latency_ms must be a number of milliseconds from 0 to {LATENCY_MS_MAX} (seven days)"),
    (b"true", "latency_ms", f"latency_ms must be a number of milliseconds from 0 to {LATENCY_MS_MAX} (seven days)"),
    (b"null", "latency_ms", f"latency_ms is missing; only {', '.join(sorted(LIFECYCLE))} events may leave it out"),
    (b'""', "event_type", f"event_type {NAME}"),
    (b"null", "event_type", f"event_type {NAME}"),
    (b'"' + "é".encode() * 101 + b'"', "event_type", f"event_type {NAME}"),
    (b'"' + rb"\u00e9" * 101 + b'"', "stage", f"stage {NAME}"),
    (b"3", "stage", f"stage {NAME}"),
    (b'""', "run_id", f"run_id {NAME}"),
    (b'"OK"', "status", 'status must be "ok" or "error"'),
    (b"8", "system_id", "system_id must be 7, the system of the path, where it is given"),
    (b"7.5", "system_id", "system_id must be the number of the path's system"),
    (b'"2025-12-14"', "ts", "ts must be an RFC 3339 date-time such as 2025-12-14T14:33:10.529Z"),
    (b"1765722790529", "ts", "ts must be an RFC 3339 date-time such as 2025-12-14T14:33:10.529Z"),
    (b"[]", "payload", "payload must be a JSON object"),
    (b'{"a":NaN}', "payload", f"payload {NOT_FINITE}"),
    (b'{"a":[1,-Infinity]}', "payload", f"payload {NOT_FINITE}"),
    (b'{"a":1e400}', "payload", f"payload {NOT_FINITE}"),
    (b'{"a":' + b"9" * 309 + b"}", "payload", f"payload {NOT_FINITE}"),
    (b'{"a":' + b"9" * 5_000 + b"}", "payload", f"payload {NOT_FINITE}"),
    (b'{"a":"\\ud800 and more text"}', "payload", "payload holds half of a surrogate pair"),
    (b"1", "colour", "colour is not a field of an event; those are event_type, status, latency_ms, ts, run_id, stage, system_id, payload"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "field", "message"), SENTENCES)
@pytest.mark.parametrize("ndjson", [False, True])
def test_what_is_wrong_with_a_field_is_said_in_a_sentence(value: bytes, field: str, message: str, ndjson: bool) -> None:
    members = {"event_type": b'"a"', "status": b'"ok"', "latency_ms": b"1", field: value}
    bad = b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in members.items()) + b"}"
    body = b"\n".join([event(), bad, event()]) if ndjson else envelope(event(), bad, event())
    assert Finding(1, field, message) == finding(body, ndjson=ndjson)


def test_every_field_of_every_bad_event_is_named() -> None:
    body = envelope(event(status="maybe", stage=""), event(), b"[]", b'{"status":"ok"}')
    found = [(one.index, one.field) for one in findings(body)]
    assert found == [(0, "status"), (0, "stage"), (2, ""), (3, "event_type"), (3, "latency_ms")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is malformed JSON near byte 0"),
        (b'{"events":[{}', "the body is malformed JSON near byte 13"),
        (b'{"events":[]} x', "the body is malformed JSON near byte 15"),
        (b'\xef\xbb\xbf{"events":[]}', "the body is malformed JSON near byte 0"),
        ('{"events":[]}'.encode("utf-16"), "the body is not UTF-8 at byte 0"),
        (b'{"events":[]}', "the batch has no events"),
        (b'{"events":[ \n ]}', "the batch has no events"),
        (b"[]", 'the body must be {"events": [...]}, or one event a line as application/x-ndjson'),
        (b"{}", 'the body must be {"events": [...]}, or one event a line as application/x-ndjson'),
        (b"null", 'the body must be {"events": [...]}, or one event a line as application/x-ndjson'),
        (b'{"events":{"a":[]}}', 'the body must be {"events": [...]}, or one event a line as application/x-ndjson'),
        (b'{"events":[1],"more":2}', 'the body must be {"events": [...]}, or one event a line as application/x-ndjson; it also has "more"'),
        (b"[" * 3_000, "the body cannot be told into events and nests deeper than 35 levels"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_batch_is_refused_as_a_whole(body: bytes, message: str) -> None:
    found = finding(body)
    assert (None, message) == (found.index, found.message)


def test_malformed_events_are_told_by_their_place() -> None:
    body = envelope(event(), b'{"event_type":?}', event())
    assert Finding(1, "", f"the event is malformed JSON near byte {body.index(b'?')} of the body") == finding(body)
    lines = b"\n" + event() + b"\n{\n"
    assert Finding(1, "", "the event is malformed JSON near byte 1 of line 3") == finding(lines, ndjson=True)


def test_wrong_utf8_is_told_by_its_place() -> None:
    body = envelope(event(), raw_event(b'"stage":"\xff"'))
    assert Finding(1, "stage", f"stage is not UTF-8 at byte {body.index(0xFF)} of the body") == finding(body)


def test_findings_stop_at_a_hundred() -> None:
    assert len(findings(envelope(*[b"{}"] * 500))) == 100


def test_too_many_events_are_refused_with_the_cap() -> None:
    body = envelope(*[event()] * 11)
    with pytest.raises(InputError, match="the batch has 11 events; the cap is 10"):
        batches.careful(post(body, most_events=10))
    assert batches.quick(post(body, most_events=10)) is None
    lines = b"\n".join([event()] * 11)
    with pytest.raises(InputError, match="more than 10 events"):
        batches.careful(post(lines, ndjson=True, most_events=10))


def test_lifecycle_events_need_no_latency() -> None:
    events = [json.dumps({"event_type": name, "status": "ok"}).encode() for name in LIFECYCLE]
    batch = batches.quick(post(envelope(*events)))
    assert batch is not None
    assert len(LIFECYCLE) == batch.count


# --- skipping ---------------------------------------------------------------------------------------------------------


def test_skipped_events_come_back_with_their_text_and_reason() -> None:
    batch = batches.careful(post(envelope(event(stage="a"), b'{"x": NaN}', event(stage="b"))), skip=True)
    assert ["a", "b"] == [one["stage"] for one in stored(batch)]
    (reject,) = batch.rejects
    assert (b'{"x": NaN}', 1) == (reject.event, reject.finding.index)


def test_a_batch_of_only_bad_events_is_empty_but_has_rejects() -> None:
    batch = batches.careful(post(envelope(b"1", b"2")), skip=True)
    assert (0, 2) == (batch.count, len(batch.rejects))


def test_a_rejected_text_is_cut() -> None:
    batch = batches.careful(post(envelope(event(), event(payload={"a": "x" * 20_000}))), skip=True)
    assert PAYLOAD_BYTES == len(batch.rejects[0].event)


def test_skipping_gives_up_where_nearly_everything_is_bad() -> None:
    with pytest.raises(InputError, match="more than 1000 of 1500 events are wrong"):
        batches.careful(post(envelope(*[b"1"] * 1_500)), skip=True)


def test_events_from_the_future_are_named_once_the_arrival_is_known() -> None:
    body = envelope(event(ts="2025-12-14T14:33:10.529Z"), event(ts="2025-12-14T14:33:10.530Z"), event())
    limit = 1_765_722_790_529
    with pytest.raises(InputError) as caught:
        batches.careful(post(body, latest_ms=limit))
    assert [(1, "ts")] == [(one.index, one.field) for one in caught.value.findings]
    assert 2 == batches.careful(post(body, latest_ms=limit), skip=True).count


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_body_and_only_where_there_is_a_key() -> None:
    plain, keyed = batches.quick(post(envelope(event()))), batches.quick(post(envelope(event()), keyed=True))
    other = batches.careful(post(envelope(event()) + b" ", keyed=True))
    assert plain is not None
    assert keyed is not None
    assert (0, 16) == (len(plain.digest), len(keyed.digest))
    assert keyed.digest != other.digest
    assert keyed.digest == batches.careful(post(envelope(event()), keyed=True)).digest


MIB = 1 << 20
GARBAGE = [
    b"[" * (16 * MIB),
    b'"' * (16 * MIB),
    b"\\" * (16 * MIB),
    b"\0" * (16 * MIB),
    b"," * (16 * MIB),
    b'{"events":[' * (16 * MIB // 11),
    b'{"events":[' + b"," * (16 * MIB - 20) + b"]}",
    b'{"events":[' + b"{}," * (5 * MIB) + b"{}]}",
    b'{"events":["' + b"\\" * (16 * MIB - 20) + b'"]}',
    b'{"events":[' + b'{"a":[[[[[[[[[[1]]]]]]]]]]},' * 9_000 + b"{}]}",
]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: re.sub(r"\W", "_", repr(body[:14])))
@pytest.mark.parametrize("ndjson", [False, True])
def test_garbage_of_the_largest_size_is_refused_in_bounded_time(body: bytes, ndjson: bool) -> None:
    began = time.process_time()
    with pytest.raises(InputError):
        batches.careful(post(body, ndjson=ndjson))
    assert time.process_time() - began < 8


@settings(deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_either_a_batch_or_refused_with_findings(body: bytes, ndjson: bool) -> None:
    try:
        assert batches.careful(post(body, ndjson=ndjson)).count
    except InputError as error:
        if not error.findings:
            pytest.fail("a refusal without a finding")
