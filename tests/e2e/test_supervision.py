"""The supervised tree: real processes, real binaries, real signals."""

import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from lso_core.model.windows import PARTITIONS
from lso_core.store import keys
from lso_core.store.binaries import find_binary
from tests.e2e.conftest import StartService
from tests.e2e.service import Service, launch
from tests.e2e.systems import register
from tests.redises import running_cluster
from tests.waiting import have_ended, wait_for

pytestmark = pytest.mark.timeout(180)

EVENT = {"event_type": "success", "status": "ok", "latency_ms": 12}
SECONDS_TO_HEAL = 20
"""A new process imports what it needs; two cores that others use as well take their time."""


@pytest.fixture
def up(start_service: StartService) -> Service:
    """A service that is ready, with two API processes and a worker."""
    return start_service("--api-processes", "2", "--workers", "1")


def test_it_says_where_it_listens_and_how_to_end_it(up: Service) -> None:
    lines = up.said().splitlines()
    assert any(line.startswith(f"LSO listens on {up.url} (docs at /docs). Its Redis: ") for line in lines)
    assert f"Stop it with Ctrl-C, or with: kill {up.process.pid}" in lines
    assert "/readyz" not in up.said()  # it was asked whether it is ready until it was


def test_each_childs_command_line_names_its_role(up: Service) -> None:
    named = [*up.children("api"), *up.children("worker"), up.store_process()]
    assert [2, 1] == [len(up.children("api")), len(up.children("worker"))]
    assert {child.pid for child in up.tree()} == {child.pid for child in named}


def test_api_processes_share_one_socket_that_was_bound_once(up: Service) -> None:
    assert [{up.address}] * 2 == [listening(child) for child in up.children("api")]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):  # with SO_REUSEPORT on both sides it would be let in
            other.bind(up.address)


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    return {
        (found.laddr.ip, found.laddr.port)
        for found in process.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
    }


def test_mock_data_brings_systems_in_every_state(start_service: StartService) -> None:
    up = start_service("--api-processes", "1", environ={"USE_MOCK_DATA": "outage"})

    def counts() -> dict[str, int] | None:
        with up.client() as client:
            fleet = client.get("/health").json()
        return dict(fleet["counts"]) if fleet["worst"] == "UNHEALTHY" and fleet["counts"]["OK"] else None

    assert wait_for(counts, "systems that are well and some that are not")
    below = up.tree()
    up.process.terminate()
    assert up.process.wait(10) == 0
    assert have_ended(below)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"USE_MOCK_DATA": "nonsense"}, "USE_MOCK_DATA must be 1, 0 or one of all-green, "),
        ({"USE_MOCK_DATA": "1", "LSO_API_KEYS": "write:abc"}, "USE_MOCK_DATA needs an admin key in LSO_API_KEYS"),
    ],
)
def test_mock_data_that_cannot_be_is_one_sentence(tmp_path: Path, environ: dict[str, str], words: str) -> None:
    process = launch(["up", "--port", "0", "--data-dir", str(tmp_path / "data")], tmp_path / "out", environ)
    assert process.wait(20) == 2
    said = (tmp_path / "out").read_text()
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_polite_signal_ends_everything_well(up: Service, number: signal.Signals) -> None:
    below = up.tree()
    up.process.send_signal(number)
    assert up.process.wait(10) == 0
    assert have_ended(below)
    assert "Traceback" not in up.said()


def test_a_signal_while_starting_ends_everything_well(tmp_path: Path) -> None:
    process = launch(["up", "--port", "0", "--data-dir", str(tmp_path / "data")], tmp_path / "out")
    below = wait_for(lambda: psutil.Process(process.pid).children(), "a first child")
    process.terminate()
    assert process.wait(10) == 0
    assert have_ended(below)
    assert "Traceback" not in (tmp_path / "out").read_text()


def test_a_request_under_way_is_answered_before_the_end(up: Service) -> None:
    with up.client() as client:
        system = register(client)
    body = json.dumps({"events": [EVENT]}).encode()
    connection = http.client.HTTPConnection(*up.address, timeout=10)
    connection.putrequest("POST", f"{system.path}/events")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    up.process.terminate()
    wait_for(lambda: refuses_connections(up), "that no new connections are accepted")
    connection.send(body[10:])
    assert connection.getresponse().status == 202
    assert up.process.wait(10) == 0


def refuses_connections(up: Service) -> bool:
    try:
        socket.create_connection(up.address, timeout=2).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_child_that_overstays_is_killed_in_time(up: Service, role: str) -> None:
    below = up.tree()
    up.children(role)[0].suspend()
    up.process.terminate()
    assert up.process.wait(10) == 0
    assert have_ended(below)


