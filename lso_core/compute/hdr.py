"""The standard encoding of HDR histograms (V2), as the libraries for Java, JavaScript, Go, C and Python read it.

Facts from HdrHistogram's format: a big-endian header, then each count as a ZigZag LEB128 integer of at most nine bytes,
a run of empty cells as its negative length; the whole deflated behind a cookie and its length, in base64.
"""

import base64
import struct
import zlib
from typing import Final

from lso_core.compute.histogram import HIGHEST_US, LOWEST_US, SIGNIFICANT_DIGITS, Int64

_WORD: Final = 0x10
"""In both cookies: counts are of variable length."""
_COOKIE: Final = 0x1C849303 | _WORD
_COMPRESSED: Final = 0x1C849304 | _WORD
_HEADER: Final = struct.Struct(">iiiiqqd")
"""cookie, bytes of the counts, offset of the index, significant digits, lowest and highest value, ratio of a unit to 1."""
_OUTER: Final = struct.Struct(">ii")
"""cookie, bytes of the deflated rest."""
_LAST: Final = 8
"""The ninth byte of a LEB128 integer has no bit that says whether there is another."""


def encode(index: Int64, counts: Int64) -> bytes:
    """A histogram of whole microseconds from its cells, by ascending index, as text in base64."""
    payload = bytearray()
    following = 0
    for at, count in zip(index.tolist(), counts.tolist(), strict=True):
        if at > following:
            _put(payload, following - at)
        _put(payload, count)
        following = at + 1
    header = _HEADER.pack(_COOKIE, len(payload), 0, SIGNIFICANT_DIGITS, LOWEST_US, HIGHEST_US, 1.0)
    deflated = zlib.compress(header + payload)
    return base64.b64encode(_OUTER.pack(_COMPRESSED, len(deflated)) + deflated)


def _put(payload: bytearray, value: int) -> None:
    """Append one integer."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    for _ in range(_LAST):
        if rest < 0x80:
            payload.append(rest)
            return
        payload.append(rest & 0x7F | 0x80)
        rest >>= 7
    payload.append(rest)
