"""Processes that share a listening socket, as API processes do, and the connections that each of them takes."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from lso_core.cli.shares import Shares
from tests.waiting import wait_for

SERVE = """
import os, resource, socket, sys
from lso_core.cli.processes import end_early
from lso_core.cli.serving import serve
from lso_core.cli.shares import Shares
from tests.cli.plain_asgi import answer, live

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await live(receive, send)
    await answer(send, str(os.getpid()).encode())

end_early()
fd, shares, number, files, most = map(int, sys.argv[1:])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
serve(app, socket.socket(fileno=fd), most, client_timeout_s=30, grace_s=1, end_streams=lambda: None, shares=Shares(shares, number))
"""


class Siblings:
    """Some processes on one socket."""

    def __init__(self, count: int, files: int = 0, most: int = 1_000) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.shares_fd = Shares.file(count)
        self.shares = Shares(self.shares_fd)
        self.connections: list[http.client.HTTPConnection] = []
        self._limits = files, most
        self.processes = [self._start(number) for number in range(count)]
        wait_for(lambda: self.told().count(0) == count, "they all serve")

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        fds = self.listener.fileno(), self.shares_fd
        words = [str(one) for one in (*fds, number, *self._limits)]
        return subprocess.Popen([sys.executable, "-c", SERVE, *words], pass_fds=fds)

    def told(self) -> list[int]:
        """How many connections each has, as it says."""
        return list(self.shares._counts)

    def connect(self, count: int) -> list[http.client.HTTPConnection]:
        """So many connections at once, which stay open."""
        new = [http.client.HTTPConnection(self.address[0], self.address[1], timeout=10) for _ in range(count)]
        for one in new:
            one.connect()
        self.connections += new
        return new

    def end(self) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.kill()
            process.wait()
        self.listener.close()
        os.close(self.shares_fd)


def ask(connection: http.client.HTTPConnection) -> int:
    """Which process answers."""
    connection.request("GET", "/")
    return int(connection.getresponse().read())


@pytest.fixture
def two() -> Iterator[Siblings]:
    siblings = Siblings(2)
    yield siblings
    siblings.end()


@pytest.mark.parametrize(("count", "least"), [(2, 1), (16, 6), (200, 70)])
def test_connections_that_come_together_are_shared_out(two: Siblings, count: int, least: int) -> None:
    found = Counter(map(ask, two.connect(count)))
    assert set(found) == {process.pid for process in two.processes}
    assert min(found.values()) >= least
    assert sorted(found.values()) == sorted(two.told())


def test_who_lost_its_connections_gets_the_next(two: Siblings) -> None:
    connections = two.connect(16)
    first = two.processes[0].pid
    for connection in connections:
        if ask(connection) == first:
            connection.close()
    wait_for(lambda: two.told()[0] == 0, "it knows that they are gone")
    assert [ask(one) for one in two.connect(4)] == [first] * 4


def test_a_process_that_is_stopped_keeps_nobody_waiting_for_long(two: Siblings) -> None:
    other, stopped = two.processes
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert [ask(one) for one in two.connect(8)] == [other.pid] * 8
        assert time.monotonic() - began < 5
    finally:
        os.kill(stopped.pid, signal.SIGCONT)


def test_nothing_is_left_to_a_process_that_ends_or_ended(two: Siblings) -> None:
    gone, other = two.processes
    two.connect(1)
    gone.terminate()
    gone.wait(10)
    assert two.told()[0] == -1
    two.shares.leave(1)  # as the supervisor does for one that was killed
    assert not Shares(two.shares_fd, 0).is_ahead(100, 10)
    assert [ask(one) for one in two.connect(3)] == [other.pid] * 3


def test_there_are_shares_where_the_kernel_lends_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = Shares.file(3)
    one, other = Shares(fd, 0), Shares(fd, 2)
    assert not one.is_ahead(5, 100), "nobody else is there"
    other.tell(0)
    assert one.is_ahead(1, 100)
    os.close(fd)


def test_where_files_run_out_connections_wait_for_room() -> None:
    siblings = Siblings(1, files=48)
    try:
        many = siblings.connect(60)
        for connection in many:
            connection.request("GET", "/")
        [pid] = {int(one.getresponse().read()) for one in many[:8]}
        for connection in many[:40]:
            connection.close()
        assert {int(one.getresponse().read()) for one in many[40:]} == {pid}
    finally:
        siblings.end()


def test_nobody_is_refused_while_another_has_room() -> None:
    """A quarter more than another has would be no reason to leave it a connection, but that there is no place left."""
    siblings = Siblings(2, most=20)
    try:
        first = siblings.processes[0].pid
        connections = siblings.connect(38)
        for connection in [one for one in connections if ask(one) != first][:4]:
            connection.close()
        wait_for(lambda: sum(siblings.told()) == 34, "it knows that they are gone")
        answers = [ask(one) for one in siblings.connect(6)]  # a refusal would be no number
        assert set(answers) <= {process.pid for process in siblings.processes}
        assert siblings.told() == [20, 20]
    finally:
        siblings.end()


def test_who_ends_refuses_connections_at_once(two: Siblings) -> None:
    """None is taken in by the kernel that nobody will serve."""
    two.connect(2)
    for process in two.processes:
        process.terminate()
    wait_for(lambda: two.told() == [-1, -1], "they end")
    two.listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(two.address, timeout=5)
    assert all(process.poll() is None for process in two.processes), "they serve those that they have"
