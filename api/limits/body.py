"""Request bodies read under a cap, plain or compressed, and what they may hold in memory together."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from litestar.exceptions import HTTPException

from lso_core.model.errors import Finding, InputError, TooLargeError, UnavailableError, UnsupportedTypeError

BODY_TIMEOUT_S: Final = 60.0
"""How long a body may take to arrive."""
INLINE_BYTES: Final = 1 << 20
"""What inflates to no more than this is inflated on the event loop; the rest of a larger one in a thread."""

_USUAL: Final = ("application/json", "application/x-ndjson")
_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_ZLIB_METHOD: Final = 8

Receive = Callable[[], Awaitable[Any]]


class Cap(NamedTuple):
    """The most bytes that a body may have, inflated."""

    size: int
    name: str = ""
    """The variable that sets it."""


class Kind(NamedTuple):
    """What the headers say of a body."""

    media_type: str
    """Lower case, without parameters; "" where there is no Content-Type."""
    encoding: str
    """"" where it is sent as it is."""
    length: int | None


class Budget:
    """Bytes of bodies that this process holds at once. Past it new ones wait their turn elsewhere: 503."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, size: int) -> None:
        """Hold `size` more. Raises UnavailableError where that is too much; what is held stays held."""
        if self.held + size > self._most:
            raise UnavailableError(f"this process has {self.held} bytes of bodies in hand; the cap is {self._most}")
        self.held += size

    def give_back(self, size: int) -> None:
        """Hold `size` less."""
        self.held -= size


def kind_of(headers: Iterable[tuple[bytes, bytes]], media_types: frozenset[str]) -> Kind:
    """What the headers say of the body. Raises UnsupportedTypeError, or InputError for a length that is none."""
    media_type = encoding = ""
    length = None
    for name, value in headers:
        if name == b"content-type":
            media_type = _media_type(value.decode("latin-1"), media_types)
        elif name == b"content-encoding":
            encoding = _encoding(value.decode("latin-1"))
        elif name == b"content-length":
            length = int(value)
    return Kind(media_type, encoding, length)


def _media_type(text: str, known: frozenset[str]) -> str:
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    if media_type and media_type not in known:
        raise UnsupportedTypeError(
            f"{media_type[:100]} is not read here; send {' or '.join(one for one in _USUAL if one in known)}"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedTypeError(f"charset {value[:40]} is not read here; JSON is UTF-8")
    return media_type


def _encoding(text: str) -> str:
    encoding = text.strip().lower()
    if encoding in {"", "identity"}:
        return ""
    if encoding not in _WINDOW_BITS:
        raise UnsupportedTypeError(f"Content-Encoding {encoding[:40]} is not read here; send gzip, deflate or none")
    return encoding


async def read_body(kind: Kind, receive: Receive, cap: Cap, budget: Budget) -> bytes:
    """The body, inflated. It is held in the budget until the caller gives its length back.

    Raises TooLargeError as soon as it is known that the body is over `cap`, without reading on; InputError for a
    broken compressed stream; UnavailableError where the budget is spent.
    """
    if kind.length is not None and kind.length > cap.size:
        raise too_large(cap, kind.length)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise gone()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_on(body, receive, cap, budget)
    elif len(body) > cap.size:
        raise too_large(cap)
    else:
        budget.take(len(body))
    if not kind.encoding:
        return body
    try:
        return await _inflate(body, kind.encoding, cap, budget)
    finally:
        budget.give_back(len(body))


def too_large(cap: Cap, size: int | None = None) -> TooLargeError:
    """The refusal of a body over the cap."""
    said = f"the body has {size} bytes" if size else "the body is too large"
    return TooLargeError(f"{said}; the cap is {cap.size}{cap.name and f' ({cap.name})'}, after inflating")


def gone() -> HTTPException:
    """The caller went away; nobody reads the answer."""
    return HTTPException(status_code=400, detail="the connection was closed before the body was complete")


async def _read_on(first: bytes, receive: Receive, cap: Cap, budget: Budget) -> bytes:
    """The rest of a body that comes in pieces."""
    pieces, total = [first], len(first)
    budget.take(total)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise gone()
                piece = message.get("body", b"")
                if total + len(piece) > cap.size:
                    raise too_large(cap)
                budget.take(len(piece))
                total += len(piece)
                pieces.append(piece)
                more = message.get("more_body", False)
    except BaseException as error:
        budget.give_back(total)
        if isinstance(error, TimeoutError):
            detail = f"the body was not complete after {BODY_TIMEOUT_S:g} s"
            raise HTTPException(status_code=408, detail=detail, headers={"Connection": "close"}) from None
        raise
    return b"".join(pieces)


async def _inflate(data: bytes, encoding: str, cap: Cap, budget: Budget) -> bytes:
    inflater = Inflater(data, encoding, cap)
    inflater.run(INLINE_BYTES)
    if not inflater.done:
        await asyncio.to_thread(inflater.run, cap.size + 1)
    body = inflater.body()
    budget.take(len(body))
    return body


class Inflater:
    """Inflates a whole compressed body without ever holding more than `cap` and a little."""

    def __init__(self, data: bytes, encoding: str, cap: Cap) -> None:
        self._bits = _WINDOW_BITS[encoding]
        if encoding == "deflate" and not _has_zlib_header(data):
            self._bits = -15  # "deflate" without zlib's wrapping is wrong and common
        self._stream = zlib.decompressobj(self._bits)
        self._rest = data
        self._cap = cap
        self._pieces: list[bytes] = []
        self._total = 0
        self.done = False

    def run(self, most: int) -> None:
        """Inflate until there are `most` bytes in all, or it is done. Raises InputError or TooLargeError."""
        while not self.done and self._total < most:
            piece = self._step(most - self._total)
            self._add(piece)
            if self._stream.eof:
                self._next_member()
            elif not piece and not self._rest:  # with a piece there may be more of what was taken in
                raise _broken("ends in the middle")

    def body(self) -> bytes:
        """Everything that was inflated."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _step(self, most: int) -> bytes:
        try:
            piece = self._stream.decompress(self._rest, most)
        except zlib.error:
            raise _broken("cannot be inflated") from None
        self._rest = self._stream.unconsumed_tail
        return piece

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._total += len(piece)
        if self._total > self._cap.size:
            raise too_large(self._cap)

    def _next_member(self) -> None:
        """gzip may hold several members, one after another; anything else behind the end is garbage."""
        self._rest = self._stream.unused_data
        if not self._rest:
            self.done = True
        elif self._bits == 31 and self._rest.startswith(b"\x1f\x8b"):
            self._stream = zlib.decompressobj(self._bits)
        else:
            raise _broken("has bytes behind its end")


def _has_zlib_header(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 15 == _ZLIB_METHOD and int.from_bytes(data[:2], "big") % 31 == 0


def _broken(what: str) -> InputError:
    message = f"the compressed body {what}"
    return InputError(message, (Finding(None, "", message),))
