"""Log records as `log` events: kept and shown with the run they belong to, not counted."""

from __future__ import annotations

import logging

from lso_core.client.encoding import capped
from lso_core.client.notices import LOGGER
from lso_core.client.scopes import current_span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lso_core.client.client import Client

MAX_MESSAGE, MAX_TRACE = 4_000, 8_000
"""Characters of a message and of a traceback (its end) that travel."""


class LogHandler(logging.Handler):
    """Add it to any logger. The client's own lines and those of its threads are left out: they would never end."""

    def __init__(self, level: int | str = logging.NOTSET, client: Client | None = None) -> None:
        super().__init__(level)
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.split(".", 1)[0] == LOGGER:  # asked first: looking for a client may log
            return
        client = self._client or _default_client()
        if client.is_own_thread():
            return
        span = current_span(client)
        run = None if span is None else span.run
        client.emit(
            "log",
            "error" if record.levelno >= logging.ERROR else "ok",
            None,
            None if span is None else span.stage_name,
            None if run is None else run.run_id,
            _trace(record),
            {"logger": record.name, "level": record.levelname, "message": _message(record)},
            record.created,
        )


def _message(record: logging.LogRecord) -> str:
    try:
        return capped(record.getMessage(), MAX_MESSAGE)
    except Exception:  # noqa: BLE001 - arguments that do not fit their format
        return capped(record.msg, MAX_MESSAGE)


def _trace(record: logging.LogRecord) -> dict[str, object]:
    if not record.exc_info:
        return {}
    try:
        return {"exception": logging.Formatter().formatException(record.exc_info)[-MAX_TRACE:]}
    except Exception:  # noqa: BLE001 - anybody's __str__
        return {}


def _default_client() -> Client:
    from lso_core.client import default_client  # noqa: PLC0415 - made by whoever needs it first

    return default_client()
