"""404 wins over what is wrong with a request: only a request that is refused anyway pays for looking."""

from types import TracebackType

from lso_core.model.errors import InputError, TooLargeError, UnsupportedTypeError
from lso_core.store.registry import Registry


class MissingFirst:
    """A context that raises NotFoundError in place of a refusal where there is no such system.

    Every POST enters one, so it is no generator, which would take longer.
    """

    __slots__ = ("_registry", "_system_id")

    def __init__(self, registry: Registry, system_id: int) -> None:
        self._registry = registry
        self._system_id = system_id

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, InputError | TooLargeError | UnsupportedTypeError):
            await self._registry.require(self._system_id)
