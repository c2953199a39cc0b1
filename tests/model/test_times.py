"""Times: one fixed width out, strict RFC 3339 in."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lso_core.model import times

EARLIEST_MS = -62_135_596_800_000
"""0001-01-01T00:00:00.000Z"""
LATEST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z"""

instants = st.integers(EARLIEST_MS, LATEST_MS)


@given(instants)
def test_a_time_comes_back_from_its_text(ms: int) -> None:
    assert times.from_text(times.to_text(ms)) == ms


@given(instants)
def test_every_text_has_the_same_width_and_form(ms: int) -> None:
    text = times.to_text(ms)
    assert len(text) == times.TEXT_LENGTH
    assert (text[4], text[7], text[10], text[13], text[16], text[19], text[23]) == ("-", "-", "T", ":", ":", ".", "Z")


@given(instants, instants)
def test_texts_sort_as_their_times_do(one: int, other: int) -> None:
    assert (times.to_text(one) < times.to_text(other)) == (one < other)


@given(
    st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 12, 31)),  # noqa: DTZ001 - the offset is given apart
    st.integers(-(23 * 60 + 59), 23 * 60 + 59),
)
def test_an_offset_is_taken_off(local: dt.datetime, offset_minutes: int) -> None:
    zone = dt.timezone(dt.timedelta(minutes=offset_minutes))
    moment = local.replace(microsecond=local.microsecond // 1_000 * 1_000, tzinfo=zone)
    sign, size = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    # By hand: strftime does not pad years below 1000 on every platform.
    text = f"{local.year:04d}-{local:%m-%dT%H:%M:%S}.{local.microsecond // 1_000:03d}"
    expected = round((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(milliseconds=1))
    assert times.from_text(f"{text}{sign}{size // 60:02d}:{size % 60:02d}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-12-14T14:33:10.529Z", 1_765_722_790_529),
        ("2025-12-14t14:33:10.529z", 1_765_722_790_529),
        ("2025-12-14 14:33:10.529Z", 1_765_722_790_529),
        ("2025-12-14T14:33:10Z", 1_765_722_790_000),
        ("2025-12-14T14:33:10.5Z", 1_765_722_790_500),
        ("2025-12-14T14:33:10.52Z", 1_765_722_790_520),
        ("2025-12-14T14:33:10.529999999Z", 1_765_722_790_529),
        ("2025-12-14T14:33:10.0009Z", 1_765_722_790_000),
        ("2025-12-14T14:33:10.529+00:00", 1_765_722_790_529),
        ("2025-12-14T14:33:10.529-00:00", 1_765_722_790_529),
        ("2025-12-14T16:33:10.529+02:00", 1_765_722_790_529),
        ("2025-12-14T09:03:10.529-05:30", 1_765_722_790_529),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1969-12-31T23:59:59.9995Z", -1),
        ("0001-01-01T00:00:00.000Z", EARLIEST_MS),
        ("9999-12-31T23:59:59.999Z", LATEST_MS),
        ("0001-01-01T01:00:00.000+01:00", EARLIEST_MS),
    ],
)
def test_these_are_rfc_3339(text: str, expected: int) -> None:
    assert times.from_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-12-14",
        "14:33:10Z",
        "2025-12-14T14:33:10",
        "2025-12-14T14:33Z",
        "20251214T143310Z",
        "2025-12-14T14:33:10,529Z",
        "2025-12-14T14:33:10.Z",
        "2025-12-14T14:33:10.529 Z",
        " 2025-12-14T14:33:10.529Z",
        "2025-12-14T14:33:10.529Z ",
        "2025-12-14T14:33:10.529Z\n",
        "2025-12-14T14:33:10.529ZZ",
        "2025-12-14T14:33:10.529+0200",
        "2025-12-14T14:33:10.529+02",
        "2025-12-14T14:33:10.529+24:00",
        "2025-12-14T14:33:10.529+02:60",
        "2025-12-14_14:33:10.529Z",
        "2025-13-14T14:33:10.529Z",
        "2025-00-14T14:33:10.529Z",
        "2025-02-29T14:33:10.529Z",
        "1900-02-29T14:33:10.529Z",
        "2025-04-31T14:33:10.529Z",
        "2025-12-00T14:33:10.529Z",
        "2025-12-14T24:00:00.000Z",
        "2025-12-14T14:60:10.529Z",
        "2025-12-14T14:33:61.529Z",
        "0000-01-01T00:00:00.000Z",
        "12025-12-14T14:33:10.529Z",
        "-025-12-14T14:33:10.529Z",
        "２０２５-12-14T14:33:10.529Z",  # noqa: RUF001 - digits, but not ASCII
        "2025-12-14T14:33:10.52\u0669Z",
        "1765722790529",
        "now",
    ],
)
def test_these_are_not_rfc_3339(text: str) -> None:
    with pytest.raises(ValueError):
        times.from_text(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00.000+00:01", "9999-12-31T23:59:59.999-00:01"])
def test_a_time_that_could_not_be_written_again_is_refused(text: str) -> None:
    """Taken in, it would raise at every summary of the system that sent it, for ever."""
    with pytest.raises(ValueError):
        times.from_text(text)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        ms = times.from_text(text)
    except ValueError:
        return
    assert EARLIEST_MS <= ms <= LATEST_MS


def test_no_time_has_no_text() -> None:
    assert times.to_text_or_none(None) is None
    assert times.to_text_or_none(0) == "1970-01-01T00:00:00.000Z"
