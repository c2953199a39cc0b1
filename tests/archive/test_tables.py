"""Entries as Parquet, and back."""

import io
import itertools
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lso_core.archive import tables
from lso_core.archive.building import Order, build
from lso_core.archive.tables import EVENTS, events_file
from lso_core.compute import arrow, batches, columns
from lso_core.compute.batches import Post
from lso_core.compute.columns import NewerFormatError
from lso_core.compute.readback import Reading, Wanted
from lso_core.model import times
from lso_core.model.batches import StoredEntry

BODY = (
    b'{"events": [{"event_type": "success", "status": "ok", "latency_ms": 12.5, "stage": "load", "run_id": "r1",'
    b' "ts": "2026-11-26T10:00:00.125+02:00", "payload": {"rows": [1, 2], "text": "\\u00e9 \xc3\xa9"}},'
    b' {"event_type": "heartbeat", "status": "ok", "payload": null},'
    b' {"event_type": "failure", "status": "error", "latency_ms": 0.0001234, "stage": "extract"}]}'
)
NDJSON = b'{"event_type": "success", "status": "ok", "latency_ms": 1e3, "stage": "load"}\n'
ALIKE = (
    b'{"events": ['
    + b", ".join(
        b'{"event_type": "success", "status": "ok", "latency_ms": %d.0625, "ts": "2026-11-26T10:00:%02d.000Z", '
        b'"run_id": "run-%04d", "stage": "load", "payload": {"rows": %d}}' % (at % 90, at % 60, at, at)
        for at in range(1_000)
    )
    + b"]}"
)
"""Many events that are written alike are read by columns, and stored in parts."""
AT = 1_795_687_200_000


def entry(body: bytes, number: int = 0, *, ndjson: bool = False) -> StoredEntry:
    batch = batches.quick(Post(body, 3, 10_000, ndjson=ndjson, keyed=False))
    assert batch is not None
    return StoredEntry(f"{AT + number}-{number}", AT + number, batch.count, batch.columns, batch.body)


def arrow_entry(number: int = 0) -> StoredEntry:
    table = pa.table(
        {
            "event_type": pa.array(["success", "failure", "success"]).dictionary_encode(),
            "status": ["ok", "error", "ok"],
            "latency_ms": [0.5, 0.1234567, 7.0],
            "run_id": pa.array(["a", None, "a"]).dictionary_encode(),
            "payload": [' {"n": 1}\n', None, "{}"],
            "stage": [None, "load", None],
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    batch = arrow.careful(Post(sink.getvalue().to_pybytes(), 3, 10_000, ndjson=False, keyed=False))
    return StoredEntry(f"{AT + number}-{number}", AT + number, batch.count, batch.columns, batch.body)


def rows(entries: list[StoredEntry]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(events_file(entries).data)).to_pylist()
    return found


def test_a_file_tells_what_the_hot_tier_tells() -> None:
    """Every field of every event, of every kind of body, is what reading it back from Redis gives."""
    entries = [entry(BODY, 1), entry(NDJSON * 3, 2, ndjson=True), arrow_entry(3), entry(ALIKE, 4)]
    reading = Reading(3, Wanted(), None, 10_000)
    reading.feed(entries[::-1])
    hot = reading.page(ended=True).items[::-1]
    warm = rows(entries)
    assert [(one.entry, one.index) for one in hot] == [
        (f"{row['entry_ms']}-{row['entry_seq']}", row["index"]) for row in warm
    ]
    for one, row in zip(hot, warm, strict=True):
        ms = {
            name: None if row[name] is None else round(row[name].timestamp() * 1_000)
            for name in ("arrived", "ts", "time")
        }
        assert (one.at, one.ts) == (times.to_text(ms["arrived"] or 0), times.to_text_or_none(ms["ts"]))
        assert ms["time"] == (ms["ts"] or ms["arrived"])
        for name in ("event_type", "status", "latency_ms", "stage", "run_id"):
            assert getattr(one, name) == row[name]
        assert bytes(one.payload) == (b"null" if row["payload"] is None else row["payload"].encode())


def test_the_types_are_plain_ones() -> None:
    found = pq.read_schema(io.BytesIO(events_file([entry(BODY)]).data))
    wanted = {
        field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in EVENTS
    }
    assert wanted == dict(zip(found.names, found.types, strict=True))


def test_a_file_of_nothing_can_be_read() -> None:
    assert [] == rows([])


def test_what_was_not_counted_is_left_out_and_what_was_is_not() -> None:
    """An entry without sound columns is a dead letter; one whose body alone is damaged was counted."""
    good = entry(BODY)
    damaged = msgspec.structs.replace(good, entry_id=f"{AT}-5", columns=good.columns[:-1])
    bodiless = msgspec.structs.replace(good, entry_id=f"{AT}-6", body=b"")
    other = msgspec.structs.replace(good, entry_id=f"{AT}-7", body=columns.pack_body(NDJSON, columns.BodyKind.NDJSON))
    built = events_file([good, damaged, bodiless, other])
    assert (9, 2, 1) == (built.events, built.bare, built.lost)
    found = rows([good, bodiless])
    for whole, bare in itertools.pairwise([found[0], found[3]]):
        assert {**whole, "run_id": None, "payload": None, "entry_seq": 6} == bare


@pytest.mark.parametrize(("body", "kind"), [(BODY, columns.BodyKind.JSON), (ALIKE, columns.BodyKind.PARTS)])
def test_there_is_a_reader_for_what_json_is_stored_as(body: bytes, kind: columns.BodyKind) -> None:
    one = entry(body)
    assert kind is columns.unpack_body(one.body)[1]
    built = events_file([one])
    assert (one.count, 0, 0) == (built.events, built.bare, built.lost)


def test_there_is_a_reader_for_every_kind_of_body() -> None:
    assert set(columns.BodyKind) == set(tables._READERS)


def test_what_a_newer_release_wrote_is_not_left_out() -> None:
    good = entry(BODY)
    newer = msgspec.structs.replace(good, columns=good.columns[:3] + b"\xff" + good.columns[4:])
    with pytest.raises(NewerFormatError):
        events_file([good, newer])
    answer = build(Order([good, newer]))
    assert answer.newer is not None
    assert ([], None) == (answer.files, answer.failed)
