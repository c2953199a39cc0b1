"""POST /systems/{id}/events: what is taken, and what is refused with which finding."""

import re
from typing import Any

import httpx
import pytest

from tests.e2e.answers import check_findings, from_now, named, problem
from tests.e2e.conftest import NewSystem
from tests.e2e.systems import ObservedSystem, accepted, event, events

GOOD = '{"event_type": "success", "status": "ok", "latency_ms": 1}'
ENTRY_ID = re.compile(r"\d+-\d+")


def raw(**members: str) -> str:
    """An event as JSON text, its members given as JSON text too; "" leaves one out."""
    parts = {"event_type": '"success"', "status": '"ok"', "latency_ms": "1", **members}
    return "{" + ", ".join(f'"{name}": {text}' for name, text in parts.items() if text) + "}"


def batch(*texts: str) -> str:
    """A batch of events that are JSON text already."""
    return f'{{"events": [{", ".join(texts)}]}}'


def payload_of(size: int) -> str:
    """A payload whose JSON text has exactly so many bytes."""
    empty = '{"a":""}'
    return '{"a":"' + "x" * (size - len(empty)) + '"}'


def nested(levels: int) -> str:
    """A payload of so many levels, itself being the first."""
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


def test_a_batch_is_answered_with_202_and_its_receipt(system: ObservedSystem) -> None:
    answer = system.post(events(3))
    receipt = accepted(answer)
    assert {"accepted", "duplicate", "entries"} <= receipt.keys()
    assert (3, False) == (receipt["accepted"], receipt["duplicate"])
    first, last = receipt["entries"]
    assert ENTRY_ID.fullmatch(first)
    assert ENTRY_ID.fullmatch(last)
    assert "application/json" == answer.headers["Content-Type"].partition(";")[0]
    assert answer.headers["X-Request-Id"]


def test_the_seed_contract_is_taken_as_it_stands(system: ObservedSystem) -> None:
    seed = {
        "system_id": system.id,
        "ts": from_now(-1),
        "run_id": "uuid",
        "stage": "extract",
        "event_type": "success",
        "status": "ok",
        "latency_ms": 12,
        "payload": {"rows": 168},
    }
    system.take([seed])
    assert 1 == system.health_with(total=1)["total"]


def test_accepted_events_are_seen_within_a_second(system: ObservedSystem) -> None:
    system.take(events(8, 2))
    assert 2 == system.health_with(total=10, within=1)["errors"]


def test_a_batch_may_have_10000_events(system: ObservedSystem) -> None:
    assert 10_000 == system.take(events(10_000))["accepted"]
    system.health_with(total=10_000)


def test_a_batch_of_10001_events_is_refused_and_the_cap_is_named(system: ObservedSystem) -> None:
    answer = system.post(events(10_001))
    assert answer.status_code in {413, 422}  # the design calls it a size as well as wrong input
    assert re.search(r"10[, ]?000", problem(answer, answer.status_code)["detail"])


GOOD_ONES = [
    pytest.param(raw(latency_ms="0"), id="no time at all"),
    pytest.param(raw(latency_ms="0.001"), id="a microsecond"),
    pytest.param(raw(latency_ms="604800000"), id="seven days"),
    pytest.param(raw(latency_ms="1e3"), id="an exponent"),
    pytest.param(raw(latency_ms="12.000000000000000000001"), id="more digits than a float has"),
    pytest.param(raw(event_type='"start"', latency_ms=""), id="a start without latency"),
    pytest.param(raw(event_type='"heartbeat"', latency_ms=""), id="a heartbeat without latency"),
    pytest.param(raw(event_type='"end"', latency_ms=""), id="an end without latency"),
    pytest.param(raw(event_type='"log"', latency_ms=""), id="a log without latency"),
    pytest.param(raw(event_type='"end"', latency_ms="5"), id="an end with latency"),
    pytest.param(raw(event_type=f'"{"x" * 200}"'), id="event_type of 200 bytes"),
    pytest.param(raw(stage=f'"{"x" * 200}"'), id="stage of 200 bytes"),
    pytest.param(raw(run_id=f'"{"€" * 66}xx"'), id="run_id of 200 bytes"),
    pytest.param(raw(stage='"\\u00e9\\ud83d\\ude00"'), id="stage with escapes"),
    pytest.param(raw(payload="{}"), id="empty payload"),
    pytest.param(raw(payload=payload_of(16 * 1024)), id="payload of 16 KiB"),
    pytest.param(raw(payload=nested(32)), id="payload of 32 levels"),
    pytest.param(
        raw(payload='{"a": [1.5, -2e-300, 1e300, 12345678901234567890, null, true, "\\u0000"]}'), id="all kinds"
    ),
    pytest.param(raw(ts='"2025-12-14T14:33:10.529Z"'), id="ts long ago"),
    pytest.param(raw(ts='"2025-12-14T16:33:10+02:00"'), id="ts with an offset"),
    pytest.param(raw(ts='"2025-12-14t14:33:10.123456789z"'), id="ts in small letters, in nanoseconds"),
]


