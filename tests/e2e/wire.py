"""HTTP over a bare socket, for requests that no well-behaved client sends."""

import re
import select
import socket
from collections.abc import Iterator
from typing import NamedTuple

WAIT_S = 20.0


class Exchange(NamedTuple):
    """What came of a request."""

    status: int
    sent: int
    """Bytes of the body that were sent before the answer came."""
    answer: bytes


def stream_body(address: tuple[str, int], head: str, pieces: Iterator[bytes]) -> Exchange:
    """Send a head and then the body piece by piece, until an answer comes or the body is through."""
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        connection.sendall(head.encode())
        sent = _send_until_answered(connection, pieces)
        answer = _read_answer(connection)
    return Exchange(status_of(answer), sent, answer)


def _send_until_answered(connection: socket.socket, pieces: Iterator[bytes]) -> int:
    sent = 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            readable, writable, _ = select.select([connection], [connection], [], WAIT_S)
            if readable:
                return sent
            assert writable, f"the server neither reads nor answers after {sent} bytes"
            try:
                taken = connection.send(rest)
            except (BrokenPipeError, ConnectionResetError):
                return sent
            sent += taken
            rest = rest[taken:]
    return sent


def _read_answer(connection: socket.socket) -> bytes:
    """Everything up to the end of the answer's head and as much of its body as comes along."""
    answer = b""
    while b"\r\n\r\n" not in answer or not _is_whole(answer):
        try:
            piece = connection.recv(65_536)
        except (ConnectionResetError, TimeoutError):
            break
        if not piece:
            break
        answer += piece
    return answer


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return length is not None and len(body) >= int(length[1])


def status_of(answer: bytes) -> int:
    """The status of an answer, 0 where there is none."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0


def head(path: str, *lines: str) -> str:
    """The head of a POST with these header lines."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""])


def chunks(piece: bytes, count: int) -> Iterator[bytes]:
    """A body in chunked transfer coding, without its end."""
    framed = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    for _ in range(count):
        yield framed
