"""HTTP to one LSO over one kept connection. Imported by the thread that sends, never by importing the client."""

from __future__ import annotations

import http.client
import io
import json
import select
import socket
import time
import zlib
from email.utils import parsedate_to_datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from lso_core.client.config import Address

NDJSON, ARROW = "application/x-ndjson", "application/vnd.apache.arrow.stream"
GZIP_FROM = 1024
"""NDJSON of at least this many bytes is compressed; Arrow is small as it is, and is to cost the server little."""
MAX_REPLY = 16 * 1024 * 1024
GZIP_WINDOW = 31
"""zlib's number for "with gzip's frame": the same bytes for the same body, as a retry should have."""


class TransportError(Exception):
    """No reply. `reached` tells whether the server may have seen the request."""

    def __init__(self, message: str, *, reached: bool, stale: bool = False) -> None:
        super().__init__(message)
        self.reached = reached
        self.stale = stale
        """The kept connection turned out to be closed: worth one try on a new one, at once."""


class Reply:
    """An answer: status, JSON body (empty where it is not an object) and how long the server wants to be left alone."""

    __slots__ = ("body", "retry_after_s", "status")

    def __init__(self, status: int, body: Mapping[str, object], retry_after_s: float | None) -> None:
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s


class Transport:
    """One connection, opened when needed, used by one thread."""

    def __init__(self, address: Address, api_key: str, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._headers = {"Accept": "application/json", "User-Agent": "lso-client"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> Reply:
        return self._exchange("GET", path, None, {})

    def post_json(self, path: str, body: Mapping[str, object]) -> Reply:
        return self._exchange("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def post_events(self, system_id: int, body: bytes, key: str, media_type: str = NDJSON) -> Reply:
        """Send a batch under its Idempotency-Key. Raises TransportError."""
        headers = {"Content-Type": media_type, "Idempotency-Key": key}
        if media_type == NDJSON and len(body) >= GZIP_FROM:
            packer = zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        return self._exchange("POST", f"/systems/{system_id}/events", body, headers)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        request = (method, self._address.prefix + path, body, {**self._headers, **headers})
        try:
            return self._attempt(*request)
        except TransportError as error:
            if not error.stale:
                raise
        return self._attempt(*request)

    def _attempt(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        deadline = time.monotonic() + self._timeout_s
        reused = self._is_alive()
        connection = self._connection if reused and self._connection is not None else self._connect()
        try:
            connection.sock.settimeout(_left(deadline))
            _send(connection, method, path, body, headers)
            return self._read(connection, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            stale = reused and isinstance(error, ConnectionError | http.client.BadStatusLine)
            raise TransportError(_sentence(error), reached=True, stale=stale) from error

    def _is_alive(self) -> bool:
        """Whether the kept connection is there and the server has not closed it meanwhile."""
        sock = None if self._connection is None else self._connection.sock
        if sock is None:
            return False
        try:
            closed = bool(select.select([sock], [], [], 0)[0])
        except (OSError, ValueError):  # ValueError: a descriptor too high for select; only a try will tell
            return False
        if closed:
            self.close()
        return not closed

    def _connect(self) -> http.client.HTTPConnection:
        self.close()
        secure = self._address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._address.host, self._address.port, timeout=self._timeout_s)
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            connection.close()
            raise TransportError(_sentence(error), reached=False) from error
        self._connection = connection
        return connection

    def _read(self, connection: http.client.HTTPConnection, deadline: float) -> Reply:
        response = _response(connection, deadline)
        raw = response.read(MAX_REPLY + 1)
        if response.will_close or len(raw) > MAX_REPLY:
            self.close()
        return Reply(response.status, _json_object(raw), _retry_after(response.getheader("Retry-After")))


class _TimedSocket(io.RawIOBase):
    """Reads from a socket, each time with what is left of the exchange's time: a server that drips does not hold us."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"  # noqa: S101 - what HTTPResponse asks for
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        self._sock.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    """A server that answers before it has read everything (413) may close its end meanwhile: its answer still counts."""
    try:
        connection.request(method, path, body=body, headers=headers)
    except ConnectionError:
        if body is None or connection.sock is None or not select.select([connection.sock], [], [], 0.1)[0]:
            raise


def _response(connection: http.client.HTTPConnection, deadline: float) -> http.client.HTTPResponse:
    """The response, read under the deadline of the whole exchange."""

    def timed(sock: socket.socket, *args: Any, **options: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(_TimedSocket(sock, deadline), *args, **options)  # type: ignore[arg-type]

    connection.response_class = timed  # type: ignore[assignment]
    return connection.getresponse()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _json_object(raw: bytes) -> Mapping[str, object]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(value: str | None) -> float | None:
    """Seconds, from a number or an HTTP date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
