"""One frozen struct of everything that can be set, read from LSO_* variables at an entry point and passed on.

`Settings.from_env` is the only place that looks at the environment. Every field that a user may set is named
LSO_<FIELD>; `field_docs()` feeds `--help`, `.env.example` and the table in docs/operations.md, so that they cannot disagree.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_type_hints

import msgspec

from lso_core.model.errors import ConfigurationError

PREFIX = "LSO_"
MIB = 1024 * 1024
ROLES = ("read", "write", "admin")
"""What an API key may be for; each reaches as far as those before it."""


class Doc(msgspec.Struct, frozen=True):
    """What a user reads about one setting."""

    text: str
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False
    """Kept out of logs."""
    option: bool = True
    """Whether a command line takes it; what stands there can be read by every user of the machine."""


class FieldDoc(msgspec.Struct, frozen=True):
    """One row of the configuration table."""

    name: str
    default: Any
    doc: Doc

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """The command-line option."""
        return "--" + self.name.replace("_", "-")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one process. Sizes are bytes and times seconds unless the name says otherwise."""

    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: str = "data"
    redis_url: str = ""
    queue_url: str = ""
    api_processes: int = 0
    workers: int = 0
    insecure: bool = False
    api_keys: str = ""
    rate_events: int = 0

    window_seconds: int = 300
    stale_after: int = 15
    hot_seconds: int = 3600
    hot_bytes: int = 1024 * MIB
    runs_kept: int = 1_000
    runs_seconds: int = 30 * 86_400
    idempotency_seconds: int = 86_400
    idempotency_keys: int = 1_000_000

    archive: Literal["best-effort", "required", "off"] = "best-effort"
    archive_url: str = ""
    archive_memory: int = 512 * MIB
    archive_timeout: int = 10
    archive_cache_bytes: int = 1024 * MIB
    keep_events_days: int = 30
    keep_minutes_days: int = 30
    keep_hours_days: int = 400
    keep_days_days: int = 3_650

    max_body_bytes: int = 16 * MIB
    max_batch_events: int = 10_000
    max_connections: int = 5_000
    client_timeout: int = 15
    backlog_events: int = 5_000_000
    backlog_bytes: int = 0

    redis_maxmemory: int = 0
    redis_appendfsync: Literal["everysec", "always"] = "everysec"
    metrics_systems: int = 1_000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **given: object) -> "Settings":
        """Build from LSO_* variables; `given` (command-line options) wins where it is not None. Blank means not set.

        Raises ConfigurationError that names the variable or option, its value and what it must be.
        """
        known = {field.variable: field for field in field_docs()}
        values: dict[str, Any] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
                continue
            if variable not in known:
                raise ConfigurationError(f"{variable} is not a setting of LSO; see `lso up --help` for those there are")
            if text.strip():
                values[known[variable].name] = _read(known[variable], variable, text)
        for field in known.values():
            if given.get(field.name) is not None:
                values[field.name] = _read(field, field.option, given[field.name])
        settings = cls(**values)
        key_pairs(settings.api_keys)
        return settings

    def environ(self) -> dict[str, str]:
        """The variables from which `from_env` builds this again: how a supervisor tells its children."""
        values = {field.variable: getattr(self, field.name) for field in field_docs()}
        return {name: str(int(value) if isinstance(value, bool) else value) for name, value in values.items()}


# Read by the SDK, the command line or the supervisor's children, not part of a server's settings.
OTHER_VARIABLES = frozenset(
    {"LSO_URL", "LSO_SYSTEM", "LSO_API_KEY", "LSO_SPOOL_DIR", "LSO_VENV", "LSO_PYTHON", "LSO_WORKER_ID"}
)

