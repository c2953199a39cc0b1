"""A worker's hold on the process that builds Parquet files."""

from typing import Final, Protocol

import msgspec

from lso_core.archive.building import Answer, Order
from lso_core.aside import Aside

IDLE_S: Final = 60.0
"""The process takes a hundred MB; without work for so long it goes."""

_decoder = msgspec.msgpack.Decoder(Answer)


class Building(Protocol):
    """Who builds files."""

    async def build(self, order: Order) -> Answer:
        """Build one file."""

    async def rest(self) -> None:
        """Give back what was not used for long."""

    async def close(self) -> None:
        """Give everything back."""


class Builder:
    """Builds files in a process beside this one, which is started when it is needed."""

    def __init__(self) -> None:
        self._aside = Aside("lso_core.archive.building")

    async def build(self, order: Order) -> Answer:
        """Build one file, one after another. A process that dies meanwhile is an answer that says so."""
        try:
            return _decoder.decode(await self._aside.ask(msgspec.msgpack.encode(order)))
        except (OSError, EOFError) as error:
            return Answer(failed=f"the process that builds files ended: {error}")

    async def rest(self) -> None:
        """End the process where it had nothing to do for long."""
        await self._aside.rest(IDLE_S)

    async def close(self) -> None:
        """End the process."""
        await self._aside.close()
