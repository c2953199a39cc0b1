"""Who should hold what, while workers of two releases share the work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.model.formats import Formats
from lso_core.model.windows import PARTITIONS
from lso_core.store.leases import UNWANTED_MS, Free, Sharing, Worker

OLD, NEW = {"columns": 1, "state": 1}, {"columns": 2, "state": 1}
NEEDED: Formats = {"columns": 2}


def worker(name: str, reads: dict[str, int]) -> Worker:
    return Worker(name, reads=reads)


@pytest.mark.parametrize("reads", [OLD, NEW, {}])
def test_a_fleet_of_one_release_shares_evenly_whatever_was_met(reads: dict[str, int]) -> None:
    crew = [worker(name, reads) for name in "ab"]
    sharing = Sharing(crew[0], crew)
    assert len(sharing.kept(dict.fromkeys(range(PARTITIONS), NEEDED))) == 16
    assert not sharing.wants_more(16)
    assert len(sharing.chosen([Free(p, NEEDED) for p in range(PARTITIONS)], 0, 0)) == 16


def test_a_release_that_does_not_say_what_it_reads_reads_nothing_new() -> None:
    silent, new = worker("a", {}), worker("b", NEW)
    assert Sharing(silent, [new]).can_leave(NEEDED)
    assert not Sharing(new, [silent]).can_leave(NEEDED)
    assert not Sharing(silent, [worker("c", {})]).can_leave(NEEDED)


def test_what_only_others_can_read_is_left_to_them() -> None:
    sharing = Sharing(worker("a", OLD), [worker("b", NEW)])
    assert sharing.kept({1: NEEDED, 2: {}, 3: OLD}) == {2, 3}
    free = [Free(1, NEEDED, 10_000), Free(2), Free(3, OLD, 10_000)]
    assert sharing.chosen(free, 0, 10_000) == {2, 3}


def test_what_nobody_takes_for_long_is_anybodys() -> None:
    sharing = Sharing(worker("a", OLD), [worker("b", NEW)])
    assert sharing.chosen([Free(1, NEEDED, 10_000)], 0, 10_000 + UNWANTED_MS) == {1}
    assert sharing.chosen([Free(1, NEEDED, 10_000)], 0, 9_999 + UNWANTED_MS) == set()
    assert sharing.chosen([Free(1, NEEDED)], 0, 10_000) == {1}, "its holder died"


def test_without_a_newer_one_alive_every_partition_is_folded_by_the_old() -> None:
    sharing = Sharing(worker("a", OLD), [])
    assert sharing.kept({1: NEEDED, 2: {}}) == {1, 2}
    assert sharing.chosen([Free(3, NEEDED, 10_000)], 2, 10_000) == {3}


def test_a_newer_one_takes_what_only_it_can_read_above_its_share_and_gives_others_back() -> None:
    sharing = Sharing(worker("b", NEW), [worker("a", OLD)])
    held: dict[int, Formats] = dict.fromkeys(range(16), OLD)
    assert sharing.wants_more(16)
    assert sharing.chosen([Free(20, NEEDED), Free(21)], 16, 0) == {20}
    kept = sharing.kept({**held, 20: NEEDED})
    assert len(kept) == 16
    assert 20 in kept


@given(
    st.lists(st.sampled_from([OLD, NEW, {"columns": 3, "state": 2}]), min_size=1, max_size=7),
    st.lists(st.sampled_from([{}, NEEDED, {"columns": 3}, {"state": 2}]), min_size=PARTITIONS, max_size=PARTITIONS),
)
def test_by_turns_every_partition_gets_a_holder_that_can_read_it_where_one_is_alive(
    fleet: list[dict[str, int]], needs: list[Formats]
) -> None:
    """Whoever lives, whatever was met: after a few turns of everybody nothing is free, and nothing is with the wrong one."""
    crew = [worker(f"w{at}", reads) for at, reads in enumerate(fleet)]
    held: dict[str, set[int]] = {one.worker_id: set() for one in crew}
    sharings = {one.worker_id: Sharing(one, crew) for one in crew}
    turns: list[dict[str, set[int]]] = []
    for _ in range(8):
        for name, sharing in sharings.items():
            held[name] = sharing.kept({p: needs[p] for p in held[name]})
            taken = set().union(*held.values())
            free = [Free(p, needs[p], 10_000) for p in range(PARTITIONS) if p not in taken]
            if sharing.wants_more(len(held[name])):
                held[name] |= sharing.chosen(free, len(held[name]), 10_000)
        turns.append({name: set(some) for name, some in held.items()})
    assert turns[-1] == turns[-2], "it does not settle"
    assert sum(map(len, held.values())) == PARTITIONS
    assert set().union(*held.values()) == set(range(PARTITIONS))
    for name, some in held.items():
        assert not [p for p in some if sharings[name].can_leave(needs[p])]
