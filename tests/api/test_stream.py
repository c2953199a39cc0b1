"""The stream of changes over HTTP: what comes, in which order, to whom, and how it ends."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import EVENT, register
from tests.e2e.service import Service
from tests.waiting import wait_for

Json = dict[str, Any]


class Stream:
    """One open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self.last_id = ""
        self._lines = _lines(response)

    def event(self) -> tuple[str, Json]:
        """The next event: its name and data."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                self.last_id = fields.get("id", self.last_id)
                return fields["event"], json.loads(fields["data"])
            else:
                fields = {}
        raise AssertionError("the stream has ended")

    def until_shown(self, *system_ids: int) -> set[int]:
        """Systems in the first events, until all of those are; one that was registered just now may come with a change."""
        found: set[int] = set()
        while not set(system_ids) <= found:
            found |= {line["system_id"] for line in self.event()[1].get("items", [])}
        return found

    def until(self, kind: str, wanted: Callable[[Json], bool] = lambda _data: True) -> Json:
        """The data of the first such event."""
        for _ in range(60):
            name, data = self.event()
            if name == kind and wanted(data):
                return data
        raise AssertionError(f"no such {kind} came")


def _lines(response: httpx.Response) -> Iterator[str]:
    """The lines as event streams have them; httpx also ends one at a U+2028, which may stand in a system's name."""
    rest = ""
    for text in response.iter_text():
        *whole, rest = (rest + text).split("\n")
        yield from whole


@contextlib.contextmanager
def opened(client: httpx.Client, headers: dict[str, str] | None = None, **params: str) -> Iterator[Stream]:
    with client.stream("GET", "/stream", params=params, headers=headers) as response:
        assert 200 == response.status_code
        yield Stream(response)


def item(data: Json, system_id: int) -> Json | None:
    return next((one for one in data["items"] if one["system_id"] == system_id), None)


def send(client: httpx.Client, system_id: int, **fields: Any) -> None:
    client.post(f"/systems/{system_id}/events", json={"events": [{**EVENT, **fields}] * 10}).raise_for_status()


def test_first_the_picture_then_what_changes(http: httpx.Client, system_id: int) -> None:
    with opened(http) as stream:
        assert "text/event-stream" == stream.headers["content-type"]
        assert "snapshot" == stream.event()[0]
        send(http, system_id)
        data = stream.until("change", lambda data: (item(data, system_id) or {}).get("health") == "OK")
        line = item(data, system_id)
        fleet = http.get("/health").json()
        assert line is not None
        assert (10, False) == (line["total"], line["observer_behind"])
        assert (set(fleet["counts"]), set(fleet["items"][0])) == (set(data["counts"]), set(line))
        assert int(stream.last_id) > 1_700_000_000_000


def test_a_system_that_leaves_the_filter_is_gone(http: httpx.Client) -> None:
    tag = f"t{time.monotonic_ns()}"
    one, other = register(http, tags=[tag]), register(http)
    with opened(http, state="OK", tag=tag) as stream:
        assert [] == stream.event()[1]["items"]
        send(http, one)
        send(http, other)
        data = stream.until("change", lambda data: bool(data["items"]))
        assert [one] == [line["system_id"] for line in data["items"]]
        send(http, one, status="error")
        assert [one] == stream.until("change", lambda data: bool(data["gone"]))["gone"]


def test_a_deleted_system_is_gone(http: httpx.Client) -> None:
    one, other = register(http), register(http)
    with opened(http, systems=f"{one},{other}") as stream:
        stream.until_shown(one, other)
        http.delete(f"/systems/{other}")
        assert [other] == stream.until("change", lambda data: bool(data["gone"]))["gone"]


def test_new_tags_and_names_arrive(http: httpx.Client, system_id: int) -> None:
    with opened(http, systems=str(system_id)) as stream:
        stream.until_shown(system_id)
        http.patch(f"/systems/{system_id}", json={"name": f"renamed-{system_id}", "tags": ["new"]})
        data = stream.until("change", lambda data: item(data, system_id) is not None)
        assert (f"renamed-{system_id}", ["new"]) == tuple(data["items"][0][name] for name in ("name", "tags"))


