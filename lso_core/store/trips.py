"""One pipeline to a server and back, and the breaker on the way."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import redis.exceptions

from lso_core.model.errors import StoreError
from lso_core.store.breaker import Breaker

AWAY: Final = (redis.exceptions.RedisError, OSError)
"""What redis-py raises when a server is away."""

_CLOSED: Final = "handler is closed"
"""What uvloop says, in a RuntimeError, of a write to a connection that was reset just before."""


class Way:
    """The way to one server, behind its breaker if it has one; while that is open a ping looks now and then whether
    the server is back, so that no caller has to wait for the answer.
    """

    def __init__(self, breaker: Breaker | None, ping: Callable[[], Awaitable[object]]) -> None:
        self._breaker = breaker
        self._ping = ping
        self._looks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def trip(self) -> Iterator[None]:
        """A trip that the breaker learns from. Raises StoreError where it lets nobody through."""
        if self._breaker is None:
            yield
            return
        try:
            number = self._breaker.begin()
        except StoreError:
            self._look(self._breaker)
            raise
        with _watched(self._breaker, number):
            yield

    def _look(self, breaker: Breaker) -> None:
        number = breaker.begin_probe()
        if number is None:
            return
        task = asyncio.get_running_loop().create_task(self._probe(breaker, number))
        self._looks.add(task)  # a loop keeps no hold on its tasks
        task.add_done_callback(self._looks.discard)

    async def _probe(self, breaker: Breaker, number: int) -> None:
        with contextlib.suppress(*AWAY), _watched(breaker, number):
            await self._ping()


@contextlib.contextmanager
def _watched(breaker: Breaker, number: int) -> Iterator[None]:
    """Tell the breaker how a trip ends."""
    answered: bool | None = True
    try:
        yield
    except AWAY:
        answered = False
        raise
    except asyncio.CancelledError:
        answered = None
        raise
    finally:
        breaker.end(number, answered=answered)


async def ping(client: Any) -> None:
    """Wait for an answer, whatever it says. Raises one of AWAY."""
    await execute(client.pipeline(transaction=False).execute_command("PING"))


async def execute(pipeline: Any) -> list[Any]:
    """The answers in order, errors of single commands among them. Raises one of AWAY."""
    try:
        return list(await pipeline.execute(raise_on_error=False))
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise redis.exceptions.ConnectionError("it closed the connection") from error
