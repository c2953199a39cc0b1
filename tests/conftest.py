"""What tests of several rooms share."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
import redis

from tests.waiting import wait_for

pytest.register_assert_rewrite(
    "tests.e2e.answers",
    "tests.e2e.arithmetic",
    "tests.e2e.load",
    "tests.e2e.service",
    "tests.e2e.systems",
    "tests.e2e.wire",
)


hypothesis.settings.register_profile("lso", deadline=None, max_examples=40)  # deadlines measure the machine's load
hypothesis.settings.load_profile("lso")


@pytest.fixture
def unique_name() -> str:
    """A name that no other test uses."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def distribution_redis() -> Iterator[str]:
    """The URL of a `redis-server` as distributions ship it (7.0 or newer), with an append-only file and nothing in it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server on the PATH; .ci/run installs one where it can")
    with tempfile.TemporaryDirectory(prefix="lso-") as folder:  # short, since a socket's path must be
        socket = Path(folder) / "redis.sock"
        options = {
            "--port": "0",
            "--unixsocket": str(socket),
            "--dir": folder,
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--maxmemory-policy": "noeviction",
            "--save": "",
        }
        command = [program, *(word for option in options.items() for word in option)]
        log = Path(folder) / "redis.log"
        with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
            try:
                url = f"unix://{socket}"
                wait_for(lambda: _answers(url), "the distribution's redis-server answers")
                yield url
            finally:
                process.terminate()


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
