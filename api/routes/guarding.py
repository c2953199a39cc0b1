"""404 wins over what is wrong with a request: only a request that is refused anyway pays for looking."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lso_core.model.errors import InputError, TooLargeError, UnsupportedTypeError
from lso_core.store.registry import Registry


@asynccontextmanager
async def missing_first(registry: Registry, system_id: int) -> AsyncIterator[None]:
    """Raise NotFoundError in place of a refusal where there is no such system."""
    try:
        yield
    except (InputError, TooLargeError, UnsupportedTypeError):
        await registry.require(system_id)
        raise
