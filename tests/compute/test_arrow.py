"""Arrow batches: the same events give the same columns as JSON, and no bytes do harm."""

import json
import math
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import arrow, batches, columns, kernel
from lso_core.compute.batches import Post
from lso_core.compute.columns import BodyKind
from lso_core.compute.readback import Reading, Wanted
from lso_core.model.batches import Batch, StoredEntry
from lso_core.model.errors import Finding, InputError
from lso_core.model.events import LATENCY_MS_MAX, PAYLOAD_BYTES
from tests.streams import mutated, stream

SYSTEM = 7
TS = pa.timestamp("ms", tz="UTC")
Json = dict[str, Any]
needs_kernel = pytest.mark.skipif(kernel.trouble() is not None, reason=str(kernel.trouble()))


def post(body: bytes, **more: Any) -> Post:
    return Post(body, SYSTEM, more.pop("most_events", 10_000), **more)


def table(rows: int = 3, **fields: Any) -> pa.Table:
    """A good table with some columns replaced; None leaves one out."""
    base = {
        "event_type": pa.array(["success"] * rows),
        "status": pa.array(["ok"] * rows),
        "latency_ms": pa.array([12.5] * rows),
        "ts": pa.array([1_765_722_790_601] * rows, TS),
        "run_id": pa.array(["r"] * rows),
        "stage": pa.array(["load"] * rows),
        "payload": pa.array(['{"rows": 1}'] * rows),
    }
    return pa.table({name: column for name, column in (base | fields).items() if column is not None})


def refusal(body: bytes, **more: Any) -> InputError:
    assert arrow.quick(post(body, **more)) is None
    with pytest.raises(InputError) as caught:
        arrow.careful(post(body, **more))
    return caught.value


def told(batch: Batch) -> tuple[Any, ...]:
    cut = columns.decode(batch.columns)
    arrays = (cut.ts_ms, cut.has_ts, cut.latency_us, cut.has_latency, cut.error, cut.stage, cut.event_type)
    return batch.count, batch.latest_ts_ms, [array.tolist() for array in arrays], cut.stages, cut.event_types


def in_order(findings: tuple[Finding, ...]) -> list[Finding]:
    """An event's findings come in the order of its fields, and JSON has its own."""
    return sorted(findings, key=lambda one: (one.index or 0, one.field))


def outcome(read: Callable[[], Batch]) -> Any:
    """What a reading comes to: a batch, or what is wrong."""
    try:
        batch = read()
    except InputError as error:
        return in_order(error.findings)
    return told(batch), shown(batch)


def shown(batch: Batch) -> list[Json]:
    """The events as GET shows them."""
    reading = Reading(SYSTEM, Wanted(), None, 10_000)
    reading.feed([StoredEntry("5-0", 5, batch.count, batch.columns, batch.body)])
    assert reading.unreadable == []
    fields = ("index", "ts", "event_type", "status", "latency_ms", "run_id", "stage")
    return [{name: getattr(one, name) for name in fields} | {"payload": bytes(one.payload)} for one in reading.items]


# --- the same events as JSON and as Arrow ---------------------------------------------------------------------------

payloads = st.one_of(
    st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=6) | st.floats(-9, 9), max_size=2),
    st.just({"a": {"b": [1, {}]}}),
    st.just({"e": 1e5, "c": 1e-300}),
    st.just({"brace": "}{", "quote": '"'}),
    st.just({"big": "x" * (PAYLOAD_BYTES + 1)}),
    st.sampled_from(['{"a":1e400}', "{}{}", '{"a":"', '"}', "[]", "null", "", " {} ", '{"a":1}x', "{" * 40 + "}" * 40]),
)
events = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["success", "failure", "start", "é", "success"]),
        "status": st.sampled_from(["ok", "error"]),
    },
    optional={
        "latency_ms": st.floats(0, 100) | st.integers(0, 99).map(float) | st.just(LATENCY_MS_MAX + 1.0),
        "ts": st.integers(0, 10**12).map(lambda ms: datetime.fromtimestamp(ms / 1e3, UTC)),
        "run_id": st.sampled_from(["r", "é" * 100, "é" * 101, ""]),
        "stage": st.sampled_from(["a", "b", "c\n"]),
        "system_id": st.sampled_from([SYSTEM, SYSTEM, SYSTEM, 8]),
        "payload": payloads,
    },
)
good_events = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["success", "failure", "start"]),
        "status": st.sampled_from(["ok", "error"]),
        "latency_ms": st.floats(0, 100) | st.integers(0, 99).map(float),
    },
    optional={
        "ts": st.integers(-(10**12), 10**12).map(lambda ms: datetime.fromtimestamp(ms / 1e3, UTC)),
        "run_id": st.sampled_from(["r", "é" * 100]),
        "stage": st.sampled_from(["a", "b", "c\n"]),
        "payload": st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=6), max_size=2),
    },
)
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]


