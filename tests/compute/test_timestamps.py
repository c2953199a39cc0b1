"""Many texts to times at once: always what the scalar truth says of each, also of texts made to deceive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import timestamps
from lso_core.model import times

GOOD = "2025-12-14T14:33:10.529Z"
COUNT = timestamps.SMALL + 4

instants = st.integers(-62_135_596_800_000, 253_402_300_799_999)
digits = st.text("0123456789", min_size=17, max_size=17)


def fixed(figures: str) -> str:
    """Seventeen digits in the fixed form, whether or not that is a time."""
    d = figures
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}:{d[12:14]}.{d[14:]}Z"


def truth(texts: list[str]) -> list[int] | None:
    """What `model.times` says of each; None where it refuses one."""
    try:
        return [times.from_text(text) for text in texts]
    except ValueError:
        return None


def parsed(texts: list[str]) -> list[int] | None:
    try:
        return [int(one) for one in timestamps.parse(texts)]
    except ValueError:
        return None


@given(st.lists(instants, max_size=3 * timestamps.SMALL))
def test_times_in_the_fixed_form_come_back(some: list[int]) -> None:
    assert parsed([times.to_text(ms) for ms in some]) == some


@given(st.lists(digits.map(fixed), min_size=1, max_size=3))
@settings(max_examples=200)
def test_digits_in_the_fixed_form_are_judged_as_the_scalar_truth_does(odd: list[str]) -> None:
    texts = [GOOD] * timestamps.SMALL + odd
    assert parsed(texts) == truth(texts)


def test_every_day_of_four_centuries_is_the_same_day() -> None:
    starts = np.arange(-62_135_596_800_000, -62_135_596_800_000 + 86_400_000 * 146_097 * 2, 86_400_000 * 7)
    texts = [times.to_text(ms) for ms in starts.tolist()]
    assert parsed(texts) == starts.tolist()


@pytest.mark.parametrize(
    "odd",
    [
        "2024-02-29T00:00:00.000Z",
        "2023-02-29T00:00:00.000Z",
        "1900-02-29T00:00:00.000Z",
        "2000-02-29T00:00:00.000Z",
        "2025-02-30T00:00:00.000Z",
        "2025-04-31T00:00:00.000Z",
        "2025-00-10T00:00:00.000Z",
        "2025-13-10T00:00:00.000Z",
        "2025-10-00T00:00:00.000Z",
        "0000-10-10T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
        "2025-10-10T24:00:00.000Z",
        "2025-10-10T23:60:00.000Z",
        "2025-10-10T23:59:60.000Z",
        "2025-10-10 23:59:59.000Z",
        "2025-10-10t23:59:59.000z",
        "2025-10-10T23:59:59,000Z",
        "2025-10-10T23:59:59.00/Z",
        "2025-10-10T23:59:59.00:Z",
        "2025-10-10T23:59:59.+01Z",
        "2025-10-10T23:59:59.0\u0661\u0662Z",
        "2025-10-10T23:59:59.0001",
        "2025-10-10T23:59:59+1:00",
        "2025-10-10T23:59+00:00:0",
        "2025-10-10T23:59:59.000Z\n",
        "2025-10-10T23:59:59.000\n",
        "2025-10-10T23:59:59Z",
        "2025-10-10T23:59:59.123456789+02:00",
        "0001-01-01T00:00:00.000+00:01",
        "",
        "\x00" * 24,
        "é" * 24,
    ],
)
def test_one_odd_text_among_many_is_judged_as_the_scalar_truth_does(odd: str) -> None:
    texts = [*[GOOD] * COUNT, odd]
    assert parsed(texts) == truth(texts)


@pytest.mark.parametrize("cut", range(1, 25))
def test_two_wrong_texts_that_fit_together_are_still_two_wrong_texts(cut: int) -> None:
    """Joined, they read as good ones: a long text's tail is what the short one lacks."""
    texts = [*[GOOD] * COUNT, GOOD + GOOD[:cut], GOOD[cut:]]
    assert truth(texts) is None
    assert parsed(texts) is None


def test_a_text_with_a_line_end_in_it_does_not_count_as_two() -> None:
    for texts in ([GOOD + "\n" + GOOD, ""], [GOOD + "\n" + GOOD], [GOOD + "\n", GOOD[1:]]):
        assert parsed([*[GOOD] * COUNT, *texts]) is None


@given(st.text("0123456789-:TZ. +", max_size=30), st.integers(0, COUNT))
@settings(max_examples=200)
def test_any_text_among_many_is_judged_as_the_scalar_truth_does(odd: str, at: int) -> None:
    texts = [GOOD] * COUNT
    texts.insert(at, odd)
    assert parsed(texts) == truth(texts)


def test_no_texts_are_no_times() -> None:
    assert timestamps.parse([]).tolist() == []
