"""Bodies: what is read, under which caps, and what is refused without reading it all."""

import gzip
import json
import socket
import zlib
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.limits.body import Budget, Cap, Inflater, kind_of, read_body
from lso_core.model.errors import InputError, TooLargeError, UnavailableError, UnsupportedTypeError
from tests.api.conftest import EVENT, SMALL_BODY, register
from tests.e2e.service import Service

JSON = frozenset({"application/json"})
BATCH = json.dumps({"events": [EVENT]}).encode()


def inflate(data: bytes, encoding: str = "gzip", cap: int = 1_000) -> bytes:
    inflater = Inflater(data, encoding, Cap(cap))
    inflater.run(10)
    inflater.run(cap + 1)
    assert inflater.done
    return inflater.body()


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@settings(deadline=None)
@given(st.binary(max_size=1_000), st.integers(0, 9))
def test_every_compression_inflates_to_what_it_was(data: bytes, level: int) -> None:
    assert data == inflate(gzip.compress(data, level))
    assert data == inflate(zlib.compress(data, level), "deflate")
    assert data == inflate(raw_deflate(data), "deflate")
    assert data == inflate(gzip.compress(data[:7]) + gzip.compress(data[7:]))


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300), st.binary(max_size=3))
def test_any_damage_is_noticed_or_harmless(data: bytes, at: int, by: bytes) -> None:
    packed = gzip.compress(data)
    broken = packed[:at] + by + packed[at + len(by) :]
    try:
        found = inflate(broken)
    except (InputError, TooLargeError):
        return
    assert data == found


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "ends in the middle"),
        (gzip.compress(b"abc")[:-1], "ends in the middle"),
        (gzip.compress(b"abc") + b"x", "has bytes behind its end"),
        (b"plain", "cannot be inflated"),
        (gzip.compress(b"abc")[:-8] + bytes(8), "cannot be inflated"),
    ],
    ids=["empty", "cut off", "with more behind", "plain", "of another checksum"],
)
def test_a_broken_stream_is_wrong_input(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        inflate(data)


def test_a_bomb_is_refused_after_a_bounded_piece_of_it() -> None:
    inflater = Inflater(gzip.compress(bytes(50_000_000)), "gzip", Cap(1_000_000))
    with pytest.raises(TooLargeError, match="the cap is 1000000"):
        inflater.run(1_000_001)
    assert inflater._total <= 1_000_001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "text/csv"),
        ("content-type", "application/json; charset=latin-1"),
        ("content-type", "application/jsonx"),
        ("content-encoding", "br"),
        ("content-encoding", "gzip, gzip"),
    ],
)
def test_what_is_not_read_is_named(name: str, value: str) -> None:
    with pytest.raises(UnsupportedTypeError, match="is not read here"):
        kind_of([(name.encode(), value.encode())], JSON)


@pytest.mark.parametrize(
    "value", ["application/json", "Application/JSON", 'application/json; charset="UTF-8"', "application/json;x=y"]
)
def test_json_is_read_in_every_spelling(value: str) -> None:
    assert "application/json" == kind_of([(b"content-type", value.encode())], JSON).media_type


def receiver(*pieces: bytes) -> Callable[[], object]:
    messages = [
        {"type": "http.request", "body": piece, "more_body": at < len(pieces)} for at, piece in enumerate(pieces, 1)
    ]
    waiting = iter(messages)

    async def receive() -> object:
        return next(waiting)

    return receive


async def test_bodies_are_held_in_the_budget_until_they_are_given_back() -> None:
    budget = Budget(100)
    kind = kind_of([], JSON)
    body = await read_body(kind, receiver(b"a" * 30, b"b" * 30), Cap(100), budget)  # type: ignore[arg-type]
    assert 60 == budget.held == len(body)
    with pytest.raises(UnavailableError, match="the cap is 100"):
        await read_body(kind, receiver(b"a" * 30, b"b" * 30), Cap(100), budget)  # type: ignore[arg-type]
    assert 60 == budget.held
    budget.give_back(60)
    packed = gzip.compress(b"x" * 50)
    kind = kind_of([(b"content-encoding", b"gzip")], JSON)
    await read_body(kind, receiver(packed[:5], packed[5:]), Cap(100), budget)  # type: ignore[arg-type]
    assert 50 == budget.held


