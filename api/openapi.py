"""The OpenAPI 3.1 document, from the structs that the handlers really use.

Handlers take bodies and queries raw, for speed, so the framework has no signature to read: the table is written here,
and a test holds it against the routes there are and against what they answer.
"""

from functools import cache
from typing import Annotated, Any, Final

import msgspec

import lso_core
from api import errors
from api.aside.orders import HeatMapAnswer, HistogramAnswer
from api.errors import Problem
from api.routes.dead_letters import ID as LETTER_ID
from api.routes.dead_letters import Letter, LettersQuery, Purged, PurgeQuery, Requeued, WholeLetter
from api.routes.events import Accepted, EventsQuery, HotQuery
from api.routes.fleet import FleetQuery
from api.routes.health import HealthQuery
from api.routes.history import (
    HDR,
    MOST_SYSTEMS,
    HistogramQuery,
    ManySeriesQuery,
    SeriesQuery,
    SloQuery,
)
from api.routes.runs import RunDetails, RunPage, RunQuery, RunsQuery
from api.routes.stream import MEDIA_TYPE as EVENT_STREAM
from api.routes.stream import SYSTEMS, StreamQuery
from api.routes.systems import SystemsQuery
from lso_core.compute.libraries import ARROW
from lso_core.compute.readback import SeenEvent
from lso_core.model.archives import ArchiveRun, ArchiveStatus, SystemArchive
from lso_core.model.batches import Autoscale
from lso_core.model.events import KEY_BYTES, Event
from lso_core.model.objectives import Attainment
from lso_core.model.rebuilds import Rebuild
from lso_core.model.rollups import MOST_ROWS
from lso_core.model.series import MOST_METRICS, MOST_POINTS, MOST_POINTS_IN_ALL
from lso_core.model.snapshots import FleetLine, Latency, StageSummary
from lso_core.model.systems import System, SystemPatch, SystemSpec
from lso_core.model.windows import SLOT_MS

Json = dict[str, Any]

_TIME: Final = "2025-12-14T14:33:10.529Z"
_REF: Final = "#/components/schemas/"

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time", "examples": [_TIME]})]
State = Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["UNHEALTHY", "DEGRADED", "UNKNOWN", "OK"]})]


class Health(msgspec.Struct):
    """The rolling window of one system, and the verdict."""

    system_id: int
    window_seconds: int
    window_start: Time
    window_end: Time
    as_of: Time
    health: State
    since: Time
    reason: str
    total: int
    errors: int
    error_rate: float | None
    rps: float
    p95_latency: float | None
    last_event_at: Time | None
    last_ok_at: Time | None


class Metrics(Health):
    """The same window in full. Latencies are milliseconds."""

    latency_ms: Latency
    stages: dict[str, StageSummary]
    event_types: dict[str, int]
    late: int
    clock_skewed: int


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of events: 1 to 10,000 (LSO_MAX_BATCH_EVENTS)."""

    events: Annotated[list[Event], msgspec.Meta(min_length=1, max_length=10_000)]


class SystemPage(msgspec.Struct):
    """A page of systems."""

    items: list[System]
    next: str | None


class EventPage(msgspec.Struct):
    """A page of the hot tier. It may have fewer items than `limit`, even none, and still a `next`."""

    items: list[SeenEvent]
    next: str | None


class LetterPage(msgspec.Struct):
    """A page of dead letters."""

    items: list[Letter]
    next: str | None


class FleetPage(msgspec.Struct):
    """A page of the fleet."""

    worst: State | None
    counts: dict[str, int]
    items: list[FleetLine]
    next: str | None


class FleetChange(msgspec.Struct):
    """The data of the events `snapshot` and `change`."""

    as_of: Time
    behind_s: float
    worst: State | None
    counts: dict[str, int]
    items: list[FleetLine]
    gone: list[int]


class Point(msgspec.Struct, omit_defaults=True):
    """One point of a series: beside these members one for each metric that was asked for, null where nothing was counted."""

    time: Time
    revised: int = 0


class OneSeries(msgspec.Struct):
    """The points of one system, or with `by=stage` of one stage of it."""

    system_id: int
    as_of: Time | None
    points: list[Point]
    stage: str | msgspec.UnsetType | None = msgspec.UNSET


class Series(msgspec.Struct, rename={"from_": "from"}):
    """Figures by time. `step` is in seconds; latencies are milliseconds."""

    from_: Time
    to: Time
    step: int
    metrics: list[str]
    series: list[OneSeries]


class Status(msgspec.Struct):
    """A probe's answer."""

    status: str


_STRUCTS: Final = (
    Problem, System, SystemSpec, SystemPatch, SystemPage, Event, Batch, Accepted, SeenEvent, EventPage, Health, Metrics,
    FleetLine, FleetPage, FleetChange, Autoscale, Status, Letter, LetterPage, WholeLetter, Purged, Requeued, Rebuild,
    Series, HistogramAnswer, HeatMapAnswer, Attainment, RunPage, RunDetails, ArchiveStatus, ArchiveRun, SystemArchive,
)  # fmt: skip