def test_who_comes_back_is_told_what_is_new_and_else_gets_the_picture(http: httpx.Client) -> None:
    quiet, busy = register(http), register(http)
    wanted = f"{quiet},{busy}"
    with opened(http, systems=wanted) as stream:
        stream.until_shown(quiet, busy)
        stream.until("heartbeat")  # so that the registrations lie behind
        last_id = stream.last_id
    send(http, busy)
    wait_for(lambda: http.get(f"/systems/{busy}/health").json()["total"], "the events are folded")
    with opened(http, {"Last-Event-ID": last_id}, systems=wanted) as stream:
        kind, data = stream.event()
        if not data["items"]:  # the reader looked just before the fold
            kind, data = stream.event()
        assert ("change", [busy]) == (kind, [line["system_id"] for line in data["items"]])
    for unknown in ("0", "not-ours", "9" * 15, "9" * 500):
        with opened(http, {"Last-Event-ID": unknown}, systems=wanted) as stream:
            assert "snapshot" == stream.event()[0]


def test_it_is_compressed_for_who_can_read_that(http: httpx.Client, system_id: int) -> None:
    with opened(http, {"Accept-Encoding": "gzip"}, systems=str(system_id)) as stream:
        assert "gzip" == stream.headers["content-encoding"]
        assert system_id in stream.until_shown(system_id)
    with opened(http, {"Accept-Encoding": "identity"}, systems=str(system_id)) as stream:
        assert "content-encoding" not in stream.headers
        assert "snapshot" == stream.event()[0]


def test_head_ends_at_once(http: httpx.Client) -> None:
    answer = http.head("/stream")
    assert (200, "text/event-stream", b"") == (answer.status_code, answer.headers["content-type"], answer.content)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("systems=1,x", "systems"),
        ("systems=" + ",".join(map(str, range(501))), "systems"),
        ("systems=", "systems"),
        ("systems=-1", "systems"),
        ("state=BAD", "state"),
        ("state=ok", "state"),
        ("tag=", "tag"),
        ("tag=" + "x" * 201, "tag"),
        ("colour=red", "colour"),
    ],
)
def test_a_wrong_filter_is_named(http: httpx.Client, query: str, field: str) -> None:
    answer = http.get(f"/stream?{query}")
    assert (422, [field]) == (answer.status_code, [one["field"] for one in answer.json()["errors"]])


def test_it_needs_a_key_that_may_read(keyed: Service, as_role: Callable[[str], httpx.Client]) -> None:
    assert 401 == as_role("").get("/stream").status_code
    with opened(as_role("read")) as stream:
        assert "snapshot" == stream.event()[0]


def raw(service: Service, path: str = "/stream") -> socket.socket:
    """A client that asks, and reads only when it is told to."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(20)
    connection.connect(service.address)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return connection


def test_who_does_not_read_is_cut_off_and_the_end_is_quick(tmp_path: Path) -> None:
    service = Service.start(
        tmp_path, "--api-processes", "1", environ={"LSO_CLIENT_TIMEOUT": "1", "LSO_MAX_CONNECTIONS": "60"}
    )
    try:
        with service.client() as http:
            for _ in range(150):
                register(http, tags=[f"{at:02d}" + "x" * 190 for at in range(20)])
        with raw(service) as silent:
            wait_for(lambda: _is_closed(silent), "the silent client is cut off", 20)
        viewers = [raw(service, "/stream?systems=1") for _ in range(30)]
        for viewer in viewers:
            assert b"event: snapshot" in _read_until(viewer, b"event: snapshot")
        with raw(service) as one_too_many:
            assert b"this process has its 30 streams" in _read_until(one_too_many, b'"}')
    finally:
        began = time.monotonic()
        service.stop()
    assert time.monotonic() - began < 6  # of the 10 s that there are
    for viewer in viewers:
        assert _read_until(viewer, b"0\r\n\r\n").endswith(b"0\r\n\r\n")  # a proper end, no broken connection
        viewer.close()


def _is_closed(connection: socket.socket) -> bool:
    """Whether the server has dropped a connection; reads nothing of what it sent."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.send(b" ")
        return False
    return True


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    found = b""
    while end not in found:
        piece = connection.recv(65_536)
        if not piece:
            break
        found += piece
    return found
