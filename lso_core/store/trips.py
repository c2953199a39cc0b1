"""One pipeline to a server and back."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import redis.exceptions

from lso_core.store.breaker import Breaker

AWAY: Final = (redis.exceptions.RedisError, OSError)
"""What redis-py raises when a server is away."""

_CLOSED: Final = "handler is closed"
"""What uvloop says, in a RuntimeError, of a write to a connection that was reset just before."""


@contextlib.contextmanager
def guarded(breaker: Breaker | None) -> Iterator[None]:
    """A trip that the breaker learns from. Raises StoreError where it lets nobody through."""
    if breaker is None:
        yield
        return
    number, answered = breaker.begin(), True
    try:
        yield
    except AWAY:
        answered = False
        raise
    finally:
        breaker.end(number, answered=answered)


async def execute(pipeline: Any) -> list[Any]:
    """The answers in order, errors of single commands among them. Raises one of AWAY."""
    try:
        return list(await pipeline.execute(raise_on_error=False))
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise redis.exceptions.ConnectionError("it closed the connection") from error
