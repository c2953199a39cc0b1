"""The servers that the contract suite runs against: fakeredis, the wheel's Valkey, and a Redis on the PATH."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import msgspec
import pytest
import redis.asyncio
from redis.exceptions import RedisError

from lso_core.store.binaries import Binary, bundled, identify
from lso_core.store.server import Server
from tests.redises import RealCluster, running_cluster

READY_S = 10.0

NO_INFO = "fakeredis knows no INFO"
NO_FLAGS = "fakeredis knows neither script flags nor maxmemory"
NO_GROUP_LAG = "fakeredis does not keep entries-added and entries-read of a group as Redis does"
NO_DUMP = "fakeredis dumps streams without their group"


class Backend(msgspec.Struct, frozen=True):
    """One server, for a whole test session; each test finds it empty."""

    name: str
    socket: Path | None
    """None for fakeredis and a cluster."""
    fake: fakeredis.FakeServer | None = None
    cluster: RealCluster | None = None

    @property
    def real(self) -> bool:
        return self.fake is None

    @property
    def url(self) -> str:
        """Of a real one."""
        return f"unix://{self.socket}" if self.cluster is None else self.cluster.url

    def needs_a_real_server(self, reason: str) -> None:
        """Skip the test on fakeredis."""
        if not self.real:
            pytest.skip(reason)

    def needs_one_server(self, reason: str) -> None:
        """Skip the test on a cluster."""
        if self.cluster is not None:
            pytest.skip(reason)

    def client(self) -> "redis.asyncio.Redis":
        """A connection pool of its own, as another process would have."""
        if self.fake is not None:
            return fakeredis.FakeAsyncRedis(server=self.fake)
        return redis.asyncio.Redis(unix_socket_path=str(self.socket))

    def connect(self) -> Server:
        """The product's way in, as another process would have it."""
        if self.cluster is not None:
            return Server.connect(self.cluster.url)
        return Server(self.client(), script_flags=self.real)

    async def empty(self) -> None:
        """Remove every key."""
        if self.cluster is not None:
            self.cluster.flush()
            return
        client = self.client()
        try:
            await client.flushall()
        finally:
            await client.aclose()


def find(name: str) -> Binary | None:
    """The server program of a backend, None where this machine has none."""
    if name == "valkey":
        return next((found for one in bundled() if (found := identify(one)) is not None), None)
    program = shutil.which("redis-server")
    found = None if program is None else identify(program)
    return found if found is not None and found.release.version >= (7, 0) else None


@contextlib.contextmanager
def running(name: str) -> Iterator[Backend]:
    """A backend for as long as the block lasts; skips where there is no such server."""
    if name == "fakeredis":
        yield Backend(name, None, fakeredis.FakeServer(version=(7,)))
        return
    if name == "cluster":
        with running_cluster() as cluster:
            yield Backend(name, None, cluster=cluster)
        return
    binary = find(name)
    if binary is None:
        pytest.skip(f"no {name} server on this machine")
    with tempfile.TemporaryDirectory(prefix="lso-test-", dir="/tmp") as home:  # a socket's path must be short
        socket = Path(home) / "s"
        process = subprocess.Popen(
            [
                binary.path,
                *("--port", "0", "--unixsocket", str(socket), "--dir", home),
                *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
                *binary.options(),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            _until_ready(socket, process)
            yield Backend(name, socket)
        finally:
            process.terminate()
            process.wait(READY_S)


def _until_ready(socket: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(RedisError), contextlib.closing(redis.Redis(unix_socket_path=str(socket))) as client:
            client.ping()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the test's server did not start (status {process.poll()})")
        time.sleep(0.01)
