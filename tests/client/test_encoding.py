"""Events as lines: whatever a pipeline passes becomes something the server takes, or is refused here."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.client.encoding import MAX_PAYLOAD, UnsendableError, capped, encode, stamp, without_ts
from tests.client.conftest import relaxed
from tests.client.observatory import Observatory, depth

NOW_MS = 1_765_722_790_529


class Rude:
    """An object whose every method fails."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __float__(self) -> float:
        raise RuntimeError("no")


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    HIGH = 3


def line_of(payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "event_type": "success",
        "status": None,
        "latency_ms": 1.5,
        "stage": None,
        "run_id": None,
        **fields,
    }
    event: dict[str, Any] = json.loads(encode(**given, ts_ms=NOW_MS, payload=payload)[0])
    return event


def payload_of(**payload: Any) -> dict[str, Any]:
    found: dict[str, Any] = line_of(payload)["payload"]
    return found


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.builds(object)
    | st.builds(Rude)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans() | st.floats() | st.none(), inner)
        | st.tuples(inner)
    ),
    max_leaves=30,
)


@relaxed
@given(st.dictionaries(st.text(st.characters(exclude_categories=())), values))
def test_any_payload_makes_an_event_that_the_server_takes(
    observatory_rules: Observatory, payload: dict[str, Any]
) -> None:
    line = encode("success", "ok", 1.0, "load", "run-1", NOW_MS, payload)[0]
    event = json.loads(line.decode("utf-8"), parse_constant=pytest.fail)
    assert observatory_rules._findings(0, event) == []
    assert b"\n" not in line


@pytest.fixture(scope="module")
def observatory_rules() -> Observatory:
    server = Observatory()
    server.close()
    return server


@relaxed
@given(st.integers(0, 32_503_680_000_000))
def test_a_stamp_is_rfc_3339_in_utc_with_milliseconds(ms: int) -> None:
    seconds, rest = divmod(ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)
    assert stamp(ms) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_the_stamp_of_the_contract_is_met() -> None:
    assert stamp(1_765_722_790_529) == "2025-12-14T14:33:10.529Z"


def test_an_event_carries_the_fields_it_was_given_and_no_others() -> None:
    event = line_of({"rows": 5}, status="error", stage="load", run_id="run-1")
    assert event == {
        "ts": "2025-12-14T14:33:10.529Z",
        "event_type": "success",
        "status": "error",
        "latency_ms": 1.5,
        "stage": "load",
        "run_id": "run-1",
        "payload": {"rows": 5},
    }


@pytest.mark.parametrize(
    ("event_type", "status"), [("success", "ok"), ("failure", "error"), ("error", "error"), ("loaded", "ok")]
)
def test_a_status_that_is_not_given_is_what_the_type_says(event_type: str, status: str) -> None:
    assert line_of({}, event_type=event_type)["status"] == status


@pytest.mark.parametrize("event_type", ["start", "heartbeat", "end", "log"])
def test_lifecycle_events_need_no_latency(event_type: str) -> None:
    assert "latency_ms" not in line_of({}, event_type=event_type, latency_ms=None)


@pytest.mark.parametrize("latency_ms", [None, math.nan, "soon", object()])
def test_a_counted_event_without_a_latency_is_refused_here(latency_ms: Any) -> None:
    with pytest.raises(UnsendableError, match="latency_ms"):
        line_of({}, latency_ms=latency_ms)


@pytest.mark.parametrize(
    ("latency_ms", "sent"),
    [(-3, 0), (0, 0), (12.345678, 12.346), (1e300, 604_800_000), (math.inf, 604_800_000), (True, 1)],
)
def test_a_latency_is_clamped_to_what_the_server_takes(latency_ms: float, sent: float) -> None:
    assert line_of({}, latency_ms=latency_ms)["latency_ms"] == sent


def test_another_status_than_ok_and_error_is_refused_here() -> None:
    with pytest.raises(UnsendableError, match="status"):
        line_of({}, status="fine")