_SYSTEM: Final = {
    "system_id": 3,
    "name": "weather-etl",
    "description": "",
    "tags": ["etl"],
    "window_seconds": 300,
    "thresholds": {
        "error_rate": {"warn": 0.05, "crit": 0.2},
        "p95_latency": {"warn": None, "crit": None},
        "min_events": 5,
    },
    "created_at": _TIME,
    "max_runtime_seconds": 3600,
    "heartbeat_timeout_seconds": None,
}
_EVENT: Final = {
    "ts": _TIME,
    "run_id": "2f1c7a30",
    "stage": "extract",
    "event_type": "success",
    "status": "ok",
    "latency_ms": 12,
    "payload": {"rows": 168},
}
_HEALTH: Final = {
    "system_id": 3,
    "window_seconds": 300,
    "window_start": "2025-12-14T14:28:15.000Z",
    "window_end": _TIME,
    "as_of": _TIME,
    "health": "UNHEALTHY",
    "since": "2025-12-14T14:31:05.000Z",
    "reason": "error rate 23.0 % (46 of 200) is above 20 %",
    "total": 200,
    "errors": 46,
    "error_rate": 0.23,
    "rps": 0.667,
    "p95_latency": 84.3,
    "last_event_at": _TIME,
    "last_ok_at": _TIME,
}
_LATENCY: Final = {
    "min": 1.0,
    "mean": 14.2,
    "p50": 11.0,
    "p90": 60.1,
    "p95": 84.3,
    "p99": 97.0,
    "p999": 99.1,
    "max": 99.2,
}
_STAGE: Final = {"total": 200, "errors": 46, "error_rate": 0.23, "latency_ms": _LATENCY}
_METRICS: Final = _HEALTH | {
    "latency_ms": _LATENCY,
    "stages": {"extract": _STAGE},
    "event_types": {"success": 154, "failure": 46},
    "late": 0,
    "clock_skewed": 0,
}
_LINE: Final = {name: _HEALTH[name] for name in FleetLine.__struct_fields__ if name in _HEALTH} | {
    "name": "weather-etl",
    "tags": ["etl"],
    "observer_behind": False,
}
_FLEET: Final = {
    "worst": "UNHEALTHY",
    "counts": {"UNHEALTHY": 1, "DEGRADED": 0, "UNKNOWN": 2, "OK": 14},
    "items": [_LINE],
    "next": "1000000000007",
}
_CHANGE: Final = {
    "as_of": _TIME,
    "behind_s": 0.21,
    "worst": _FLEET["worst"],
    "counts": _FLEET["counts"],
    "items": [_LINE],
    "gone": [],
}
_AUTOSCALE: Final = {
    "backlog": {"entries": 12, "events": 12000, "oldest_age_s": 0.21},
    "workers": 1,
    "desired_workers": 2,
}
_SEEN: Final = {"entry": "1765722790601-0", "index": 0, "at": "2025-12-14T14:33:10.601Z", "system_id": 3, **_EVENT}
_SUMS: Final = {"rows": 168, "rows_in": None, "rows_out": None, "bytes": None}
_RUN: Final = {
    "system_id": 3,
    "run_id": "2f1c7a30",
    "state": "SUCCESS",
    "attempts": 1,
    "started_at": "2025-12-14T14:33:10.501Z",
    "ended_at": "2025-12-14T14:33:10.600Z",
    "duration_ms": 99.0,
    "last_event_at": "2025-12-14T14:33:10.600Z",
    "events": 3,
    "errors": 0,
    "error_summary": None,
    **_SUMS,
    "stages": [
        {
            "name": "extract",
            "state": "SUCCESS",
            "started_at": "2025-12-14T14:33:10.517Z",
            "ended_at": _TIME,
            "duration_ms": 12.0,
            "events": 1,
            "errors": 0,
            **_SUMS,
        }
    ],
}
_RUN_PAGE: Final = {
    "counts": {"running": 1, "timed_out": 0, "lost": 0, "closed_as_lost": 0, "skipped": 0},
    "items": [_RUN],
    "next": None,
}
_RUN_DETAILS: Final = _RUN | {
    "rank": {"runs": 340, "slower_than": 330, "percent": 97.1, "text": "slower than 97 % of 340 runs"},
    "timeline": {"items": [_SEEN], "next": None},
}
_LETTER: Final = {
    "id": "1765722790777-0",
    "system_id": 3,
    "kind": "event",
    "at": "2025-12-14T14:33:10.777Z",
    "field": "status",
    "reason": 'status must be "ok" or "error"',
    "entry": None,
    "events": 1,
    "bytes": 61,
}
_REBUILD: Final = {
    "system_id": 3,
    "progress": "done",
    "replaced": 58,
    "different": 0,
    "kept": 2,
    "lost": 0,
    "reason": "",
}
_ARCHIVE: Final = {
    "mode": "best-effort",
    "working": True,
    "reason": "",
    "worked_at": _TIME,
    "tiers": {
        "events": {"files": 42, "bytes": 91_300_000},
        "minutes": {"files": 42, "bytes": 12_800_000},
        "hours": {"files": 6, "bytes": 4_100_000},
        "days": {"files": 3, "bytes": 410_000},
    },
    "lost": 0,
    "wanted": "5f1c9a03e7d24b68",
    "done": True,
}
_SYSTEM_ARCHIVE: Final = {
    "system_id": 3,
    "entry": "1765722790601-0",
    "archived": 1_203_400,
    "lost": 0,
    "row": 4310,
}
_LETTER_TEXT: Final = '{"event_type": "success", "status": "fine", "latency_ms": 12}'
_ACCEPTED: Final = {"accepted": 1, "duplicate": False, "entries": ["1765722790601-0", "1765722790601-0"]}