@pytest.mark.parametrize("suspended", ["none", "api", "worker"])
def test_kill_9_ends_every_child_within_2_seconds_and_the_next_start_works(
    up: Service, start_service: StartService, suspended: str
) -> None:
    with up.client() as client:
        system = register(client)
    below = up.tree()
    for child in up.children(suspended)[:1]:
        child.suspend()
    up.process.kill()
    wait_for(lambda: have_ended(below), "the end of every child", within=2)
    again = start_service("--port", str(up.address[1]))
    with again.client() as client:
        assert system.name == client.get(system.path).json()["name"]


@pytest.mark.parametrize("role", ["api", "worker", "store"])
def test_a_child_that_dies_is_started_again(up: Service, role: str) -> None:
    def running() -> set[int]:
        return {child.pid for child in (up.tree() if role == "store" else up.children(role))}

    before = running()
    killed = up.store_process() if role == "store" else up.children(role)[0]
    killed.kill()
    wait_for(lambda: killed.pid not in running() and len(running()) == len(before), "a new child", SECONDS_TO_HEAL)
    wait_for(up.is_ready, "a service that is well again", SECONDS_TO_HEAL)
    assert "was ended by SIGKILL; starting it again" in up.said()


def test_events_count_across_the_death_of_workers_and_api_processes(up: Service) -> None:
    with up.client() as client:
        system = register(client)
        for role in ("worker", "api", "worker"):
            assert system.post([EVENT]).status_code == 202
            for child in up.children(role)[:1]:
                child.kill()
                child.wait(5)
            wait_for(up.is_ready, "a service that is well again", SECONDS_TO_HEAL)
    with up.client() as client:
        wait_for(lambda: client.get(f"{system.path}/health").json()["total"] == 3, "three events")


