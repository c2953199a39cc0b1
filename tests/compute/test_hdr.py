"""The V2 encoding: the Python library and the JavaScript one read back what was counted, and answer as we do.

`hdr-histogram-js` is looked for in the folder that LSO_TEST_HDR_JS names, or installed into a temporary one where npm
reaches a registry; where neither is possible the tests say that they did not run.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lso_core.compute import hdr, histogram
from lso_core.compute.histogram import HIGHEST_US

PACKAGE = "hdr-histogram-js@3.0.1"
PERCENTILES = (0.001, 1.0, 25.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)

values = st.one_of(st.integers(0, 3_000), st.integers(0, HIGHEST_US), st.sampled_from([0, 1, 2_047, 2_048, HIGHEST_US]))
samples = st.dictionaries(values, st.integers(1, 2**50), min_size=0, max_size=60)

SCRIPT = """
const hdr = require("hdr-histogram-js");
const read = (text) => {
  const histogram = hdr.decodeFromCompressedBase64(text);
  const answer = { total: histogram.totalCount, values: {} };
  for (const p of %s) answer.values[p] = histogram.getValueAtPercentile(p);
  return answer;
};
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map(read)));
"""


def cells(sample: dict[int, int]) -> tuple[Any, Any]:
    """Values and how often each came, as cells."""
    return histogram.sum_cells(
        histogram.index_of(np.array(list(sample), np.int64)), np.array(list(sample.values()), np.int64)
    )


@given(samples)
@example({})
@example({0: 1})
@example({HIGHEST_US: 2**55})
def test_the_python_library_reads_back_every_count(sample: dict[int, int]) -> None:
    index, counts = cells(sample)
    found = HdrHistogram.decode(hdr.encode(index, counts))
    again = [found.counts[at] for at in range(found.counts_len)]
    assert found.total_count == sum(sample.values())
    assert {at: count for at, count in enumerate(again) if count} == dict(
        zip(index.tolist(), counts.tolist(), strict=True)
    )
    assert (found.lowest_trackable_value, found.highest_trackable_value, found.significant_figures) == (
        1,
        HIGHEST_US,
        3,
    )


@given(samples)
@settings(max_examples=20)
def test_what_the_python_library_writes_is_as_long_and_reads_the_same(sample: dict[int, int]) -> None:
    own = HdrHistogram(1, HIGHEST_US, 3)
    for value, count in sample.items():
        own.record_value(value, min(count, 10**6))
    index, counts = cells({value: min(count, 10**6) for value, count in sample.items()})
    theirs, ours = HdrHistogram.decode(own.encode()), HdrHistogram.decode(hdr.encode(index, counts))
    assert list(theirs.counts) == list(ours.counts)


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds the package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        pytest.skip("NOT RUN: there is no node, so that hdr-histogram-js could not be asked")
    if (given := os.environ.get("LSO_TEST_HDR_JS")) is not None:
        return Path(given)
    if npm is None:
        pytest.skip("NOT RUN: there is no npm to install hdr-histogram-js with")
    folder = tmp_path_factory.mktemp("hdr-js")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE],
        check=False,
        capture_output=True,
        timeout=120,
    )
    if done.returncode:
        pytest.skip(f"NOT RUN: npm could not install {PACKAGE}: {done.stderr.decode()[-200:]}")
    return folder


def ask(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """What the JavaScript library reads in each text."""
    done = subprocess.run(
        ["node", "-e", SCRIPT % json.dumps(PERCENTILES)],
        check=True,
        capture_output=True,
        cwd=folder,
        input=json.dumps(texts).encode(),
        timeout=60,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(240)
def test_the_javascript_library_counts_and_ranks_as_we_do(javascript: Path) -> None:
    chance = np.random.default_rng(7)
    distributions = [
        chance.lognormal(9, 2, 20_000),
        chance.uniform(0, 3_000, 999),
        chance.choice([1, 5_000, 700_000], 60),
        np.array([0.0]),
        np.array([float(HIGHEST_US)]),
    ]
    some = [histogram.index_of(np.clip(one, 0, HIGHEST_US).astype(np.int64)) for one in distributions]
    parts = [np.unique(one, return_counts=True) for one in some]
    answers = ask(javascript, [hdr.encode(index, counts).decode() for index, counts in parts])
    for (index, counts), answer in zip(parts, answers, strict=True):
        assert answer["total"] == int(counts.sum())
        for per_cent in PERCENTILES:
            [ours] = histogram.values_at((per_cent,), index, counts)
            assert answer["values"][str(per_cent).removesuffix(".0")] == ours, per_cent
