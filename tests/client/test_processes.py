"""Fork, exit, `python -c`, signals: whatever ends or copies a process, events are neither lost without a word nor sent twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lso_core.client import Client
from tests.client.conftest import SYSTEM, until
from tests.client.faulty_proxy import HANG, FaultyProxy
from tests.client.observatory import Observatory

Connect = Callable[..., Client]
Python = Callable[..., subprocess.Popen[str]]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")


def finish(process: subprocess.Popen[str], timeout_s: float = 20) -> str:
    """Its output, once it ended well."""
    out, errors = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, errors
    return out + errors


def in_child(work: Callable[[], object]) -> None:
    """Run it in a forked child, which ends without the interpreter's usual end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_events_of_a_one_liner_arrive(python: Python, proxy: FaultyProxy, observatory: Observatory) -> None:
    finish(
        python(
            'from lso_core import client as lso; lso.event("success", latency_ms=1, n=1)',
            LSO_URL=proxy.url,
            LSO_SYSTEM=SYSTEM,
        )
    )
    assert observatory.numbers(SYSTEM) == {1: 1}


@pytest.mark.parametrize(
    "end",
    ["sys.exit(0)", "raise KeyError(1)", "1", "os.kill(os.getpid(), signal.SIGINT)"],
    ids=["exit", "raise", "end", "interrupt"],
)
def test_however_the_interpreter_ends_the_events_arrive(
    python: Python, proxy: FaultyProxy, observatory: Observatory, end: str
) -> None:
    program = f"""
import os, signal, sys
from lso_core import client as lso
for number in range(100):
    lso.event("success", latency_ms=1, n=number)
{end}
"""
    python(program, LSO_URL=proxy.url, LSO_SYSTEM=SYSTEM).communicate(timeout=20)
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(100), 1)


def test_events_of_threads_that_outlive_the_main_one_arrive(
    python: Python, proxy: FaultyProxy, observatory: Observatory
) -> None:
    program = """
import threading
from lso_core import client as lso
main = threading.main_thread()
def late():
    main.join()
    lso.event("success", latency_ms=1, n=2)
lso.event("success", latency_ms=1, n=1)
threading.Thread(target=late).start()
"""
    finish(python(program, LSO_URL=proxy.url, LSO_SYSTEM=SYSTEM))
    assert observatory.numbers(SYSTEM) == {1: 1, 2: 1}


def test_events_of_exit_handlers_arrive(python: Python, proxy: FaultyProxy, observatory: Observatory) -> None:
    program = """
import atexit
from lso_core import client as lso
atexit.register(lambda: lso.event("success", latency_ms=1, n=1))
"""
    finish(python(program, LSO_URL=proxy.url, LSO_SYSTEM=SYSTEM))
    assert observatory.numbers(SYSTEM) == {1: 1}


@pytest.mark.parametrize("refused", [True, False], ids=["refuses", "hangs"])
def test_the_end_is_held_up_for_two_seconds_at_most_and_losses_are_said(
    python: Python, proxy: FaultyProxy, *, refused: bool
) -> None:
    if refused:
        proxy.refuse()
    else:
        proxy.fault = HANG
    program = 'from lso_core import client as lso; [lso.event("success", latency_ms=1) for _ in range(3)]'
    began = time.monotonic()
    said = finish(python(program, LSO_URL=proxy.url, LSO_SYSTEM=SYSTEM))
    assert time.monotonic() - began < 4.5
    assert "3 events could not be sent before the end and are lost" in said


