"""The whole service as a child process, started as a user starts it, and what a test may do to it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import httpx
import psutil
import pytest
import redis
from redis.sentinel import Sentinel

from lso_core import machine
from tests.redises import running_cluster, running_sentinels, running_single
from tests.waiting import wait_for

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 40.0
"""The service is ready within seconds; a machine that others use as well gets more."""
STOP_S: Final = 10.0
"""After SIGTERM everything has ended within this time."""
_LISTENS = re.compile(r"http://127\.0\.0\.1:\d+")
_STORES = ("redis-server", "valkey-server")


class Service:
    """One `lso up` and everything below it."""

    def __init__(self, process: subprocess.Popen[bytes], data_dir: Path, output: Path, redis_url: str | None) -> None:
        self.process = process
        self.data_dir = data_dir
        self.url = ""
        """Where it listens, without a slash at the end."""
        self._output = output
        self._redis_url = redis_url

    @classmethod
    def start(
        cls, folder: Path, *options: str, environ: Mapping[str, str] | None = None, redis_url: str | None = None
    ) -> Self:
        """Run `lso up` with its data in `folder`, on a free port, and wait until it is ready."""
        data_dir = folder / "data"
        given = ["--port", "0", "--data-dir", str(data_dir), *options]
        if redis_url is not None:
            given += ["--redis-url", redis_url]
        output = folder / f"lso-{time.monotonic_ns()}.log"
        service = cls(launch(["up", *given], output, environ), data_dir, output, redis_url)
        try:
            service.url = wait_for(service._listens_on, "lso up says where it listens", START_S) or ""
            wait_for(service.is_ready, "/readyz answers 200", START_S)
            wait_for(service._is_whole, "every process is started", START_S)
        except AssertionError as error:
            service.kill()
            raise AssertionError(f"{error}; it said:\n{service.said()}") from None
        return service

    def _listens_on(self) -> str | None:
        status = self.process.poll()
        assert status is None, f"lso up ended with status {status}"
        found = _LISTENS.search(self.said())
        return found[0] if found else None

    def is_ready(self) -> bool:
        """Whether /readyz answers 200 now."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def _is_whole(self) -> bool:
        """Whether the API processes that are not needed to be ready are there, too."""
        words = self.process.args
        assert isinstance(words, list)
        wanted = int(words[words.index("--api-processes") + 1]) if "--api-processes" in words else machine.cores()
        return len(self.children("api")) == wanted

    def said(self) -> str:
        """Everything on standard output and standard error so far."""
        return self._output.read_text(errors="replace")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for raw sockets."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def client(self, timeout_s: float = 20) -> httpx.Client:
        """A client to be closed by who asks for it."""
        return httpx.Client(base_url=self.url, timeout=timeout_s)

    def tree(self) -> list[psutil.Process]:
        """Every live process below `lso up`."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if _is_alive(child)]

    def children(self, role: str) -> list[psutil.Process]:
        """The live processes whose command line names the role: `api` or `worker`."""
        words = re.compile(rf"(^|[/. ])lso {role}( |$)")
        return [child for child in self.tree() if words.search(_command_line(child))]

    def lasting(self) -> dict[str, list[int]]:
        """The process ids, by role, of those that live as long as the service; what builds files or answers comes and goes.

        Waits for the API processes to have loaded their code: one that cannot reach its Redis meanwhile is started again.
        """
        wait_for(self._has_loaded, "every API process has loaded its code", START_S)
        return {role: sorted(one.pid for one in self.children(role)) for role in ("api", "worker")}

    def _has_loaded(self) -> bool:
        """Whether no API process is as busy as one that still starts is."""
        used = {one: sum(one.cpu_times()[:2]) for one in self.children("api")}
        time.sleep(0.5)
        return all(sum(one.cpu_times()[:2]) - before < 0.1 for one, before in used.items())

    def store_process(self) -> psutil.Process:
        """The embedded server; skips where the tests were asked to run on another."""
        if self._redis_url is not None:
            pytest.skip("this is about the embedded server")
        return next(child for child in self.tree() if any(name in _command_line(child) for name in _STORES))

    def redis(self) -> Any:
        """A connection to the Redis underneath, to look (not to touch)."""
        kind, _, where = (self._redis_url or "").partition("://")
        nodes, _, master = where.partition("/")
        places = [(host, int(port)) for host, _, port in (node.rpartition(":") for node in nodes.split(",")) if host]
        if kind == "redis+cluster":
            return redis.RedisCluster(*places[0])
        if kind == "redis+sentinel":
            sentinels: Any = Sentinel(places)  # type: ignore[no-untyped-call]
            return sentinels.master_for(master)
        return redis.Redis.from_url(self.store_url)

    @property
    def store_url(self) -> str:
        """The Redis underneath, as LSO_REDIS_URL takes it."""
        return self._redis_url or f"unix://{urllib.parse.quote(self._socket())}"

    def _socket(self) -> str:
        listening = {
            str(connection.laddr)
            for connection in self.store_process().net_connections(kind="unix")
            if str(connection.laddr).startswith("/")
        }
        return next(iter(listening))

    def resume(self) -> None:
        """Let every stopped process go on."""
        for child in self.tree():
            _send(child, signal.SIGCONT)

    def stop(self) -> None:
        """End it as a user does. Fails where that takes too long, leaves someone behind, or has another status than 0."""
        below = self.tree()
        self.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            status = self.process.wait(STOP_S + 5)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end lso up; it said:\n{self.said()}") from None
        took = time.monotonic() - began
        _, left = psutil.wait_procs(below, timeout=1)
        for child in left:
            _send(child, signal.SIGKILL)
        assert (0, []) == (status, left), f"its output:\n{self.said()}"
        assert took <= STOP_S, f"ending took {took:.1f} s"

    def kill(self) -> None:
        """End it and all that it started, at once."""
        below = self.tree()
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(below, timeout=3)
        for child in below:
            _send(child, signal.SIGKILL)
        psutil.wait_procs(below, timeout=3)


@contextmanager
def outside() -> Iterator[dict[str, Any]]:
    """What `Service.start` is given so that it runs where LSO_TEST_REDIS says: `cluster`, `sentinel`, or by itself."""
    asked = os.environ.get("LSO_TEST_REDIS", "")
    with ExitStack() as stack:
        if asked == "cluster":
            queue = stack.enter_context(running_single())
            cluster = stack.enter_context(running_cluster())
            yield {"redis_url": cluster.url, "environ": {"LSO_QUEUE_URL": queue.url}}
        elif asked == "sentinel":
            yield {"redis_url": stack.enter_context(running_sentinels()).url}
        else:
            assert not asked, f"LSO_TEST_REDIS must be cluster or sentinel, not {asked}"
            yield {}


@contextmanager
def running_service() -> Iterator[Service]:
    """A service with the default settings and data of its own, for tests that share it and leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="lso-") as folder, outside() as given:
        service = Service.start(Path(folder), **given)
        try:
            yield service
        finally:
            service.stop()


def launch(command: list[str], output: Path, environ: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Run `lso COMMAND` from this checkout, its output in a file, with no LSO_* variables but those given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LSO_")}
    with output.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "lso_core.cli.lso", *command],
            cwd=ROOT,
            env={**inherited, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
