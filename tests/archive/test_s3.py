"""An archive in S3, as `moto_server` plays it. It brings sixty packages along, so it is not among those of the tests: where
it is on the PATH (pip install "moto[s3,server]", in an environment of its own) this runs.
"""

import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lso_core.archive.files import Found, ObjectFiles, open_files
from lso_core.model.errors import ArchiveError
from lso_core.settings import Settings
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("there is no moto_server on the PATH")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: _made(f"{url}/lso-archive"), "moto_server makes a bucket", 30)
            yield url
        finally:
            process.terminate()


def _made(bucket: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"), timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def settings(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return Settings(archive_url="s3://lso-archive/some/prefix")


def test_a_bucket_is_written_listed_read_and_emptied(settings: Settings) -> None:
    files = open_files(settings)
    assert isinstance(files, ObjectFiles)
    assert "s3://lso-archive/some/prefix" == files.where
    assert [] == files.listing()
    for number in range(3):
        files.write(f"events/system_id=1/day=2026-11-26/{number}.parquet", b"x" * number)
    files.write("events/system_id=10/day=2026-11-26/0.parquet", b"other")
    listed = files.listing("events/system_id=1/")
    assert [Found(f"events/system_id=1/day=2026-11-26/{n}.parquet", n) for n in range(3)] == listed
    assert b"xx" == files.read(listed[2].path)
    assert b"xx" == Path(files.local([listed[2].path])[0]).read_bytes()
    with pytest.raises(FileNotFoundError):
        files.read("events/none.parquet")
    for found in files.listing():
        files.delete(found.path)
    files.delete("events/none.parquet")
    assert [] == files.listing()


@pytest.mark.usefixtures("settings")
def test_a_bucket_that_is_not_there_is_an_error() -> None:
    files = ObjectFiles("s3://no-such-bucket-here/x", 1 << 20)
    with pytest.raises(ArchiveError):
        files.write("a", b"a")
