"""Pages of the hot tier: every wanted event once, newest first, whatever the page size."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import batches, readback
from lso_core.compute.batches import Post
from lso_core.compute.readback import Place, Reading, SeenEvent, Wanted
from lso_core.model import times
from lso_core.model.batches import StoredEntry
from lso_core.model.errors import InputError

SYSTEM = 3
AT_MS = 1_765_722_790_601


def entry(number: int, events: list[dict[str, Any]]) -> StoredEntry:
    """Entry `number` of a stream; every other one is NDJSON."""
    if number % 2:
        post = Post(b"\n".join(json.dumps(one).encode() for one in events), SYSTEM, 10_000, ndjson=True)
    else:
        post = Post(json.dumps({"events": events}).encode(), SYSTEM, 10_000)
    batch = batches.careful(post)
    return StoredEntry(f"{AT_MS + number}-0", AT_MS + number, batch.count, batch.columns, batch.body)


def event(**fields: Any) -> dict[str, Any]:
    return {"event_type": "success", "status": "ok", "latency_ms": 1, **fields}


def read_all(stream: list[StoredEntry], wanted: Wanted, limit: int, step: int) -> tuple[list[SeenEvent], int]:
    """All pages, each fed `step` entries at a time; and how many pages there were."""
    found: list[SeenEvent] = []
    cursor, pages = None, 0
    while True:
        reading, ended = Reading(SYSTEM, wanted, Place.parse(cursor) if cursor else None, limit), False
        while not (ended or reading.full):
            newest = None if reading.next is None else reading.next.newest
            older = [one for one in reversed(stream) if newest is None or order(one.entry_id) <= order(newest)]
            ended = len(older[:step]) < step
            reading.feed(older[:step])
        page = reading.page(ended=ended)
        assert len(page.items) <= limit
        found, cursor, pages = found + page.items, page.next, pages + 1
        if cursor is None:
            return found, pages


def order(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


kinds = st.fixed_dictionaries(
    {},
    optional={
        "stage": st.sampled_from(["a", "b"]),
        "run_id": st.sampled_from(["x", "y"]),
        "status": st.sampled_from(["ok", "error"]),
        "event_type": st.sampled_from(["success", "start"]),
        "ts": st.sampled_from([times.to_text(AT_MS - 1_000), times.to_text(AT_MS)]),
    },
)
wishes = st.builds(
    Wanted,
    stage=st.sampled_from([None, "a", "c"]),
    event_type=st.sampled_from([None, "start"]),
    status=st.sampled_from([None, "error"]),
    run_id=st.sampled_from([None, "x"]),
    from_ms=st.sampled_from([None, AT_MS]),
    to_ms=st.sampled_from([None, AT_MS, AT_MS + 2]),
)


def is_wanted(one: dict[str, Any], at_ms: int, wanted: Wanted) -> bool:
    names = ("stage", "event_type", "status", "run_id")
    when = times.from_text(one["ts"]) if "ts" in one else at_ms
    return (
        all(getattr(wanted, name) in {None, one.get(name)} for name in names)
        and (wanted.from_ms is None or when >= wanted.from_ms)
        and (wanted.to_ms is None or when < wanted.to_ms)
    )


@settings(deadline=None)
@given(st.lists(st.lists(kinds, min_size=1, max_size=5), max_size=5), wishes, st.integers(1, 7), st.integers(1, 3))
def test_pages_hold_every_wanted_event_once_and_newest_first(
    batches_sent: list[list[dict[str, Any]]], wanted: Wanted, limit: int, step: int
) -> None:
    sent = [
        [event(**one, payload={"n": [number, at]}) for at, one in enumerate(events)]
        for number, events in enumerate(batches_sent)
    ]
    stream = [entry(number, events) for number, events in enumerate(sent)]
    found, _ = read_all(stream, wanted, limit, step)
    expected = [
        (f"{AT_MS + number}-0", at)
        for number, events in reversed(list(enumerate(sent)))
        for at, one in reversed(list(enumerate(events)))
        if is_wanted(one, AT_MS + number, wanted)
    ]
    assert expected == [(one.entry, one.index) for one in found]
    assert all(json.loads(bytes(one.payload)) == {"n": [order(one.entry)[0] - AT_MS, one.index]} for one in found)


def test_an_event_is_shown_whole() -> None:
    sent = event(ts="2025-12-14T15:33:10.5+01:00", run_id="r", stage="s", payload={"rows": 168}, system_id=SYSTEM)
    (seen,), _ = read_all([entry(0, [sent])], Wanted(), 10, 10)
    assert (
        SeenEvent(
            f"{AT_MS}-0",
            0,
            "2025-12-14T14:33:10.601Z",
            SYSTEM,
            "2025-12-14T14:33:10.500Z",
            "success",
            "ok",
            1.0,
            "r",
            "s",
            seen.payload,
        )
        == seen
    )
    assert {"rows": 168} == json.loads(bytes(seen.payload))


def test_a_page_stops_at_its_bytes_and_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "PAGE_BYTES", 2_000)
    stream = [entry(number, [event(payload={"text": "x" * 500})]) for number in range(20)]
    found, pages = read_all(stream, Wanted(), 500, 1)
    assert 20 == len(found)
    assert pages > 4


def test_a_damaged_entry_is_passed_over_and_named() -> None:
    good, bad = entry(1, [event()]), entry(2, [event()])
    reading = Reading(SYSTEM, Wanted(), None, 10)
    reading.feed([StoredEntry(bad.entry_id, bad.at_ms, 1, bad.columns[:-1], bad.body), good])
    assert [bad.entry_id] == reading.unreadable
    assert [good.entry_id] == [one.entry for one in reading.items]


@pytest.mark.parametrize(
    "cursor", ["", "1", "1-0", "1-0.", "-0.1", "a-0.1", "1-0.x", "1-0-0.1", f"{1 << 64}-0.1", "\u0661-0.1"]
)
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InputError, match="cursor is not one that this list gave"):
        Place.parse(cursor)


def test_a_place_before_an_entry_leads_to_the_one_before() -> None:
    assert "5-0" == Place("5-1", 0).newest
    assert f"4-{(1 << 64) - 1}" == Place("5-0", 0).newest
    assert "5-0" == Place("5-0", 3).newest
