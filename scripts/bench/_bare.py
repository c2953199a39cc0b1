"""The bare routes to compare with: Litestar, JSON in or out, no Redis, on the same kind of server as LSO's API."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
from litestar import Litestar, get, post

from scripts.bench import _target

PATH = "/bare"
"""Of either route."""


@get(PATH)
async def bare() -> dict[str, Any]:
    """The least that an answer can be."""
    return {"status": "ok"}


@post(PATH, status_code=202)
async def bare_post(data: dict[str, Any]) -> dict[str, Any]:
    """The least that taking JSON can be: it is decoded and counted."""
    return {"accepted": len(data["events"])}


def serve(descriptor: int) -> None:
    """One server process on a socket that was bound for all of them; settings as LSO's own."""
    app = Litestar([bare, bare_post], openapi_config=None, logging_config=None)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2_048,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


@contextlib.contextmanager
def running(processes: int) -> Iterator[tuple[str, list[int]]]:
    """The URL of the bare routes' server and its processes, while the block lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=2_048) as listener:
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "scripts.bench._bare", str(descriptor)]
        environ = {**os.environ, "PYTHONPATH": str(_target.ROOT)}
        children = [
            subprocess.Popen(command, cwd=_target.ROOT, env=environ, pass_fds=(descriptor,)) for _ in range(processes)
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


if __name__ == "__main__":
    serve(int(sys.argv[1]))
