"""Every error as RFC 9457 problem+json: one row per class of `lso_core.model.errors`, one place that writes them."""

import http
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from api import methods
from lso_core.model.errors import (
    ArchiveError,
    BacklogFullError,
    BadKeyError,
    ConflictError,
    Finding,
    ForbiddenError,
    FutureEventError,
    InputError,
    KeyReuseError,
    LsoError,
    NotFoundError,
    RateLimitedError,
    StoreError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedTypeError,
)

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class Row(msgspec.Struct, frozen=True):
    """What all problems of one class share."""

    status: int
    slug: str
    """Stable name: the end of `type`, and the reason under which the metrics count it."""
    title: str


ROWS: Final[dict[type[LsoError], Row]] = {
    InputError: Row(422, "invalid-input", "The request is wrong"),
    KeyReuseError: Row(422, "key-reuse", "The Idempotency-Key came before with another body"),
    FutureEventError: Row(422, "future-event", "An event is from the future"),
    TooLargeError: Row(413, "too-large", "The request is too large"),
    UnsupportedTypeError: Row(415, "unsupported-type", "The body's type is not read here"),
    NotFoundError: Row(404, "not-found", "There is no such thing"),
    ConflictError: Row(409, "conflict", "The name is taken"),
    UnauthorizedError: Row(401, "unauthorized", "An API key is needed"),
    ForbiddenError: Row(403, "forbidden", "The API key does not reach this far"),
    RateLimitedError: Row(429, "rate-limited", "Too many events"),
    UnavailableError: Row(503, "unavailable", "Not able now"),
    ArchiveError: Row(503, "archive-unavailable", "The archive is not able now"),
    BacklogFullError: Row(503, "backlog-full", "Folding has to catch up first"),
    StoreError: Row(503, "store-unavailable", "The store is not able now"),
    BadKeyError: Row(503, "bad-key", "A key of this system holds something else than it should"),
}

FOREIGN: Final = {
    400: Row(400, "bad-request", "The request cannot be read"),
    404: Row(404, "no-such-path", "There is nothing at this path"),
    405: Row(405, "method-not-allowed", "The path does not take this method"),
    408: Row(408, "too-slow", "The body took too long"),
}
INTERNAL: Final = Row(500, "internal", "LSO failed")


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of every error answer (RFC 9457)."""

    type: str
    """`urn:lso:problem:` and a stable name."""
    title: str
    status: int
    detail: str
    """One sentence about this occurrence."""
    errors: list[Finding] | None = None
    """For 422: what is wrong, event by event, up to 100."""
    system_id: int | None = None
    """For 409: the system that has the name."""


class Answer(msgspec.Struct, frozen=True):
    """A problem ready to be sent."""

    status: int
    body: bytes
    headers: dict[str, str]


def row_of(error: Exception) -> Row:
    """The row of an error, ours or the framework's."""
    for kind in type(error).__mro__:
        if kind in ROWS:
            return ROWS[kind]
    if isinstance(error, HTTPException) and error.status_code < 500:
        status = error.status_code
        return FOREIGN.get(status) or Row(status, "refused", http.HTTPStatus(status).phrase)
    return INTERNAL


def answer(error: Exception) -> Answer:
    """The problem+json for an error. Internals never show."""
    row = row_of(error)
    problem = Problem(f"urn:lso:problem:{row.slug}", row.title, row.status, _detail(error, row))
    if isinstance(error, InputError):
        problem.errors = list(error.findings)
    if isinstance(error, ConflictError):
        problem.system_id = error.system_id
    return Answer(row.status, msgspec.json.encode(problem), _headers(error))


def headers_of(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of a problem as they are sent, but for the length of its body."""
    headers = {"content-type": MEDIA_TYPE, **answer.headers}
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def handle(request: "Request[Any, Any, Any]", error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    found = answer(error)
    if found.status == 500:
        log.error("request.failed", method=request.method, path=request.url.path, exc_info=error)
    if found.status == 405:
        found.headers["Allow"] = ", ".join(methods.allowed(request.app, request.scope["path"]))
    return Response(found.body, status_code=found.status, media_type=MEDIA_TYPE, headers=found.headers)


def _detail(error: Exception, row: Row) -> str:
    if isinstance(error, LsoError) and row is not INTERNAL:
        return str(error)
    if isinstance(error, HTTPException) and row.status not in {404, 405, 500}:
        return error.detail
    return {
        404: "this path is none of LSO's; /docs lists them",
        405: "this path does not take the method; the Allow header names those it does",
    }.get(row.status, "something failed inside LSO; its log has the details under this answer's X-Request-Id")


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, UnavailableError | RateLimitedError):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": 'Bearer realm="lso"'}
    if isinstance(error, TooLargeError):
        return {"Connection": "close"}  # the rest of the body is not read
    return {}