@pytest.mark.parametrize("text", GOOD_ONES)
def test_an_event_at_the_edge_of_its_caps_is_taken(system: ObservedSystem, text: str) -> None:
    assert 2 == accepted(system.post_body(batch(GOOD, text)))["accepted"]


BAD_ONES = [
    pytest.param("event_type", raw(event_type=""), id="no event_type"),
    pytest.param("event_type", raw(event_type='""'), id="empty event_type"),
    pytest.param("event_type", raw(event_type="5"), id="number as event_type"),
    pytest.param("event_type", raw(event_type="null"), id="null as event_type"),
    pytest.param("event_type", raw(event_type=f'"{"x" * 201}"'), id="event_type of 201 bytes"),
    pytest.param("event_type", raw(event_type=f'"{"€" * 67}"'), id="event_type of 67 letters of 3 bytes"),
    pytest.param("status", raw(status=""), id="no status"),
    pytest.param("status", raw(status='"fine"'), id="another status"),
    pytest.param("status", raw(status='"OK"'), id="status in capitals"),
    pytest.param("status", raw(status="true"), id="boolean as status"),
    pytest.param("latency_ms", raw(latency_ms=""), id="no latency"),
    pytest.param("latency_ms", raw(latency_ms="null"), id="null as latency"),
    pytest.param("latency_ms", raw(latency_ms="-1"), id="negative latency"),
    pytest.param("latency_ms", raw(latency_ms="-0.000001"), id="slightly negative latency"),
    pytest.param("latency_ms", raw(latency_ms="604800001"), id="latency beyond seven days"),
    pytest.param("latency_ms", raw(latency_ms='"12"'), id="string as latency"),
    pytest.param("latency_ms", raw(latency_ms="true"), id="boolean as latency"),
    pytest.param("latency_ms", raw(latency_ms="[1]"), id="array as latency"),
    pytest.param("latency_ms", raw(latency_ms="1e400"), id="1e400"),
    pytest.param("latency_ms", raw(latency_ms="-1e400"), id="-1e400"),
    pytest.param("latency_ms", raw(latency_ms="9" * 400), id="latency of 400 digits"),
    pytest.param("latency_ms", raw(latency_ms="NaN"), id="NaN"),
    pytest.param("latency_ms", raw(latency_ms="Infinity"), id="Infinity"),
    pytest.param("latency_ms", raw(latency_ms="-Infinity"), id="-Infinity"),
    pytest.param("latency_ms", raw(event_type='"start"', latency_ms="-1"), id="negative latency of a start"),
    pytest.param("ts", raw(ts='"yesterday"'), id="ts in words"),
    pytest.param("ts", raw(ts='""'), id="empty ts"),
    pytest.param("ts", raw(ts="1765722790"), id="number as ts"),
    pytest.param("ts", raw(ts='"2025-12-14"'), id="a date as ts"),
    pytest.param("ts", raw(ts='"2025-12-14T14:33:10"'), id="ts without zone"),
    pytest.param("ts", raw(ts='"2025-02-30T14:33:10Z"'), id="ts on a day that is none"),
    pytest.param("ts", raw(ts='"2025-12-14T24:33:10Z"'), id="ts at an hour that is none"),
    pytest.param("run_id", raw(run_id='""'), id="empty run_id"),
    pytest.param("run_id", raw(run_id=f'"{"x" * 201}"'), id="run_id of 201 bytes"),
    pytest.param("run_id", raw(run_id="5"), id="number as run_id"),
    pytest.param("stage", raw(stage='""'), id="empty stage"),
    pytest.param("stage", raw(stage=f'"{"x" * 201}"'), id="stage of 201 bytes"),
    pytest.param("stage", raw(stage='["extract"]'), id="array as stage"),
    pytest.param("system_id", raw(system_id="0"), id="foreign system_id"),
    pytest.param("system_id", raw(system_id="1.5"), id="half a system_id"),
    pytest.param("system_id", raw(system_id='"1"'), id="string as system_id"),
    pytest.param("system_id", raw(system_id="9" * 400), id="system_id of 400 digits"),
    pytest.param("payload", raw(payload="[1]"), id="array as payload"),
    pytest.param("payload", raw(payload='"text"'), id="string as payload"),
    pytest.param("payload", raw(payload=payload_of(16 * 1024 + 1)), id="payload over 16 KiB"),
    pytest.param("payload", raw(payload=nested(33)), id="payload of 33 levels"),
    pytest.param("payload", raw(payload=nested(3_000)), id="payload of 3,000 levels, over 16 KiB"),
    pytest.param("payload", raw(payload='{"a":' + "[" * 3_000 + "]" * 3_000 + "}"), id="payload of 3,000 levels"),
    pytest.param("payload", raw(payload='{"a": 1e400}'), id="1e400 in a payload"),
    pytest.param("payload", raw(payload=f'{{"a": [{"9" * 400}]}}'), id="400 digits in a payload"),
    pytest.param("payload", raw(payload='{"a": NaN}'), id="NaN in a payload"),
    pytest.param("payload", raw(payload='{"a": -Infinity}'), id="-Infinity in a payload"),
    pytest.param("payload", raw(payload='{"a": "\\ud800"}'), id="lone surrogate in a payload"),
    pytest.param("payload", raw(payload='{"\\udc00": 1}'), id="lone surrogate as a key"),
    pytest.param("stage", raw(stage='"\\ud800"'), id="lone surrogate in a stage"),
    pytest.param("colour", raw(colour='"red"'), id="unknown field"),
    pytest.param("", "5", id="number as event"),
    pytest.param("", "null", id="null as event"),
    pytest.param("", '"x"', id="string as event"),
    pytest.param("", "[]", id="array as event"),
]


