"""Who watches, and the one reader that all of them share."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from api import errors
from api.live.frames import GZIP_HEAD, RETRY, Filter, Frame, View, event, heartbeat
from api.live.picture import Change, Picture
from lso_core.model.batches import FleetShare
from lso_core.model.errors import StoreError, UnavailableError
from lso_core.telemetry import Telemetry

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
HEARTBEAT_LOOKS: Final = 5
"""A viewer hears something at least this often, in looks."""
BUFFERED: Final = 30
"""Frames that wait for a viewer which does not read; past that it is cut off."""
LINGER_S: Final = 10.0
"""The reader goes on this long without viewers, so that one who comes back finds where he was."""


class Source(Protocol):
    """Where changes are read: `store.Reads`."""

    async def changes(self, positions: Sequence[int]) -> list[FleetShare]: ...


class Viewer:
    """One stream."""

    def __init__(self, *, gzip: bool) -> None:
        self.gzip = gzip
        self.cut_off = False
        self._frames: deque[Frame] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def put(self, frames: Sequence[Frame]) -> None:
        """Hand frames over; ends the stream of a viewer that leaves too many unread."""
        if len(self._frames) >= BUFFERED:
            self.cut_off = True
            self.end()
        elif frames:
            self._frames.extend(frames)
            self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Bytes to send, until the stream ends."""
        yield GZIP_HEAD + Frame(RETRY).gzipped if self.gzip else RETRY
        while not self._ended:
            while self._frames and not self._ended:
                frame = self._frames.popleft()
                yield frame.gzipped if self.gzip else frame.plain
            self._news.clear()
            if not self._frames and not self._ended:
                await self._news.wait()


class _Group(msgspec.Struct):
    """All viewers with one filter."""

    view: View
    viewers: set[Viewer]
    quiet: int = 0
    """Looks since the viewers last heard something."""

    def follow(self, change: Change, pulse: Frame) -> None:
        """Pass on what one look found, or now and then a pulse."""
        frames = self.view.follow(change)
        self.quiet += 1
        if frames or self.quiet >= HEARTBEAT_LOOKS:
            self.tell(frames or [pulse])

    def tell(self, frames: Sequence[Frame]) -> None:
        """Hand frames to every viewer."""
        self.quiet = 0
        for viewer in self.viewers:
            viewer.put(frames)


class Hub:
    """Looks at the fleet once a second while somebody watches, and never else."""

    def __init__(
        self, source: Source, telemetry: Telemetry, stale_after_ms: int, most: int, linger_s: float = LINGER_S
    ) -> None:
        self._source = source
        self._telemetry = telemetry
        self._stale_after_ms = stale_after_ms
        self._most = most
        self._linger_s = linger_s
        self._groups: dict[Filter, _Group] = {}
        self._picture: Picture | None = None
        self._first = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._viewers = 0
        self._closing = False
        self.looks = 0
        """How often the fleet was read."""

    async def join(self, wanted: Filter, seen_ms: int | None, *, gzip: bool) -> Viewer:
        """A stream that begins with the whole picture, or with what is new to who saw the one of `seen_ms`.

        Raises UnavailableError where there are as many as may be, StoreError where nothing can be read.
        """
        if self._viewers >= self._most:
            raise UnavailableError(
                f"this process has its {self._most} streams (half of LSO_MAX_CONNECTIONS); try again", retry_after_s=5
            )
        self._viewers += 1
        try:
            picture = await self._current()
        except BaseException:
            self._viewers -= 1
            raise
        group = self._groups.get(wanted)
        if group is None:
            group = self._groups[wanted] = _Group(View(wanted, picture), set())
        viewer = Viewer(gzip=gzip)
        news = None if seen_ms is None else picture.since(seen_ms)
        viewer.put(group.view.snapshot() if news is None else group.view.resumed(news))
        group.viewers.add(viewer)
        self._telemetry.streams.inc()
        if self._closing:
            viewer.end()
        return viewer

    def leave(self, wanted: Filter, viewer: Viewer) -> None:
        """A stream has ended."""
        self._viewers -= 1
        if viewer.cut_off:
            self._telemetry.streams_cut.inc()
        group = self._groups.get(wanted)
        if group is not None:
            group.viewers.discard(viewer)
            if not group.viewers:
                del self._groups[wanted]

    def end_all(self) -> None:
        """End every stream, and each that begins from here on: the process is about to end."""
        self._closing = True
        self._end_viewers()

    async def close(self) -> None:
        """End the reader."""
        self.end_all()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _end_viewers(self) -> None:
        for group in self._groups.values():
            for viewer in group.viewers:
                viewer.end()

    async def _current(self) -> Picture:
        """The picture, read now where nobody has watched."""
        async with self._first:
            if self._picture is None:
                picture = Picture(self._stale_after_ms)
                picture.take(await self._look(picture))
                self._picture = picture
                self._looking = asyncio.create_task(self._look_on(picture))
                self._looking.add_done_callback(self._looked_last)
            return self._picture

    async def _look(self, picture: Picture) -> list[FleetShare]:
        self.looks += 1
        return await self._source.changes(picture.positions())

    async def _look_on(self, picture: Picture) -> None:
        """Look once a second, until nobody has watched for a while."""
        loop = asyncio.get_running_loop()
        due = watched = loop.time()
        while True:
            due = max(due + LOOK_S, loop.time())
            await asyncio.sleep(due - loop.time())
            if self._viewers:
                watched = loop.time()
            elif loop.time() - watched > self._linger_s:
                self._picture = None
                return
            await self._look_once(picture)

    async def _look_once(self, picture: Picture) -> None:
        """One look, and what it means for each group."""
        try:
            change = picture.take(await self._look(picture))
        except StoreError as error:
            problem = event("unavailable", errors.answer(error).body)
            for group in self._groups.values():
                group.tell([problem])
            return
        pulse = heartbeat(picture)
        for group in self._groups.values():
            group.follow(change, pulse)

    def _looked_last(self, task: "asyncio.Task[None]") -> None:
        """A reader that fails takes its viewers along, who begin anew."""
        if not task.cancelled() and task.exception() is not None:
            log.error("live.failed", exc_info=task.exception())
            self._picture = None
            self._end_viewers()
