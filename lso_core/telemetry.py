"""What LSO says of itself: log lines, and the catalogue of its own metrics.

Every process counts for itself in a `Telemetry` and publishes the figures once a second; whoever is asked for /metrics
sums them over all processes. So a counter is named here once, with the sentence that explains it.
"""

import asyncio
import contextvars
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from lso_core.model.errors import StoreError
from lso_core.settings import Settings

PUBLISH_S: Final = 1.0

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The id of the request that is being served; a field of every line that is logged meanwhile."""

_FAST: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

GAUGES: Final = {
    "lso_backlog_entries": "Accepted entries that are not folded yet.",
    "lso_backlog_events": "Accepted events that are not folded yet.",
    "lso_backlog_oldest_age_seconds": "Age of the oldest entry that is not folded yet; 0 where there is none.",
    "lso_watermark_delay_seconds": "How far the slowest partition is behind; health reads UNKNOWN past LSO_STALE_AFTER.",
    "lso_snapshot_age_seconds": "Age of the oldest snapshot among the systems listed here.",
    "lso_workers": "Workers whose heartbeat is fresh.",
    "lso_desired_workers": "Workers that would keep up and work the backlog off in 30 s.",
    "lso_redis_circuits_open": "Redis servers that do not answer the API process that is asked.",
    "lso_archive_bytes": "Size of the archive's files, by what they hold.",
    "lso_archive_files": "Number of the archive's files, by what they hold.",
    "lso_archive_failing": "1 while the archive cannot be written, else 0.",
    "lso_archive_worked_seconds": "Time since the archive's job last went through; absent before the first time.",
    "lso_redis_used_memory_bytes": "Memory that Redis uses.",
    "lso_redis_max_memory_bytes": "Memory that Redis may use; 0 means no limit.",
    "lso_systems": "Registered systems by health.",
    "lso_system_health": "Health of one system: 0 UNHEALTHY, 1 DEGRADED, 2 UNKNOWN, 3 OK.",
    "lso_system_events": "Counted events in the system's window.",
    "lso_system_errors": "Counted events with status error in the system's window.",
    "lso_system_error_ratio": "Share of errors in the system's window, 0 to 1; absent where nothing is counted.",
    "lso_system_events_per_second": "Counted events over the length of the system's window.",
    "lso_system_p95_latency_seconds": "95th percentile of latency in the system's window; absent where nothing is counted.",
    "lso_system_snapshot_age_seconds": "Time since the state that the system's answer shows.",
    "lso_system_dead_letters": "Bad events and unreadable entries of the system that somebody should look at.",
}


class Tally:
    """A counter of what happens in every request: Prometheus' own takes a lock and three calls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.value += amount


