"""Decimal numbers many at a time: what the decoder reads, or nothing."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute import decimals


def parse(texts: list[bytes], end: bytes = b",", behind: bytes = b"") -> tuple[list[float], list[int]] | None:
    rows = b"".join((text + end + behind + b" 12.5," * 3)[: decimals.WIDTH] for text in texts)
    found = decimals.parse(np.frombuffer(rows, "<u8").reshape(len(texts), -1), end)
    return None if found is None else (found[0].tolist(), found[1].tolist())


short = st.text("0123456789", min_size=1, max_size=8).map(str.encode)
points = st.tuples(short, short).map(lambda two: (two[0] + b"." + two[1])[:8])
strange = st.text("0123456789.-+eE, }n\n\x00", max_size=9).map(str.encode) | st.binary(max_size=9)


@settings(deadline=None)
@given(st.lists(short | points, min_size=1, max_size=20), st.sampled_from([b",", b"}", b" ", b"\n"]))
def test_numbers_are_those_that_the_decoder_reads(texts: list[bytes], end: bytes) -> None:
    found = parse(texts, end)
    try:
        wanted = [msgspec.json.decode(text, type=float) for text in texts]
    except msgspec.DecodeError:
        assert found is None
    else:
        assert (wanted, [len(text) for text in texts]) == found


@settings(deadline=None, max_examples=500)
@given(strange, strange)
def test_what_is_no_number_is_not_read(text: bytes, behind: bytes) -> None:
    found = parse([b"12", text, b"3.5"], behind=behind)
    if found is not None:
        (_, value, _), (_, length, _) = found
        assert msgspec.json.decode(text[:length], type=float) == value
        assert length == (text + b",").index(b",")


@pytest.mark.parametrize("text", [b"", b".", b"1.", b".5", b"01", b"00", b"-1", b"1e3", b"1.2.3", b"123456789", b"1_0"])
def test_no_form_that_json_has_not_is_read(text: bytes) -> None:
    assert parse([b"1", text, b"1"]) is None
