"""Redis as it is run by several servers: a cluster, and a master with a replica under sentinels. All on loopback."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.crc import key_slot

from lso_core.store.binaries import Binary, bundled, identify
from tests.waiting import wait_for

SLOTS: Final = 16_384
START_S: Final = 30.0
SERVICE: Final = "observed"


def find_binary() -> Binary:
    """A server program; skips where this machine has none."""
    on_path = shutil.which("redis-server")
    found = None if on_path is None else identify(on_path)
    if found is None or found.release.version < (7, 0):
        found = next((one for path in bundled() if (one := identify(path)) is not None), None)
    if found is None:
        pytest.skip("no redis-server 7.0 and no valkey-server on this machine")
    return found


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Node:
    """One server process."""

    def __init__(self, binary: Binary, folder: Path, *options: str, sentinel: str = "") -> None:
        self.port = free_port()
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        home = folder / str(self.port)
        home.mkdir()
        self._command = [binary.path, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(home)]
        if sentinel:  # a sentinel writes what it learns into its file
            file = home / "sentinel.conf"
            file.write_text(sentinel)
            self._command = [binary.path, str(file), "--sentinel", *self._command[1:]]
        else:
            self._command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
            self._command += ["--repl-diskless-sync-delay", "0", "--enable-debug-command", "local", *binary.options()]
        self._command += options
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it, also again after its end."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for(self._answers, "a server of the test answers", START_S)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.client.close()
        self.kill()

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the test's server ended with status {self.process.returncode}"
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def ask(self, *words: Any) -> Any:
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]


class RealCluster:
    """Masters that share the slots evenly, and as many replicas as asked for, the first of the first master."""

    def __init__(self, folder: Path, *, replicas: int, timeout_ms: int) -> None:
        binary = find_binary()
        self.masters: list[Node] = []
        self.replicas: list[Node] = []
        try:
            for number in range(3 + replicas):
                node = Node(
                    binary,
                    folder,
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(timeout_ms)),
                    *("--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no"),
                    *("--cluster-replica-validity-factor", "0"),
                )
                (self.masters if number < 3 else self.replicas).append(node)
            self._join()
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.masters)

    @property
    def nodes(self) -> list[Node]:
        return [*self.masters, *self.replicas]

    def end(self) -> None:
        for node in self.nodes:
            node.end()

    def _join(self) -> None:
        step = SLOTS // 3
        for number, node in enumerate(self.masters):
            last = SLOTS - 1 if number == 2 else (number + 1) * step - 1
            node.ask("CLUSTER ADDSLOTSRANGE", number * step, last)
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        first = self.masters[0]
        for node in self.nodes[1:]:
            bus = int(node.ask("CONFIG GET", "cluster-port")["cluster-port"])
            first.ask("CLUSTER MEET", "127.0.0.1", node.port, bus)
        wait_for(lambda: all(self._knows(node) for node in self.nodes), "the cluster's nodes know each other", START_S)
        for number, node in enumerate(self.replicas):
            node.ask("CLUSTER REPLICATE", self.masters[number % 3].ask("CLUSTER MYID").decode())
        wait_for(lambda: all(map(_follows, self.replicas)), "the replicas follow", START_S)
        wait_for(lambda: all(map(_is_well, self.nodes)), "the cluster is whole", START_S)

    def _knows(self, node: Node) -> bool:
        known = node.ask("CLUSTER NODES")
        return len(known) == len(self.nodes) and all(one["connected"] for one in known.values())

    def owner(self, key: str) -> Node:
        """The node that serves a key now, as another that lives sees it."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.process.poll() is not None:
                continue
            for first, last, primary, *_ in node.ask("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return next(one for one in self.nodes if one.port == primary[1])
        raise AssertionError(f"nobody has {key}")

    def move(self, key: str, source: Node, target: Node) -> None:
        """Give the slot of a key to another master, with all that is in it."""
        slot = key_slot(key.encode())
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.ask("CLUSTER MYID"))
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.ask("CLUSTER MYID"))
        for name in source.ask("CLUSTER GETKEYSINSLOT", slot, 1_000):
            source.ask("MIGRATE", "127.0.0.1", target.port, name, 0, 5_000)
        for node in (target, source):
            node.ask("CLUSTER SETSLOT", slot, "NODE", target.ask("CLUSTER MYID"))

    def flush(self) -> None:
        """Remove every key."""
        for node in self.nodes:
            with contextlib.suppress(redis.ReadOnlyError):
                node.client.flushall()


class RealSentinels:
    """A master and a replica under three sentinels."""

    def __init__(self, folder: Path, *, down_ms: int) -> None:
        binary = find_binary()
        self.sentinels: list[Node] = []
        self.servers = [Node(binary, folder)]
        try:
            self.servers.append(Node(binary, folder, "--replicaof", "127.0.0.1", str(self.servers[0].port)))
            wait_for(lambda: _follows(self.servers[1]), "the replica follows", START_S)
            watch = (
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {down_ms}\nsentinel failover-timeout {SERVICE} 2000\n"
            )
            self.sentinels += [Node(binary, folder, sentinel=watch) for _ in range(3)]
            wait_for(lambda: all(map(self._is_ready, self.sentinels)), "the sentinels know each other", START_S)
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(node.address for node in self.sentinels) + f"/{SERVICE}"

    def master(self) -> Node:
        """Whom the first sentinel calls master."""
        _, port = self.sentinels[0].ask("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.servers if node.port == int(port))

    def end(self) -> None:
        for node in (*self.sentinels, *self.servers):
            node.end()

    def _is_ready(self, sentinel: Node) -> bool:
        known = sentinel.client.sentinel_masters()[SERVICE]  # type: ignore[no-untyped-call]
        return bool(known["num-other-sentinels"] == 2 and known["num-slaves"] == 1)


@contextlib.contextmanager
def running_single() -> Iterator[Node]:
    """One server for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="lso-redis-") as folder:
        node = Node(find_binary(), Path(folder))
        try:
            yield node
        finally:
            node.end()


@contextlib.contextmanager
def running_cluster(*, replicas: int = 0, timeout_ms: int = 1_000) -> Iterator[RealCluster]:
    """Three masters and some replicas for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="lso-cluster-") as folder:
        cluster = RealCluster(Path(folder), replicas=replicas, timeout_ms=timeout_ms)
        try:
            yield cluster
        finally:
            cluster.end()


@contextlib.contextmanager
def running_sentinels(*, down_ms: int = 1_000) -> Iterator[RealSentinels]:
    """A master, a replica and three sentinels for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="lso-sentinel-") as folder:
        sentinels = RealSentinels(Path(folder), down_ms=down_ms)
        try:
            yield sentinels
        finally:
            sentinels.end()


def _follows(node: Node) -> bool:
    about: Any = node.client.info("replication")
    return bool(about["role"] == "slave" and about["master_link_status"] == "up")


def _is_well(node: Node) -> bool:
    found = node.ask("CLUSTER INFO")
    return bool(found["cluster_state"] == "ok")
