"""Decimal numbers as they stand in JSON, many at a time, eight characters in one integer each.

The first character is the lowest byte. Bytes of an integer are looked at together, as "SIMD within a register".
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from lso_core.compute.packing import Ints, every, none

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

WIDTH: Final = 16
"""Bytes that are looked at; a number has eight at most."""

_ONES: Final = np.uint64(0x0101010101010101)
_HIGHS: Final = np.uint64(0x8080808080808080)
_ZEROS: Final = np.uint64(0x3030303030303030)
_OVER_NINE: Final = np.uint64(0x7676767676767676)
"""Added to a byte of up to 127 it sets the high bit of one above 9."""
_ALL: Final = np.uint64((1 << 64) - 1)
_BYTE: Final = np.uint64(0xFF)
_1, _7, _8, _16, _32, _64 = map(np.uint64, (1, 7, 8, 16, 32, 64))
_PAIRS: Final = (np.uint64(10), np.uint64(0x00FF00FF00FF00FF))
_FOURS: Final = (np.uint64(100), np.uint64(0x0000FFFF0000FFFF))
_EIGHT: Final = (np.uint64(10_000), np.uint64(0xFFFFFFFF))
_POWERS: Final = 10.0 ** np.arange(8)


def parse(words: Words, end: bytes) -> tuple[Floats, Ints] | None:
    """The numbers that rows of two words or more begin with, and their lengths; None where one is not read here.

    Each goes up to the first `end`, a byte that no number has. What is read are digits, perhaps with a point and more
    digits, as JSON has them. The values are the decoder's: a whole number over a power of ten, both of them exact,
    divided and so rounded once.
    """
    first = words[:, 0]
    below = _below(first, ord(end))
    if not every((below != _ALL) | ((words[:, 1] & _BYTE) == ord(end))):
        return None
    text = first & below
    whole = _below(text, ord(".")) & below
    digits = (text & whole) | ((text >> _8) & ~whole)
    lengths, integers = np.bitwise_count(below) >> 3, np.bitwise_count(whole) >> 3
    points = (integers < lengths).view(np.uint8)
    counts = lengths - points
    if not (every(integers != 0) and every(counts - integers >= points) and _have_no_leading_zero(text, integers)):
        return None
    shift = _64 - (counts.astype(np.uint64) << np.uint64(3))
    digits = (digits << shift) ^ (_ZEROS << shift)
    if not none((((digits + _OVER_NINE) | digits) & _HIGHS) != 0):
        return None
    return _value(digits) / _POWERS[counts - integers], lengths.astype(np.int64)


def _below(words: Words, byte: int) -> Words:
    """Every bit of the bytes before the first `byte`, or of all where there is none."""
    found = words ^ np.uint64(byte * 0x0101010101010101)
    found = (found - _ONES) & ~found & _HIGHS  # its lowest bit is that of the first 0
    return ((found & (~found + _1)) >> _7) - _1


def _have_no_leading_zero(text: Words, integers: npt.NDArray[np.uint8]) -> bool:
    return none(((text & _BYTE) == ord("0")) & (integers > 1))


def _value(digits: Words) -> Floats:
    """The numbers of eight digits each."""
    for shift, (weight, mask) in zip((_8, _16, _32), (_PAIRS, _FOURS, _EIGHT), strict=True):
        digits = (digits * weight + (digits >> shift)) & mask
    return digits.astype(np.float64)
