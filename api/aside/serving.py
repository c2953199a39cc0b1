"""The process that computes: `python -m api.aside.serving`, started by an API process."""

import os
from typing import Final

import msgspec
import structlog

from api.aside.orders import DONE, ORDERS, REFUSED, Order, Refusal
from lso_core.archive.warm import Warm
from lso_core.aside import serve
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.model.errors import ArchiveError, InputError
from lso_core.settings import Settings
from lso_core.telemetry import configure_logging

log = structlog.get_logger(__name__)

NICE: Final = 15
"""Ingest and folding go first."""


def main() -> None:
    """Serve orders until stdin ends."""
    settings = Settings.from_env(os.environ)
    configure_logging(settings)
    warm, decoder = Warm(settings), msgspec.msgpack.Decoder(ORDERS)

    def answer(frame: bytes) -> bytes:
        order: Order = decoder.decode(frame)
        try:
            return DONE + order.answer(warm)
        except Exception as error:  # noqa: BLE001 - who asked is told, and the next one is served
            return REFUSED + msgspec.msgpack.encode(_refusal(order, error))

    serve(answer, NICE)


def _refusal(order: Order, error: Exception) -> Refusal:
    if isinstance(error, InputError):
        return Refusal("input", str(error), error.findings)
    if isinstance(error, ArchiveError):
        return Refusal("archive", str(error))
    log.error("aside.failed", order=type(order).__name__, exc_info=error)
    unreadable = isinstance(error, CorruptEntryError | NewerFormatError)
    return Refusal("unreadable" if unreadable else "failed", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