def test_runs_are_told_once_across_the_death_of_workers(up: Service) -> None:
    wanted = {f"r{at}": (at % 7, 10 * at) for at in range(60)}
    with up.client() as client:
        system = register(client)
        for number, (run_id, (stages, rows)) in enumerate(wanted.items()):
            stage = {**EVENT, "run_id": run_id, "stage": "load", "payload": {"rows": rows}}
            system.take([{"event_type": "start", "status": "ok", "run_id": run_id}, *[stage] * (stages // 2)])
            if number % 15 == 14:
                for child in up.children("worker"):
                    child.kill()
            system.take([*[stage] * (stages - stages // 2), {"event_type": "end", "status": "ok", "run_id": run_id}])

        def told() -> dict[str, tuple[int, int]] | None:
            items = client.get(f"{system.path}/runs", params={"state": "SUCCESS"}).json()["items"]
            return {one["run_id"]: (one["events"] - 2, one["rows"] or 0) for one in items} if len(items) == 60 else None

        found = wait_for(told, "all runs have ended", SECONDS_TO_HEAL)
    assert {run_id: (stages, stages * rows) for run_id, (stages, rows) in wanted.items()} == found


def test_connections_wait_while_no_api_process_is_there(start_service: StartService) -> None:
    up = start_service("--api-processes", "1")
    up.children("api")[0].kill()
    with up.client() as client:  # no refusal and no reset: the listening socket is the supervisor's too
        assert client.get("/healthz").status_code == 200


def test_the_leases_of_dead_workers_are_given_back_for_them(start_service: StartService) -> None:
    up = start_service("--workers", "2")
    with up.client() as client, up.redis() as store:
        system = register(client)

        def told(field: str) -> list[Any]:
            return [store.hget(keys.lease(number), field) for number in range(PARTITIONS)]

        wait_for(lambda: all(told("owner")), "every partition is held", SECONDS_TO_HEAL)
        killed_s = time.time()
        for worker in up.children("worker"):
            worker.kill()
        assert system.post([EVENT]).status_code == 202
        wait_for(lambda: client.get(f"{system.path}/health").json()["total"] == 1, "a takeover", SECONDS_TO_HEAL)
        # A lease that ran out would be taken without having been given back.
        assert [] == [since for since in told("since") if int(since or 0) / 1_000 < killed_s]


def test_what_was_accepted_is_there_after_a_restart(start_service: StartService) -> None:
    first = start_service()
    with first.client() as client:
        system = register(client)
        assert system.post([EVENT]).status_code == 202
    first.stop()
    second = start_service()
    with second.client() as client:
        wait_for(lambda: client.get(f"{system.path}/health").json()["total"] == 1, "the event of before")


Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Refused]:
    """Starts `lso up` where it cannot start; the one sentence that it says, without the `lso: ` before it."""
    processes: list[subprocess.Popen[bytes]] = []

    def refused(*options: str, **variables: str) -> str:
        output = tmp_path / f"refused{len(processes)}.out"
        command = ["up", "--port", "0", "--data-dir", str(tmp_path / "data"), *options]
        processes.append(launch(command, output, variables))
        assert processes[-1].wait(20) == 2
        said = output.read_text()
        assert re.fullmatch(r"lso: .*\n", said), f"it said more than one sentence:\n{said}"
        return said.removeprefix("lso: ").removesuffix("\n")

    yield refused
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_taken_port_is_refused(up: Service, refused: Refused) -> None:
    port = up.address[1]
    assert refused("--port", str(port)).startswith(f"port {port} on 127.0.0.1 is taken by another program")


def test_a_locked_data_directory_is_refused(up: Service, refused: Refused) -> None:
    up.store_process()  # on an outside Redis the directory holds nothing and is not locked
    user = f"is in use by another LSO (process {up.process.pid})"
    assert refused().startswith(f"the data directory {up.data_dir} {user}")
    assert up.is_ready()


def test_an_unusable_data_directory_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refused("--data-dir", str(tmp_path / "file"))
    assert sentence == f"LSO_DATA_DIR: the directory {tmp_path}/file cannot be used: File exists"


def test_an_unreachable_redis_is_refused(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert refused("--redis-url", f"redis://127.0.0.1:{port}").startswith("LSO_REDIS_URL: Redis cannot be reached")


def test_a_redis_url_that_is_none_is_refused(refused: Refused) -> None:
    assert refused("--redis-url", "mysql://here").startswith("LSO_REDIS_URL is not a Redis URL")


def test_a_cluster_without_a_plain_redis_for_the_timetable_is_refused(refused: Refused) -> None:
    with running_cluster() as cluster:
        assert refused("--redis-url", cluster.url).startswith("LSO_QUEUE_URL must name a plain Redis")


def test_a_redis_that_drops_data_is_refused(refused: Refused, tmp_path: Path) -> None:
    with outside_redis(tmp_path, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru") as url:
        assert "maxmemory-policy allkeys-lru" in refused("--redis-url", url)


def test_a_redis_that_is_too_old_is_refused(refused: Refused) -> None:
    with OldRedis() as url:
        assert refused("--redis-url", url) == "LSO_REDIS_URL names a Redis 6.2.14; LSO needs 7.0 or newer"


def test_keys_that_are_none_are_refused(refused: Refused) -> None:
    assert "LSO_API_KEYS" in refused("--api-processes", "1", LSO_API_KEYS="nonsense")


def test_an_address_for_other_machines_without_keys_is_refused(refused: Refused) -> None:
    assert "set LSO_API_KEYS, or give --insecure" in refused("--host", "0.0.0.0")


def test_an_outside_redis_is_used_and_left_alone(start_service: StartService, tmp_path: Path) -> None:
    with outside_redis(tmp_path) as url:
        up = start_service(redis_url=url)
        assert len(up.tree()) == len(up.children("api")) + len(up.children("worker"))
        up.stop()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(url.removeprefix("unix://"))
            client.sendall(b"PING\r\n")
            assert client.recv(16) == b"+PONG\r\n"
    assert not (up.data_dir / "redis").exists()  # the archive may have begun meanwhile


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_process_alone_ends_well(tmp_path: Path, role: str) -> None:
    with outside_redis(tmp_path) as url:
        process = launch([role, "--port", "0"], tmp_path / "out", {"LSO_REDIS_URL": url})
        wait_for(lambda: knows_redis(url), "a process that is at work")
        process.terminate()
        assert process.wait(10) == 0
    assert "Traceback" not in (tmp_path / "out").read_text()


def knows_redis(url: str) -> bool:
    """Whether somebody has laid out this Redis for LSO."""
    with redis.Redis.from_url(url) as client:
        return bool(client.exists(keys.LAYOUT))


class outside_redis:  # noqa: N801 - used as a function
    """A server that somebody else runs; as a context, its URL."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._socket = folder / "outside.sock"
        command = [find_binary().path, "--port", "0", "--unixsocket", str(self._socket), "--dir", str(folder)]
        self._process = subprocess.Popen([*command, "--save", "", *options], stdout=subprocess.DEVNULL)

    def __enter__(self) -> str:
        wait_for(self._socket.exists, "the outside server")
        return f"unix://{self._socket}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)


class OldRedis:
    """As much of a Redis 6.2 as tells its version."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                while received := client.recv(65_536):
                    client.sendall(b"".join(self._answers(received)))

    @staticmethod
    def _answers(received: bytes) -> Iterator[bytes]:
        """One answer for every command, which hiredis and redis-py send as arrays."""
        for command in received.split(b"\r\n*"):
            words = command.upper()
            if b"INFO" in words:
                text = b"redis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\n"
                yield b"$%d\r\n%b\r\n" % (len(text), text)
            else:
                yield b"+OK\r\n" if b"CLIENT" in words else b":0\r\n"