_DOCS: dict[str, Doc] = {
    "host": Doc("address to listen on; any but loopback needs LSO_API_KEYS or --insecure"),
    "port": Doc("TCP port to listen on; 0 picks a free one and prints it", 0, 65_535),
    "data_dir": Doc("directory of the embedded server's files; made when absent"),
    "redis_url": Doc(
        "an outside Redis or Valkey instead of the embedded server: redis, rediss, unix, redis+cluster or redis+sentinel://",
        secret=True,
    ),
    "queue_url": Doc("a plain Redis for arq's queue; needed only where LSO_REDIS_URL is a cluster", secret=True),
    "api_processes": Doc("API processes; 0 means one a core", 0, 256),
    "workers": Doc("worker processes; 0 means one below 4 cores, else two", 0, 256),
    "insecure": Doc("allow a bind beyond loopback without API keys"),
    "api_keys": Doc(
        "comma-separated role:key pairs, role being read, write or admin; a key may be given as sha256:HEX",
        secret=True,
        option=False,
    ),
    "rate_events": Doc("events a second that one system may send; 0 means no limit", 0, 1_000_000_000),
    "window_seconds": Doc("length of a new system's rolling window", 60, 3_600),
    "stale_after": Doc("seconds of folding delay after which health reads UNKNOWN", 2, 3_600),
    "hot_seconds": Doc("how long folded events stay readable", 0, 7 * 86_400),
    "hot_bytes": Doc("bytes of folded events kept at most (never above 40 % of Redis' maxmemory)", 0, 1 << 50),
    "runs_kept": Doc("most ended runs of one system that are kept", 1, 10_000),
    "runs_seconds": Doc("how long ended runs are kept, from their start", 60, 400 * 86_400),
    "idempotency_seconds": Doc("how long an Idempotency-Key is remembered, at least", 60, 7 * 86_400),
    "idempotency_keys": Doc("most keys of one system remembered for each sixth of that time", 1, 1_000_000_000),
    "archive": Doc(
        "what to do with events that are past the hot tier's bytes and not archived yet: best-effort drops and counts them, "
        "required refuses new ones; off keeps no archive"
    ),
    "archive_url": Doc(
        "where the archive is: a folder, or s3://, gs:// and the like; blank means the folder archive in LSO_DATA_DIR",
        secret=True,
    ),
    "archive_memory": Doc("memory that queries of the archive may take in one process", 64 * MIB, 1 << 40),
    "archive_timeout": Doc("seconds that a query of the archive may take", 1, 600),
    "archive_cache_bytes": Doc("copies kept by each process that reads an archive which is no folder", MIB, 1 << 50),
    "keep_events_days": Doc("how long archived events are kept", 1, 36_500),
    "keep_minutes_days": Doc("how long archived rollups of a minute are kept", 1, 36_500),
    "keep_hours_days": Doc("how long archived rollups of an hour are kept", 1, 36_500),
    "keep_days_days": Doc("how long archived rollups of a day are kept", 1, 36_500),
    "max_body_bytes": Doc("largest request body, inflated", 1_024, 256 * MIB),
    "max_batch_events": Doc("most events in one request", 1, 100_000),
    "max_connections": Doc("most open connections of one API process", 1, 1_000_000),
    "client_timeout": Doc(
        "seconds that a client may take to send a request's head, or leave its answer unread", 1, 600
    ),
    "backlog_events": Doc("most accepted, not yet folded events of one system", 1, 1_000_000_000),
    "backlog_bytes": Doc(
        "most bytes of accepted, not yet folded entries over all systems; 0 means a quarter of maxmemory", 0, 1 << 50
    ),
    "redis_maxmemory": Doc(
        "memory of the embedded server; 0 means the smaller of 4 GiB and half of the cgroup's memory", 0, 1 << 50
    ),
    "redis_appendfsync": Doc(
        "fsync policy of the embedded server: everysec, or always (nothing acknowledged is ever lost)"
    ),
    "metrics_systems": Doc("most systems that get gauges of their own in /metrics, worst first", 0, 100_000),
    "log_level": Doc("least level that is logged: debug, info, warning or error"),
    "log_format": Doc("json, console, or auto (console on a terminal)"),
}

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def field_docs() -> Iterator[FieldDoc]:
    """Every setting in the order of the struct, with its default and text."""
    for name, default in zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True):
        yield FieldDoc(name, default, _DOCS[name])


def key_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """What LSO_API_KEYS says: (role, key), none where it is blank. Raises ConfigurationError, which shows no key."""
    pairs = [pair.strip().partition(":") for pair in text.split(",") if pair.strip()]
    for number, (role, _, key) in enumerate(pairs, 1):
        if role not in ROLES or not key:
            raise ConfigurationError(
                f"LSO_API_KEYS must be role:key pairs between commas, role being read, write or admin; pair {number} is not"
            )
    return tuple((role, key) for role, _, key in pairs)


def _read(field: FieldDoc, label: str, value: object) -> Any:
    """One value checked against its type and bounds; strings are converted. `label` is what an error calls it."""
    wanted = get_type_hints(Settings)[field.name]
    if wanted is bool:
        return _read_bool(label, value)
    try:
        read = msgspec.convert(value.strip() if isinstance(value, str) else value, wanted, strict=False)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{label} must be {_wish(field.doc, wanted)}, not {value!r}") from None
    if isinstance(read, int) and not _within(read, field.doc):
        raise ConfigurationError(f"{label} must be {_wish(field.doc, wanted)}, not {read}")
    return read


def _read_bool(label: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ConfigurationError(f"{label} must be 1 or 0, not {value!r}")


def _wish(doc: Doc, wanted: object) -> str:
    """What a value should have been, for the error."""
    if wanted is int:
        return f"a whole number from {doc.minimum:.0f} to {doc.maximum:.0f}"
    choices = getattr(wanted, "__args__", None)
    return "one of " + ", ".join(map(str, choices)) if choices else "text"


def _within(value: float, doc: Doc) -> bool:
    return (doc.minimum is None or value >= doc.minimum) and (doc.maximum is None or value <= doc.maximum)
