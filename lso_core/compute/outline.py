"""Where a JSON text nests, by one vectorised scan that no input can make recurse.

Syntax is not judged here: the scan only knows strings, brackets and commas. It is for texts that the decoder has
refused, where the good parts are still to be told from the bad ones.
"""

import re
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Depths = npt.NDArray[np.int32]

_QUOTE: Final = ord('"')
_COMMA: Final = ord(",")
_KEY: Final = re.compile(rb'[\s,{]*"((?:[^"\\]|\\.){0,300})"\s*:')


class Outline(msgspec.Struct, frozen=True):
    """One text, byte by byte."""

    data: Bytes
    outside: Bools
    """True where the byte is not part of a string; its quotes are part of it."""
    depth: Depths
    """Open brackets after the byte."""

    @property
    def deepest(self) -> int:
        """Most brackets open at once; 0 for an empty text."""
        return int(self.depth.max()) if len(self.depth) else 0

    @property
    def containers(self) -> int:
        """How many objects and arrays begin."""
        return int(np.count_nonzero(_opens(self.data) & self.outside))

    def end_of(self, opening: int) -> int | None:
        """Where the bracket opened at `opening` is closed; None where it is not."""
        closed = self.depth[opening:] < self.depth[opening]
        at = int(np.argmax(closed)) if len(closed) else 0
        return opening + at if len(closed) and closed[at] else None

    def commas(self, start: int, end: int, depth: int) -> npt.NDArray[np.intp]:
        """Where in data[start:end] commas stand at `depth`, outside of strings."""
        part = slice(start, end)
        return start + np.flatnonzero((self.data[part] == _COMMA) & self.outside[part] & (self.depth[part] == depth))

    def key_at(self, at: int) -> str:
        """Name of the member of the outermost object that byte `at` stands in; "" where there is none to be told."""
        commas = self.commas(0, at + 1, 1)
        key = _KEY.match(self.data.tobytes(), int(commas[-1]) if len(commas) else 0)
        return key[1].decode(errors="replace") if key and key.start(1) <= at else ""


def outline(text: bytes) -> Outline:
    """Scan a text. Linear in its length, about 10 bytes of memory a byte."""
    data = np.frombuffer(text, np.uint8)
    quotes = data == _QUOTE
    if b"\\" in text:
        _drop_escaped(data, quotes)
    # Odd from an opening quote to the byte before its closing one.
    outside = (np.cumsum(quotes, dtype=np.uint8) & 1 == 0) & ~quotes
    folded = data | 0x20  # "[" becomes "{" and "]" becomes "}"
    steps = ((folded == ord("{")) & outside).view(np.int8) - ((folded == ord("}")) & outside).view(np.int8)
    return Outline(data, outside, np.cumsum(steps, dtype=np.int32))


def nesting(text: bytes) -> int:
    """How deep a text nests; exact where it matters, else a number it cannot exceed."""
    most = text.count(b"{") + text.count(b"[")
    return most if most <= _FLAT else outline(text).deepest


_FLAT: Final = 8
"""So few brackets are not worth a scan."""


def openings(text: bytes | memoryview) -> int:
    """How many brackets open in a text, also in its strings: no fewer than there are objects and arrays."""
    data = np.frombuffer(text, np.uint8)
    pieces = (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))  # each stays in the processor's cache
    return int(sum(np.count_nonzero(_opens(piece)) for piece in pieces))


def may_hold_more(text: bytes, most: int) -> bool:
    """Whether a text may have more than `most` objects and arrays, brackets in strings counted too."""
    return len(text) >= 2 * most and openings(text) > most


def holds_more(text: bytes, most: int) -> bool:
    """Whether a text has more than `most` objects and arrays."""
    return may_hold_more(text, most) and outline(text).containers > most


_PIECE: Final = 1 << 16


def _opens(data: Bytes) -> Bools:
    opens: Bools = data | 0x20 == ord("{")  # "[" becomes "{"
    return opens


def _drop_escaped(data: Bytes, quotes: Bools) -> None:
    """Clear `quotes` where a quote is escaped: where an odd number of backslashes stands before it."""
    slashes = np.flatnonzero(data == ord("\\"))
    starts = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
    lengths = np.diff(starts, append=len(slashes))
    after = slashes[starts] + lengths
    escaped = after[(lengths % 2 == 1) & (after < len(data))]
    quotes[escaped] = False
