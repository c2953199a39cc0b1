"""What is heavy and need not be installed, loaded by the first who needs it."""

import sys
from types import ModuleType
from typing import Final

from lso_core.model.errors import UnsupportedTypeError

ARROW: Final = "application/vnd.apache.arrow.stream"
"""Media type of a batch as an Arrow stream."""


def has_arrow() -> bool:
    """Whether Arrow was loaded already."""
    return "lso_core.compute.arrow" in sys.modules


def arrow() -> ModuleType:
    """`compute.arrow`. Raises UnsupportedTypeError where pyarrow is not installed; takes its time when it comes first."""
    try:
        from lso_core.compute import arrow  # noqa: PLC0415 - pyarrow takes 0.1 s and 40 MB
    except ImportError:
        sentence = 'needs the extra "arrow" on the server (pip install "lso[arrow]"); send application/x-ndjson instead'
        raise UnsupportedTypeError(f"{ARROW} {sentence}") from None
    return arrow
