"""A small LSO, a faulty proxy before it, and clients that are closed at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lso_core import client as lso
from tests.client.faulty_proxy import FaultyProxy, faulty_proxy
from tests.client.observatory import Observatory

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "weather-etl"
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties on a machine where others work too: what is checked is the outcome, not the time."""


@pytest.fixture(autouse=True)
def _no_default_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without a client and without variables that would make one."""
    for variable in ("LSO_URL", "LSO_SYSTEM", "LSO_API_KEY", "LSO_SPOOL_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(lso, "_default", None)
    yield
    if lso._default is not None:
        lso._default.close(0)


@pytest.fixture
def observatory() -> Iterator[Observatory]:
    server = Observatory()
    yield server
    server.close()


@pytest.fixture
def proxy(observatory: Observatory) -> Iterator[FaultyProxy]:
    with faulty_proxy(observatory.address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: FaultyProxy) -> Iterator[Callable[..., lso.Client]]:
    """Make clients that talk to the proxy; short times, so that tests are too."""
    made: list[lso.Client] = []

    def connect(**options: Any) -> lso.Client:
        given = {"url": proxy.url, "system": SYSTEM, "timeout_s": 0.5, **options}
        made.append(lso.Client(**given))
        return made[-1]

    yield connect
    for client in made:
        client.close(0)


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python programs given as text; none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, **variables: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
