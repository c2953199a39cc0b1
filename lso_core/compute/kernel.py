"""The compiled kernels (`compute.native`), where this environment has them.

Who calls one checks lengths and types himself: C believes what it is told. While it runs other threads do too.
"""

import ctypes
import functools
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lso_core.compute import native

_PLACE: Final = ctypes.c_char * 0


@functools.cache
def _library() -> Any:
    """The loaded library. Raises OSError where there is none."""
    path = native.library()
    if not path.exists():
        raise FileNotFoundError(f"the kernels of this release were not compiled into {sys.prefix}")
    return ctypes.CDLL(str(path))


@functools.cache
def trouble() -> str | None:
    """Why there are no kernels, as half a sentence; None where they are there."""
    try:
        _library()
    except OSError as error:
        return str(error)
    return None


class Bytes(ctypes.Structure):
    """`struct bytes`: what a kernel made, until it is told to free it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("used", ctypes.c_size_t),
        ("room", ctypes.c_size_t),
        ("failed", ctypes.c_int),
    )


def function(name: str, *arguments: Any, result: Any) -> Callable[..., Any] | None:
    """A function of the library, its arguments and result being types of ctypes; None where there is no library."""
    if trouble() is not None:
        return None
    found: Any = _library()[name]
    found.argtypes, found.restype = arguments, result
    return found  # type: ignore[no-any-return]


def address(array: npt.NDArray[Any]) -> Any:
    """Where an array's numbers lie, as an argument of type c_void_p; `array.ctypes` takes four times as long to tell."""
    buffer: Any = array  # its types say so from Python 3.12 on only
    return _PLACE.from_buffer(buffer) if array.flags.writeable else array.ctypes.data


def numbers(column: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A column as C wants it: of 64 bits, one after another."""
    return np.ascontiguousarray(column, np.int64)


def texts(some: Sequence[bytes]) -> tuple[Any, bytes]:
    """Where each of some bytes lie, and their sizes, as arguments of types POINTER(c_char_p) and c_char_p."""
    return (ctypes.c_char_p * len(some))(*some), words([*map(len, some)])


def words(numbers: Sequence[int]) -> bytes:
    """Numbers as an argument of type c_char_p, of 64 bits each."""
    return struct.pack(f"={len(numbers)}q", *numbers)
