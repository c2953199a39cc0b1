"""One frozen struct of everything that can be set, read from LSO_* variables at an entry point and passed on.

`Settings.from_env` is the only place that looks at the environment. Every field that a user may set is named
LSO_<FIELD>; `field_docs()` feeds `--help`, `.env.example` and the README's table, so that they cannot disagree.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_type_hints

import msgspec

from lso_core.model.errors import ConfigurationError

PREFIX = "LSO_"
MIB = 1024 * 1024


class Doc(msgspec.Struct, frozen=True):
    """What a user reads about one setting."""

    text: str
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False


class FieldDoc(msgspec.Struct, frozen=True):
    """One row of the configuration table."""

    variable: str
    default: Any
    doc: Doc


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
    idempotency_seconds: int = 86_400
    idempotency_keys: int = 1_000_000

    max_body_bytes: int = 16 * MIB
    max_batch_events: int = 10_000
    max_connections: int = 5_000
    backlog_events: int = 5_000_000
    backlog_bytes: int = 0

    redis_maxmemory: int = 0
    redis_appendfsync: Literal["everysec", "always"] = "everysec"
    metrics_systems: int = 1_000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **given: object) -> "Settings":
        """Build from LSO_* variables; `given` (command-line options) wins where it is not None.

        Raises ConfigurationError that names the variable, its value and what it must be.
        """
        known = {PREFIX + name.upper(): name for name in cls.__struct_fields__}
        values: dict[str, object] = {}
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
                continue
            if variable not in known:
                raise ConfigurationError(f"{variable} is not a setting of LSO; see `lso up --help` for those there are")
            values[known[variable]] = text
        values.update({name: value for name, value in given.items() if value is not None})
        return cls(**{name: _read(name, value) for name, value in values.items()})  # type: ignore[arg-type]


# Read by the SDK, the command line or the supervisor's children, not part of a server's settings.
_OTHER_VARIABLES = frozenset({"LSO_URL", "LSO_SYSTEM", "LSO_API_KEY", "LSO_SPOOL_DIR", "LSO_VENV", "LSO_PYTHON"})

_DOCS: dict[str, Doc] = {
    "host": Doc("address to listen on; any but loopback needs LSO_API_KEYS or --insecure"),
    "port": Doc("TCP port to listen on; 0 picks a free one and prints it", 0, 65_535),
    "data_dir": Doc("directory of the embedded server's files; made when absent"),
    "redis_url": Doc(
        "an outside Redis or Valkey (redis://, rediss://, unix://) instead of the embedded server", secret=True
    ),
    "queue_url": Doc("a plain Redis for arq's queue; needed only where LSO_REDIS_URL is a cluster", secret=True),
    "api_processes": Doc("API processes; 0 means one a core", 0, 256),
    "workers": Doc("worker processes; 0 means one below 4 cores, else two", 0, 256),
    "insecure": Doc("allow a bind beyond loopback without API keys"),
    "api_keys": Doc(
        "comma-separated role:key pairs, role being read, write or admin; a key may be given as sha256:<hex>",
        secret=True,
    ),
    "rate_events": Doc("events a second that one system may send; 0 means no limit", 0, 1_000_000_000),
    "window_seconds": Doc("length of a new system's rolling window", 60, 3_600),
    "stale_after": Doc("seconds of folding delay after which health reads UNKNOWN", 2, 3_600),
    "hot_seconds": Doc("how long folded events stay readable", 0, 7 * 86_400),
    "hot_bytes": Doc("bytes of folded events kept at most (never above 40 % of Redis' maxmemory)", 0, 1 << 50),
    "idempotency_seconds": Doc("how long an Idempotency-Key is remembered, at least", 60, 7 * 86_400),
    "idempotency_keys": Doc("most keys of one system remembered for each sixth of that time", 1, 1_000_000_000),
    "max_body_bytes": Doc("largest request body, inflated", 1_024, 256 * MIB),
    "max_batch_events": Doc("most events in one request", 1, 100_000),
    "max_connections": Doc("most open connections of one API process", 1, 1_000_000),
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
_FALSE = frozenset({"0", "false", "no", "off", ""})


def field_docs() -> Iterator[FieldDoc]:
    """Every setting in the order of the struct, with its variable, default and text."""
    for name, default in zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True):
        yield FieldDoc(PREFIX + name.upper(), default, _DOCS[name])


def _read(name: str, value: object) -> object:
    """One value checked against its type and bounds; strings are converted."""
    variable, wanted = PREFIX + name.upper(), get_type_hints(Settings)[name]
    if wanted is bool:
        return _read_bool(variable, value)
    try:
        read = msgspec.convert(value.strip() if isinstance(value, str) else value, wanted, strict=False)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{variable} must be {_wish(name, wanted)}, not {value!r}") from None
    doc = _DOCS[name]
    if isinstance(read, int) and not (_at_least(read, doc.minimum) and _at_most(read, doc.maximum)):
        raise ConfigurationError(f"{variable} must be {_wish(name, wanted)}, not {read}")
    return read


def _read_bool(variable: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ConfigurationError(f"{variable} must be 1 or 0, not {value!r}")


def _wish(name: str, wanted: object) -> str:
    """What a value should have been, for the error."""
    doc = _DOCS[name]
    if wanted is int:
        return f"a whole number from {doc.minimum:.0f} to {doc.maximum:.0f}"
    choices = getattr(wanted, "__args__", None)
    return "one of " + ", ".join(map(str, choices)) if choices else "text"


def _at_least(value: float, bound: float | None) -> bool:
    return bound is None or value >= bound


def _at_most(value: float, bound: float | None) -> bool:
    return bound is None or value <= bound