def payload_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def as_json(sent: list[Json]) -> bytes:
    """NDJSON whose payloads are texts put in as they are."""
    lines = []
    for one in sent:
        fields = {name: value for name, value in one.items() if name not in {"payload", "ts"}}
        if one.get("ts") is not None:
            fields["ts"] = one["ts"].isoformat()
        text = payload_text(one.get("payload"))
        line = json.dumps(fields)
        lines.append(line if text is None else f'{line[:-1]}, "payload": {text}}}')
    return "\n".join(lines).encode()


def as_arrow(sent: list[Json], text: Any, unit: str, pieces: int) -> bytes:
    kinds = {"latency_ms": pa.float64(), "ts": pa.timestamp(unit, tz="Europe/Berlin"), "system_id": pa.int32()}
    names = ["event_type", "status", "latency_ms", "ts", "run_id", "stage", "system_id", "payload"]
    made: dict[str, Any] = {}
    for name in names:
        values = [payload_text(one.get(name)) if name == "payload" else one.get(name) for one in sent]
        made[name] = pa.array(values, kinds.get(name, pa.string())).cast(kinds.get(name, text))
    whole = pa.table(made)
    size = math.ceil(len(sent) / pieces)
    return stream(*(whole.slice(at, size) for at in range(0, len(sent), size)))


@settings(deadline=None)
@given(
    st.lists(st.one_of(good_events, good_events, events), min_size=1, max_size=6),
    st.sampled_from(TEXTS),
    st.sampled_from(["us", "ns"]),
    st.integers(1, 3),
)
def test_arrow_and_json_of_the_same_events_are_one_batch(sent: list[Json], text: Any, unit: str, pieces: int) -> None:
    body = as_arrow(sent, text, unit, pieces)
    lines = Post(as_json(sent), SYSTEM, 10_000, ndjson=True)
    malformed = {i for i, one in enumerate(sent) if isinstance(one.get("payload"), str)}
    if not malformed:  # a text that is no JSON breaks its line in other words, or even into two
        assert outcome(lambda: batches.careful(lines)) == outcome(lambda: arrow.careful(post(body)))
    quick = arrow.quick(post(body))
    if quick is not None:
        careful = arrow.careful(post(body))
        assert careful.columns == quick.columns
        assert told(careful) == told(quick)
        assert shown(careful) == shown(quick)


@needs_kernel
@settings(deadline=None)
@given(st.lists(good_events, min_size=1, max_size=6), st.sampled_from(TEXTS), st.integers(1, 3))
def test_good_events_are_taken_in_the_quick_reading(sent: list[Json], text: Any, pieces: int) -> None:
    quick = arrow.quick(post(as_arrow(sent, text, "us", pieces)))
    assert quick is not None
    expected = batches.careful(Post(as_json(sent), SYSTEM, 10_000, ndjson=True))
    assert expected.columns == quick.columns
    assert told(expected) == told(quick)
    assert shown(expected) == shown(quick)


@settings(deadline=None)
@given(st.lists(st.one_of(good_events, events), min_size=1, max_size=6), st.sampled_from(TEXTS), st.integers(1, 3))
def test_skip_keeps_the_good_ones_and_names_the_others(sent: list[Json], text: Any, pieces: int) -> None:
    batch = arrow.careful(post(as_arrow(sent, text, "us", pieces)), skip=True)
    bad = [reject.finding.index for reject in batch.rejects]
    assert len(sent) == batch.count + len(bad)
    good = [one for index, one in enumerate(sent) if index not in bad]
    assert [one["event_type"] for one in reversed(good)] == [one["event_type"] for one in shown(batch)]
    whole = [reject.event for reject in batch.rejects if len(reject.event) < PAYLOAD_BYTES]
    assert all(isinstance(json.loads(one), dict) for one in whole)
    if good:
        assert told(batch)[1:] == told(arrow.careful(post(as_arrow(good, text, "us", 1))))[1:]


