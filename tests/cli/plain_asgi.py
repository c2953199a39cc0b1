"""What every ASGI application has to do, for servers that are tested with one of a few lines."""

from typing import Any


async def live(receive: Any, send: Any) -> None:
    """Start and end as the server says."""
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send: Any, body: bytes) -> None:
    """Send a 200 with this body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
