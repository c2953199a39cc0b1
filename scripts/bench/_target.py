"""What is measured: a service of its own, started and ended here, or a running one; and the requests that set it up."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

ROOT: Final = Path(__file__).resolve().parents[2]
WINDOW_S: Final = 3_600
"""Long enough that nothing leaves a window while it is measured."""
START_S: Final = 60.0
FOLD_S: Final = 300.0
_LISTENS = re.compile(r"http://127\.0\.0\.1:\d+")
_SOCKET = re.compile(rb"unixsocket:([^\0]*?)\s*\0")

Json = dict[str, Any]


class Service(NamedTuple):
    """An LSO."""

    url: str
    pid: int | None = None
    """Of its `lso up`; unknown where it runs already."""


@contextlib.contextmanager
def service(
    url: str | None, options: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """The service to measure: that at `url`, or an `lso up` which lives as long as the block."""
    if url is not None:
        yield Service(url.rstrip("/"))
        return
    with data_folder() as folder, up(folder, options, environ) as started:
        yield started


def data_folder() -> "tempfile.TemporaryDirectory[str]":
    """For one service's files; a server may still be writing when it goes."""
    return tempfile.TemporaryDirectory(prefix="lso-bench-", ignore_cleanup_errors=True)


@contextlib.contextmanager
def up(folder: str, options: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Iterator[Service]:
    """An `lso up` on a free port with its data in `folder`, until the block ends."""
    output = Path(folder) / "lso.log"
    command = [sys.executable, "-m", "lso_core.cli.lso", "up", "--port", "0", "--data-dir", f"{folder}/data", *options]
    given = {**os.environ, "LSO_LOG_LEVEL": "warning", **(environ or {})}
    with output.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield Service(_ready(process, output), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextlib.contextmanager
def second_api() -> Iterator[tuple[str, psutil.Process]]:
    """One more API process beside the `lso up` that this program started: its URL, and the process."""
    below = psutil.Process().children(recursive=True)
    store = next(one for one in below if one.name() in {"redis-server", "valkey-server"})
    path = next(str(one.laddr) for one in store.net_connections(kind="unix") if str(one.laddr).startswith("/"))
    environ = {**os.environ, "LSO_REDIS_URL": f"unix://{urllib.parse.quote(path)}", "LSO_LOG_LEVEL": "warning"}
    with tempfile.TemporaryDirectory(prefix="lso-bench-") as folder:
        output = Path(folder) / "api.log"
        port = str(free_port())
        with output.open("wb") as said:
            command = [sys.executable, "-m", "lso_core.cli.lso", "api", "--port", port]
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=said, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _answers(url), START_S, 0.1)
            yield url, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return bool(get(f"{url}/healthz"))
    except OSError:
        return False


def _ready(process: "subprocess.Popen[bytes]", output: Path) -> str:
    """Where the service listens, once it does."""

    def listens_on() -> str | None:
        if process.poll() is not None:
            raise SystemExit(f"lso up ended with status {process.returncode}:\n{output.read_text()}")
        found = _LISTENS.search(output.read_text())
        return found[0] if found else None

    return str(wait_for(listens_on, START_S))


def wait_for(condition: Callable[[], Any], within_s: float, pause_s: float = 0.01) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {within_s:.0f} s in vain")
        time.sleep(pause_s)
    return value


def get(url: str) -> Json:
    """A JSON answer."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the URL is the service that is measured
        return dict(json.load(answer))


def text(url: str) -> str:
    """An answer as it is."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - as above
        return str(answer.read().decode())


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Json:
    """The JSON answer to a JSON body."""
    given = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, body, given)  # noqa: S310 - as above
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
        return dict(json.load(answer))


def register(url: str, window_s: int = WINDOW_S) -> int:
    """A new system; its id."""
    name = f"bench-{uuid.uuid4().hex}"
    return int(post(f"{url}/systems", json.dumps({"name": name, "window_seconds": window_s}).encode())["system_id"])


def events_path(system_id: int) -> str:
    """Where a system's events are posted."""
    return f"/systems/{system_id}/events"


def total_of(url: str, system_id: int) -> int:
    """How many events /health counts."""
    return int(get(f"{url}/systems/{system_id}/health")["total"])


def totals(url: str, systems: Sequence[int]) -> int:
    """How many events /health counts, over all of `systems`; on one connection, as they may be thousands."""
    line = http.client.HTTPConnection(*address_of(url), timeout=30)
    total = 0
    for system_id in systems:
        line.request("GET", f"/systems/{system_id}/health")
        total += int(json.load(line.getresponse())["total"])
    line.close()
    return total


def wait_until_folded(url: str) -> float:
    """Wait until everything accepted is in the snapshots; the moment of it by the monotonic clock.

    The commit that empties the backlog writes the snapshot as well, so that then every event is visible.
    """
    wait_for(lambda: get(f"{url}/autoscale")["backlog"]["events"] == 0, FOLD_S, pause_s=0.002)
    return time.monotonic()


def address_of(url: str) -> tuple[str, int]:
    """Host and port."""
    parts = urllib.parse.urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


def redis_socket(pids: Sequence[int]) -> str:
    """The embedded server's Unix socket, which it shows in its command line."""
    for pid in pids:
        found = _SOCKET.search(Path(f"/proc/{pid}/cmdline").read_bytes())
        if found:
            return found[1].decode()
    raise SystemExit("this LSO has no embedded server")
