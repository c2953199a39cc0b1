"""What answers must look like, whatever they are about."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

Json = dict[str, Any]
RFC3339_MS: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
"""In UTC with milliseconds: the one form in which LSO writes times."""


def problem(answer: httpx.Response, status: int) -> Json:
    """The body of an error answer, checked for what all of them promise (RFC 9457)."""
    assert answer.status_code == status, f"expected {status}, got {answer.status_code}: {answer.text[:500]}"
    assert answer.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    assert answer.headers["X-Request-Id"]
    body = dict(answer.json())
    assert {"type", "title", "status", "detail"} <= body.keys()
    assert status == body["status"]
    assert all(isinstance(body[member], str) and body[member] for member in ("type", "title", "detail"))
    if status in {429, 503}:
        assert int(answer.headers["Retry-After"]) >= 1
    if status == 422:
        check_findings(body["errors"])
    return body


def check_findings(findings: list[Json]) -> None:
    """An `errors` array: every one with index, field and a sentence."""
    assert 0 < len(findings) <= 100
    for finding in findings:
        assert {"index", "field", "message"} == finding.keys()
        assert finding["index"] is None or finding["index"] >= 0
        assert isinstance(finding["field"], str)
        assert isinstance(finding["message"], str)
        assert finding["message"].strip()


def named(body: Json) -> list[tuple[int | None, str]]:
    """Index and field of each finding of a 422."""
    return [(finding["index"], finding["field"]) for finding in body["errors"]]


def pages(http: httpx.Client, path: str, **params: str) -> Iterator[list[Json]]:
    """The items of a list, page by page, following `next` until it is null."""
    cursor: str | None = None
    while True:
        answer = http.get(path, params=params if cursor is None else {**params, "cursor": cursor})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        yield body["items"]
        cursor = body["next"]
        if cursor is None:
            return


def to_ms(text: str) -> int:
    """Milliseconds since the epoch of a time as LSO writes it."""
    assert RFC3339_MS.fullmatch(text), text
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


def to_text(ms: int) -> str:
    """RFC 3339 with milliseconds."""
    whole = datetime.fromtimestamp(ms // 1_000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{ms % 1_000:03d}Z"


def from_now(seconds: float) -> str:
    """The time so many seconds from now (before now where negative)."""
    there = datetime.now(UTC) + timedelta(seconds=seconds)
    return there.strftime("%Y-%m-%dT%H:%M:%S.") + f"{there.microsecond // 1_000:03d}Z"


def now_ms() -> int:
    """Milliseconds since the epoch; the service runs on the same machine."""
    return round(datetime.now(UTC).timestamp() * 1_000)
