"""Names of archived files, and reading them so that everything is read once."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.archive.layout import DAY_MS, Kind, Part, Period, Piece, chain, place_of

PATH = "events/system_id=3/day=2026-11-26/1795252378512-0_1795252399999-7.parquet"
DAY = Period("2026-11-26")


def piece(after: int, last: int, kind: Kind = Kind.MINUTES, period: Period = DAY) -> Piece:
    return Piece(kind, 3, period, (after, 0), (last, 0))


def read(parts: list[Part]) -> list[int]:
    """The numbers that a reader gets, in order, where a piece holds those behind `after` up to `last`."""
    return [number for part in parts for number in range(part.after[0] + 1, part.piece.last[0] + 1)]


def test_a_path_says_what_a_file_holds() -> None:
    found = Piece.parse(PATH)
    assert found == Piece(Kind.EVENTS, 3, DAY, (1795252378512, 0), (1795252399999, 7))
    assert PATH == found.path
    for kind, period in ((Kind.HOURS, "2026-11"), (Kind.DAYS, "2026"), (Kind.MINUTES, "2026-11-26")):
        one = piece(3, 9, kind, Period(period))
        assert one == Piece.parse(one.path)


@pytest.mark.parametrize(
    "path",
    [
        "lso-archive.json",
        PATH.replace("day", "month"),
        PATH.replace("11-26", "13-26"),
        PATH.replace("system_id=3", "system_id=03"),
        PATH.replace("_", "-"),
        PATH + ".half",
        PATH.replace("events", "other"),
    ],
)
def test_what_is_none_of_ours_is_left_alone(path: str) -> None:
    assert Piece.parse(path) is None


@given(st.integers(0, 4_102_444_800_000), st.sampled_from(Kind))
def test_a_time_lies_in_its_period(time_ms: int, kind: Kind) -> None:
    period = Period.of(kind, time_ms)
    assert period.start_ms <= time_ms < period.end_ms
    assert (period.start_ms % DAY_MS, period.end_ms % DAY_MS) == (0, 0)
    assert Period.of(kind, period.end_ms).start_ms == period.end_ms


def test_places_are_read_as_redis_writes_them() -> None:
    assert ((17, 3), (17, 0)) == (place_of("17-3"), place_of("17"))


@given(st.integers(0, 1 << 32))
def test_overlapping_pieces_give_everything_once(seed: int) -> None:
    """Pieces that follow one another, with others that begin where one of them does and end anywhere, and merged ones."""
    chance = random.Random(seed)
    ends = sorted(chance.sample(range(1, 60), 6))
    pieces = [piece(after, last) for after, last in zip([0, *ends], ends, strict=False)]
    extra = [piece(chance.choice([0, *ends[:-1]]), 0) for _ in range(3)]
    pieces += [piece(one.after[0], chance.randint(one.after[0] + 1, ends[-1])) for one in extra]
    pieces += [piece(0, ends[3])]
    chance.shuffle(pieces)
    assert list(range(1, ends[-1] + 1)) == read(chain(pieces))


def test_a_gap_stays_a_gap() -> None:
    assert [1, 2, 3, 8, 9] == read(chain([piece(7, 9), piece(0, 3)]))


def test_periods_are_chains_of_their_own() -> None:
    """The rows of one piece may be of several days: each has a file with the same ends."""
    other = Period("2026-11-27")
    parts = chain([piece(0, 5), piece(0, 5, period=other), piece(5, 9, period=other)])
    assert [((0, 0), (5, 0)), ((0, 0), (5, 0)), ((5, 0), (9, 0))] == [(one.after, one.piece.last) for one in parts]