@relaxed
@given(st.text(st.characters(exclude_categories=()), max_size=400))
def test_names_are_cut_to_200_bytes_between_characters(name: str) -> None:
    sent = line_of({}, stage=name)["stage"]
    assert 0 < len(sent.encode()) <= 200
    clean = name.encode("utf-8", "replace").decode()
    assert sent == (clean or "unnamed") if len(clean.encode()) <= 200 else clean.startswith(sent)


def test_numbers_that_json_lacks_become_null() -> None:
    assert payload_of(a=math.nan, b=[math.inf, -math.inf, 1.5]) == {"a": None, "b": [None, None, 1.5]}


def test_integers_beyond_64_bits_travel_as_text() -> None:
    assert payload_of(a=2**80, b=2**63 - 1, c=10**5000) == {"a": str(2**80), "b": 2**63 - 1, "c": "<int of 16610 bits>"}


def test_numbers_of_other_libraries_travel_as_numbers() -> None:
    assert payload_of(a=Decimal("1.5"), b=Fraction(1, 4), c=Level.HIGH) == {"a": 1.5, "b": 0.25, "c": 3}


def test_other_objects_travel_as_their_text() -> None:
    moment = datetime(2025, 12, 14, tzinfo=UTC)
    found = payload_of(a=Path("x/y"), b=moment, c=Colour.RED, d=Rude(), e=b"abc", f={1, 2})
    assert found == {"a": "x/y", "b": str(moment), "c": "Colour.RED", "d": "<Rude>", "e": "<3 bytes>", "f": [1, 2]}


def test_keys_that_are_no_text_become_text() -> None:
    assert payload_of(a={1: 1, None: 2, (1, 2): 3}) == {"a": {"1": 1, "None": 2, "(1, 2)": 3}}


def test_lone_surrogates_are_replaced() -> None:
    assert payload_of(a="x\ud800y", b=["\udfff"]) == {"a": "x?y", "b": ["?"]}


def test_what_is_nested_too_deep_is_cut_off() -> None:
    value: list[Any] = []
    for _ in range(2_000):
        value = [value]
    assert depth(payload_of(a=value)) == 32


def test_a_payload_that_contains_itself_is_sent_up_to_a_depth() -> None:
    circle: dict[str, Any] = {"a": 1}
    circle["self"] = circle
    assert depth(payload_of(**circle)) == 32


@relaxed
@given(st.integers(MAX_PAYLOAD - 60, MAX_PAYLOAD + 60), st.sampled_from("aé€🙂"))
def test_a_payload_is_left_out_exactly_when_it_is_over_its_cap(size: int, letter: str) -> None:
    text = letter * (size // len(letter.encode()))
    line, payload_cut = encode("log", "ok", None, None, None, NOW_MS, {"a": text})
    whole = len(json.dumps({"a": text}, ensure_ascii=False, separators=(",", ":")).encode()) <= MAX_PAYLOAD
    assert payload_cut is not whole
    expected = {"a": text} if whole else {"payload_omitted": "larger than 16384 bytes"}
    assert json.loads(line)["payload"] == expected


def test_what_is_essential_stays_when_the_payload_is_left_out() -> None:
    line = encode("failure", None, 1, None, None, NOW_MS, {"rows": "x" * 20_000}, {"error_type": "ValueError"})[0]
    assert json.loads(line)["payload"] == {"error_type": "ValueError", "payload_omitted": "larger than 16384 bytes"}


def test_a_giant_payload_costs_no_more_than_a_large_one() -> None:
    giant = {"rows": [{"a": number, "b": "text"} for number in range(200_000)], "blob": b"x" * 50_000_000}
    began = time.perf_counter()
    assert line_of(giant)["payload"] == {"payload_omitted": "larger than 16384 bytes"}
    assert time.perf_counter() - began < 0.1


def test_an_event_may_leave_its_time_to_the_server() -> None:
    line = encode("success", None, 1, "load", None, NOW_MS, {"ts": "mine"})[0]
    event = json.loads(line)
    del event["ts"]
    assert json.loads(without_ts(line)) == event


@relaxed
@given(st.text(max_size=50), st.integers(1, 20))
def test_capped_text_is_never_longer_than_asked(text: str, limit: int) -> None:
    assert len(capped(text, limit)) <= limit
