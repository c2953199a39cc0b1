"""Cutting an input of lines into batches. Where the cuts lie depends on the content alone, so that a second run cuts alike.

A batch's Idempotency-Key is a digest of the system, its place in the input and its bytes: whoever sends the same input
again, after a crash or by mistake, sends the same keys, and the server counts each batch once.
"""

import hashlib
import os
import select
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

READ: Final = 256 * 1024
MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of lines from which a batch is full."""
LONGEST_LINE: Final = 1024 * 1024
"""No event is that long; an input without line ends must not fill the memory."""


class LineTooLongError(ValueError):
    """A line is over LONGEST_LINE. The message names it."""


class Cut(NamedTuple):
    """Lines that travel together."""

    start: int
    """Place of its first byte in the input."""
    end: int
    """Place after its last byte."""
    lines: list[bytes]
    """Without line ends; blank ones are left out."""
    numbers: list[int]
    """Each line's number in the input, from 1."""
    next_line: int

    def key(self, system_id: int, salt: str) -> str:
        """The Idempotency-Key."""
        digest = hashlib.blake2b(f"{system_id}:{self.start}:{salt}:".encode(), digest_size=16)
        digest.update(b"\n".join(self.lines))
        return "emit-" + digest.hexdigest()


class Cutter:
    """Takes bytes as they come, gives batches."""

    def __init__(self, most_events: int, *, start: int = 0, line: int = 1, first_end: int | None = None) -> None:
        self._most_events = most_events
        self._first_end = first_end
        """Where the first batch ends, if a run before this one has begun to send it."""
        self._at = self._start = start
        self._line = line
        self._lines: list[bytes] = []
        self._numbers: list[int] = []
        self._size = 0
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Cut]:
        """The batches that these bytes complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._add(line, len(line) + 1)
        if len(self._rest) > LONGEST_LINE:
            raise LineTooLongError(f"line {self._line} is longer than {LONGEST_LINE} bytes, which no event is")

    def flush(self) -> Iterator[Cut]:
        """The complete lines so far."""
        if self._at > self._start:
            yield self._cut()

    def finish(self) -> Iterator[Cut]:
        """What is left at the input's end, a last line without an end included."""
        if self._rest:
            rest, self._rest = self._rest, b""
            yield from self._add(rest, len(rest))
        yield from self.flush()

    def _add(self, line: bytes, size: int) -> Iterator[Cut]:
        text = line.strip()
        if text:
            self._lines.append(text)
            self._numbers.append(self._line)
        self._at += size
        self._size += size
        self._line += 1
        if self._is_full():
            yield self._cut()

    def _is_full(self) -> bool:
        if self._first_end is not None:
            return self._at >= self._first_end
        return len(self._lines) >= self._most_events or self._size >= MOST_BYTES

    def _cut(self) -> Cut:
        cut = Cut(self._start, self._at, self._lines, self._numbers, self._line)
        self._start, self._lines, self._numbers, self._size, self._first_end = self._at, [], [], 0, None
        return cut


def cuts(fd: int, cutter: Cutter, linger_s: float) -> Iterator[Cut]:
    """The batches of everything that `fd` gives; of what waits, when nothing came for `linger_s` seconds."""
    regular = stat.S_ISREG(os.fstat(fd).st_mode)
    while True:
        if not regular and not select.select([fd], [], [], linger_s)[0]:
            yield from cutter.flush()
            select.select([fd], [], [])
        data = os.read(fd, READ)
        if not data:
            break
        yield from cutter.feed(data)
    yield from cutter.finish()
