"""How a batch may travel: media types, compression, sizes."""

import gzip
import json
import zlib
from collections.abc import Callable

import httpx
import pytest

from tests.e2e import wire
from tests.e2e.answers import problem
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, accepted, event, events

MIB = 1024 * 1024
CAP = 16 * MIB
BATCH = json.dumps({"events": events(3)}).encode()
LINES = b"\n".join(json.dumps(one).encode() for one in events(3))


def filled_to(size: int) -> bytes:
    """A batch of three events whose body has exactly so many bytes."""
    return BATCH + b" " * (size - len(BATCH))


def test_a_body_full_of_brackets_is_refused_with_the_cap(system: ObservedSystem) -> None:
    """Payloads of lawful size, each of thousands of empty arrays: seconds and gigabytes to decode."""
    one = json.dumps(event(payload={"p": [[]] * 5_000}), separators=(",", ":"))
    body = '{"events":[' + ",".join([one] * 990) + "]}"
    assert 14 * MIB < len(body) < CAP
    assert "250000 objects and arrays" in problem(system.post_body(body), 422)["detail"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        'application/json;charset="UTF-8"',
    ],
)
def test_json_is_taken_under_its_names_and_without_one(system: ObservedSystem, content_type: str | None) -> None:
    assert 3 == accepted(system.post_body(BATCH, content_type=content_type))["accepted"]


@pytest.mark.parametrize(
    "lines",
    [LINES, LINES + b"\n", LINES.replace(b"\n", b"\r\n"), LINES.replace(b"\n", b"\n\n") + b"\n\n"],
    ids=["no end", "an end", "CRLF", "blank lines"],
)
def test_ndjson_has_one_event_a_line(system: ObservedSystem, lines: bytes) -> None:
    assert 3 == accepted(system.post_body(lines, content_type="application/x-ndjson"))["accepted"]
    system.health_with(total=3)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/csv",
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "nonsense",
    ],
)
def test_another_content_type_is_415(system: ObservedSystem, content_type: str) -> None:
    problem(system.post_body(BATCH, content_type=content_type), 415)


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "nonsense", "gzip, gzip, gzip, gzip"])
def test_another_coding_is_415(system: ObservedSystem, coding: str) -> None:
    problem(system.post_body(BATCH, {"Content-Encoding": coding}), 415)


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize(("content_type", "body"), [("application/json", BATCH), ("application/x-ndjson", LINES)])
def test_a_compressed_body_is_taken(
    system: ObservedSystem, coding: str, compress: Callable[[bytes], bytes], content_type: str, body: bytes
) -> None:
    answer = system.post_body(compress(body), {"Content-Encoding": coding}, content_type)
    assert 3 == accepted(answer)["accepted"]
    system.health_with(total=3)


def test_a_gzip_body_of_two_members_is_read_to_its_end(system: ObservedSystem) -> None:
    lines = gzip.compress(LINES + b"\n") + gzip.compress(LINES)
    answer = system.post_body(lines, {"Content-Encoding": "gzip"}, "application/x-ndjson")
    assert 6 == accepted(answer)["accepted"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"",
        lambda body: body[: len(body) // 2],
        lambda body: b"\x00" + body,
        lambda body: body + b"more",
        lambda body: BATCH,
    ],
    ids=["empty", "cut off", "wrong start", "something after", "not compressed at all"],
)
def test_a_spoilt_compressed_body_is_422(system: ObservedSystem, coding: str, spoil: Callable[[bytes], bytes]) -> None:
    compress = gzip.compress if coding == "gzip" else zlib.compress
    problem(system.post_body(spoil(compress(BATCH)), {"Content-Encoding": coding}), 422)


def test_a_body_of_16_mib_is_taken_and_one_byte_more_is_413(system: ObservedSystem) -> None:
    assert 3 == accepted(system.post_body(filled_to(CAP)))["accepted"]
    detail = problem(system.post_body(filled_to(CAP + 1)), 413)["detail"]
    assert str(CAP) in detail or "16 MiB" in detail


def test_the_cap_holds_for_what_comes_out_of_compression(system: ObservedSystem) -> None:
    for coding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        assert 3 == accepted(system.post_body(compress(filled_to(CAP)), {"Content-Encoding": coding}))["accepted"]
        problem(system.post_body(compress(filled_to(CAP + 1)), {"Content-Encoding": coding}), 413)


def gzip_of_zeros(inflated: int) -> bytes:
    """A gzip body that inflates to so many zeros, made piece by piece."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(inflated // MIB)) + packer.flush()


def test_a_gzip_bomb_is_413_and_is_not_inflated(service: Service, system: ObservedSystem) -> None:
    bomb = gzip_of_zeros(1024 * MIB)
    before = {child.pid: child.memory_info().rss for child in service.children("api")}
    problem(system.post_body(bomb, {"Content-Encoding": "gzip"}), 413)
    grown = {child.pid: child.memory_info().rss - before[child.pid] for child in service.children("api")}
    assert max(grown.values()) < 128 * MIB


@pytest.mark.parametrize("path", ["/systems/{id}/events", "/systems"])
def test_a_declared_body_of_64_mib_is_413_before_it_is_sent(
    service: Service, system: ObservedSystem, path: str
) -> None:
    head = wire.head(path.format(id=system.id), "Content-Type: application/json", f"Content-Length: {64 * MIB}")
    exchange = wire.stream_body(service.address, head, (b" " * 65_536 for _ in range(1024)))
    assert 413 == exchange.status
    assert exchange.sent < 32 * MIB


def test_a_body_of_64_mib_in_chunks_is_413_before_it_is_sent(service: Service, system: ObservedSystem) -> None:
    head = wire.head(f"{system.path}/events", "Content-Type: application/json", "Transfer-Encoding: chunked")
    exchange = wire.stream_body(service.address, head, wire.chunks(b" " * 65_536, 1024))
    assert 413 == exchange.status
    assert exchange.sent < 48 * MIB


def test_a_body_of_64_mib_for_an_unknown_system_is_404_before_it_is_sent(service: Service) -> None:
    head = wire.head("/systems/999999999/events", "Content-Type: application/json", f"Content-Length: {64 * MIB}")
    exchange = wire.stream_body(service.address, head, (b" " * 65_536 for _ in range(1024)))
    assert 404 == exchange.status
    assert exchange.sent < 32 * MIB


def test_after_a_413_the_service_still_serves(http: httpx.Client, system: ObservedSystem) -> None:
    problem(system.post_body(filled_to(CAP + 1)), 413)
    system.take([event()])
    system.health_with(total=1)


def test_a_body_in_small_chunks_is_taken(system: ObservedSystem) -> None:
    pieces = (BATCH[at : at + 7] for at in range(0, len(BATCH), 7))
    answer = system.http.post(f"{system.path}/events", content=pieces, headers={"Content-Type": "application/json"})
    assert 3 == accepted(answer)["accepted"]


def test_a_request_that_is_no_http_is_400_and_harms_nobody(service: Service, system: ObservedSystem) -> None:
    exchange = wire.stream_body(service.address, "NONSENSE\r\n\r\n", iter(()))
    assert exchange.status in {0, 400}
    system.take([event()])


def test_a_head_without_end_is_refused_before_it_fills_the_memory(service: Service) -> None:
    lines = (f"X-{number}: {'x' * 60_000}\r\n".encode() for number in range(1_000))
    exchange = wire.stream_body(service.address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n", lines)
    assert exchange.sent < 32 * MIB
