"""The routes that carry nearly every request, without the framework's routing.

Walking its tree, filling parameters and entering its stacks takes as long as the rest of a read. Here one expression finds
the handler, the same one that the framework would have called, and its errors become the same answers.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Send

from api import errors
from api.service import Ready

_PATH: Final = re.compile(r"/systems/([0-9]{1,15})(/[a-z]+)")
_HOST: Final = re.compile(rb"[0-9A-Za-z.:_\[\]-]*")
"""The usual ones; what else may stand there is the framework's to judge."""
_PATTERN: Final = "/systems/{system_id:int}"


class Route(NamedTuple):
    """One of them."""

    handler: Callable[..., Awaitable[Ready]]
    template: str
    """The path as the metrics name it."""


class Plain:
    """What handlers use of a request, without the rest that the framework's own prepares."""

    __slots__ = ("app", "receive", "scope")

    def __init__(self, scope: Any, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.app = scope["litestar_app"]


class Express:
    """Wraps the framework's own ASGI handler, which gets every request but those for a few handlers.

    These must be of the shape `handler(request, system_id) -> Ready` at a path below one system.
    """

    def __init__(self, app: ASGIApp, handlers: Iterable[HTTPRouteHandler]) -> None:
        self._app = app
        self._routes = {
            (method, path.removeprefix(_PATTERN)): Route(handler.fn, path.replace(":int", ""))
            for handler in handlers
            for path in handler.paths
            for method in handler.http_methods
        }

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = _PATH.fullmatch(scope["path"])
        route = None if found is None else self._routes.get((scope["method"], found[2]))
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if found is None or route is None or not is_usual_host(host):
            await self._app(scope, receive, send)
            return
        scope["path_template"] = route.template
        answer: Any
        try:
            answer = await route.handler(Plain(scope, receive), int(found[1]))
        except Exception as error:  # noqa: BLE001 - as the framework does: every error has its answer
            request: Request[Any, Any, Any] = Request(scope, receive, send)
            answer = errors.handle(request, error).to_asgi_response(None, request)
        await answer(scope, receive, send)


def is_usual_host(host: bytes) -> bool:
    """Whether this Host header needs nobody's judgement."""
    return _HOST.fullmatch(host) is not None