@pytest.mark.parametrize(
    "payload", ['{"a":"}', '{"}', "{}{}", '{},{"a":"}', '{"a":[{}', '{"a":{}', "{}]}", '{"a":1e999}', '{"a":nul}']
)
def test_payloads_that_would_run_on_into_each_other_are_refused_each(payload: str) -> None:
    for other in ('{"x":1}', '{"}', "{}", "{}]}", "{}}", '{"a":[{}'):
        found = refusal(stream(table(2, payload=pa.array([payload, other]))))
        assert 0 in {finding.index for finding in found.findings}


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        (
            {"latency_ms": pa.array([1.0, math.nan, 2.0])},
            "latency_ms",
            "must be a number of milliseconds from 0 to 604800000",
        ),
        ({"latency_ms": pa.array([1, -1, 2])}, "latency_ms", "must be a number of milliseconds from 0 to 604800000"),
        ({"latency_ms": pa.array([1, None, 2])}, "latency_ms", "is missing; only end, heartbeat, log, start"),
        ({"status": pa.array(["ok", "OK", "ok"])}, "status", 'must be "ok" or "error"'),
        ({"status": pa.array(["ok", None, "ok"])}, "status", "status is missing"),
        ({"stage": pa.array(["a", "x" * 10**6, "b"])}, "stage", "must be a string of 1 to 200 bytes"),
        ({"payload": pa.array(["{}", "x" * 10**6, "{}"])}, "payload", "has 1000000 bytes; the cap is 16384"),
        ({"payload": pa.array(["{}", "{" * 33, "{}"])}, "payload", "nests deeper than 32 levels"),
        ({"ts": pa.array(["2025-12-14T14:33:10Z", "now", None])}, "ts", "must be an RFC 3339 date-time"),
        ({"ts": pa.array([0, 2**60, 0], pa.timestamp("s", tz="UTC"))}, "ts", "must be an RFC 3339 date-time"),
        ({"system_id": pa.array([7, 300, 7])}, "system_id", "must be 7, the system of the path"),
        ({"system_id": pa.array([7, -1, 7], pa.int8())}, "system_id", "must be 7, the system of the path"),
    ],
)
def test_a_bad_event_is_named_with_its_field_and_limit(fields: Json, field: str, said: str) -> None:
    (found,) = refusal(stream(table(**fields))).findings
    assert (1, field) == (found.index, found.field)
    assert said in found.message


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        (
            {"extra": pa.array([1, 2, 3])},
            "extra",
            'the column "extra" is not a field of an event; those are event_type',
        ),
        ({"event_type": None}, "event_type", "the column event_type is missing"),
        ({"status": None}, "status", "the column status is missing"),
        ({"payload": pa.array([{"a": 1}] * 3)}, "payload", "send each payload as a string that holds a JSON object"),
        ({"payload": pa.array([b"{}"] * 3)}, "payload", "must hold strings, each of which holds a JSON object"),
        ({"stage": pa.array([["a"]] * 3)}, "stage", "the column stage nests; send one value an event"),
        ({"stage": pa.array([1] * 3)}, "stage", "the column stage must hold strings, not int64"),
        ({"ts": pa.array([1] * 3, pa.timestamp("ms"))}, "ts", "have no time zone"),
        ({"ts": pa.array([1] * 3)}, "ts", "must hold timestamps with a time zone, or RFC 3339 strings, not int64"),
        (
            {"latency_ms": pa.array(["1"] * 3)},
            "latency_ms",
            "must hold integers or floats, in milliseconds, not string",
        ),
        ({"latency_ms": pa.array([True] * 3)}, "latency_ms", "not bool"),
        ({"system_id": pa.array([7.0] * 3)}, "system_id", "must hold integers, not double"),
    ],
)
def test_a_column_that_cannot_be_is_refused_by_name(fields: Json, field: str, said: str) -> None:
    (found,) = refusal(stream(table(**fields))).findings
    assert (None, field) == (found.index, found.field)
    assert said in found.message