_SPAN: Final = {"from": "2025-12-14T13:00:00.000Z", "to": "2025-12-14T15:00:00.000Z"}
_SERIES: Final = {
    **_SPAN,
    "step": 3600,
    "metrics": ["p95", "error_rate"],
    "series": [
        {
            "system_id": 3,
            "points": [
                {"time": "2025-12-14T13:00:00.000Z", "p95": 84.3, "error_rate": 0.01, "revised": 2},
                {"time": "2025-12-14T14:00:00.000Z", "p95": None, "error_rate": None},
            ],
            "as_of": _TIME,
        }
    ],
}
_HISTOGRAM: Final = {
    "system_id": 3,
    **_SPAN,
    "as_of": _TIME,
    "stage": None,
    "total": 3,
    "min": 1.0,
    "mean": 1.333333,
    "max": 2.0,
    "buckets": [{"low": 1.0, "high": 1.0, "count": 2}, {"low": 2.0, "high": 2.0, "count": 1}],
}
_HEAT_MAP: Final = {
    "system_id": 3,
    **_SPAN,
    "step": 3600,
    "as_of": _TIME,
    "stage": None,
    "times": ["2025-12-14T13:00:00.000Z", "2025-12-14T14:00:00.000Z"],
    "buckets": [{"low": 0.896, "high": 1.023}, {"low": 1.792, "high": 2.047}],
    "cells": [[0, 0, 2], [0, 1, 1]],
}
_ATTAINMENT: Final = {
    "system_id": 3,
    "objective": 99.5,
    "latency_ms": 2000.0,
    "window": "30d",
    "from": "2025-11-14T14:34:00.000Z",
    "to": "2025-12-14T14:34:00.000Z",
    "as_of": _TIME,
    "total": 100000,
    "good": 99700,
    "attained": 99.7,
    "budget": {"allowed": 500.0, "spent": 300, "left": 0.4},
    "burn_rate": {"5m": 0.0, "1h": 0.2, "6h": 1.1, "3d": 0.6},
}

_SENTENCES: Final = {
    400: "The request cannot be read: its Host header is none, or the connection ended within the body.",
    401: "No API key, or one that is not known. Only where LSO_API_KEYS is set.",
    403: "The key's role does not reach this far. Only where LSO_API_KEYS is set.",
    404: "There is no such system.",
    405: "The path does not take this method.",
    408: "The body took longer than 60 s to arrive.",
    409: "A system of this name exists; `system_id` says which.",
    413: "The body, inflated, is over its cap. It is not read to the end, and the connection is closed.",
    415: "A Content-Type, charset or Content-Encoding that is not read here.",
    422: "The request is wrong; `errors` says where, each with a sentence.",
    429: "More events a second than LSO_RATE_EVENTS allows the system. Nothing was stored.",
    500: "LSO failed. Its log has the details under the answer's X-Request-Id.",
    503: "Not able now: the store is away or full, or a cap on the backlog is reached. `Retry-After` says when to try again.",
}
_DETAILS: Final = {
    401: "send an API key as Authorization: Bearer or X-API-Key",
    403: "this needs a key of the role admin; the key is of write",
    404: "there is no system 3",
    409: "a system named 'weather-etl' exists already",
    413: "the body has 67108864 bytes; the cap is 16777216 (LSO_MAX_BODY_BYTES), after inflating",
    415: "text/csv is not read here; send application/json or application/x-ndjson",
    422: '1 of 2 events is wrong; the first is event 1: status must be "ok" or "error"',
    429: "system 3 sends more than 10000 events a second (LSO_RATE_EVENTS)",
    503: "Redis cannot be reached: Connection refused",
}  # fmt: skip
_HEADERS_OF: Final = {
    401: ("WWW-Authenticate", "How to authenticate"),
    405: ("Allow", "The methods that the path takes"),
    429: ("Retry-After", "Seconds"),
    503: ("Retry-After", "Seconds"),
}
_ROWS: Final = {row.status: row for row in reversed([*errors.ROWS.values(), *errors.FOREIGN.values(), errors.INTERNAL])}


def document_bytes() -> bytes:
    """The document as JSON."""
    return _document_bytes()


@cache
def _document_bytes() -> bytes:
    return msgspec.json.encode(document())


def document() -> Json:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LSO: Living Systems Observatory",
            "version": lso_core.__version__,
            "summary": "Is this system well, how do we know, and since when?",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "responses": {_problem_name(status): _problem(status) for status in _SENTENCES},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


_ABOUT: Final = """Pipelines send small telemetry events; LSO answers whether each of them is well.

All times are RFC 3339 in UTC with milliseconds. Errors are RFC 9457 `application/problem+json`. Lists are
`{"items": [...], "next": cursor or null}`: follow `next` until it is null. Every answer has an `X-Request-Id`; a sane
one in the request is taken over. Bodies may be sent plain, or with `Content-Encoding: gzip` or `deflate`. Answers of 8 KiB and more
come with `Content-Encoding: gzip` where the request has `Accept-Encoding: gzip`.
"""

_TAGS: Final = {
    "systems": "What is observed.",
    "events": "What happened.",
    "health": "How well it is.",
    "history": "How it was.",
    "runs": "What each run of a system did, and what became of it.",
    "service": "LSO itself.",
}


