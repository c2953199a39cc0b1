"""The short form of every fault. The long forms: `scripts/chaos all`."""

import pytest

from tests.chaos.catalogue import faults
from tests.chaos.trial import run

SEED = 1


@pytest.mark.parametrize("name", faults())
def test_promises_hold(name: str) -> None:
    result = run(name, faults()[name], SEED, short=True)
    if result.skipped:
        pytest.skip(result.line)
    assert result.problems == [], result.line
