"""Events that travel together under one Idempotency-Key."""

from __future__ import annotations

import itertools
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from lso_core.client.queue import Chunk

_serial = itertools.count()


def now_ms() -> int:
    """Wall clock, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Batch:
    """Lines under one key. Until its first attempt a batch may grow; from then on its lines and key belong together."""

    __slots__ = ("attempts", "created_ms", "doubt_ms", "first", "frozen", "key", "lines", "size", "stored", "system")

    def __init__(self, system: int | str, lines: list[bytes], *, key: str, created_ms: int, first: int | None) -> None:
        self.system = system
        """Id or name of the system these events are about."""
        self.lines = lines
        self.size = sum(map(len, lines)) + len(lines)
        self.key = key
        self.created_ms = created_ms
        self.first = first
        """Number of its first event in this process; None for a batch that another process left behind."""
        self.doubt_ms = 0
        """When the first attempt went out whose fate is unknown; 0 while every attempt is known to have failed."""
        self.frozen = False
        """Whether an attempt was made: the lines must not change any more."""
        self.stored = 0
        """How many of the lines the spool holds."""
        self.attempts = 0

    @classmethod
    def of(cls, system: int | str, chunk: Chunk) -> Batch:
        """A new batch with a new key. Keys of one process sort by age, for batches made in the same millisecond."""
        key = f"{next(_serial) & 0xFFFF_FFFF:08x}{os.urandom(12).hex()}"
        return cls(system, chunk.lines, key=key, created_ms=now_ms(), first=chunk.first)

    def body(self) -> bytes:
        """NDJSON."""
        return b"\n".join(self.lines) + b"\n"

    def extend(self, chunk: Chunk) -> None:
        self.lines.extend(chunk.lines)
        self.size += chunk.size + len(chunk.lines)

    def halves(self) -> list[Batch]:
        """Two batches in place of one that is too large. Their keys follow from its own, so that a process that
        does this again after a crash makes the same two.
        """
        middle = len(self.lines) // 2
        return [self._part("a", self.lines[:middle]), self._part("b", self.lines[middle:])]

    def without(self, indices: Collection[int]) -> Batch:
        """The rest of a batch some of whose events the server refused."""
        return self._part("r", [line for index, line in enumerate(self.lines) if index not in indices])

    def with_lines(self, lines: list[bytes]) -> Batch:
        """As many events, written differently."""
        return self._part("t", lines)

    def _part(self, suffix: str, lines: list[bytes]) -> Batch:
        return Batch(self.system, lines, key=self.key + suffix, created_ms=self.created_ms, first=self.first)