def _paths() -> dict[str, Json]:
    return {
        "/systems": {"get": _LIST_SYSTEMS, "post": _CREATE_SYSTEM},
        "/systems/{system_id}": _of_system({"get": _GET_SYSTEM, "patch": _PATCH_SYSTEM, "delete": _DELETE_SYSTEM}),
        "/systems/{system_id}/events": _of_system({"get": _LIST_EVENTS, "post": _POST_EVENTS}),
        "/systems/{system_id}/health": _of_system({"get": _GET_HEALTH}),
        "/systems/{system_id}/metrics": _of_system({"get": _GET_METRICS}),
        "/systems/{system_id}/runs": _of_system({"get": _LIST_RUNS}),
        "/systems/{system_id}/runs/latest": _of_system({"get": _GET_LATEST_RUN}),
        "/systems/{system_id}/runs/{run_id}": _of_run({"get": _GET_RUN}),
        "/systems/{system_id}/rebuild": _of_system({"get": _GET_REBUILD, "post": _ASK_REBUILD}),
        "/systems/{system_id}/archive": _of_system({"get": _GET_SYSTEM_ARCHIVE}),
        "/systems/{system_id}/series": _of_system({"get": _GET_SERIES}),
        "/systems/{system_id}/histogram": _of_system({"get": _GET_HISTOGRAM}),
        "/systems/{system_id}/slo": _of_system({"get": _GET_SLO}),
        "/series": {"get": _GET_MANY_SERIES},
        "/archive": {"get": _GET_ARCHIVE},
        "/archive/run": {"post": _RUN_ARCHIVE},
        "/dead-letters": {"get": _LIST_LETTERS, "delete": _PURGE_LETTERS},
        "/dead-letters/{system_id}/{letter_id}": _of_letter({"get": _GET_LETTER, "delete": _DELETE_LETTER}),
        "/dead-letters/{system_id}/{letter_id}/requeue": _of_letter({"post": _REQUEUE_LETTER}),
        "/health": {"get": _GET_FLEET},
        "/stream": {"get": _GET_STREAM},
        "/autoscale": {"get": _GET_AUTOSCALE},
        "/metrics": {"get": _GET_OWN_METRICS},
        "/healthz": {"get": _GET_HEALTHZ},
        "/readyz": {"get": _GET_READYZ},
    }


def _of_system(operations: dict[str, Json]) -> Json:
    parameter = {
        "name": "system_id",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 3,
    }
    return {"parameters": [parameter], **operations}


def _of_run(operations: dict[str, Json]) -> Json:
    parameter = {
        "name": "run_id",
        "in": "path",
        "required": True,
        "description": "As events carry it, percent-encoded",
        "schema": {"type": "string", "minLength": 1},
        "example": _RUN["run_id"],
    }
    described = _of_system(operations)
    return {**described, "parameters": [*described["parameters"], parameter]}


def _of_letter(operations: dict[str, Json]) -> Json:
    parameter = {
        "name": "letter_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": LETTER_ID},
        "example": _LETTER["id"],
    }
    described = _of_system(operations)
    return {**described, "parameters": [*described["parameters"], parameter]}


def _operation(
    name: str, tag: str, summary: str, answers: dict[str, Json], refusals: tuple[int, ...], **more: Any
) -> Json:
    """One operation; the refusals that any may give are added."""
    problems = sorted({*refusals, 400, 500})
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        **more,
        "responses": answers
        | {str(status): {"$ref": f"#/components/responses/{_problem_name(status)}"} for status in problems},
    }


def _json(schema: str, example: Any, description: str, *, headers: Json | None = None) -> Json:
    content = {"application/json": {"schema": {"$ref": _REF + schema}, "example": example}}
    answer: Json = {"description": description, "content": content}
    return answer | ({"headers": headers} if headers else {})


def _body(schema: str, examples: Json, **more: Json) -> Json:
    content: Json = {"application/json": {"schema": {"$ref": _REF + schema}, "examples": examples}, **more}
    return {"required": True, "content": content}


def _query(kind: type[msgspec.Struct], texts: dict[str, str], *needed: str) -> list[Json]:
    """The parameters of a query struct, and which of them must be given."""
    schemas, _ = msgspec.json.schema_components([kind], ref_template=_REF + "{name}")
    properties = msgspec.json.schema(kind)["$defs"][kind.__name__]["properties"] if "$ref" in schemas[0] else {}
    return [
        {"name": name, "in": "query", "required": name in needed, "description": texts[name], "schema": _given(schema)}
        for name, schema in properties.items()
    ]


def _given(schema: Json) -> Json:
    """The schema of a parameter that is given: what is left out stands for null."""
    schema = {key: value for key, value in schema.items() if key != "default" or value is not None}
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return schema | (kinds[0] if kinds else {})


