"""The outline of a text, against a scan that takes one byte after the other."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lso_core.compute.outline import holds_more, nesting, openings, outline

texts = st.binary(max_size=40) | st.lists(
    st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"a", b":"]), max_size=40
).map(b"".join)
documents = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def scan(text: bytes) -> tuple[list[bool], list[int]]:
    """Outside of strings, and depth after each byte: the slow truth."""
    outside, depths, in_string, escaped, depth = [], [], False, False, 0
    for byte in text:
        quote = byte == ord('"') and not escaped
        outside.append(not in_string and not quote)
        if quote:
            in_string = not in_string
        elif not in_string:
            depth += (byte in b"{[") - (byte in b"}]")
        escaped = byte == ord("\\") and not escaped
        depths.append(depth)
    return outside, depths


@settings(deadline=None)
@given(texts)
def test_it_equals_a_scan_byte_by_byte(text: bytes) -> None:
    found = outline(text)
    assert scan(text) == (found.outside.tolist(), found.depth.tolist())


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@settings(deadline=None)
@given(documents)
def test_nesting_is_that_of_the_value_wherever_it_matters(value: Any) -> None:
    text = json.dumps(value).encode()
    assert depth_of(value) == outline(text).deepest
    assert depth_of(value) <= nesting(text)


@settings(deadline=None)
@given(st.dictionaries(st.text(alphabet="abc{", min_size=1, max_size=4), documents, min_size=1, max_size=4))
def test_every_byte_of_a_value_is_told_by_its_member(members: dict[str, Any]) -> None:
    text = b"{"
    for name, value in members.items():
        start = len(text) + len(json.dumps(name)) + 1
        text += json.dumps(name).encode() + b":" + json.dumps(value).encode() + b","
        scan = outline(text[:-1] + b"}")
        assert {name} == {scan.key_at(at) for at in range(start, len(text) - 1)}


def test_pieces_end_at_commas_of_one_level_only() -> None:
    text = b'[1,[2,3],"4,5",{"a":6,"b":7}]'
    assert [2, 8, 14] == outline(text).commas(0, len(text), 1).tolist()


def count_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count_of, value.values()))
    return 1 + sum(map(count_of, value)) if isinstance(value, list) else 0


@settings(deadline=None)
@given(documents)
def test_objects_and_arrays_are_counted(document: Any) -> None:
    text = json.dumps(document).encode()
    count = count_of(document)
    assert outline(text).containers == count <= openings(text)
    assert not count or holds_more(text, count - 1)
    assert not holds_more(text, count)