GOOD = stream(table(), table(2))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "ends without its end-of-stream mark"),
        (b'{"events": []}', "the body is no Arrow stream"),
        (b"ARROW1\0\0" + GOOD, "send the stream format"),
        (GOOD[:-8], "ends without its end-of-stream mark"),
        (GOOD[:-50], "cut off"),
        (GOOD + b"\0", "bytes behind its end"),
        (GOOD[:-8] + GOOD, "must be one schema and then its record batches"),
        (stream(table(0)), "the batch has no events"),
        (stream(table(), options=pa.ipc.IpcWriteOptions(compression="zstd")), "Content-Encoding: gzip"),
        (stream(table(), options=pa.ipc.IpcWriteOptions(compression="lz4")), "Content-Encoding: gzip"),
        (stream(*[table(1)] * 300), "more than 256 messages"),
    ],
)
def test_a_stream_that_is_none_is_refused_in_a_sentence(body: bytes, said: str) -> None:
    assert said in str(refusal(body))


def test_caps_hold_before_anything_is_made() -> None:
    assert "the batch has 5 events; the cap is 4" == str(refusal(GOOD, most_events=4))
    nulls = table(3, stage=pa.nulls(3))
    forged = stream(nulls).replace(struct.pack("<q", 3), struct.pack("<q", 1 << 60))
    assert "cap" in str(refusal(forged)) or "malformed" in str(refusal(forged))
    wide = pa.table({f"c{number}": pa.array([1]) for number in range(5_000)})
    assert "the cap is 65536" in str(refusal(stream(wide)))
    shared = pa.array(["x" * 5_000_000]).dictionary_encode().take(pa.array([0] * 10))
    assert "has 5000000 bytes" in refusal(stream(table(10, payload=shared))).findings[0].message
    assert "string_view show more than 16777216" in str(refusal(stream(table(10, payload=views(10, 5_000_000)))))
    halves = table(10, payload=views(10, 1_000_000)), table(10, payload=views(10, 1_000_000))
    assert "has 1000000 bytes" in refusal(stream(halves[0])).findings[0].message
    assert "string_view show more than 16777216" in str(refusal(stream(*halves)))


def views(count: int, size: int, letter: bytes = b"x") -> Any:
    """So many views that all show one text."""
    begin = struct.pack("<i4sii", size, 4 * letter, 0, 0)
    return pa.StringViewArray.from_buffers(
        pa.string_view(), count, [None, pa.py_buffer(begin * count), pa.py_buffer(letter * size)]
    )


def test_dictionaries_that_would_be_checked_too_often_are_refused() -> None:
    big = pa.array([str(number) * 20 for number in range(10_000)]).dictionary_encode()
    whole = table(10_000, run_id=big)
    assert "too many" in str(refusal(stream(*(whole.slice(at, 50) for at in range(0, 10_000, 50)))))


def test_an_event_ahead_of_the_clock_is_named() -> None:
    with pytest.raises(InputError) as caught:
        arrow.careful(post(stream(table(2, ts=pa.array([5, 9], TS))), latest_ms=8))
    assert [(1, "ts")] == [(one.index, one.field) for one in caught.value.findings]


@needs_kernel
def test_names_come_in_the_order_of_the_events_and_unused_ones_not_at_all() -> None:
    stage = pa.DictionaryArray.from_arrays(pa.array([2, None, 1], pa.int8()), pa.array(["unused", "b", "a"]))
    batch = arrow.quick(post(stream(table(stage=stage))))
    assert batch is not None
    cut = columns.decode(batch.columns)
    assert (("a", "b"), [1, 0, 2]) == (cut.stages, cut.stage.tolist())


