"""What a client was told: arguments first, then LSO_URL, LSO_SYSTEM, LSO_API_KEY and LSO_SPOOL_DIR, checked once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1024 * 1024
PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535


class ConfigError(ValueError):
    """The client cannot work like this. The message is one sentence that names the argument or variable."""


class Address:
    """Where an LSO listens."""

    __slots__ = ("host", "port", "prefix", "scheme")

    def __init__(self, scheme: str, host: str, port: int, prefix: str = "") -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.prefix = prefix
        """What stands before `/systems` where a reverse proxy serves LSO under a path; no slash at its end."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `http://host[:port][/prefix]`. Raises ConfigError."""
        scheme, found, rest = url.strip().partition("://")
        place, _, path = rest.partition("/")
        host, port = _split_port(place)
        if not found or scheme.lower() not in PORTS or not host or "@" in place or "?" in path or "#" in path:
            raise ConfigError(f"the URL of LSO must look like http://host:8000, not {url!r}")
        prefix = "/" + path.strip("/") if path.strip("/") else ""
        return cls(scheme.lower(), host, _read_port(port, url) if port else PORTS[scheme.lower()], prefix)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"


class Options:
    """What may be tuned. Whoever passes nothing gets these."""

    __slots__ = ("batch_events", "exit_timeout_s", "key_memory_s", "queue_events", "spool_bytes", "timeout_s")

    def __init__(
        self,
        *,
        queue_events: int = 10_000,
        batch_events: int = 1_000,
        spool_bytes: int = 64 * MIB,
        timeout_s: float = 3.0,
        exit_timeout_s: float = 2.0,
        key_memory_s: float = 86_400,
    ) -> None:
        self.queue_events = max(1, int(queue_events))
        """Events that may wait in memory; the newest beyond them are dropped and counted."""
        self.batch_events = min(10_000, max(1, int(batch_events)))
        """Most events of one request."""
        self.spool_bytes = max(0, int(spool_bytes))
        """Most bytes of the spool directory; the oldest files go first."""
        self.timeout_s = max(0.05, float(timeout_s))
        """The longest one exchange with the server may take."""
        self.exit_timeout_s = max(0.0, float(exit_timeout_s))
        """The longest the end of the process is held up to send what is left."""
        self.key_memory_s = max(1.0, float(key_memory_s))
        """How long the server remembers an Idempotency-Key (its LSO_IDEMPOTENCY_SECONDS)."""


class Config:
    """One client's configuration, checked; never changed afterwards."""

    __slots__ = ("address", "api_key", "options", "register", "spool_dir", "system")

    def __init__(
        self, *, address: Address, system: int | str, api_key: str, spool_dir: str, register: bool, options: Options
    ) -> None:
        self.address = address
        self.system = system
        """An id (int) or a name (str)."""
        self.api_key = api_key
        self.spool_dir = spool_dir
        """Empty where there is no spool."""
        self.register = register
        self.options = options


def read_config(
    url: str | None,
    system: int | str | None,
    *,
    api_key: str | None,
    spool_dir: str | os.PathLike[str] | None,
    register: bool,
    options: Mapping[str, float],
    environ: Mapping[str, str],
) -> Config:
    """Arguments before variables. Raises ConfigError."""
    address = url or environ.get("LSO_URL", "")
    if not address:
        raise ConfigError("LSO_URL is not set and no url was given, so nothing is sent")
    return Config(
        address=Address.parse(address),
        system=_read_system(environ.get("LSO_SYSTEM", "") if system is None else system),
        api_key=_read_key(environ.get("LSO_API_KEY", "") if api_key is None else api_key),
        spool_dir=os.fspath(spool_dir) if spool_dir is not None else environ.get("LSO_SPOOL_DIR", ""),
        register=register,
        options=_read_options(options),
    )


def _read_options(options: Mapping[str, float]) -> Options:
    try:
        return Options(**options)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"an option of lso.init() is wrong: {error}") from None


def _read_key(key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError("the API key holds characters that an HTTP header cannot carry")
    return key


def _read_system(system: int | str) -> int | str:
    """A positive number, also as text, is an id; anything else a name."""
    text = str(system).strip()
    if not text:
        raise ConfigError("LSO_SYSTEM is not set and no system was given, so nothing is sent")
    if text.isascii() and text.isdigit():
        return int(text)
    if isinstance(system, int) or len(text.encode()) > 200:
        raise ConfigError(f"system must be an id or a name of at most 200 bytes, not {text[:50]!r}")
    return text


def _split_port(place: str) -> tuple[str, str]:
    """`host:port`, `host`, `[::1]:port` or `[::1]` as host and port."""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = place.partition(":")
    return host, port


def _read_port(port: str, url: str) -> int:
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
        raise ConfigError(f"the port in {url!r} is not a number from 1 to {MAX_PORT}")
    return int(port)
