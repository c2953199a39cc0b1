"""The formats of what is stored, by name, so that workers of two releases can share the work while one replaces the other."""

from collections.abc import Mapping
from typing import TypeAlias

Formats: TypeAlias = Mapping[str, int]
"""Name to number: of what somebody reads the newest format, of what somebody must be able to read the least."""


def covers(reads: Formats, needs: Formats) -> bool:
    """Whether who reads `reads` can read all of `needs`."""
    return all(reads.get(name, 0) >= number for name, number in needs.items())
