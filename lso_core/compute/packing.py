"""Whole numbers in as few bytes as they need, for what is stored."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

WIDTHS: Final = (1, 2, 4, 8)
TIGHT_WIDTHS: Final = (*WIDTHS, 3)
_DTYPES: Final[dict[int, np.dtype[Any]]] = {width: np.dtype(f"<u{width}") for width in WIDTHS}


class UnknownWidthError(ValueError):
    """Something claims to be packed in a width that there is not."""


def narrow(values: Ints) -> npt.NDArray[Any]:
    """Numbers from 0 on in the smallest unsigned width that holds them all, little-endian."""
    return narrow_to(values, int(values.max()) if len(values) else 0)


def narrow_to(values: Ints, most: int) -> npt.NDArray[Any]:
    """As `narrow`, of numbers that are no larger than `most`."""
    width = next(width for width in _DTYPES if most < 1 << (8 * width))
    return values.astype(_DTYPES[width])


def widen(data: bytes | memoryview, width: int, count: int, at: int) -> Ints:
    """`count` numbers of `width` bytes each, from byte `at` on. Raises UnknownWidthError or ValueError."""
    return view(data, width, count, at).astype(np.int64)


def view(data: bytes | memoryview, width: int, count: int, at: int) -> npt.NDArray[Any]:
    """As `widen`, as they are stored: unsigned, and not to be written to."""
    dtype = _DTYPES.get(width)
    if dtype is None:
        raise UnknownWidthError(f"a width of {width} bytes")
    return np.frombuffer(data, dtype, count, at)


def tighten(values: Ints) -> tuple[int, bytes]:
    """As `narrow`, also in three bytes: the width, and the numbers."""
    narrowed = narrow(values)
    if narrowed.itemsize != 4 or int(values.max()) >= 1 << 24:
        return narrowed.itemsize, narrowed.tobytes()
    return 3, narrowed.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def loosen(data: bytes, width: int, count: int, at: int) -> Ints:
    """The numbers that `tighten` gave, as `widen` does."""
    if width != 3:
        return widen(data, width, count, at)
    wide = np.zeros((count, 4), np.uint8)
    wide[:, :3] = np.frombuffer(data, np.uint8, 3 * count, at).reshape(-1, 3)
    return wide.view("<u4").ravel().astype(np.int64)


def every(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether all are true; `all()` goes through Python, which takes longer than a thousand of them."""
    return bool(np.count_nonzero(mask) == mask.size)


def none(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether all are false."""
    return bool(np.count_nonzero(mask) == 0)
