"""One running service for the commands' tests, the commands as processes, and a real terminal."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.cli.screens import Screen
from tests.client.faulty_proxy import FaultyProxy, faulty_proxy
from tests.e2e.service import ROOT, Service, running_service

LSO = (sys.executable, "-m", "lso_core.cli.lso")

Finished = subprocess.CompletedProcess[str]
RunLso = Callable[..., Finished]
StartLso = Callable[..., subprocess.Popen[bytes]]
OpenScreen = Callable[..., Screen]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service that these tests share; each uses systems of its own."""
    with running_service() as running:
        yield running


@pytest.fixture(scope="session")
def http(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def proxy(service: Service) -> Iterator[FaultyProxy]:
    """A way to the service that can fail."""
    with faulty_proxy(service.address) as proxy:
        yield proxy


NOT_HANDED_ON = {"USE_MOCK_DATA", "COLUMNS", "LINES"}
"""The last two tell a terminal's size, whatever it is; pytest-xdist sets them."""


def environ(url: str, **variables: str) -> dict[str, str]:
    """This process' variables without LSO's own, and where LSO is."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("LSO_") and name not in NOT_HANDED_ON
    }
    return {**kept, "PYTHONPATH": str(ROOT), "LSO_URL": url, **variables}


@pytest.fixture
def lso(service: Service) -> RunLso:
    """Runs `lso WORDS` to its end."""

    def lso(*words: str, given: str = "", **variables: str) -> Finished:
        told = environ(service.url, **variables)
        return subprocess.run(
            [*LSO, *words], input=given, env=told, capture_output=True, text=True, timeout=30, check=False
        )

    return lso


@pytest.fixture
def start_lso(service: Service) -> Iterator[StartLso]:
    """Starts `lso WORDS`; none outlives its test."""
    with ExitStack() as stack:

        def start(*words: str, url: str = "", **variables: str) -> subprocess.Popen[bytes]:
            told = environ(url or service.url, **variables)
            pipe = subprocess.PIPE
            process = subprocess.Popen([*LSO, *words], env=told, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def open_screen(service: Service) -> Iterator[OpenScreen]:
    """Runs a shell command in a terminal of its own, in which `lso` is the command."""
    program = shutil.which("tmux")
    if program is None:
        pytest.skip("there is no tmux on the PATH, which is the terminal of this test")
    with tempfile.TemporaryDirectory(prefix="lso-") as folder, ExitStack() as stack:
        wrapper = Path(folder) / "lso"
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(LSO)} "$@"\n')
        wrapper.chmod(0o700)

        def open_screen(command: str, width: int = 120, height: int = 24, url: str = "") -> Screen:
            told = environ(url or service.url, PATH=f"{folder}:{os.environ['PATH']}", LANG="C.UTF-8", LC_ALL="C.UTF-8")
            told.pop("TMUX", None)
            screen = Screen(program, f"{folder}/{uuid4().hex[:8]}.sock", command, width, height, told)
            stack.callback(screen.close)
            return screen

        yield open_screen


@pytest.fixture
def name() -> str:
    """A system's name that no other test uses."""
    return f"cli-{uuid4().hex[:12]}"


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal and wait; the status."""
    process.send_signal(number)
    return process.wait(10)
