"""Batches answered without ASGI: what is sure to be good goes from the connection to the append script and back.

Whatever wants a closer look, before anything is stored, is left to the application, whose answers are the same.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from api import errors
from api.auth import Guard
from api.edge import Edge, Visit
from api.express import is_usual_host
from api.routes import events
from api.service import JSON_HEADER, Service
from lso_core.cli.whole import Header, Whole
from lso_core.compute import batches, libraries
from lso_core.compute.batches import Post
from lso_core.model.batches import Batch, Receipt
from lso_core.model.errors import FutureEventError, LsoError, UnavailableError
from lso_core.model.events import KEY_BYTES
from lso_core.telemetry import REQUEST_ID

log = structlog.get_logger(__name__)

MOST_BYTES: Final = events.INLINE_BYTES
"""A body up to this is taken here: what is larger is decoded in a thread, for which a request needs a task."""

_TARGET: Final = re.compile(rb"/systems/([0-9]{1,15})/events")
_ROUTE: Final = "/systems/{system_id}/events"
_KINDS: Final = {b"": "", **{kind.encode(): kind for kind in events.MEDIA_TYPES}}
_UNUSUAL: Final = frozenset({b"content-encoding", b"transfer-encoding"})


class Head(NamedTuple):
    """What the head of a usual request tells."""

    path: str
    system_id: int
    kind: str
    """Content-Type; "" where there is none."""
    key: bytes | None
    length: int
    """Bytes of the body."""


def head_of(method: bytes, target: bytes, headers: Sequence[Header]) -> Head | None:
    """The head of a POST that may be taken; None for what is unusual, right or wrong."""
    found = _TARGET.fullmatch(target)
    if method != b"POST" or found is None:
        return None
    told = dict(headers)
    length, kind = int(told.get(b"content-length", b"0")), _KINDS.get(told.get(b"content-type", b""))
    key = told.get(b"idempotency-key")
    if (
        kind is None
        or (kind == libraries.ARROW and not libraries.has_arrow())
        or not 0 < length <= MOST_BYTES
        or len(told) < len(headers)
        or not _UNUSUAL.isdisjoint(told)
        or not is_usual_host(told.get(b"host", b""))
        or not (key is None or 0 < len(key) <= KEY_BYTES)
    ):
        return None
    return Head(target.decode(), int(found[1]), kind, key, length)


class Lane:
    """Takes POSTs of events; a `Taker`."""

    service: Service
    """Set once it runs, which is before the first request."""

    def __init__(self, guard: Guard, edge: Edge) -> None:
        self._guard = guard
        self._edge = edge
        self._late: set[asyncio.Task[None]] = set()

    def expect(self, method: bytes, target: bytes, headers: Sequence[Header]) -> "_Expected | None":
        """A request with such a head, where it is usual and may go on."""
        head = head_of(method, target, headers)
        if head is None or head.length > self.service.settings.max_body_bytes:
            return None
        try:
            self._guard.check("POST", head.path, headers)
        except LsoError:
            return None
        return _Expected(self, head, self._edge.visit(headers))

    def take(self, expected: "_Expected", request: Whole) -> bool:
        """Have the batch stored, and the request answered then; False where the application has to look at it."""
        sent = Post(
            request.body,
            expected.head.system_id,
            self.service.settings.max_batch_events,
            ndjson=expected.head.kind in events.NDJSON,
            keyed=expected.head.key is not None,
        )
        batch = expected.reader.quick(sent)
        if batch is None:
            return False
        waiting = _Waiting(self, request, expected, sent, batch)
        self.service.store.ingest.send(sent.system_id, batch, expected.head.key, waiting)
        return True

    def look_closer(self, waiting: "_Waiting", error: FutureEventError) -> None:
        """Let the careful reading say which events are from the future."""
        task = asyncio.get_running_loop().create_task(waiting.store_late(error))
        self._late.add(task)  # a loop keeps no hold on its tasks
        task.add_done_callback(self._late.discard)

    def count(self, expected: "_Expected", status: int) -> None:
        """Count an answer among all."""
        self._edge.count(expected.visit, _ROUTE, "POST", expected.head.path, status)


class _Expected:
    """A request whose head has come."""

    __slots__ = ("_held", "_lane", "head", "visit")

    def __init__(self, lane: Lane, head: Head, visit: Visit) -> None:
        self._lane = lane
        self._held = 0
        self.head = head
        self.visit = visit

    def grow(self, size: int) -> bool:
        """Hold so many bytes more in the budget, if there is room."""
        try:
            self._lane.service.budget.take(size)
        except UnavailableError:
            return False
        self._held += size
        return True

    def take(self, request: Whole) -> bool:
        """Answer it, or leave it to the application."""
        return self._lane.take(self, request)

    def drop(self) -> None:
        """Hold its body no longer."""
        self._lane.service.budget.give_back(self._held)

    @property
    def reader(self) -> events.Reader:
        """Who reads such a body."""
        return libraries.arrow() if self.head.kind == libraries.ARROW else batches


class _Waiting:
    """A batch on its way to be stored, and the request that waits for it; a `Waiter`."""

    __slots__ = ("_batch", "_expected", "_lane", "_request", "_sent", "_service")

    def __init__(self, lane: Lane, request: Whole, expected: _Expected, sent: Post, batch: Batch) -> None:
        self._lane = lane
        self._service = lane.service
        self._request = request
        self._expected = expected
        self._sent = sent
        self._batch = batch

    def done(self) -> bool:
        """False: what is stored is counted, whoever has gone."""
        return False

    def set_result(self, reply: Any) -> None:
        """Take the append script's answer."""
        try:
            receipt = self._service.store.ingest.receipt(self._sent.system_id, self._batch, reply)
        except FutureEventError as error:
            self._lane.look_closer(self, error)
        except Exception as error:  # noqa: BLE001 - every error has its answer
            self.set_exception(error)
        else:
            self._accept(self._batch, receipt)

    def set_exception(self, error: Exception) -> None:
        """Say why the batch is not stored, or not known to be."""
        token = REQUEST_ID.set(self._expected.visit.request_id.decode())
        try:
            if isinstance(error, LsoError):
                self._service.telemetry.refused.labels(errors.row_of(error).slug).inc()
            else:
                log.error("request.failed", method="POST", path=self._expected.head.path, exc_info=error)
            found = errors.answer(error)
            self._answer(found.status, errors.headers_of(found), found.body)
        finally:
            REQUEST_ID.reset(token)

    async def store_late(self, error: FutureEventError) -> None:
        """Refuse the batch for its events from the future, or store it where there are none by now."""
        try:
            batch, receipt = await events.store_late(
                self._service, self._expected.reader, self._sent, self._expected.head.key, error
            )
        except Exception as refused:  # noqa: BLE001 - every error has its answer
            self.set_exception(refused)
        else:
            self._accept(batch, receipt)

    def _accept(self, batch: Batch, receipt: Receipt) -> None:
        events.count(self._service, len(self._sent.body), batch, receipt)
        self._answer(202, [JSON_HEADER], msgspec.json.encode(events.Accepted.of(batch, receipt)))

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._expected.drop()
        self._request.answer(status, [*headers, (b"x-request-id", self._expected.visit.request_id)], body)
        self._lane.count(self._expected, status)