@pytest.mark.parametrize(("field", "text"), BAD_ONES)
def test_a_bad_event_is_422_with_its_index_and_field(new_system: NewSystem, field: str, text: str) -> None:
    body = problem(new_system().post_body(batch(GOOD, text, GOOD)), 422)
    assert [(1, field)] == named(body)


@pytest.mark.parametrize(("field", "text"), BAD_ONES)
def test_a_bad_line_is_422_with_its_index_and_field(new_system: NewSystem, field: str, text: str) -> None:
    lines = f"{GOOD}\n{text}\n{GOOD}"
    body = problem(new_system().post_body(lines, content_type="application/x-ndjson"), 422)
    assert [(1, field)] == named(body)


@pytest.mark.parametrize("seconds", [61, 3_600, 10**9])
def test_a_ts_more_than_60_seconds_ahead_is_422(system: ObservedSystem, seconds: int) -> None:
    body = problem(system.post([event(), event(ts=from_now(seconds)), event(ts=from_now(-1))]), 422)
    assert [(1, "ts")] == named(body)
    system.take([event()])
    system.health_with(total=1)


def test_a_ts_up_to_60_seconds_ahead_counts_as_skewed(system: ObservedSystem) -> None:
    system.take([event(ts=from_now(50)), event(ts=from_now(-5)), event()])
    metrics = system.metrics_with(total=3)
    assert (1, 0) == (metrics["clock_skewed"], metrics["late"])


