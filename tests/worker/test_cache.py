"""The cache of states: bounded in bytes, the least used go first, and nothing is counted wrongly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lso_core.compute.cells import pack
from lso_core.compute.state import Meta, Slot, State, from_slots
from lso_core.model.health import Thresholds
from lso_core.model.systems import System
from lso_core.store.folding import Position
from worker.cache import Cache, Known


def known(system_id: int, cells: int = 0) -> Known:
    slot = Slot(pack(np.arange(cells), np.ones(cells, np.int64)))
    state = from_slots(Meta(), {0: slot}) if cells else State()
    system = System(
        system_id=system_id,
        name="s",
        description="",
        tags=(),
        window_seconds=60,
        thresholds=Thresholds(),
        created_at="2025-12-14T14:33:10.529Z",
    )
    return Known(system, 1, Position(), state, 0)


def test_what_was_put_is_found_and_what_was_dropped_is_not() -> None:
    cache = Cache()
    cache.put(known(1))
    found = cache.get(1)
    assert found is not None
    assert found.system.system_id == 1
    cache.drop(1)
    cache.drop(1)
    assert (cache.get(1), len(cache)) == (None, 0)


def test_the_least_used_goes_first() -> None:
    cache = Cache(3 * known(0).size)
    for system_id in (1, 2, 3):
        cache.put(known(system_id))
    cache.get(1)
    cache.put(known(4))
    assert [cache.get(one) is not None for one in (1, 2, 3, 4)] == [True, False, True, True]


def test_one_system_that_is_larger_than_the_cache_is_kept_alone() -> None:
    cache = Cache(10)
    cache.put(known(1))
    cache.put(known(2, cells=10_000))
    assert (cache.get(1) is None, cache.get(2) is not None) == (True, True)


def test_a_partition_is_dropped_as_a_whole() -> None:
    cache = Cache()
    for system_id in (1, 2, 33, 65):
        cache.put(known(system_id))
    cache.drop_partition(1)
    assert [cache.get(one) is not None for one in (1, 2, 33, 65)] == [False, True, False, False]


@given(
    st.lists(st.tuples(st.sampled_from(["put", "drop", "get"]), st.integers(0, 6), st.integers(0, 900)), max_size=60)
)
def test_the_bytes_are_those_of_what_is_in_it(steps: list[tuple[str, int, int]]) -> None:
    cache = Cache(40_000)
    for what, system_id, cells in steps:
        if what == "put":
            cache.put(known(system_id, cells))
        elif what == "drop":
            cache.drop(system_id)
        else:
            cache.get(system_id)
        assert cache._bytes == sum(one.size for one in cache._known.values())
        assert cache._bytes <= 40_000 or len(cache) == 1
