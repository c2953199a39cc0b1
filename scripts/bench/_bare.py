"""The bare routes to compare with: Litestar, JSON in or out, no Redis, on the same kind of server as LSO's API."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from litestar import Litestar, get, post
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lso_core.cli.accepting import Acceptor
from lso_core.cli.shares import Shares
from scripts.bench import _target

PATH = "/bare"
"""Of either route."""
MOST = 10_000
"""Connections of a process."""


@get(PATH)
async def bare() -> dict[str, Any]:
    """The least that an answer can be."""
    return {"status": "ok"}


@post(PATH, status_code=202)
async def bare_post(data: dict[str, Any]) -> dict[str, Any]:
    """The least that taking JSON can be: it is decoded and counted."""
    return {"accepted": len(data["events"])}


class _Protocol(HttpToolsProtocol):
    """uvicorn's, whose connections are counted."""

    recount: Callable[[], None]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.recount()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.recount()


class _Server(uvicorn.Server):
    """Takes its share of the connections, as LSO's own does: how they fall otherwise is luck, and decides more than a route."""

    def __init__(self, config: uvicorn.Config, shares: Shares) -> None:
        super().__init__(config)
        self._shares = shares

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        for listener in sockets or []:
            acceptor = Acceptor(listener, self._connected, self.server_state.connections, MOST, self._shares)
            _Protocol.recount = acceptor.recount

    def _connected(self) -> asyncio.Protocol:
        return _Protocol(self.config, self.server_state, self.lifespan.state)


def serve(descriptor: int, shares_fd: int, number: int) -> None:
    """One server process on a socket that was bound for all of them; settings as LSO's own."""
    app = Litestar([bare, bare_post], openapi_config=None, logging_config=None)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2_048,
        timeout_keep_alive=75,
    )
    _Server(config, Shares(shares_fd, number)).run(sockets=[socket.socket(fileno=descriptor)])


@contextlib.contextmanager
def running(processes: int) -> Iterator[tuple[str, list[int]]]:
    """The URL of the bare routes' server and its processes, while the block lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=2_048) as listener:
        fds = listener.fileno(), Shares.file(processes)
        command = [sys.executable, "-m", "scripts.bench._bare", *map(str, fds)]
        environ = {**os.environ, "PYTHONPATH": str(_target.ROOT)}
        children = [
            subprocess.Popen([*command, str(number)], cwd=_target.ROOT, env=environ, pass_fds=fds)
            for number in range(processes)
        ]
        url = "http://{}:{}".format(*listener.getsockname())
        try:
            _target.wait_for(lambda: _target.get(url + PATH), _target.START_S)
            yield url, [child.pid for child in children]
        finally:
            for child in children:
                child.send_signal(signal.SIGTERM)
            for child in children:
                child.wait(10)
            os.close(fds[1])


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
