"""The fleet as it changes, as server-sent events."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from litestar import get
from litestar.types import Receive, Scope, Send

from api.live import Filter, Hub, Viewer
from api.reading import read_query, refused
from api.service import Asked, reads_gzip, service_of
from lso_core.model.events import Name
from lso_core.model.health import Health

PATH: Final = "/stream"
MEDIA_TYPE: Final = "text/event-stream"
SYSTEMS: Final = 500
"""Most systems that a stream may name."""


class StreamQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which systems; all where nothing is given."""

    systems: Annotated[str, msgspec.Meta(min_length=1, max_length=8_000)] | None = None
    """Ids between commas."""
    state: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    """States between commas."""
    tag: Name | None = None
    """A tag that the systems must have."""

    def filter(self) -> Filter:
        """The filter that is meant. Raises InputError."""
        return Filter(_ids(self.systems), _states(self.state), self.tag or "")


@get(PATH)
async def get_stream(request: Asked) -> "Stream":
    """What changes, as it changes."""
    hub = service_of(request).live
    wanted = read_query(request, StreamQuery).filter()
    headers = request.headers
    gzip = reads_gzip(headers.get("accept-encoding", ""))
    viewer = await hub.join(wanted, _seen(headers.get("last-event-id", "")), gzip=gzip)
    return Stream(hub, wanted, viewer, head_only=bool(request.scope.get("head_only")))


class Stream:
    """An answer that goes on until its client leaves, is cut off, or the process ends."""

    def __init__(self, hub: Hub, wanted: Filter, viewer: Viewer, *, head_only: bool) -> None:
        self._hub = hub
        self._wanted = wanted
        self._viewer = viewer
        self._head_only = head_only

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(self._watch(receive))
        try:
            start: Any = {"type": "http.response.start", "status": 200, "headers": self._headers()}
            await send(start)
            if not self._head_only:
                await self._send_chunks(send)
            end: Any = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(end)
        finally:
            leaving.cancel()
            self._hub.leave(self._wanted, self._viewer)

    async def _send_chunks(self, send: Send) -> None:
        async with aclosing(self._viewer.chunks()) as chunks:
            async for chunk in chunks:
                piece: Any = {"type": "http.response.body", "body": chunk, "more_body": True}
                await send(piece)

    async def _watch(self, receive: Receive) -> None:
        """End the stream when its client is gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._viewer.end()

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"cache-control", b"no-store"),
            (b"vary", b"accept-encoding"),
            (b"x-accel-buffering", b"no"),
        ]
        return [*headers, (b"content-encoding", b"gzip")] if self._viewer.gzip else headers


def _ids(text: str | None) -> frozenset[int]:
    parts = [] if text is None else text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 15 for part in parts):
        raise refused("systems must be ids between commas", "systems")
    if len(parts) > SYSTEMS:
        raise refused(f"systems has {len(parts)} ids; the cap is {SYSTEMS}", "systems")
    return frozenset(map(int, parts))


def _states(text: str | None) -> frozenset[str]:
    parts = [] if text is None else text.split(",")
    if not set(parts) <= set(Health.__members__):
        raise refused(f"state must be some of {', '.join(Health.__members__)}, between commas", "state")
    return frozenset(parts)


def _seen(last_event_id: str) -> int | None:
    """The time that an id of ours stands for; None for any other."""
    known = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 15
    return int(last_event_id) if known else None


HANDLERS: tuple[Any, ...] = (get_stream,)
