"""The spool: what cannot be sent is on disk within half a second, and any later process delivers it, once."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lso_core.client import Client
from lso_core.client.config import read_config
from lso_core.client.counters import Counters
from lso_core.client.notices import Notices
from lso_core.client.outbox import STUCK_S, Outbox
from lso_core.client.queue import EventQueue
from lso_core.client.spool import Name, Spool
from tests.client.conftest import SYSTEM, until
from tests.client.faulty_proxy import HANG, SWALLOW, UNAVAILABLE, Fault, FaultyProxy
from tests.client.observatory import Observatory

Connect = Callable[..., Client]
Python = Callable[..., subprocess.Popen[str]]
EMIT_UNTIL_KILLED = """
import sys, time
from lso_core import client as lso
lso.init(timeout_s=3)
number = 0
while True:
    lso.event("success", latency_ms=1, n=number)
    print(number, time.monotonic(), flush=True)
    number += 1
    time.sleep(0.01)
"""
DELIVER = "from lso_core import client as lso; lso.init()"
"""A process that has nothing of its own to say; the end of it gives it time to deliver."""


def files(directory: Path) -> list[Path]:
    """The batches that lie there, oldest first."""
    return sorted(directory.glob("*.lso"))


def contents(directory: Path) -> list[bytes]:
    """What lies in them; a file that goes or is renamed meanwhile is left out."""
    found = []
    for path in files(directory):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.read_bytes())
    return found


def kill_after(process: subprocess.Popen[str], seconds: float) -> list[tuple[int, float]]:
    """Let it emit for a while, kill it with SIGKILL, and answer what it had emitted and how long before its end."""
    assert process.stdout is not None
    emitted = []
    for line in process.stdout:
        number, at = line.split()
        emitted.append((int(number), float(at)))
        if emitted[-1][1] - emitted[0][1] > seconds:
            break
    process.send_signal(signal.SIGKILL)
    end = time.monotonic()
    emitted += [
        (int(line.split()[0]), float(line.split()[1]))
        for line in process.stdout.read().splitlines()
        if len(line.split()) == 2
    ]
    process.wait()
    return [(number, end - at) for number, at in emitted]


@pytest.mark.parametrize(
    "fault", [UNAVAILABLE, HANG, SWALLOW, None], ids=["503", "hangs", "counts and hangs", "refuses"]
)
def test_after_sigkill_the_next_process_delivers_all_but_the_last_half_second(
    python: Python, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path, fault: Fault | None
) -> None:
    spool = tmp_path / "spool"
    variables = {"LSO_URL": proxy.url, "LSO_SYSTEM": SYSTEM, "LSO_SPOOL_DIR": str(spool)}
    if fault is None:
        proxy.refuse()
    else:
        proxy.fault = fault
    emitted = kill_after(python(EMIT_UNTIL_KILLED, **variables), 1.5)
    proxy.fault = Fault()
    if fault is None:
        proxy.accept()
    assert python(DELIVER, **variables).wait(20) == 0
    assert files(spool) == []
    counted = observatory.numbers(SYSTEM)
    assert set(counted.values()) == {1}
    missing = [age for number, age in emitted if number not in counted]
    assert all(age < 0.5 for age in missing), max(missing)


def test_what_was_spooled_leaves_the_disk_when_the_way_is_free(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    client = connect(spool_dir=tmp_path, batch_events=10)
    proxy.fault = UNAVAILABLE
    for number in range(95):
        client.event("success", latency_ms=1, n=number)
    until(lambda: sum(content.count(b"\n") - 1 for content in contents(tmp_path)) == 95)
    assert client.stats()["waiting"] == 0
    proxy.fault = Fault()
    assert client.flush(10)
    assert files(tmp_path) == []
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(95), 1)


def test_events_that_no_sender_takes_are_written_too(tmp_path: Path) -> None:
    config = read_config("http://lso", SYSTEM, api_key="", spool_dir=tmp_path, register=True, options={}, environ={})
    queue, counters = EventQueue(10, 10), Counters()
    outbox = Outbox(config, queue, Spool(config, counters, Notices()), counters)
    queue.offer(b"{}")
    assert outbox.keep() == 0
    until(lambda: outbox.keep() == 1)
    assert [content.splitlines()[1:] for content in contents(tmp_path)] == [[b"{}"]]
    assert outbox.park(1) == 0


def test_nothing_is_written_while_the_server_answers(
    connect: Connect, observatory: Observatory, tmp_path: Path
) -> None:
    for turn in range(10):
        spool, slowest_s = tmp_path / f"spool{turn}", 0.0
        client = connect(spool_dir=spool)
        for number in range(50):
            began = time.monotonic()
            client.event("success", latency_ms=1, n=number)
            client.flush()
            slowest_s = max(slowest_s, time.monotonic() - began)
        if not spool.exists():
            return
        assert slowest_s > STUCK_S, f"the answers took {slowest_s:.3f} s at most"
    pytest.fail("this machine is too slow to tell")


def test_what_is_left_at_the_end_waits_for_the_next_client(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=tmp_path)
    for number in range(25):
        client.event("success", latency_ms=1, n=number)
    client.close(0.3)
    assert client.stats()["dropped"] == 0
    proxy.fault = Fault()
    connect(spool_dir=tmp_path)  # it has nothing of its own to say
    until(lambda: observatory.numbers(SYSTEM) == dict.fromkeys(range(25), 1))
    until(lambda: files(tmp_path) == [])


def test_the_key_of_a_first_attempt_is_kept_in_the_spool(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.first(Fault(), Fault(), SWALLOW)  # lookup, registration, and a batch that is counted without an answer
    client = connect(spool_dir=tmp_path, timeout_s=5)  # longer than this machine may pause
    client.event("success", latency_ms=1, n=1)
    until(lambda: observatory.of(SYSTEM))
    client.close(0)
    (path,) = files(tmp_path)
    name = Name.parse(path.name)
    assert name is not None
    assert name.key == proxy.posts()[0].headers["Idempotency-Key"]
    assert name.doubt_ms > 0
    again = connect(spool_dir=tmp_path)
    until(lambda: again.stats()["duplicate_batches"] == 1)
    assert observatory.numbers(SYSTEM) == {1: 1}


def test_a_batch_of_unknown_fate_that_is_too_old_is_reported_and_not_sent_again(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.first(Fault(), Fault(), SWALLOW)
    client = connect(spool_dir=tmp_path, timeout_s=5)  # longer than this machine may pause
    client.event("success", latency_ms=1, n=1)
    until(lambda: observatory.of(SYSTEM))
    client.close(0)
    (path,) = files(tmp_path)
    name = Name.parse(path.name)
    assert name is not None
    path.rename(tmp_path / str(Name(name.created_ms, name.key, name.doubt_ms - 86_400_000, name.owner)))
    posts = len(proxy.posts())
    again = connect(spool_dir=tmp_path)
    until(lambda: again.stats()["dropped_by_reason"] == {"expired": 1})
    assert len(proxy.posts()) == posts
    again.event("success", latency_ms=1, n=2)
    assert again.flush()
    assert again.flush()
    (report,) = [event for event in observatory.of(SYSTEM) if event["event_type"] == "log"]
    assert report["payload"]["lost"] == {"expired": 1}
    assert observatory.numbers(SYSTEM) == {1: 1, 2: 1}


def test_an_old_batch_that_never_reached_the_server_is_sent(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.refuse()
    client = connect(spool_dir=tmp_path)
    client.event("success", latency_ms=1, n=1)
    until(lambda: files(tmp_path))
    client.close(0)
    (path,) = files(tmp_path)
    name = Name.parse(path.name)
    assert name is not None
    assert name.doubt_ms == 0
    path.rename(tmp_path / str(Name(name.created_ms - 30 * 86_400_000, name.key, 0, name.owner)))
    proxy.accept()
    connect(spool_dir=tmp_path)
    until(lambda: observatory.numbers(SYSTEM) == {1: 1})


def test_the_oldest_files_go_when_the_spool_is_full(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=tmp_path, batch_events=10, spool_bytes=20_000, queue_events=100_000)
    for number in range(1_000):
        client.event("success", latency_ms=1, n=number, text="x" * 100)
    until(lambda: client.stats()["waiting"] == 0)
    until(lambda: client.stats()["dropped"])
    until(lambda: 0 < sum(map(len, contents(tmp_path))) <= 20_000)
    proxy.fault = Fault()
    assert client.flush(10)
    counted = observatory.numbers(SYSTEM)
    assert client.stats()["dropped_by_reason"] == {"spool_full": 1_000 - len(counted)}
    assert 999 in counted
    assert 500 not in counted


def test_files_of_a_living_process_are_left_alone(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = UNAVAILABLE
    owner = connect(spool_dir=tmp_path)
    owner.event("success", latency_ms=1, n=1)
    until(lambda: files(tmp_path))
    names = files(tmp_path)
    other = connect(spool_dir=tmp_path, url=f"http://127.0.0.1:{observatory.address[1]}")
    other.event("success", latency_ms=1, n=2)
    assert other.flush()
    assert files(tmp_path) == names
    assert observatory.numbers(SYSTEM) == {2: 1}


def test_a_claimer_that_died_strands_nothing(
    python: Python, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = HANG
    variables = {"LSO_URL": proxy.url, "LSO_SYSTEM": SYSTEM, "LSO_SPOOL_DIR": str(tmp_path)}
    emitted = kill_after(python(EMIT_UNTIL_KILLED, **variables), 1.0)
    owners = {path.name.split(".")[3] for path in files(tmp_path)}
    claimer = python(EMIT_UNTIL_KILLED, **variables)
    until(lambda: files(tmp_path) and not owners & {path.name.split(".")[3] for path in files(tmp_path)})
    kill_after(claimer, 0.0)
    proxy.fault = Fault()
    assert python(DELIVER, **variables).wait(20) == 0
    counted = observatory.numbers(SYSTEM)
    assert {number for number, age in emitted if age >= 0.5} <= set(counted)
    assert files(tmp_path) == []


def test_many_processes_that_drain_at_once_count_each_event_once(
    connect: Connect, python: Python, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=tmp_path, batch_events=5)
    for number in range(100):
        client.event("success", latency_ms=1, n=number)
    until(lambda: client.stats()["waiting"] == 0)
    client.close(0)
    proxy.fault = Fault()
    variables = {"LSO_URL": proxy.url, "LSO_SYSTEM": SYSTEM, "LSO_SPOOL_DIR": str(tmp_path)}
    drainers = [python(DELIVER, **variables) for _ in range(3)]
    assert [drainer.wait(20) for drainer in drainers] == [0, 0, 0]
    until(lambda: observatory.numbers(SYSTEM) == dict.fromkeys(range(100), 1))


def test_another_lso_s_files_are_left_alone(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=tmp_path)
    client.event("success", latency_ms=1, n=1)
    client.close(0.1)
    names = files(tmp_path)
    other = connect(spool_dir=tmp_path, url=observatory.url)
    other.event("success", latency_ms=1, n=2)
    assert other.flush()
    assert files(tmp_path) == names != []


def test_batches_of_other_systems_are_delivered_to_theirs(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=tmp_path, system="nightly")
    client.event("success", latency_ms=1, n=1)
    client.close(0.1)
    proxy.fault = Fault()
    connect(spool_dir=tmp_path, system="hourly")
    until(lambda: observatory.numbers("nightly") == {1: 1})
    assert observatory.numbers("hourly") == {}


def test_a_file_that_cannot_be_read_is_put_aside_and_said_once(
    connect: Connect, observatory: Observatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / str(Name(1, "k" * 32, 0, "gone"))
    broken.write_bytes(b"\x00\x01 nonsense")
    client = connect(spool_dir=tmp_path)
    client.event("success", latency_ms=1, n=1)
    assert client.flush()
    until(lambda: list(tmp_path.glob("*.bad")))
    assert observatory.numbers(SYSTEM) == {1: 1}
    assert len([record for record in caplog.records if "cannot be read" in record.getMessage()]) == 1


def test_a_spool_that_cannot_be_written_is_said_once_and_memory_serves(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=blocked / "spool")
    for number in range(30):
        client.event("success", latency_ms=1, n=number)
        client.flush(0.02)
    proxy.fault = Fault()
    assert client.flush(10)
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(30), 1)
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1


def test_what_a_killed_writer_left_half_written_is_removed(
    connect: Connect, observatory: Observatory, tmp_path: Path
) -> None:
    half = tmp_path / f".{Name(1, 'k' * 32, 0, 'gone')}.part"
    half.write_bytes(b"half")
    (tmp_path / "gone.lock").touch()
    client = connect(spool_dir=tmp_path)
    client.event("success", latency_ms=1, n=1)
    assert client.flush()
    assert list(tmp_path.iterdir()) == []


def test_spool_files_are_private(connect: Connect, proxy: FaultyProxy, tmp_path: Path) -> None:
    proxy.fault = UNAVAILABLE
    client = connect(spool_dir=tmp_path / "spool")
    client.event("success", latency_ms=1)
    until(lambda: files(tmp_path / "spool"))
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()} == {0o600}
