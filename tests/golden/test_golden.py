"""What earlier releases stored is still read, and nobody changes a format without giving it a number and a golden file."""

import json
from pathlib import Path

import pytest

from tests.golden.samples import FOLDER, current, read, written

FILES = sorted(one for one in FOLDER.iterdir() if one.suffix != ".json")
ADD = "raise its number and run `python -m tests.golden`"
NOT_THE_SAME_BYTES = {"body-json", "body-ndjson", "body-arrow", "body-parts"}
"""What lz4 and Arrow write may differ by their version; it is read all the same."""


def kind_of(golden: Path) -> str:
    return golden.name.rpartition("-")[0]


@pytest.mark.parametrize("golden", FILES, ids=[one.name for one in FILES])
def test_what_a_release_stored_is_still_read(golden: Path) -> None:
    expected = json.loads(golden.with_suffix(".json").read_text(encoding="utf-8"))
    found = read(kind_of(golden), golden.read_bytes())
    assert expected == {name: found.get(name) for name in expected}


@pytest.mark.parametrize("kind", current())
def test_every_format_up_to_this_releases_has_its_golden_file(kind: str) -> None:
    numbers = {int(one.name.rpartition("-")[2]) for one in FILES if kind_of(one) == kind}
    assert set(range(1, current()[kind] + 1)) == numbers, f"the format of {kind} was raised: {ADD}"


@pytest.mark.parametrize("kind", current())
def test_this_release_writes_what_its_number_says(kind: str) -> None:
    data = written()[kind]
    newest = FOLDER / f"{kind}-{current()[kind]}"
    if kind in NOT_THE_SAME_BYTES:
        assert read(kind, newest.read_bytes()) == read(kind, data)
    else:
        assert newest.read_bytes() == data, f"{kind} is written otherwise than {newest.name}: {ADD}"
