"""Doing without the kernels, for tests that hold the two ways against each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lso_core.compute import carrying, cells, checksum, columns, grouping, histogram, kernel, parts, ranks, rollups

_COMPILED = (
    (carrying, "_compiled"),
    (cells, "_compiled_percentiles"),
    (checksum, "_compiled"),
    (columns, "_compiled"),
    (grouping, "_compiled"),
    (histogram, "_compiled_add"),
    (histogram, "_compiled_pairs"),
    (histogram, "_compiled_sum"),
    (parts, "_compiled"),
    (ranks, "_compiled"),
    (rollups, "_compiled"),
)

needs_kernels = pytest.mark.skipif(kernel.trouble() is not None, reason=f"no kernels: {kernel.trouble()}")


@contextmanager
def plainly() -> Iterator[None]:
    """As on a machine that has no kernels."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in _COMPILED:
            patch.setattr(module, name, lambda: None)
        yield