def test_with_a_spool_nothing_is_lost_at_the_end(
    python: Python, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.refuse()
    variables = {"LSO_URL": proxy.url, "LSO_SYSTEM": SYSTEM, "LSO_SPOOL_DIR": str(tmp_path)}
    program = 'from lso_core import client as lso; [lso.event("success", latency_ms=1, n=n) for n in range({}, {})]'
    assert "lost" not in finish(python(program.format(0, 50), **variables))
    proxy.accept()
    finish(python(program.format(50, 60), **variables))
    until(lambda: observatory.numbers(SYSTEM) == dict.fromkeys(range(60), 1))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_sends_its_own_events_and_none_of_its_parent_s(
    connect: Connect, observatory: Observatory
) -> None:
    client = connect()
    for number in range(10):
        client.event("success", latency_ms=1, n=number)

    def work() -> None:
        assert client.stats()["emitted"] == 0
        client.event("success", latency_ms=1, n=100 + os.getpid() % 1)
        assert client.flush(5)

    in_child(work)
    assert client.flush(5)
    assert observatory.numbers(SYSTEM) == dict.fromkeys([*range(10), 100], 1)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_while_other_threads_emit_can_emit_too(connect: Connect, observatory: Observatory) -> None:
    client = connect(queue_events=1_000_000)
    stop = threading.Event()

    def emit() -> None:
        while not stop.is_set():
            client.event("success", latency_ms=1)

    threads = [threading.Thread(target=emit) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(8):

            def work(number: int = number) -> None:
                client.event("success", latency_ms=1, n=number)
                os._exit(0 if client.flush(10) else 1)

            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {number for number in range(8) if observatory.numbers(SYSTEM)[number] == 1} == set(range(8))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_leaves_the_runs_and_stages_of_its_parent_to_the_parent(
    connect: Connect, observatory: Observatory
) -> None:
    client = connect()
    with client.run("parent") as run, run.stage("load"):
        child = os.fork()
    if child == 0:
        client.flush(5)
        os._exit(0)
    os.waitpid(child, 0)
    assert client.flush(5)
    assert sorted(event["event_type"] for event in observatory.of(SYSTEM)) == ["end", "start", "success"]


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_parent_and_child_spool_side_by_side(
    connect: Connect, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path
) -> None:
    proxy.refuse()
    client = connect(spool_dir=tmp_path)
    client.event("success", latency_ms=1, n=1)
    until(lambda: len(list(tmp_path.glob("*.lso"))) == 1)

    def work() -> None:
        client.event("success", latency_ms=1, n=2)
        client.close(0)

    in_child(work)
    assert len(list(tmp_path.glob("*.lso"))) == 2
    client.close(0)
    proxy.accept()
    connect(spool_dir=tmp_path)
    until(lambda: observatory.numbers(SYSTEM) == {1: 1, 2: 1})


def _emit_in_pool(number: int) -> None:
    from lso_core import client as lso

    lso.event("success", latency_ms=1, n=number)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_send_what_they_have_before_they_end(
    python: Python, proxy: FaultyProxy, observatory: Observatory, tmp_path: Path, method: str
) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("a platform without it")
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing
from lso_core import client as lso

def emit(number):
    lso.event("success", latency_ms=1, n=number)

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=emit, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    emit(3)
""")
    finish(
        python(
            f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", LSO_URL=proxy.url, LSO_SYSTEM=SYSTEM
        )
    )
    assert observatory.numbers(SYSTEM) == dict.fromkeys(range(4), 1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_signal_that_ends_the_process_at_once_still_ends_it(python: Python, proxy: FaultyProxy, name: str) -> None:
    program = 'from lso_core import client as lso; import time; lso.event("success", latency_ms=1); print(1, flush=True); time.sleep(60)'
    process = python(program, LSO_URL=proxy.url, LSO_SYSTEM=SYSTEM)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(getattr(signal, name))
    assert process.wait(5) == -getattr(signal, name)


def test_importing_the_client_brings_no_network_and_is_quick(python: Python, tmp_path: Path) -> None:
    program = """
import sys, time
before, began = set(sys.modules), time.process_time()
import lso_core.client
spent = time.process_time() - began
heavy = {"http", "socket", "ssl", "urllib", "urllib.parse", "uuid", "asyncio", "logging", "dataclasses", "inspect", "random"}
assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
print(spent)
"""
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # as an installed wheel is
    spent = min(float(finish(python(program, **compiled))) for _ in range(5))
    assert spent < 0.030


def test_emitting_imports_no_network_module_on_the_caller_s_side(python: Python) -> None:
    program = """
import sys, threading
import lso_core.client as lso
lso.init("http://127.0.0.1:9", system="x", exit_timeout_s=0)
lso.event("success", latency_ms=1)
loaders = set()
class Spy:
    def find_spec(self, name, path=None, target=None):
        loaders.add((name, threading.current_thread().name))
sys.meta_path.insert(0, Spy())
while ("http.client", "lso-sender") not in loaders:
    pass
assert not [name for name, thread in loaders if thread != "lso-sender"], loaders
"""
    finish(python(program))


def test_the_package_depends_on_the_standard_library_alone(python: Python) -> None:
    program = """
import sys
import lso_core.client as lso, lso_core.client.sender, lso_core.client.spool
lso.LogHandler, lso.ReadError
foreign = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"lso_core", "__main__", "__mp_main__"}
print(sorted(name for name in foreign if not name.startswith("_") and name != "sitecustomize"))
"""
    process = python(program)
    out, _ = process.communicate(timeout=20)
    assert out.strip() == "[]"
    assert sys.version_info >= (3, 11)
