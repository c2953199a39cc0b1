"""One pipeline to a server and back."""

from typing import Any, Final

import redis.exceptions

_CLOSED: Final = "handler is closed"
"""What uvloop says, in a RuntimeError, of a write to a connection that was reset just before."""


async def execute(pipeline: Any) -> list[Any]:
    """The answers in order, errors of single commands among them. Raises redis' errors or OSError where it is away."""
    try:
        return list(await pipeline.execute(raise_on_error=False))
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise redis.exceptions.ConnectionError("it closed the connection") from error
