"""An API process' hold on the process that computes for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import msgspec

from api.aside.orders import DONE, Order, Refusal
from lso_core.aside import Aside
from lso_core.model.errors import ArchiveError, InputError, UnavailableError
from lso_core.settings import Settings

AT_ONCE: Final = 2
"""So many may read from Redis what is to be computed: one while the other's is; all of them would fill the memory."""
LONGEST_S: Final = 30.0
"""Nobody waits longer for his turn."""

_refusal = msgspec.msgpack.Decoder(Refusal)


class Helper:
    """Has things computed, one after another, in the time that nobody else wants."""

    def __init__(self, settings: Settings) -> None:
        self._aside = Aside("api.aside.serving", settings.environ())
        self._turns = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """To be had before anything is read for an order. Raises UnavailableError where it does not come."""
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._turns.acquire()
        except TimeoutError:
            detail = f"nothing of the kind got its turn within {LONGEST_S:.0f} s: too many ask"
            raise UnavailableError(detail, 5) from None
        try:
            yield
        finally:
            self._turns.release()

    async def ask(self, order: Order) -> bytes:
        """What comes of an order. Raises InputError, ArchiveError or UnavailableError."""
        try:
            answer = await self._aside.ask(msgspec.msgpack.encode(order))
        except (OSError, EOFError) as error:
            raise UnavailableError(f"the process that computes this ended; try again ({error})", 1) from error
        kind, found = answer[:1], answer[1:]
        return found if kind == DONE else _refuse(_refusal.decode(found))

    async def close(self) -> None:
        """End the process."""
        await self._aside.close()


def _refuse(refusal: Refusal) -> NoReturn:
    match refusal.kind:
        case "input":
            raise InputError(refusal.detail, refusal.findings)
        case "archive":
            raise ArchiveError(refusal.detail)
        case "unreadable":
            raise UnavailableError(f"a part of this history cannot be read: {refusal.detail}", 60)
        case "failed":
            raise RuntimeError(refusal.detail)