class Telemetry:
    """The counters of one process."""

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        self._registry = registry
        self._mirrors: list[tuple[Counter, Callable[[], float], list[float]]] = []

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def tally(name: str, text: str) -> Tally:
            return self.tally(counter(name, text))

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=_FAST)

        self.requests = counter("lso_http_requests", "Requests answered.", "route", "method", "status")
        self.request_seconds = histogram("lso_http_request_seconds", "Time from request to answer.", "route")
        self.body_bytes = tally("lso_ingest_bytes", "Bytes of accepted batches, inflated.")
        self.accepted_batches = tally("lso_batches_accepted", "Batches stored, each as one entry.")
        self.accepted = tally("lso_events_accepted", "Events stored; duplicates are not counted again.")
        self.duplicates = counter("lso_batches_duplicate", "Batches that came again under their Idempotency-Key.")
        self.refused = counter("lso_batches_refused", "Batches that were not stored, by reason.", "reason")
        self.rejected = counter("lso_events_rejected", "Bad events set aside by on_invalid=skip.")
        self.streams = counter("lso_streams_opened", "Streams of changes that were opened.")
        self.streams_cut = counter("lso_streams_cut_off", "Streams ended because their client did not keep up.")
        self.redis_round_trips = counter("lso_redis_round_trips", "Round trips to Redis.")
        self.circuit_opens = counter("lso_redis_circuit_opens", "How often an API process found Redis not answering.")
        self.circuit_refused = counter("lso_redis_circuit_refused", "Round trips refused at once, for that reason.")
        self.fold_seconds = histogram("lso_fold_seconds", "Time of one step of a worker: read, fold, commit.")
        self.folded = counter("lso_events_folded", "Events folded into windows.")
        self.folded_entries = counter("lso_entries_folded", "Entries folded into windows.")
        self.fenced = counter("lso_commits_fenced", "Commits refused because the lease or the state had moved on.")
        self.dead_letters = counter("lso_entries_dead", "Entries that could not be read, moved to the dead letters.")
        self.archived = counter("lso_archive_events", "Events written to the archive.")
        self.archived_rows = counter("lso_archive_rows", "Rollup rows of minutes written to the archive.")
        self.archived_bytes = counter("lso_archive_written_bytes", "Bytes of files written to the archive.")
        self.archive_failures = counter(
            "lso_archive_failures", "Turns of the archive's job that failed, by reason; they are tried again.", "reason"
        )
        self.archive_lost = counter(
            "lso_archive_lost_events", "Events that left the hot tier before they were archived (best-effort)."
        )
        self.worker_turns = counter("lso_worker_turns", "Turns of the fold loops: flat while no worker folds.")

    def mirror(self, counter: Counter, read: Callable[[], float]) -> None:
        """Let `counter` follow a number that something else counts."""
        self._mirrors.append((counter, read, [0.0]))

    def tally(self, counter: Counter) -> Tally:
        """What to count with for `counter`."""
        tally = Tally()
        self.mirror(counter, lambda: tally.value)
        return tally

    def samples(self) -> dict[str, float]:
        """Every counter of this process, absolute since its start, by its name in the exposition format."""
        for counter, read, last in self._mirrors:
            now = read()
            counter.inc(max(0.0, now - last[0]))
            last[0] = now
        return {
            _series(sample.name, sample.labels): sample.value
            for family in self._registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def families(self) -> "list[Family]":
        """The catalogue of counters and histograms."""
        return [
            Family(one.name + ("_total" if one.type == "counter" else ""), one.type, one.documentation)
            for one in self._registry.collect()
        ]


class Family(msgspec.Struct, frozen=True):
    """One metric of the catalogue."""

    name: str
    kind: str
    text: str


class Publisher(Protocol):
    """Where a process publishes its counters: `store.TelemetryStore`."""

    async def publish(self, process: str, role: str, samples: dict[str, float]) -> None: ...


async def publish_forever(publisher: Publisher, telemetry: Telemetry, *, process: str, role: str) -> None:
    """Publish once a second until cancelled. While Redis is away the figures stay here and go with a later turn."""
    log = structlog.get_logger(__name__)
    away = False
    while True:
        try:
            await publisher.publish(process, role, telemetry.samples())
            away = False
        except StoreError as error:
            if not away:
                log.warning("telemetry.not-published", error=str(error))
            away = True
        await asyncio.sleep(PUBLISH_S)


def series(name: str, /, **labels: str) -> str:
    """The name of one series in the exposition format."""
    return _series(name, labels)


def render(families: Iterable[Family], samples: Mapping[str, float]) -> str:
    """The exposition text: HELP and TYPE of each family, then its series. Series of no family are left out."""
    by_name: dict[str, list[str]] = {}
    for key in samples:
        by_name.setdefault(key.split("{", 1)[0], []).append(key)
    lines: list[str] = []
    for family in families:
        lines += (f"# HELP {family.name} {family.text}", f"# TYPE {family.name} {family.kind}")
        for name in _sample_names(family):
            lines += (f"{key} {_number(samples[key])}" for key in sorted(by_name.get(name, ()), key=_order))
    return "\n".join(lines) + "\n"


def gauge_families() -> list[Family]:
    """The catalogue of gauges."""
    return [Family(name, "gauge", text) for name, text in GAUGES.items()]


def _sample_names(family: Family) -> tuple[str, ...]:
    if family.kind == "histogram":
        return (f"{family.name}_bucket", f"{family.name}_sum", f"{family.name}_count")
    return (family.name,)


_LE: Final = re.compile(r'le="([^"]*)"')
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _order(key: str) -> tuple[str, float]:
    """Buckets of one series stand together, in the order of their bounds."""
    bound = _LE.search(key)
    return (_LE.sub("", key), float(bound[1])) if bound else (key, 0.0)


def _series(name: str, labels: Mapping[str, str]) -> str:
    if not labels:
        return name
    pairs = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels.items())
    return f"{name}{{{pairs}}}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1 << 53 else repr(value)


def configure_logging(settings: Settings) -> None:
    """Send every log line of this process, also those of libraries, to stderr: JSON, or for people on a terminal."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        _drop_colours,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if console:
        final.append(structlog.dev.ConsoleRenderer())
    else:
        final += (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json))
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _add_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := REQUEST_ID.get():
        event["request_id"] = request_id
    return event


def _drop_colours(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """uvicorn says its lines twice, the second time coloured."""
    event.pop("color_message", None)
    return event


def _to_json(event: Any, **_options: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
