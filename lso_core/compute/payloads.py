"""Whether texts are payloads that are certainly good: held against all of them at once."""

import functools
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from lso_core.compute.packing import Ints, every, none, rows_at
from lso_core.model.events import PAYLOAD_BYTES

Bytes = npt.NDArray[np.uint8]

_DIGITS: Final = 309
"""A number of fewer digits and no exponent is one that a double can hold."""
_ROW: Final = 256
"""Texts up to this are laid out as rows of a matrix; longer ones one by one."""
_WORD: Final = 8

# Typing a payload's numbers as float makes the decoder refuse every number beyond one. Types cannot recurse and their
# cost doubles with each level, so payloads that nest deeper than this are left to the careful reading.
_Scalar = bool | float | str | None
_Level5 = _Scalar | list[_Scalar] | dict[str, _Scalar]
_Level4 = _Scalar | list[_Level5] | dict[str, _Level5]
_Level3 = _Scalar | list[_Level4] | dict[str, _Level4]
_Level2 = _Scalar | list[_Level3] | dict[str, _Level3]
QuickPayload = dict[str, _Level2]
"""Payloads that are certainly good, but for their size."""


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: its members are parsed and dropped."""


_objects = msgspec.json.Decoder(_Object)
_payloads = msgspec.json.Decoder(QuickPayload)


def are_fine(data: bytes | memoryview, starts: Ints, ends: Ints) -> bool:
    """Whether every text of `data` between these places is a payload within its caps, with finite numbers.

    Each must begin with an opening bracket and end with a closing one. Behind that only a comma or another closing one
    could go on, which no text begins with; and no string goes on over the end of a line. So where the decoder finds as
    many objects as there are lines, each of them is one. That holds also without the line ends where no text has a
    second opening bracket, so that none can be more than one object.
    """
    if not len(starts):
        return True
    begin, end = int(starts[0]), int(ends[-1])
    if not _are_bracketed(data, starts, ends):
        return False
    if int((ends - starts).sum()) == end - begin and _are_flat(data[begin:end], starts, ends):
        return _count(_objects, data[begin:end]) == len(starts)
    return _count(_payloads, _lines_of(data, starts, ends)) == len(starts)


def _are_bracketed(data: bytes | memoryview, starts: Ints, ends: Ints) -> bool:
    """Whether all texts begin and end with a bracket and are within their cap."""
    lengths, text = ends - starts, np.frombuffer(data, np.uint8)
    if int(lengths.min()) < 2 or int(lengths.max()) > PAYLOAD_BYTES:
        return False
    return every(text[starts] == ord("{")) and every(text[ends - 1] == ord("}"))


def _count(decoder: msgspec.json.Decoder[Any], lines: bytes | memoryview) -> int | None:
    """How many values there are; None where one is wrong."""
    try:
        return len(decoder.decode_lines(lines))
    except (ValueError, RecursionError):
        return None


def _lines_of(data: bytes | memoryview, starts: Ints, ends: Ints) -> bytes:
    """The texts of `data` between these places, a line each, with blanks behind them."""
    lengths = ends - starts
    width = -(-(int(lengths.max()) + 1) // _WORD) * _WORD
    if width > _ROW or int(starts.max()) + width > len(data):
        texts = zip(starts.tolist(), ends.tolist(), strict=True)
        return b"\n".join([*(data[start:stop] for start, stop in texts), b""])
    keep, blanks = _masks(width)
    rows = rows_at(data, starts, width).view(np.uint64)
    rows &= keep.take(lengths, axis=0)
    rows |= blanks.take(lengths, axis=0)
    return rows.tobytes()


@functools.cache
def _masks(width: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """By the length of a text: what keeps it alone of a row, and what then makes the row a line."""
    keep = np.tri(width, width, -1, np.uint8)
    blanks = (1 - keep) * np.uint8(ord(" "))
    blanks[:, -1] = ord("\n")
    return (keep * np.uint8(0xFF)).view(np.uint64), blanks.view(np.uint64)


def _are_flat(lines: bytes | memoryview, starts: Ints, ends: Ints) -> bool:
    """True only where nothing is nested or escaped in objects, and no number is beyond a double.

    Then the decoder need not make anything of them to be sure of them.
    """
    lines = bytes(lines)
    if int((ends - starts).max()) >= _DIGITS or not lines.isascii() or b"[" in lines or b"\\" in lines:
        return False
    text = np.frombuffer(lines, np.uint8)
    return np.count_nonzero(text == ord("{")) == len(starts) and (
        not (b"e" in lines or b"E" in lines) or _have_no_exponent(text)
    )


def _have_no_exponent(text: Bytes) -> bool:
    """True only where no number has one: no digit goes on with its letter."""
    digits, marks = text - np.uint8(ord("0")) < 10, (text | np.uint8(0x20)) == ord("e")
    return none(digits[:-1] & marks[1:])
