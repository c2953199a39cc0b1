"""Requests that are answered without ASGI, on a real server beside an application that answers the others."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

SERVER = """
import asyncio
from lso_core.cli.listening import listen
from lso_core.cli.processes import end_early
from lso_core.cli.serving import serve
from lso_core.settings import Settings
from tests.cli.plain_asgi import answer, live

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await live(receive, send)
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await answer(send, b"%d held" % Taker.held if scope["path"] == "/held" else b"app:" + body)

class Echo:
    own = 0

    def grow(self, size):
        if Taker.held + size > 50:
            return False
        self.own += size
        Taker.held += size
        return True

    def take(self, request):
        if request.body.startswith(b"no"):
            return False
        self.drop()
        pause = 0.2 if request.body.startswith(b"later") else 0
        asyncio.get_running_loop().call_later(pause, request.answer, 202, [(b"x-by", b"taker")], b"taken:" + request.body)
        return True

    def drop(self):
        Taker.held -= self.own

class Taker:
    held = 0

    def expect(self, method, target, headers):
        return Echo() if (method, target) == (b"POST", b"/taken") else None

end_early()
listener = listen(Settings(port=0))
print(listener.getsockname()[1], flush=True)
serve(app, listener, 20, client_timeout_s=5, grace_s=2, end_streams=lambda: None, taker=Taker())
"""


class Client:
    """A connection to the server, and its process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.address = "127.0.0.1", port
        self.socket = socket.create_connection(self.address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def send(self, *pieces: bytes, pause_s: float = 0.05) -> None:
        """Send pieces that the server reads one by one."""
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause_s)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        while b"\r\n\r\n" not in self._read:
            self._read_on()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        size = int(found[1])
        while len(self._read) < size:
            self._read_on()
        body, self._read = self._read[:size], self._read[size:]
        return int(head.split()[1]), body

    def _read_on(self) -> None:
        piece = self.socket.recv(10_000)
        assert piece, "the server closed the connection"
        self._read += piece


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of a server that in the end holds nothing."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = Client(process, int(process.stdout.readline()))
        yield found
        if process.poll() is None:
            last = Client(process, found.address[1])
            last.send(post(b"", b"/held"))
            assert last.answer() == (200, b"0 held")
            last.socket.close()
        found.socket.close()
        process.kill()


def post(body: bytes, target: bytes = b"/taken", *headers: bytes) -> bytes:
    lines = [b"POST %b HTTP/1.1" % target, b"host: here", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join((*lines, b"", body))


def test_what_is_taken_is_answered_without_the_application(client: Client) -> None:
    for number in range(3):
        client.send(post(b"a%d" % number))
        assert client.answer() == (202, b"taken:a%d" % number)
    client.send(post(b"b", b"/other"))
    assert client.answer() == (200, b"app:b")


def test_what_is_not_taken_goes_to_the_application_as_it_came(client: Client) -> None:
    client.send(post(b"no thanks"))
    assert client.answer() == (200, b"app:no thanks")
    client.send(post(b"yes"))
    assert client.answer() == (202, b"taken:yes")


def test_a_request_is_held_until_all_of_its_body_is_there(client: Client) -> None:
    head, body = post(b"in pieces").split(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n", body[:3], body[3:])
    assert client.answer() == (202, b"taken:in pieces")


def test_what_there_is_no_room_for_goes_to_the_application(client: Client) -> None:
    large = post(b"x" * 60)
    for pieces in ([large], [large[:-30], large[-30:]]):
        client.send(*pieces)
        assert client.answer() == (200, b"app:" + b"x" * 60)
    client.send(post(b"y" * 50))
    assert client.answer() == (202, b"taken:" + b"y" * 50)


def test_the_application_waits_for_a_body_that_takes_long(client: Client) -> None:
    client.send(post(b"slow body")[:-4], pause_s=1.3)
    client.send(b"body")
    assert client.answer() == (200, b"app:slow body")
    client.send(post(b"next"))
    assert client.answer() == (202, b"taken:next")


def test_requests_that_come_at_once_are_answered_in_their_order(client: Client) -> None:
    client.send(post(b"later") + post(b"app", b"/other") + post(b"quick") + post(b"no"))
    said = [client.answer() for _ in range(4)]
    # Behind one that is under way everything goes to the application: uvicorn keeps the order.
    assert said == [(202, b"taken:later"), (200, b"app:app"), (200, b"app:quick"), (200, b"app:no")]
    client.send(post(b"after"))
    assert client.answer() == (202, b"taken:after")


@pytest.mark.parametrize(
    "request_", [post(b"bye", b"/taken", b"connection: close"), post(b"bye").replace(b"HTTP/1.1", b"HTTP/1.0")]
)
def test_a_connection_ends_where_its_client_wants_that(client: Client, request_: bytes) -> None:
    client.send(request_)
    said = b""
    while piece := client.socket.recv(1_000):
        said += piece
    assert said.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert b"\r\nconnection: close\r\n" in said
    assert said.endswith(b"\r\ncontent-length: 9\r\n\r\ntaken:bye")


def test_an_answer_to_a_client_that_has_gone_is_dropped(client: Client) -> None:
    with socket.create_connection(client.address, timeout=10) as gone:
        gone.sendall(post(b"later, and nobody there"))
    time.sleep(0.4)
    client.send(post(b"still there"))
    assert client.answer() == (202, b"taken:still there")


def test_a_client_that_goes_in_the_middle_of_a_body_leaves_nothing_behind(client: Client) -> None:
    with socket.create_connection(client.address, timeout=10) as gone:
        gone.sendall(post(b"never all of it")[:-4])
        time.sleep(0.2)
        client.send(post(b"", b"/held"), pause_s=0.2)
        assert client.answer() == (200, b"11 held")
    time.sleep(0.2)


def test_broken_bytes_behind_a_head_that_was_held_are_refused(client: Client) -> None:
    chunked = b"POST /taken HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    client.send(chunked, b"these are no chunks\r\n")
    assert client.answer()[0] == 400


@pytest.mark.parametrize(("sent", "rest"), [(post(b"later"), b""), (post(b"held body")[:-4], b"body")])
def test_a_server_that_ends_answers_what_has_come(client: Client, sent: bytes, rest: bytes) -> None:
    client.send(post(b"connected"))
    assert client.answer() == (202, b"taken:connected")
    client.send(sent)
    client.process.send_signal(signal.SIGTERM)
    client.send(rest)
    assert client.answer() == (202, b"taken:" + (sent + rest).partition(b"\r\n\r\n")[2])
    assert client.process.wait(5) == 0


def test_a_body_that_comes_when_a_server_has_nearly_ended_is_answered(client: Client) -> None:
    client.send(post(b"connected"))
    assert client.answer() == (202, b"taken:connected")
    client.process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    client.send(post(b"held body")[:-4], pause_s=0.7)
    client.send(b"body")
    assert client.answer() == (200, b"app:held body")
    assert client.process.wait(5) == 0
