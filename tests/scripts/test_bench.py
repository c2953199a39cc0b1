"""The benches' own tools: what they send is what they say, nothing is sent twice, and counts and times are true."""

import http.server
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lso_core.compute import batches, libraries
from lso_core.compute.batches import Post
from scripts.bench import _cpu, _load, _requests
from scripts.bench._requests import Prepared, Requests
from scripts.bench.stages import stage_of

PLACES = [(1, "/systems/1/events"), (2, "/systems/2/events")]
BATCH = 50


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("kind", ["json", "ndjson", "arrow"])
def test_prepared_batches_are_good_and_differ_each_time_they_are_sent(tmp_path: Path, kind: str) -> None:
    requests = Requests(_requests.prepare(tmp_path, kind, PLACES, BATCH, 3))
    reader = libraries.arrow() if kind == "arrow" else batches
    sent = [body_of(requests.written(turn, number)) for turn, number in ((0, 1), (1, 2), (0, 3))]
    for system_id, body in zip((1, 2, 1), sent, strict=True):
        batch = reader.quick(Post(body, system_id, BATCH, ndjson=kind == "ndjson"))
        assert batch is not None
        assert BATCH == batch.count
    assert 3 == len(set(sent))


def test_every_run_id_and_the_idempotency_key_have_the_number(tmp_path: Path) -> None:
    prepared = _requests.prepare(tmp_path, "json", PLACES, BATCH, 1, own_runs=True)
    request = Requests(prepared).written(0, 1234567)
    assert BATCH == len(set(re.findall(rb'"run_id": "1234567-[0-9a-f-]{28}"', request)))
    assert re.search(rb"Idempotency-Key: [0-9a-f]{24}1234567\r\n", request)


def test_no_two_lines_of_a_series_have_the_same_time(tmp_path: Path) -> None:
    requests = Requests(_requests.prepare(tmp_path, "lines", PLACES, 10_000, 1))
    found = []
    for number in (7, 8):
        lines = body_of(requests.written(0, number)).decode().splitlines()
        assert 10_000 == len(lines)
        found += [(line.split(" ")[0], line.split(" ")[2]) for line in lines]
    assert len(found) == len(set(found))
    ages_s = [time.time() - int(moment) / 1e9 for _, moment in found]
    assert all(-1 < age_s < 600 for age_s in ages_s)


class Collector(http.server.ThreadingHTTPServer):
    """Takes POSTs and keeps their bodies; refuses every tenth."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server_address[:2])


class Taking(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(503 if len(self.server.bodies) % 10 == 0 else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return _requests.prepare(tmp_path, "json", PLACES, 2, 4)


@pytest.mark.parametrize("tool", ["wrk", "own emitters"])
def test_a_load_is_counted_as_the_server_counts_it(
    collector: Collector, prepared: Prepared, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "wrk" and _load.tool() != "wrk":
        pytest.skip("wrk is not installed")
    monkeypatch.setattr(_load, "tool", lambda: tool)
    load = _load.send(collector.url, prepared, 1, 4)
    answered, unheard = load.taken + load.refused, len(collector.bodies) - load.taken - load.refused
    assert 0 < load.refused < load.taken
    assert 0 <= unheard <= 4, f"{answered} answers to {len(collector.bodies)} requests"
    assert len(collector.bodies) == len(set(collector.bodies))


def test_a_paced_load_keeps_its_pace(collector: Collector, prepared: Prepared) -> None:
    load = _load.send(collector.url, prepared, 1, 4, rate=40)
    assert 10 <= load.taken + load.refused <= 45


def test_exactly_as_many_are_taken_as_were_asked_for(collector: Collector, prepared: Prepared) -> None:
    _load.send_each(collector.url, prepared, 25)
    assert 25 == len(collector.bodies) - len(collector.bodies) // 10


def test_processor_time_is_that_of_the_whole_family() -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    meter = _cpu.Meter((process := subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE)).pid)
    try:
        deadline = time.monotonic() + 30
        while sum(meter.seconds().values()) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert sum(meter.seconds().values()) >= 0.3
    finally:
        process.communicate(b"\n")


def test_a_stack_belongs_to_its_innermost_stage() -> None:
    http = ("/x/uvicorn/protocols/http/httptools_impl.py:run_asgi",)
    assert "HTTP" == stage_of(http)
    assert "decode: times" == stage_of(
        ("/x/numpy/any.py:any", "/x/lso_core/compute/timestamps.py:parse", "/x/lso_core/compute/columns.py:cut", *http)
    )
    assert "Redis client: append" == stage_of(
        (
            "/x/redis/connection.py:pack_command",
            "/x/lso_core/store/server.py:_send",
            "/x/lso_core/store/ingest.py:append",
        )
    )
    assert "loop and interpreter" == stage_of(("/x/asyncio/runners.py:run",))
