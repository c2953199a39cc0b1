"""The archive's places: a folder, and an object store."""

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lso_core.archive import files as place
from lso_core.archive.files import Found, LocalFiles, ObjectFiles, find_files, open_files
from lso_core.model.errors import ArchiveError, ConfigurationError
from lso_core.settings import Settings

MIB = 1 << 20

Open = Callable[[], place.Files]


@pytest.fixture(params=["folder", "objects"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> place.Files:
    """A folder; and an object store of obstore's own that keeps everything in memory."""
    return LocalFiles(tmp_path / "archive") if request.param == "folder" else ObjectFiles("memory:///", MIB)


def test_what_is_written_is_listed_read_and_deleted(files: place.Files) -> None:
    assert [] == files.listing()
    for path in ("events/system_id=1/b", "events/system_id=1/a", "events/system_id=10/a", "minutes/x"):
        files.write(path, path.encode())
    assert [Found("events/system_id=1/a", 20), Found("events/system_id=1/b", 20)] == files.listing(
        "events/system_id=1/"
    )
    assert 4 == len(files.listing())
    assert b"minutes/x" == files.read("minutes/x")
    files.write("minutes/x", b"again")
    assert b"again" == files.read("minutes/x")
    [name] = files.local(["events/system_id=10/a"])
    assert b"events/system_id=10/a" == Path(name).read_bytes()
    for _ in range(2):
        files.delete("minutes/x")
    with pytest.raises(FileNotFoundError):
        files.read("minutes/x")
    with pytest.raises(FileNotFoundError):
        files.local(["minutes/x"])


def test_a_cache_keeps_its_size_and_what_is_open(tmp_path: Path) -> None:
    files = ObjectFiles("memory:///", 3 * MIB)
    for number in range(5):
        files.write(f"f{number}", bytes([number]) * MIB)
    [first] = files.local(["f0"])
    with Path(first).open("rb") as open_one:
        names = files.local([f"f{number}" for number in range(1, 5)])
        assert [False, False, True, True, True] == [Path(name).exists() for name in (first, *names)]
        assert bytes(MIB) == open_one.read()
    assert bytes(MIB) == Path(files.local(["f0"])[0]).read_bytes()


def test_half_a_file_is_none(tmp_path: Path) -> None:
    """A writer that is killed leaves a name that no reader takes for a file, and that goes after an hour."""
    script = """
import os, signal, sys
from pathlib import Path
from lso_core.archive import files
files.os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
files.LocalFiles(Path(sys.argv[1])).write("x.parquet", b"x" * 1000)
"""
    assert -9 == subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode
    files = LocalFiles(tmp_path)
    [half] = list(tmp_path.iterdir())
    assert ([], False) == (files.listing(), half.name.endswith(".parquet"))
    files.tidy()
    assert half.exists(), "its writer may still be at it"
    old = time.time() - place.LEFTOVER_S - 1
    os.utime(half, (old, old))
    files.write("a/b/y.parquet", b"y")
    files.delete("a/b/y.parquet")
    files.tidy()
    assert [] == list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the write itself fails, half way."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from lso_core.archive.files import LocalFiles
from lso_core.model.errors import ArchiveError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({MIB}, {MIB}))
try:
    LocalFiles(Path(sys.argv[1])).write("x.parquet", bytes({2 * MIB}))
except ArchiveError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True)
    assert f"the archive at {tmp_path} does not work: {os.strerror(errno.EFBIG)}\n" == done.stdout
    assert [] == list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != MIB


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("no folder")
    with pytest.raises(ArchiveError) as raised:
        LocalFiles(tmp_path / "archive").write("x", b"x")
    assert str(tmp_path) in str(raised.value)


def test_a_store_that_is_away_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    began = time.monotonic()
    with pytest.raises(ArchiveError) as raised:
        ObjectFiles("s3://bucket/lso", MIB).write("x", b"x")
    assert "s3://bucket/lso does not answer" in str(raised.value)
    assert time.monotonic() - began < 60


def test_the_place_is_what_the_settings_say(tmp_path: Path) -> None:
    def opened(url: str) -> place.Files:
        return open_files(Settings(data_dir=str(tmp_path), archive_url=url))

    assert str(tmp_path / "archive") == opened("").where
    assert ["/a/b", "/a/b"] == [opened(url).where for url in ("/a/b", "file:///a/b")]
    assert isinstance(opened("s3://bucket/prefix"), ObjectFiles)
    with pytest.raises(ConfigurationError, match="LSO_ARCHIVE_URL names a store that cannot be"):
        opened("gopher://bucket")
    assert find_files(Settings(archive="off")) is None
