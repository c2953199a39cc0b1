"""Kept-alive connections that cost the sender little: for trials that need thousands of requests a second."""

import socket
from typing import Self


class Line:
    """One connection, one request after the other."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, path: str, body: bytes) -> int:
        """The status of the answer to a JSON body."""
        head = f"POST {path} HTTP/1.1\r\nHost: trial\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return self._exchange(head.encode() + body)[0]

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        return self._exchange(f"GET {path} HTTP/1.1\r\nHost: trial\r\n\r\n".encode())

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        self._socket.sendall(request)
        answer = b""
        while True:
            piece = self._socket.recv(65_536)
            assert piece, "the service closed a connection"
            answer += piece
            head, found, body = answer.partition(b"\r\n\r\n")
            if found and len(body) >= int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
                return int(head[9:12]), body
