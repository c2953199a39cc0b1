"""The SDK that pipelines import: three lines observe a pipeline, and nothing it does can hurt one.

::

    from lso_core import client as lso

    lso.init("http://lso:8000", system="weather-etl")
    with lso.run() as run:
        with run.stage("extract") as stage:
            rows = fetch()
            stage.set(rows=len(rows))

Emitting never raises and never waits. docs/sdk.md has the whole contract.
"""

from __future__ import annotations

import os
import threading

from lso_core.client.scopes import Run, RunScope, Span, Stage, StageScope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lso_core.client.client import Client
    from lso_core.client.handler import LogHandler
    from lso_core.client.reading import ReadError
    from lso_core.client.tables import SendError

__all__ = [
    "Client",
    "LogHandler",
    "ReadError",
    "Run",
    "RunScope",
    "SendError",
    "Span",
    "Stage",
    "StageScope",
    "default_client",
    "event",
    "fleet",
    "flush",
    "health",
    "init",
    "run",
    "send_table",
    "stage",
    "stats",
    "systems",
]

_LATER = {
    "Client": "lso_core.client.client",
    "LogHandler": "lso_core.client.handler",
    "ReadError": "lso_core.client.reading",
    "SendError": "lso_core.client.tables",
}
_lock = threading.RLock()
_default: Client | None = None


def init(
    url: str | None = None,
    system: int | str | None = None,
    *,
    api_key: str | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    register: bool = True,
    **options: float,
) -> Client:
    """Say where to send, for the functions of this module. What is not given is read from LSO_URL, LSO_SYSTEM,
    LSO_API_KEY and LSO_SPOOL_DIR. A second call replaces the client; events given to the first one still go out.
    """
    global _default  # noqa: PLW0603 - the module's one client
    from lso_core.client.client import Client  # noqa: PLC0415 - see __getattr__

    client = Client(url, system, api_key=api_key, spool_dir=spool_dir, register=register, **options)
    with _lock:
        _default = client
    return client


def default_client() -> Client:
    """The client of `init`, or one made from the environment."""
    client = _default
    return _make_default() if client is None else client


def _make_default() -> Client:
    global _default  # noqa: PLW0603 - as above
    from lso_core.client.client import Client  # noqa: PLC0415 - see __getattr__

    with _lock:
        client = _default
        if client is None:
            client = _default = Client()
        return client


def run(run_id: str | None = None, *, heartbeat: float | None = None, **payload: object) -> RunScope:
    """One run of the pipeline: a context manager, sync and async, and a decorator. `start` at its beginning, `end` at its
    end; a run without stages ends in a counted success or failure instead.
    """
    return RunScope(None, run_id, heartbeat, payload)


def stage(name: str, *, heartbeat: float | None = None, **payload: object) -> StageScope:
    """A step, of the current run where there is one: a context manager, sync and async, and a decorator."""
    return StageScope(None, name, None, heartbeat, payload)


def event(
    event_type: str,
    /,
    *,
    status: str | None = None,
    latency_ms: float | None = None,
    stage: str | None = None,
    run_id: str | None = None,
    ts: float | None = None,
    **payload: object,
) -> None:
    """Send one event; see Client.event."""
    client = _default or default_client()
    client.event(event_type, status=status, latency_ms=latency_ms, stage=stage, run_id=run_id, ts=ts, **payload)


def send_table(table: Any, *, key: str | None = None, timeout: float = 60.0) -> int:
    """Send a table of events as Arrow, and wait for it; raises SendError. See Client.send_table."""
    return default_client().send_table(table, key=key, timeout=timeout)


def flush(timeout: float = 2.0) -> bool:
    """Wait until every event so far is answered for, `timeout` seconds at most. Whether they are."""
    return default_client().flush(timeout)


def stats() -> dict[str, Any]:
    """What became of the events of this process."""
    return default_client().stats()


def health() -> dict[str, Any]:
    """LSO's answer about this client's system. Waits for the network, and raises ReadError."""
    return default_client().health()


def systems(name: str | None = None) -> list[dict[str, Any]]:
    """Every system that LSO knows, or the one of that name. Waits for the network, and raises ReadError."""
    return default_client().systems(name)


def fleet() -> dict[str, Any]:
    """The health of all systems. Waits for the network, and raises ReadError."""
    return default_client().fleet()


def __getattr__(name: str) -> object:
    """Loaded by whoever asks for it, so that importing this module stays cheap: `init` brings the client, and what
    brings `logging` or the network along is not for everybody.
    """
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    found: object = getattr(import_module(_LATER[name]), name)
    globals()[name] = found
    return found
