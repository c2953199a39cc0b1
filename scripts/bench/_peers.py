"""The services that LSO is compared with, each on loopback with its data in a temporary folder, ended with the block.

VictoriaMetrics and InfluxDB are taken from the PATH (Debian: `apt-get install victoria-metrics influxdb`); the plain
FastAPI and SQLite service of `_plain.py` gets an environment of its own beside the checkout's. What is not there is said
and left out.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.bench import _target

LOCK = "scripts/bench/requirements.lock"
ENVIRONMENT = ".venv-bench"
VICTORIA = "VictoriaMetrics"
INFLUX = "InfluxDB"
PLAIN = "FastAPI + SQLite"


class Peer(NamedTuple):
    """A running service."""

    name: str
    url: str
    pid: int
    kind: str
    """How it takes events: a kind of `_requests`."""
    events_path: Callable[[int], str]
    """Where it takes those of a system."""
    p95_path: Callable[[int], str]
    """Where it tells the 95th percentile of a system's latencies in the last hour."""
    flush_path: str = ""
    """What to ask for before everything taken can be queried."""


Start = Callable[[Path, int], subprocess.Popen[bytes]]


@contextlib.contextmanager
def running(names: Sequence[str]) -> Iterator[list[Peer]]:
    """The peers of these names that are installed."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            if not _is_installed(name):
                print(f"{name} is not installed and left out", file=sys.stderr)
                continue
            found.append(stack.enter_context(_PEERS[name]()))
        yield found


def _is_installed(name: str) -> bool:
    program = {VICTORIA: "victoria-metrics", INFLUX: "influxd"}.get(name)
    return shutil.which(program) is not None if program else _plain_python() is not None


@contextlib.contextmanager
def _victoria_metrics() -> Iterator[Peer]:
    def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
        options = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}", "-retentionPeriod=1"]
        return _quietly("victoria-metrics", *options, "-loggerLevel=ERROR")

    with _served(start, "/health") as (url, pid):
        yield Peer(VICTORIA, url, pid, "lines", lambda _: "/write?precision=ns", _victoria_p95, "/internal/force_flush")


def _victoria_p95(system_id: int) -> str:
    query = f'quantile_over_time(0.95, events_latency_ms{{system="{system_id}"}}[1h])'
    return "/api/v1/query?nocache=1&" + urllib.parse.urlencode({"query": query})


@contextlib.contextmanager
def _influxdb() -> Iterator[Peer]:
    def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
        settings = folder / "influxdb.conf"
        settings.write_text(_influx_settings(folder, port), encoding="utf-8")
        return _quietly("influxd", "-config", str(settings))

    with _served(start, "/ping") as (url, pid):
        made = urllib.parse.urlencode({"q": "CREATE DATABASE bench"}).encode()
        urllib.request.urlopen(f"{url}/query", made, timeout=30).close()  # noqa: S310 - loopback
        yield Peer(INFLUX, url, pid, "lines", lambda _: "/write?db=bench&precision=ns", _influx_p95)


def _influx_settings(folder: Path, port: int) -> str:
    return f"""
        reporting-disabled = true
        bind-address = "127.0.0.1:0"
        [meta]
        dir = "{folder}/meta"
        [data]
        dir = "{folder}/data"
        wal-dir = "{folder}/wal"
        query-log-enabled = false
        [http]
        bind-address = "127.0.0.1:{port}"
        log-enabled = false
        [logging]
        level = "error"
        [monitor]
        store-enabled = false
    """


def _influx_p95(system_id: int) -> str:
    query = f"SELECT PERCENTILE(latency_ms, 95) FROM events WHERE system = '{system_id}' AND time > now() - 1h"  # noqa: S608 - a number of our own
    return "/query?db=bench&" + urllib.parse.urlencode({"q": query})


@contextlib.contextmanager
def _plain() -> Iterator[Peer]:
    def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
        return _quietly(str(_plain_python()), "-m", "scripts.bench._plain", str(folder / "events.db"), str(port))

    with _served(start, "/systems/0/health") as (url, pid):
        yield Peer(PLAIN, url, pid, "json", _target.events_path, lambda system_id: f"/systems/{system_id}/health")


def _plain_python() -> str | None:
    """The Python with FastAPI; its environment is made where it is missing."""
    environ = {**os.environ, "LSO_VENV": str(_target.ROOT / ENVIRONMENT)}
    command = [sys.executable, "-I", str(_target.ROOT / "scripts" / "_venv.py"), LOCK]
    made = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    return f"{made.stdout.strip()}/bin/python" if made.returncode == 0 else None


_PEERS = {VICTORIA: _victoria_metrics, INFLUX: _influxdb, PLAIN: _plain}
NAMES = tuple(_PEERS)


def _quietly(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=_target.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _served(start: Start, probe: str) -> Iterator[tuple[str, int]]:
    """URL and process of a service from when its probe answers until the block ends."""
    with _target.data_folder() as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = start(Path(folder), port)
        url = f"http://127.0.0.1:{port}"
        try:
            _target.wait_for(lambda: _answers(process, url + probe), _target.START_S, pause_s=0.1)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    if process.poll() is not None:
        raise SystemExit(f"{process.args!r} ended with status {process.returncode}")
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - loopback
    except urllib.error.URLError:
        return False
    return True
