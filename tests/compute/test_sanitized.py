"""The kernels under the sanitizers of addresses and of undefined behaviour, fed with all that their tests have.

scripts/test -m soak tests/compute/test_sanitized.py
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lso_core.compute import native

ROOT = Path(__file__).resolve().parents[2]
EXACT = Path(__file__).with_name("exact.c")
FLAGS = ("-std=c11", "-O1", "-g", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off",
         "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")  # fmt: skip
NAMES = ("reader", "batches", "arrow", "fold_kernel", "fold", "fold_rows", "carrying", "histogram", "ranks", "series")
TESTS = tuple(f"tests/compute/test_{name}.py" for name in NAMES)
GUARDED = {"events": "lso_read", "arrow": "lso_read_arrow", "stream": "stream_read"}
"""What of a source is given memory of just the right size before it runs."""
FIND = """
import sys
sys.prefix = sys.argv[1]  # where the library is looked for
from lso_core.compute import kernel
assert kernel.trouble() is None, kernel.trouble()
"""
TEST = f"""{FIND}
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--timeout=3000", "-k", "not bounded_time", *sys.argv[2:]]))
"""
FUZZ = f"""{FIND}
import random
from tests.compute.test_reader import ALIKE, ODD, SPLICES, bodies_of, taken
seed = random.randrange(1 << 32)
print("seed", seed, flush=True)
chance, whole = random.Random(seed), [sent for events in (ALIKE | ODD).values() for sent in bodies_of(events[:5])]
assert None not in [taken(body, ndjson=ndjson) for body, ndjson in whole]
good = 0
for _ in range(300_000):
    body, ndjson = chance.choice(whole)
    for _ in range(chance.choice((1, 1, 2, 9))):
        at, gone = chance.randrange(len(body) + 1), chance.choice((0, 1, 1, 2, 9))
        other = chance.choice(whole)[0]
        start = chance.randrange(len(other))
        put = chance.choice((chance.choice(SPLICES), chance.randbytes(1), other[start : start + chance.randrange(20)]))
        body = body[:at] + put + body[at + gone :]
    body = body[: chance.choice((len(body), chance.randrange(len(body) + 1)))]
    good += taken(body, ndjson=ndjson) is not None
assert 0 < good < 200_000, good
"""
FUZZ_ARROW = f"""{FIND}
import random
from lso_core.compute import arrow
from tests.compute.test_arrow import SPELT, post
from tests.streams import mutated
seed = random.randrange(1 << 32)
print("seed", seed, flush=True)
dice = random.Random(seed)
assert all(arrow.quick(post(body)) for body in SPELT)
good = sum(arrow.quick(post(mutated(dice, dice.choice(SPELT)))) is not None for _ in range(60_000))
assert 0 < good < 60_000, good
"""


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment with a library that the sanitizers watch."""
    library = native.library(tmp_path)
    library.parent.mkdir()
    gcc = ["gcc", *FLAGS, "-I", str(native.FOLDER)]
    one = [word for word in gcc if word != "-shared"]
    for source, name in GUARDED.items():
        named, into = f"-D{name}={name}_whole", tmp_path / f"{source}.o"
        subprocess.run([*one, "-c", named, "-o", into, native.FOLDER / f"{source}.c"], check=True)
    guarded = [tmp_path / f"{source}.o" for source in GUARDED]
    others = [path for path in native.sources() if path.suffix == ".c" and path.stem not in GUARDED]
    subprocess.run([*gcc, "-o", library, *guarded, *others, EXACT, "-lm"], check=True)
    return tmp_path


def preloaded() -> str:
    """The sanitizer's own library, which must be there before Python is."""
    asked = ["gcc", "-print-file-name=libasan.so"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc on the PATH")
def test_no_body_makes_the_kernel_read_or_write_where_it_must_not(prefix: Path) -> None:
    environ = {
        **os.environ,
        "LD_PRELOAD": preloaded(),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python itself leaves much behind
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    for program in ([TEST, str(prefix), *TESTS], [FUZZ, str(prefix)], [FUZZ_ARROW, str(prefix)]):
        command = [sys.executable, "-c", *program]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout[-3_000:] + done.stderr[-6_000:]