SPELT = [
    stream(table()),
    stream(table(stage=pa.array(["a", None, "b"]).dictionary_encode(), run_id=pa.array(["r"] * 3).dictionary_encode())),
    stream(
        table(stage=pa.array(["a", None, "b" * 20], pa.string_view()), payload=pa.array(["{}"] * 3, pa.large_string())),
    ),
    stream(
        table(
            latency_ms=pa.array([1, 2, 3]),
            ts=pa.array([1, 2, 3], pa.timestamp("ns", tz="UTC")),
            system_id=pa.array([7] * 3),
        ),
        table(1, latency_ms=pa.array([1]), ts=pa.array([1], pa.timestamp("ns", tz="UTC")), system_id=pa.array([7])),
    ),
    stream(
        table(
            4,
            latency_ms=pa.array([1.5, None, 3.0, 0.1], pa.float32()),
            event_type=pa.array(["start", "log", "success", "failure"]).dictionary_encode(),
            ts=pa.array(["2025-12-14T14:33:10Z", None, "2025-12-14 14:33:10.5+01:00", "0001-01-01T00:00:00Z"]),
            payload=pa.DictionaryArray.from_arrays(
                pa.array([1, None, 0, 2], pa.uint16()), ['{"a":[{}]}', " {}\n", None]
            ),
            run_id=pa.array([None, "a", "bb", "a"], pa.large_string()),
        )
    ),
    stream(
        table(2, ts=pa.array([-1, None], pa.timestamp("us", tz="UTC")), payload=pa.array([None, None], pa.string()))
    ),
    stream(table(2, ts=pa.array([-1, 0], pa.timestamp("s", tz="UTC")), run_id=pa.nulls(2), stage=pa.nulls(2))),
    stream(table(2, ts=pa.array(["2025-12-14T14:33:10Z", None]).dictionary_encode(), run_id=pa.array(["a", "b"]))),
]
"""Streams with all types that are read."""


@needs_kernel
@pytest.mark.parametrize("body", SPELT)
def test_the_kernel_makes_of_every_type_what_the_careful_reading_makes(body: bytes) -> None:
    quick, careful = arrow.quick(post(body)), arrow.careful(post(body))
    assert quick is not None
    assert (careful.columns, careful.latest_ts_ms) == (quick.columns, quick.latest_ts_ms)
    assert shown(careful) == shown(quick)


def kind_of(**fields: Any) -> BodyKind:
    batch = arrow.quick(post(stream(table(400, **fields))))
    assert batch is not None
    careful = arrow.careful(post(stream(table(400, **fields))))
    assert shown(careful) == shown(batch)
    return columns.unpack_body(batch.body)[1]


@needs_kernel
def test_what_is_read_back_is_kept_in_parts_where_they_can_tell_it_in_no_more_bytes() -> None:
    numbers = range(400)
    assert kind_of() is BodyKind.PARTS
    assert kind_of(run_id=pa.array([f"{one:03}" for one in numbers])) is BodyKind.PARTS
    assert kind_of(latency_ms=pa.array([one / 7 for one in numbers])) is BodyKind.PARTS
    assert kind_of(run_id=pa.array([str(one) for one in numbers])) is BodyKind.ARROW
    assert kind_of(run_id=pa.array(["r", None] * 200), latency_ms=pa.array([1 / 3] * 400)) is BodyKind.ARROW
    shared = pa.array(['{"a": "' + "x" * 9_000 + '"}'] * 400).dictionary_encode()
    assert kind_of(payload=shared) is BodyKind.ARROW
    assert kind_of(run_id=views(400, 190)) is BodyKind.PARTS
    long_views = pa.StringViewArray.from_buffers(
        pa.string_view(),
        400,
        [None, pa.py_buffer(struct.pack("<i4sii", 9_009, b'{"a"', 0, 0) * 400), shared.dictionary.buffers()[2]],
    )
    assert kind_of(payload=long_views) is BodyKind.ARROW


def extended(column: str, name: str, body: pa.Table) -> bytes:
    """A stream that says of a column that it is of an extension type."""
    at = body.schema.get_field_index(column)
    field = body.schema.field(at).with_metadata({"ARROW:extension:name": name, "ARROW:extension:metadata": ""})
    return stream(body.cast(body.schema.set(at, field)))


@needs_kernel
def test_of_extension_types_the_storage_is_read_where_it_is_one_that_they_take() -> None:
    for column, name in (("stage", "acme.word"), ("payload", "arrow.json"), ("latency_ms", "acme.milliseconds")):
        body = extended(column, name, table())
        quick, careful = arrow.quick(post(body)), arrow.careful(post(body))
        assert quick is not None
        assert careful.columns == quick.columns
        assert shown(careful) == shown(quick)
    for column, name in (("latency_ms", "arrow.json"), ("stage", "arrow.uuid"), ("latency_ms", "arrow.bool8")):
        assert "malformed" in str(refusal(extended(column, name, table())))


