"""uvicorn as `lso api` runs it."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.waiting import wait_for

SERVE_TWO = """
import sys
from lso_core.cli.listening import listen
from lso_core.cli.processes import end_early
from lso_core.cli.serving import serve
from lso_core.settings import Settings
from tests.cli.plain_asgi import answer, live

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await live(receive, send)
    await answer(send, b"ok")

end_early()
listener = listen(Settings(port=0))
print(listener.getsockname()[1], flush=True)
serve(app, listener, max_connections=2, client_timeout_s=2, grace_s=1, end_streams=lambda: None)
"""


class Served:
    """A process that serves at most two connections."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.connections: list[http.client.HTTPConnection] = []

    def ask(self) -> http.client.HTTPResponse:
        """Ask over a new connection, which stays open."""
        self.connections.append(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10))
        self.connections[-1].request("GET", "/")
        return self.connections[-1].getresponse()


KEEP_ALIVE_S = 1.5
IMPATIENT = f"""
from lso_core.cli import serving
serving.KEEP_ALIVE_S = {KEEP_ALIVE_S}
"""


@pytest.fixture(params=[""])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    command = [sys.executable, "-c", request.param + SERVE_TWO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        served = Served(process)
        yield served
        for connection in served.connections:
            connection.close()
        process.kill()


def test_connections_over_the_cap_are_told_so_and_closed(served: Served) -> None:
    assert [served.ask().read() for _ in range(2)] == [b"ok", b"ok"]
    refused = served.ask()
    assert (refused.status, refused.headers["retry-after"], refused.headers["connection"]) == (503, "2", "close")
    assert refused.headers["content-type"] == "application/problem+json"
    problem = json.load(refused)
    assert problem["status"] == 503
    assert "2 open connections (LSO_MAX_CONNECTIONS)" in problem["detail"]


def test_a_connection_that_ends_makes_room(served: Served) -> None:
    for _ in range(2):
        served.ask().read()
    served.connections[0].close()
    wait_for(lambda: served.ask().status == 200, "room for another connection")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_although_a_connection_is_idle(served: Served, number: signal.Signals) -> None:
    served.ask().read()
    served.process.send_signal(number)
    assert served.process.wait(5) == 0


def test_it_does_not_say_what_it_is(served: Served) -> None:
    assert served.ask().headers["server"] is None


@pytest.mark.parametrize("served", [IMPATIENT], indirect=True)
def test_a_connection_is_closed_that_long_after_its_last_answer(served: Served) -> None:
    served.ask().read()
    [connection] = served.connections
    first = connection.sock
    for _ in range(4):
        time.sleep(KEEP_ALIVE_S / 2)  # longer than that in all
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"ok"
    assert connection.sock is first
    used = time.monotonic()
    assert first.recv(1) == b""
    assert time.monotonic() - used > KEEP_ALIVE_S - 0.2