# --- over a socket ----------------------------------------------------------------------------------------------------


@pytest.fixture
def writer(as_role: Callable[[str], httpx.Client]) -> httpx.Client:
    """A client of the service with small caps."""
    return as_role("admin")


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 4096):
        yield b" " * 4096


def test_a_body_of_exactly_the_cap_is_taken(writer: httpx.Client) -> None:
    url = f"/systems/{register(writer)}/events"
    body = BATCH + b" " * (SMALL_BODY - len(BATCH))
    assert 202 == writer.post(url, content=body).status_code
    assert 202 == writer.post(url, content=gzip.compress(body), headers={"Content-Encoding": "gzip"}).status_code
    assert 413 == writer.post(url, content=body + b" ").status_code
    assert 413 == writer.post(url, content=gzip.compress(body + b" "), headers={"Content-Encoding": "gzip"}).status_code


def test_chunks_are_counted(writer: httpx.Client) -> None:
    url = f"/systems/{register(writer)}/events"
    answer = writer.post(url, content=pieces(SMALL_BODY * 16))
    assert (413, "close") == (answer.status_code, answer.headers["connection"])
    assert f"the cap is {SMALL_BODY} (LSO_MAX_BODY_BYTES)" in answer.json()["detail"]


def test_a_declared_length_over_the_cap_is_refused_before_anything_is_sent(service: Service, system_id: int) -> None:
    with socket.create_connection(service.address, timeout=10) as connection:
        head = f"POST /systems/{system_id}/events HTTP/1.1\r\nHost: lso\r\nContent-Length: {64 << 20}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_caller_that_goes_away_in_the_middle_harms_nobody(
    service: Service, http: httpx.Client, system_id: int
) -> None:
    for _ in range(5):
        with socket.create_connection(service.address, timeout=10) as connection:
            head = f"POST /systems/{system_id}/events HTTP/1.1\r\nHost: lso\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode() + b'{"events":')
    assert 202 == http.post(f"/systems/{system_id}/events", content=BATCH).status_code
    assert '"status":500' not in service.said()


@pytest.mark.parametrize(
    ("content", "headers"),
    [(b"{", {}), (b"{}", {"Content-Type": "text/csv"}), (BATCH, {"Idempotency-Key": ""}), (b" " * (17 << 20), {})],
    ids=["malformed", "csv", "empty key", "too large"],
)
def test_an_unknown_system_wins_over_everything_else(
    http: httpx.Client, content: bytes, headers: dict[str, str]
) -> None:
    assert 404 == http.post("/systems/999999999/events", content=content, headers=headers).status_code
    assert 404 == http.post("/systems/999999999/events?on_invalid=maybe", content=BATCH).status_code


def test_caps_on_events_and_rate_are_named(writer: httpx.Client) -> None:
    url = f"/systems/{register(writer)}/events"
    answer = writer.post(url, json={"events": [EVENT] * 51})
    assert (422, "the batch has 51 events; the cap is 50") == (answer.status_code, answer.json()["detail"])
    answers = [writer.post(url, json={"events": [EVENT] * 50}) for _ in range(6)]
    refused = next(answer for answer in answers if answer.status_code != 202)
    assert 429 == refused.status_code
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert "LSO_RATE_EVENTS" in refused.json()["detail"]


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/ndjson", "application/jsonl"])
def test_lines_are_read_under_each_of_their_names(http: httpx.Client, system_id: int, media_type: str) -> None:
    body = b"\n".join([json.dumps(EVENT).encode()] * 3) + b"\n"
    answer = http.post(f"/systems/{system_id}/events", content=body, headers={"Content-Type": media_type})
    assert (202, 3) == (answer.status_code, answer.json()["accepted"])