@needs_kernel
def test_of_run_ids_that_make_no_run_the_same_is_told_as_of_json() -> None:
    runs = [f"run-{one}" for one in range(2_000)]
    sent = [
        {"event_type": "success", "status": "ok", "latency_ms": 1.0, "run_id": run, "stage": run[:5]} for run in runs
    ]
    sent += [{"event_type": "failure", "status": "error", "latency_ms": 1.0, "run_id": run} for run in runs]
    quick = arrow.quick(post(as_arrow(sent, pa.string(), "us", 3)))
    assert quick is not None
    assert batches.careful(Post(as_json(sent), SYSTEM, 10_000, ndjson=True)).columns == quick.columns


def test_without_kernels_every_event_is_looked_at_by_itself(tmp_path: Path) -> None:
    program = f"""
import sys
sys.prefix = {str(tmp_path)!r}  # where the library is looked for
from lso_core.compute import arrow
from lso_core.compute.batches import Post
post = Post({SPELT[0]!r}, {SYSTEM}, 10_000)
print(arrow.quick(post), arrow.careful(post).count)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "None 3" == found.stdout.strip()


@pytest.mark.parametrize("seed", range(4))
def test_mutated_streams_are_taken_or_refused_and_nothing_else(seed: int) -> None:
    dice = random.Random(seed)
    taken = refused = 0
    for _ in range(1_500):
        body = mutated(dice, dice.choice(SPELT))
        try:
            batch = arrow.careful(post(body), skip=dice.random() < 0.5)
            shown(batch)
            taken += 1
        except InputError:
            refused += 1
    assert taken > 20
    assert refused > 200


@needs_kernel
@pytest.mark.parametrize("seed", range(4))
def test_of_a_mutated_stream_the_kernel_makes_what_the_careful_reading_makes_or_nothing(seed: int) -> None:
    """But for flatbuffers with faults beside what is read of them, which the library refuses."""
    dice = random.Random(seed)
    same = 0
    for _ in range(1_500):
        body = mutated(dice, dice.choice(SPELT))
        quick = arrow.quick(post(body))
        if quick is None:
            continue
        try:
            careful = arrow.careful(post(body))
        except InputError:
            with pytest.raises((pa.ArrowInvalid, OSError), match="flatbuffer"):
                list(pa.ipc.open_stream(body))
            continue
        assert (careful.columns, careful.latest_ts_ms) == (quick.columns, quick.latest_ts_ms)
        assert shown(careful) == shown(quick)
        same += 1
    assert same > 20


def test_pyarrow_is_loaded_by_nobody_who_does_not_use_it() -> None:
    program = (
        "import sys, api.app, worker.main, lso_core.cli.lso, lso_core.client.client; print('pyarrow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "False" == found.stdout.strip()


@needs_kernel
def test_a_null_view_of_no_length_there_is_is_null() -> None:
    """It is not validated, and the cast of the library would end the process."""
    views = struct.pack("<i4sii", 1, b"a", 0, 0) + struct.pack("<i4sii", -(2**31), b"", 0, 0)
    stage = pa.StringViewArray.from_buffers(pa.string_view(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(views)])
    batch = arrow.quick(post(stream(table(2, stage=stage))))
    assert batch is not None
    assert [None, "a"] == [one["stage"] for one in shown(batch)]


def test_a_time_zone_that_is_no_text_is_malformed() -> None:
    body = stream(table(ts=pa.array([1, 2, 3], pa.timestamp("ms", tz="Zone/Long")))).replace(
        b"Zone/Long", b"Zone\xa0Long"
    )
    assert "malformed" in str(refusal(body))


@needs_kernel
def test_integers_and_floats_of_every_width_are_latencies() -> None:
    for kind in (pa.int8(), pa.uint64(), pa.float16(), pa.float32()):
        batch = arrow.quick(post(stream(table(latency_ms=pa.array([1, 2, 3]).cast(pa.float32()).cast(kind)))))
        assert batch is not None
        assert [3.0, 2.0, 1.0] == [one["latency_ms"] for one in shown(batch)]


@pytest.mark.parametrize("dictionary", [False, True])
def test_objects_and_arrays_of_a_batch_are_capped(dictionary: bool) -> None:
    """Also where they are one text in the stream, that many events share."""
    payload = '{"p":[' + ",".join(["[]"] * 5_000) + "]}"
    texts = pa.array([payload] * 60)
    body = stream(table(60, payload=texts.dictionary_encode() if dictionary else texts))
    assert "more than 250000 objects and arrays" in str(refusal(body))