def test_a_ts_before_the_window_counts_as_late_and_nothing_else(system: ObservedSystem) -> None:
    system.take([event(ts=from_now(-400), status="error"), event(ts=from_now(-86_400 * 3_000)), event()])
    metrics = system.metrics_with(total=1)
    assert (2, 0, 0) == (metrics["late"], metrics["errors"], metrics["clock_skewed"])
    assert 3 == len(system.events()["items"])


BODIES = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"   \n ", id="blanks"),
    pytest.param(b"{}", id="no events"),
    pytest.param(b'{"events": null}', id="null as events"),
    pytest.param(b'{"events": {}}', id="object as events"),
    pytest.param(b'{"events": "x"}', id="string as events"),
    pytest.param(b'{"events": []}', id="empty batch"),
    pytest.param(b'{"events": [', id="cut off"),
    pytest.param(batch(GOOD, GOOD)[:-1].encode(), id="last brace missing"),
    pytest.param((batch(GOOD) + "x").encode(), id="something after the end"),
    pytest.param((batch(GOOD) * 2).encode(), id="two batches"),
    pytest.param(batch(GOOD + ",").encode(), id="comma too many"),
    pytest.param(f"[{GOOD}]".encode(), id="an array of events"),
    pytest.param(GOOD.encode(), id="an event without batch"),
    pytest.param(b"null", id="null"),
    pytest.param(b"5", id="number"),
    pytest.param(f'{{"events": [{GOOD}], "colour": "red"}}'.encode(), id="unknown member beside events"),
    pytest.param(batch(GOOD).encode("utf-16"), id="UTF-16"),
    pytest.param(batch(raw(stage='"\xff"')).encode("latin-1"), id="wrong UTF-8 in a stage"),
    pytest.param(batch(raw(event_type='"\xff"')).encode("latin-1"), id="wrong UTF-8 in an event_type"),
    pytest.param(batch(raw(run_id='"\xff"')).encode("latin-1"), id="wrong UTF-8 in a run_id"),
    pytest.param(batch(raw(payload='{"a": "\xff"}')).encode("latin-1"), id="wrong UTF-8 in a payload"),
    pytest.param(batch(raw(payload='{"\xff": 1}')).encode("latin-1"), id="wrong UTF-8 in a key of a payload"),
    pytest.param(batch(raw(payload='{"a": "\xc0\xaf"}')).encode("latin-1"), id="overlong UTF-8"),
    pytest.param(batch(raw(payload='{"a": "\xed\xa0\x80"}')).encode("latin-1"), id="a surrogate in UTF-8"),
    pytest.param(batch(GOOD).encode() + b"\xff", id="wrong UTF-8 after the end"),
    pytest.param(b"[" * 3_000 + b"]" * 3_000, id="3,000 levels deep"),
    pytest.param(b"[" * 1_000_000, id="a million levels deep"),
    pytest.param(b'{"events": [' + b'{"payload": ' * 100_000, id="100,000 objects deep"),
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_batch_is_422(new_system: NewSystem, body: bytes) -> None:
    problem(new_system().post_body(body), 422)


@pytest.mark.parametrize(
    "body", [b"", b"\n\n \n", b"{", b"\xff\n", b"[]\n", f"{GOOD}\n{GOOD[:-1]}".encode(), f"{GOOD} {GOOD}".encode()]
)
def test_lines_that_are_no_batch_are_422(new_system: NewSystem, body: bytes) -> None:
    problem(new_system().post_body(body, content_type="application/x-ndjson"), 422)


def test_every_bad_event_is_named_up_to_100(system: ObservedSystem) -> None:
    sent = [event(latency_ms=-1) if number % 3 == 1 else event() for number in range(90)]
    body = problem(system.post(sent), 422)
    assert [(number, "latency_ms") for number in range(1, 90, 3)] == named(body)
    body = problem(system.post([event(stage="") for _ in range(1_000)]), 422)
    assert [(number, "stage") for number in range(100)] == named(body)


def test_bad_events_of_every_kind_are_named_together(system: ObservedSystem) -> None:
    texts = [param.values for param in BAD_ONES]
    body = problem(system.post_body(batch(GOOD, *(str(text) for _, text in texts))), 422)
    assert [(number, field) for number, (field, _) in enumerate(texts, 1)] == named(body)


