"""CRC-32 as zlib has it, several times as fast where this machine has the kernels and what they need."""

import ctypes
import functools
import zlib
from collections.abc import Callable
from typing import Final

from lso_core.compute import kernel

_WORTH: Final = 2_048
"""From so many bytes on a call of the kernel takes less time than zlib does."""


def crc32(data: bytes, size: int, before: int = 0) -> int:
    """The checksum of the first `size` bytes, going on from that of what stood `before` them."""
    if _WORTH <= size <= len(data) and (compiled := _compiled()) is not None:
        return compiled(data, size, before)
    return zlib.crc32(memoryview(data)[:size], before)


@functools.cache
def _compiled() -> Callable[[bytes, int, int], int] | None:
    """`crc32` by a kernel."""
    if kernel.trouble() is not None:
        return None
    able = kernel.function("lso_has_crc32", result=ctypes.c_int)
    if able is None or not able():
        return None
    return kernel.function("lso_crc32", ctypes.c_char_p, ctypes.c_int64, ctypes.c_uint32, result=ctypes.c_uint32)