_HINTS: Final[tuple[tuple[str, str, Json], ...]] = (
    ("SystemSpec", "window_seconds", {"multipleOf": SLOT_MS // 1_000}),
    ("SystemPatch", "window_seconds", {"multipleOf": SLOT_MS // 1_000}),
    ("Level", "warn", {"exclusiveMinimum": 0}),
    ("Level", "crit", {"exclusiveMinimum": 0}),
    ("Thresholds", "min_events", {"minimum": 0, "maximum": 1_000_000}),
    ("Event", "ts", {"format": "date-time"}),
    ("System", "created_at", {"format": "date-time"}),
    ("SeenEvent", "at", {"format": "date-time"}),
    ("SeenEvent", "ts", {"format": "date-time"}),
    *(
        (schema, name, {"format": "date-time"})
        for schema in ("HistogramAnswer", "HeatMapAnswer", "Attainment")
        for name in ("from", "to", "as_of")
    ),
)
"""What is checked in other ways than by the types."""


_TEXTS: Final = (
    ("Event", "event_type", "What happened; start, heartbeat, end and log are kept and shown, but not counted"),
    ("Event", "latency_ms", "Milliseconds; may be absent only where `event_type` is start, heartbeat, end or log"),
    ("Event", "ts", "When it happened; the arrival where absent"),
    ("Event", "system_id", "Must be the path's where given"),
    ("Event", "payload", "Anything else: at most 16 KiB of JSON, nested at most 32 deep"),
    ("SeenEvent", "entry", "Id of the batch it came in"),
    ("SeenEvent", "index", "Its place in the batch, without the events that were set aside"),
    ("SeenEvent", "at", "Arrival"),
    ("Health", "window_start", "Start of the oldest slot (5 s) that is still in"),
    ("Health", "as_of", "The figures are as of this time"),
    ("Health", "since", "How long `health` has been what it is"),
    ("Health", "error_rate", "0 to 1; null where nothing is counted"),
    ("Health", "rps", "total / window_seconds"),
    ("Health", "p95_latency", "Milliseconds; null where nothing is counted"),
    ("Metrics", "late", "Events in the window's time of arrival that happened before the window: counted here alone"),
    ("Metrics", "clock_skewed", "Events whose `ts` ran up to 60 s ahead of their arrival"),
    (
        "FleetLine",
        "observer_behind",
        "`health` is UNKNOWN because LSO itself is behind; the figures are as last computed",
    ),
    ("FleetChange", "behind_s", "Seconds that the slowest partition's folding is behind"),
    ("FleetChange", "counts", "Systems by state, over the whole fleet"),
    ("FleetChange", "gone", "Systems that do not pass the filter any more, or were deleted"),
    ("Point", "time", "Where it begins"),
    ("Point", "revised", "Events that arrived late and are counted here; left out where there are none"),
    ("OneSeries", "as_of", "Everything accepted up to this time is in; null before anything was folded"),
    ("OneSeries", "stage", "With `by=stage`: the stage, null for events without one"),
    ("HistogramAnswer", "stage", "The stage that was asked for; null for all events"),
    ("HeatMapAnswer", "stage", "The stage that was asked for; null for all events"),
    ("HeatMapAnswer", "cells", "[number in `times`, number in `buckets`, count] of every cell that is not empty"),
    ("Attainment", "attained", "Per cent of the events that were good; null where there were none"),
    (
        "Attainment",
        "burn_rate",
        "By window: 1 uses the budget up exactly in the objective's window, 10 in a tenth of it",
    ),
    ("Spending", "allowed", "How many events may be bad"),
    ("Spending", "left", "1 where nothing is spent, 0 where all is, below 0 where more is"),
    (
        "RunPage",
        "counts",
        "Open runs of the system by state; ever closed as LOST, or skipped, because there were too many",
    ),
    (
        "System",
        "max_runtime_seconds",
        "A run that has not ended by then is TIMED_OUT, and the system DEGRADED until it does",
    ),
    ("System", "heartbeat_timeout_seconds", "A run without any event for so long is LOST"),
    ("ShownRun", "state", "RUNNING, SUCCESS, FAILED, TIMED_OUT or LOST"),
    ("ShownRun", "attempts", "How often it was started; start, end and duration are those of the latest"),
    ("ShownRun", "duration_ms", "Up to its end, or up to now; of a lost one up to its last sign of life"),
    ("ShownRun", "error_summary", "Message of the first error that has one"),
    ("ShownRun", "rows", "Sum of `rows` over the payloads of its events, as for `rows_in`, `rows_out` and `bytes`"),
    ("ShownRun", "stages", "In the order in which they began, over all attempts"),
    ("ShownStage", "duration_ms", "Latencies of its outcomes together; null where none tells one"),
    ("Rank", "runs", "How many others have ended"),
    ("Thresholds", "error_rate", "Share of errors, 0 to 1"),
    ("Thresholds", "p95_latency", "Milliseconds"),
    ("Thresholds", "min_events", "Below this many counted events a system is at most DEGRADED"),
)


def _schemas() -> Json:
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF + "{name}")
    for schema, name, hints in _HINTS:
        member = components[schema]["properties"][name]
        for one in [member, *member.get("anyOf", [])]:
            if one.get("type") != "null" and "anyOf" not in one:
                one.update(hints)
    for schema, name, text in _TEXTS:
        components[schema]["properties"][name]["description"] = text
    components["Point"]["additionalProperties"] = {"type": ["number", "null"]}
    for one in components.values():
        one["description"] = " ".join(one["description"].split("\n\n")[0].split())
    return dict(components)


def _problem_name(status: int) -> str:
    return _ROWS[status].slug


def _problem(status: int) -> Json:
    """The documented answer for one status."""
    row = _ROWS[status]
    example: Json = {
        "type": f"urn:lso:problem:{row.slug}",
        "title": row.title,
        "status": status,
        "detail": _DETAILS.get(status, _SENTENCES[status]),
    }
    if status == 422:
        example["errors"] = [{"index": 1, "field": "status", "message": 'status must be "ok" or "error"'}]
    if status == 409:
        example["system_id"] = 3
    content = {errors.MEDIA_TYPE: {"schema": {"$ref": _REF + "Problem"}, "example": example}}
    answer: Json = {"description": _SENTENCES[status], "content": content}
    if status in _HEADERS_OF:
        name, text = _HEADERS_OF[status]
        answer["headers"] = {name: {"description": text, "schema": {"type": "string"}}}
    return answer


_CURSOR_TEXT: Final = "`next` of the page before"
_LIMIT_TEXT: Final = "Most items on the page"

_LIST_SYSTEMS: Final = _operation(
    "listSystems",
    "systems",
    "Systems, newest first",
    {"200": _json("SystemPage", {"items": [_SYSTEM], "next": None}, "A page")},
    (401, 422, 503),
    parameters=_query(
        SystemsQuery,
        {"name": "Only the system of exactly this name", "cursor": _CURSOR_TEXT, "limit": _LIMIT_TEXT},
    ),
)
_CREATE_SYSTEM: Final = _operation(
    "createSystem",
    "systems",
    "Register a system",
    {
        "201": _json(
            "System",
            _SYSTEM,
            "Registered",
            headers={"Location": {"description": "Where the system is", "schema": {"type": "string"}}},
        )
    },
    (401, 403, 408, 409, 413, 415, 422, 503),
    description="Names are unique, ids are never used again. `window_seconds` is 60 to 3600, a multiple of 5. "
    "Thresholds: `warn` below `crit`, both above 0. Limits of runs are 1 to 2592000 s, or null for none.",
    requestBody=_body(
        "SystemSpec",
        {
            "least": {"value": {"name": "weather-etl"}},
            "with thresholds": {
                "value": {
                    "name": "weather-etl-2",
                    "tags": ["etl"],
                    "thresholds": {
                        "error_rate": {"warn": 0.01, "crit": 0.1},
                        "p95_latency": {"warn": 500, "crit": 2000},
                    },
                }
            },
        },
    ),
)
_GET_SYSTEM: Final = _operation(
    "getSystem", "systems", "One system", {"200": _json("System", _SYSTEM, "The system")}, (401, 404, 503)
)
_PATCH_SYSTEM: Final = _operation(
    "changeSystem",
    "systems",
    "Change a system",
    {"200": _json("System", _SYSTEM, "The system after the change")},
    (401, 403, 404, 408, 409, 413, 415, 422, 503),
    description="What is absent stays; `thresholds` is replaced as a whole.",
    requestBody=_body("SystemPatch", {"window": {"value": {"window_seconds": 600}}}),
)
_DELETE_SYSTEM: Final = _operation(
    "deleteSystem",
    "systems",
    "Remove a system and everything kept of it",
    {"204": {"description": "Removed"}},
    (401, 403, 404, 503),
)
_OTHER_BODIES: Final[Json] = {
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "One event a line"},
        "example": msgspec.json.encode(_EVENT).decode() + "\n",
    },
    ARROW: {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "An Arrow IPC stream with uncompressed buffers, whose columns are the fields of an event: `ts` as "
            "timestamps with a time zone or as strings, `payload` as strings of JSON. Needs the extra `arrow` on the server",
        }
    },
}
_POST_EVENTS: Final = _operation(
    "sendEvents",
    "events",
    "Send a batch of events",
    {"202": _json("Accepted", _ACCEPTED, "Stored. Counted once, whatever happens from here on")},
    (401, 403, 404, 408, 413, 415, 422, 429, 503),
    description="All or nothing, unless `on_invalid=skip`. A `ts` may run at most 60 s ahead of the server's clock. "
    "`latency_ms` may be absent only where `event_type` is start, heartbeat, end or log. A retry with the same "
    "Idempotency-Key and body is answered as the first was and counted once.",
    parameters=[
        *_query(
            EventsQuery,
            {"on_invalid": "`reject` a batch with bad events, or `skip` them: they are listed in the answer"},
        ),
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Names this batch for 24 h (LSO_IDEMPOTENCY_SECONDS), within its system",
            "schema": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES},
        },
    ],
    requestBody=_body(
        "Batch",
        {"one": {"value": {"events": [_EVENT]}}},
        **_OTHER_BODIES,
    ),
)
_LIST_EVENTS: Final = _operation(
    "listEvents",
    "events",
    "Events, newest arrival first",
    {"200": _json("EventPage", {"items": [_SEEN], "next": "1765722790601-0.0"}, "A page")},
    (401, 404, 422, 503),
    description="Folded events stay hot for LSO_HOT_SECONDS, or until the tier is full. With `from` or `to` the pages go on into "
    "the archive, as far back as that reaches; without, they end with the hot tier. Within an entry (a batch) the last event "
    "comes first. A page reads at most about 8 MiB, or 2 s of the archive, then gives `next`, found or not.",
    parameters=_query(
        HotQuery,
        {
            "stage": "Only this stage",
            "event_type": "Only this event type",
            "status": "Only this status",
            "run_id": "Only this run",
            "from": "Earliest event time (`ts`, or the arrival where there is none), RFC 3339, included",
            "to": "Latest event time, RFC 3339, not included",
            "cursor": _CURSOR_TEXT,
            "limit": _LIMIT_TEXT,
        },
    ),
)
_LETTERS_QUERY: Final = {"system_id": "The system; must be given", "cursor": _CURSOR_TEXT, "limit": _LIMIT_TEXT}
_LIST_LETTERS: Final = _operation(
    "listDeadLetters",
    "events",
    "What could not be counted, newest first",
    {"200": _json("LetterPage", {"items": [_LETTER], "next": None}, "A page")},
    (401, 404, 422, 503),
    description="Events that on_invalid=skip set aside, and entries that no worker could read. A system keeps its latest 1,000.",
    parameters=_query(LettersQuery, _LETTERS_QUERY),
)
_PURGE_LETTERS: Final = _operation(
    "purgeDeadLetters",
    "events",
    "Throw all dead letters of a system away",
    {"200": _json("Purged", {"purged": 1}, "How many there were")},
    (401, 403, 404, 422, 503),
    parameters=_query(PurgeQuery, _LETTERS_QUERY),
)
_GET_LETTER: Final = _operation(
    "getDeadLetter",
    "events",
    "One dead letter with its bytes and the reason",
    {
        "200": _json(
            "WholeLetter",
            _LETTER | {"text": _LETTER_TEXT, "event": "eyJldmVudF90eXBlIjog…", "columns": "", "body": ""},
            "The letter; bytes in base64",
        )
    },
    (401, 404, 422, 503),
)
_DELETE_LETTER: Final = _operation(
    "deleteDeadLetter",
    "events",
    "Throw one dead letter away",
    {"204": {"description": "Gone"}},
    (401, 403, 404, 422, 503),
)
_REQUEUE_LETTER: Final = _operation(
    "requeueDeadLetter",
    "events",
    "Send a dead letter again, after a fix",
    {
        "202": _json(
            "Requeued", {"accepted": 1, "entries": _ACCEPTED["entries"]}, "Taken, and gone from the dead letters"
        )
    },
    (401, 403, 404, 422, 429, 503),
    description="An event is validated again and refused with 422 where it is still bad; it stays here then. An entry is cut anew "
    "from the events it came with, or appended as it is for a worker that can read it. It arrives now: an event whose `ts` lies "
    "before the window counts as late. However often it is tried, it is taken once.",
)
_ASK_REBUILD: Final = _operation(
    "rebuildSystem",
    "systems",
    "Compute a system's window again",
    {"202": _json("Rebuild", _REBUILD | {"progress": "pending", "replaced": 0, "kept": 0}, "Asked of the workers")},
    (401, 403, 404, 503),
    description="From the entries that are still there, under the lease of the worker that folds the system. A slot is replaced "
    "where all of its entries are, else it stays. Mends a state that cannot be read. Asking again while it waits changes nothing.",
)
_GET_REBUILD: Final = _operation(
    "getRebuild",
    "systems",
    "How far the latest rebuild is",
    {"200": _json("Rebuild", _REBUILD, "Kept for an hour")},
    (401, 403, 404, 503),
)
_GET_ARCHIVE: Final = _operation(
    "getArchive",
    "service",
    "How the archive does",
    {"200": _json("ArchiveStatus", _ARCHIVE, "As the workers last said")},
    (401, 503),
)
_RUN_ARCHIVE: Final = _operation(
    "runArchive",
    "service",
    "Have the archive's jobs run now",
    {
        "202": _json(
            "ArchiveRun", {"run": _ARCHIVE["wanted"]}, "Asked of the workers; `GET /archive` says when it is `done`"
        )
    },
    (401, 403, 503),
    description="Everything past the hot tier's time is written, however little it is, and the archive is tidied: small files are "
    "merged, what is too old goes, and the files of deleted systems do.",
)
_GET_SYSTEM_ARCHIVE: Final = _operation(
    "getSystemArchive",
    "systems",
    "What of a system is archived",
    {"200": _json("SystemArchive", _SYSTEM_ARCHIVE, "Entries up to this one, and rollup rows up to this number")},
    (401, 404, 503),
)
_UNHEALTHY_OR_NOT_ABLE: Final = {
    "description": "With `strict`: the system is UNHEALTHY, and the answer is as for 200. Else: " + _SENTENCES[503],
    "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "string"}}},
    "content": {
        "application/json": {"schema": {"$ref": _REF + "Health"}, "example": _HEALTH},
        errors.MEDIA_TYPE: {"schema": {"$ref": _REF + "Problem"}},
    },
}
_GET_HEALTH: Final = _operation(
    "getHealth",
    "health",
    "How well a system is",
    {"200": _json("Health", _HEALTH, "The snapshot"), "503": _UNHEALTHY_OR_NOT_ABLE},
    (401, 404, 422),
    parameters=_query(HealthQuery, {"strict": "Answer 503 where the system is UNHEALTHY"}),
)
_GET_METRICS: Final = _operation(
    "getSystemMetrics",
    "health",
    "The window in full",
    {"200": _json("Metrics", _METRICS, "The snapshot with percentiles, stages and event types")},
    (401, 404, 503),
)
_FROM_TEXT: Final = "First minute, RFC 3339; an hour before `to` where absent. More than 30 days back: a whole hour"
_TO_TEXT: Final = "Behind the last minute, RFC 3339; the end of the present one where absent"
_STEP_TEXT: Final = (
    "Length of a point: seconds, or as in 5m, 6h, 1d; whole minutes, or whole hours where `from` must be"
)
_SERIES_TEXTS: Final = {
    "metric": "Of total, errors, error_rate, rps, min, mean, max, p1 to p100, p999, p9999, p99.5 and the like; commas between; "
    f"at most {MOST_METRICS}",
    "from": _FROM_TEXT,
    "to": _TO_TEXT,
    "step": _STEP_TEXT + ". Where absent, it is chosen to make up to 500 points",
    "by": "A series for each stage",
}
_SERIES_LIMITS: Final = (
    f"At most {MOST_POINTS} points a series, {MOST_POINTS_IN_ALL} in all and {MOST_ROWS} rollup rows in one request. "
)
_GET_SERIES: Final = _operation(
    "getSeries",
    "history",
    "Figures of one system by time",
    {"200": _json("Series", _SERIES, "The series; `from`, `to` and `step` as they were taken")},
    (401, 404, 422, 503),
    description="Exact at every step and range: percentiles are ranks in merged histograms, never averages. A point without events "
    "is null, never 0. Events that arrive late are counted in the minute in which they happened. " + _SERIES_LIMITS,
    parameters=_query(SeriesQuery, _SERIES_TEXTS),
)
_GET_MANY_SERIES: Final = _operation(
    "getManySeries",
    "history",
    "Figures of several systems by time",
    {"200": _json("Series", _SERIES, "The series of all systems over the same points")},
    (401, 404, 422, 503),
    description=f"As of one system, for up to {MOST_SYSTEMS} of them. " + _SERIES_LIMITS,
    parameters=_query(
        ManySeriesQuery, {"systems": f"Ids with commas between, at most {MOST_SYSTEMS}", **_SERIES_TEXTS}, "systems"
    ),
)
_GET_HISTOGRAM: Final = _operation(
    "getHistogram",
    "history",
    "The distribution of one system's latencies",
    {
        "200": {
            "description": "The buckets, the heat map, or with `Accept: application/vnd.hdrhistogram` the standard encoding of "
            "HdrHistogram (V2, compressed, base64), in whole microseconds",
            "headers": {"Vary": {"description": "Accept", "schema": {"type": "string"}}},
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"$ref": _REF + "HistogramAnswer"}, {"$ref": _REF + "HeatMapAnswer"}]},
                    "examples": {"buckets": {"value": _HISTOGRAM}, "heatmap": {"value": _HEAT_MAP}},
                },
                HDR: {"schema": {"type": "string", "contentEncoding": "base64"}},
            },
        }
    },
    (401, 404, 422, 503),
    parameters=_query(
        HistogramQuery,
        {
            "from": _FROM_TEXT,
            "to": _TO_TEXT,
            "stage": "Only this stage; empty for events without one",
            "form": "`buckets`, or a `heatmap` by time",
            "step": "Of a heat map: " + _STEP_TEXT,
            "parts": "Of a heat map: into how many buckets each doubling of the latency is cut",
        },
    ),
)
_GET_SLO: Final = _operation(
    "getSlo",
    "history",
    "How far an objective is met, and how fast the rest of its budget goes",
    {"200": _json("Attainment", _ATTAINMENT, "Over the window that ends with the present minute")},
    (401, 404, 422, 503),
    description="Good is an event that is no error and, where `latency_ms` is given, took no longer (to 0.1 %).",
    parameters=_query(
        SloQuery,
        {
            "objective": "Per cent of the events that must be good",
            "latency_ms": "How long a good event may take",
            "window": "As in 6h or 30d; whole minutes, or whole hours past 30 days",
        },
        "objective",
    ),
)
_LIST_RUNS: Final = _operation(
    "listRuns",
    "runs",
    "Runs of a system, newest start first",
    {"200": _json("RunPage", _RUN_PAGE, "A page, and how many runs are open")},
    (401, 404, 422, 503),
    description="A run exists once a `start` or an `end`, or a `success` or `failure` without a stage, carries its `run_id`. "
    "All that are open are kept, and the latest LSO_RUNS_KEPT of those that ended. The list is as of the last fold.",
    parameters=_query(
        RunsQuery,
        {
            "state": "Only runs in this state",
            "from": "Earliest start, RFC 3339, included",
            "to": "Latest start, RFC 3339, not included",
            "cursor": _CURSOR_TEXT,
            "limit": _LIMIT_TEXT,
        },
    ),
)
_RUN_TEXTS: Final = {"cursor": "`timeline.next` of the answer before", "limit": "Most events of the timeline"}
_RUN_TEXT: Final = (
    "Stages are summed over all attempts. `timeline` has the run's events as far as the hot tier still has them, newest "
    "arrival first. `rank` compares its duration, of a running one that up to now, with all runs that ever ended."
)
_GET_LATEST_RUN: Final = _operation(
    "getLatestRun",
    "runs",
    "The run that started last",
    {"200": _json("RunDetails", _RUN_DETAILS, "The run")},
    (401, 404, 422, 503),
    description=_RUN_TEXT,
    parameters=_query(RunQuery, _RUN_TEXTS),
)
_GET_RUN: Final = _operation(
    "getRun",
    "runs",
    "One run",
    {"200": _json("RunDetails", _RUN_DETAILS, "The run")},
    (401, 404, 422, 503),
    description=_RUN_TEXT,
    parameters=_query(RunQuery, _RUN_TEXTS),
)
_GET_FLEET: Final = _operation(
    "getFleet",
    "health",
    "All systems, worst first",
    {"200": _json("FleetPage", _FLEET, "A page, and counts over the whole fleet")},
    (401, 422, 503),
    parameters=_query(FleetQuery, {"cursor": _CURSOR_TEXT, "limit": _LIMIT_TEXT}),
)
_GET_STREAM: Final = _operation(
    "streamFleet",
    "health",
    "The fleet as it changes",
    {
        "200": {
            "description": "Server-sent events, until either side ends the connection",
            "content": {
                EVENT_STREAM: {
                    "schema": {"type": "string"},
                    "example": f"id: 1765722790529\nevent: change\ndata: {msgspec.json.encode(_CHANGE).decode()}\n\n",
                }
            },
        }
    },
    (401, 422, 503),
    description="First `snapshot`, the systems that pass the filter, worst first; then at most once a second `change`, what is "
    "new about them. Both carry a `FleetChange`: put `items` in place of what you know of them and forget those in `gone`; a "
    "snapshot of more than 500 systems is completed by changes at once. `counts` and `worst` are the whole fleet's, `behind_s` "
    "is how far folding is behind. `heartbeat` (`as_of`, `behind_s`) comes after five seconds without news, `unavailable` (a "
    "Problem) while the store does not answer. A client that comes back with the header Last-Event-ID gets only what is new "
    "where the process still knows it, else a snapshot. One that does not read is cut off.",
    parameters=[
        *_query(
            StreamQuery,
            {
                "systems": f"Only these systems: up to {SYSTEMS} ids between commas",
                "state": "Only systems in these states, between commas; one that leaves them is in `gone`",
                "tag": "Only systems with this tag",
            },
        ),
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "`id` of the last event that was read; browsers send it by themselves",
            "schema": {"type": "string"},
        },
    ],
)
_GET_AUTOSCALE: Final = _operation(
    "getAutoscale",
    "service",
    "The backlog, and how many workers there should be",
    {"200": _json("Autoscale", _AUTOSCALE, "Numbers for an autoscaler")},
    (401, 503),
)
_GET_OWN_METRICS: Final = _operation(
    "getOwnMetrics",
    "service",
    "LSO's own metrics",
    {
        "200": {
            "description": "Prometheus text: summed over all processes, and gauges of up to LSO_METRICS_SYSTEMS systems",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "lso_events_accepted_total 1200\n"}},
        }
    },
    (401, 503),
)
_GET_HEALTHZ: Final = _operation(
    "getHealthz",
    "service",
    "This process answers",
    {"200": _json("Status", {"status": "ok"}, "Alive")},
    (),
    security=[],
)
_GET_READYZ: Final = _operation(
    "getReadyz",
    "service",
    "LSO can take events and fold them",
    {"200": _json("Status", {"status": "ready"}, "Ready")},
    (503,),
    security=[],
)
