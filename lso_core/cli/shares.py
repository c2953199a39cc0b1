"""How many connections each API process of a service has, where all of them see it."""

import array
import mmap
import os
import tempfile
from typing import Final

SPARE_PARTS: Final = 4
"""Who has this part of its connections more than another is not ahead of it."""
_AWAY: Final = -1
"""It takes none just now."""


class Shares:
    """How many connections each of some processes has, in memory that all of them see."""

    def __init__(self, fd: int, number: int = 0) -> None:
        """As process `number`, from 0."""
        self._counts = memoryview(mmap.mmap(fd, 0)).cast("i")
        self._number = number

    @classmethod
    def file(cls, processes: int) -> int:
        """A descriptor of such memory, for so many processes, which all are away."""
        try:
            fd = os.memfd_create("lso-shares")
        except (AttributeError, OSError):  # only Linux has it, and not every sandbox
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.write(fd, array.array("i", [_AWAY] * processes))
        return fd

    def tell(self, connections: int) -> None:
        """How many this process has."""
        self._counts[self._number] = connections

    def leave(self, number: int | None = None) -> None:
        """Process `number`, or this one, takes no more."""
        self._counts[self._number if number is None else number] = _AWAY

    def is_ahead(self, connections: int, most: int) -> bool:
        """Whether this process, which may have `most` of them, should leave one to another: it has more, and not just a few of
        many, or it has no place left where another has one.
        """
        others = (count for number, count in enumerate(self._counts) if number != self._number and count != _AWAY)
        fewest = min(others, default=connections)
        return connections - connections // SPARE_PARTS > fewest or connections >= most > fewest
