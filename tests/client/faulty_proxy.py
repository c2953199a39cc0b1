"""A small HTTP proxy that can be told to misbehave, for tests and for scripts/bench/sdk.py. It listens on loopback only."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from typing import BinaryIO

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Fault:
    """What happens to a request. With `forward` it reaches the server first, and only the answer is lost."""

    kind: str = "pass"
    """pass, answer, hang, reset or drip."""
    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b'{"title":"faulty","status":503}'
    forward: bool = False


PASS = Fault()
UNAVAILABLE = Fault("answer")
UNAVAILABLE_RETRY_1 = Fault("answer", headers=(("Retry-After", "1"),))
HANG = Fault("hang")
SWALLOW = Fault("hang", forward=True)
RESET = Fault("reset")
RESET_AFTER = Fault("reset", forward=True)
DRIP = Fault("drip")


@dataclass(frozen=True)
class Seen:
    """One request as it passed."""

    method: str
    path: str
    headers: Message
    body: bytes
    fault: Fault
    at: float
    connection: int

    @property
    def lines(self) -> list[bytes]:
        """The body's lines, inflated."""
        zipped = self.headers.get("Content-Encoding") == "gzip"
        return (zlib.decompress(self.body, 31) if zipped else self.body).splitlines()


@dataclass
class _Answer:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: FaultyProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is what this is for."""


class FaultyProxy:
    """Stands before `upstream`. `fault` says what happens to the requests that come from now on."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.seen: list[Seen] = []
        self.connections = 0
        self._fault = PASS
        self._first: list[Fault] = []
        self._healed = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.accept()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        self._healed.set()  # whoever hangs because of the fault before is let go, without an answer
        self._healed = threading.Event()

    def first(self, *faults: Fault) -> None:
        """Faults for the next requests, one each; those after them get `fault`."""
        self._first += faults

    def accept(self) -> None:
        """Listen, on the same port as before."""
        server = _Server(("127.0.0.1", self._port), _Handler)
        server.proxy, self._server, self._port = self, server, server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def refuse(self) -> None:
        """Stop listening and reset whoever is connected."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self.cut()

    def cut(self) -> None:
        """Reset every open connection."""
        self._healed.set()
        with self._lock:
            doomed, self._open = self._open, set()
        for sock in doomed:
            _reset(sock)

    def close(self) -> None:
        self.refuse()

    def posts(self) -> list[Seen]:
        """The batches seen so far."""
        return [seen for seen in self.seen if seen.method == "POST" and seen.path.endswith("/events")]

    def serve(self, sock: socket.socket) -> None:
        """One connection, request by request."""
        with self._lock:
            self._open.add(sock)
            self.connections += 1
            number = self.connections
        try:
            with sock.makefile("rb") as stream:
                while self._one(sock, stream, number):
                    pass
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            with self._lock:
                self._open.discard(sock)

    def _one(self, sock: socket.socket, stream: BinaryIO, number: int) -> bool:
        """One request; false when the connection is over."""
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = BytesParser().parsebytes(b"".join(iter(stream.readline, b"\r\n")))
        body = stream.read(int(headers.get("Content-Length") or 0))
        fault = self._first.pop(0) if self._first else self._fault
        healed = self._healed
        self.seen.append(Seen(line[0], line[1], headers, body, fault, time.monotonic(), number))
        answer = self._forward(line[0], line[1], headers, body) if fault.forward or fault.kind == "pass" else None
        return self._reply(sock, fault, answer, healed)

    def _reply(self, sock: socket.socket, fault: Fault, answer: _Answer | None, healed: threading.Event) -> bool:
        if fault.kind == "hang":
            healed.wait(60)
            return False
        if fault.kind == "reset":
            _reset(sock)
            return False
        if fault.kind == "drip":
            return _drip(sock, healed)
        if fault.kind == "answer" or answer is None:
            answer = _Answer(fault.status, list(fault.headers), fault.body)
        _write(sock, answer)
        return True

    def _forward(self, method: str, path: str, headers: Message, body: bytes) -> _Answer:
        connection = http.client.HTTPConnection(*self.upstream, timeout=30)
        try:
            connection.request(method, path, body=body or None, headers=dict(headers.items()))
            response = connection.getresponse()
            kept = [
                (name, value)
                for name, value in response.getheaders()
                if name.lower() not in {"content-length", "connection"}
            ]
            return _Answer(response.status, kept, response.read())
        finally:
            connection.close()


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.proxy.serve(self.request)


def _write(sock: socket.socket, answer: _Answer) -> None:
    lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    lines += [f"Content-Length: {len(answer.body)}", "", ""]
    sock.sendall("\r\n".join(lines).encode("latin-1") + answer.body)


def _drip(sock: socket.socket, healed: threading.Event) -> bool:
    """An answer that comes a byte at a time and never ends."""
    for byte in b"HTTP/1.1 202 Accepted\r\nX-Long: " + b"x" * 10_000:
        sock.sendall(bytes([byte]))
        if healed.wait(0.05):
            break
    return False


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        sock.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        sock.close()


@contextlib.contextmanager
def faulty_proxy(upstream: tuple[str, int]) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