def test_a_refused_batch_leaves_nothing_behind(system: ObservedSystem) -> None:
    problem(system.post([event(), event(), event(latency_ms=-1)]), 422)
    system.take([event()])
    system.health_with(total=1)
    assert 1 == len(system.events()["items"])


def test_with_skip_the_good_events_are_kept_and_the_bad_ones_listed(system: ObservedSystem) -> None:
    sent = [event(), event(latency_ms=-1), event(status="error"), event(stage="")]
    receipt = system.take(sent, on_invalid="skip")
    assert (2, False) == (receipt["accepted"], receipt["duplicate"])
    assert [(1, "latency_ms"), (3, "stage")] == named(receipt)
    check_findings(receipt["errors"])
    assert 1 == system.health_with(total=2)["errors"]
    assert 2 == len(system.events()["items"])


def test_with_skip_a_good_batch_is_as_without(system: ObservedSystem) -> None:
    receipt = system.take([event(), event()], on_invalid="skip")
    assert (2, []) == (receipt["accepted"], receipt.get("errors", []))


def test_with_skip_a_batch_of_bad_events_alone_counts_nothing(system: ObservedSystem) -> None:
    receipt = system.take([event(latency_ms=-1)] * 150, on_invalid="skip")
    assert (0, None) == (receipt["accepted"], receipt["entries"])
    assert [(number, "latency_ms") for number in range(100)] == named(receipt)


def test_with_skip_a_ts_too_far_ahead_is_left_out(system: ObservedSystem) -> None:
    receipt = system.take([event(), event(ts=from_now(3_600)), event()], on_invalid="skip")
    assert (2, [(1, "ts")]) == (receipt["accepted"], named(receipt))
    system.health_with(total=2)


def test_with_skip_a_body_that_is_no_batch_is_still_422(system: ObservedSystem) -> None:
    problem(system.post_body(b'{"events": [', on_invalid="skip"), 422)
    problem(system.post_body(b'{"events": []}', on_invalid="skip"), 422)


@pytest.mark.parametrize("query", ["on_invalid=ignore", "on_invalid=", "colour=red"])
def test_a_wrong_query_is_422(http: httpx.Client, system: ObservedSystem, query: str) -> None:
    problem(http.post(f"{system.path}/events?{query}", json={"events": [event()]}), 422)


def test_a_system_has_64_stages_and_the_rest_is_other(system: ObservedSystem) -> None:
    system.take([event(stage=f"stage-{number:02d}") for number in range(64)])
    system.take([event(stage=f"more-{number}") for number in range(6)])
    stages: dict[str, Any] = system.metrics_with(total=70)["stages"]
    assert [*(f"stage-{number:02d}" for number in range(64)), "__other__"] == sorted(
        stages, key=lambda name: (name == "__other__", name)
    )
    assert 6 == stages["__other__"]["total"]


def test_a_system_has_32_event_types_and_the_rest_is_other(system: ObservedSystem) -> None:
    system.take([event(event_type=f"type-{number:02d}") for number in range(32)])
    system.take([event(event_type=f"more-{number}") for number in range(5)])
    kinds: dict[str, int] = system.metrics_with(total=37)["event_types"]
    assert {**{f"type-{number:02d}": 1 for number in range(32)}, "__other__": 5} == kinds


@pytest.mark.parametrize("kind", ["start", "heartbeat", "end", "log"])
def test_a_lifecycle_event_is_kept_and_shown_but_not_counted(system: ObservedSystem, kind: str) -> None:
    system.take(
        [event(event_type=kind, status="error", latency_ms=5_000, stage="load"), event(latency_ms=1, stage="load")]
    )
    metrics = system.metrics_with(total=1)
    assert (0, 1.0) == (metrics["errors"], metrics["latency_ms"]["max"])
    assert 1 == metrics["stages"]["load"]["total"]
    assert {"success": 1, kind: 1} == metrics["event_types"]
    assert [kind, "success"] == sorted(
        (item["event_type"] for item in system.events()["items"]), key=lambda name: name != kind
    )
