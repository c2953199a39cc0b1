"""Connections by URL: to one server, to the master that sentinels name, and to a cluster.

`redis+sentinel://` and `redis+cluster://` name several servers, `host:port` between commas; with `rediss` for TLS.
"""

import re
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

import msgspec
import redis.asyncio
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from lso_core.model.errors import ConfigurationError
from lso_core.store.cluster import Address, Cluster
from lso_core.store.trips import TIMEOUT_S

CONNECTIONS: Final = 32
"""Most connections of one process to one server; what comes on top waits its turn."""
SENTINEL_TIMEOUT_S: Final = 1.0
"""How long one sentinel may take to say who is master, before the next is asked."""
MOST_SERVERS: Final = 64
"""Most servers in one URL; a cluster tells of its others itself."""
KEEPALIVE: Final[dict[str, Any]] = {"socket_connect_timeout": TIMEOUT_S, "socket_keepalive": True}
"""No time limit for answers: `trips` has one for a trip, redis-py would set one for each answer and start a task to write."""

_MANY: Final = re.compile(r"(?P<tls>rediss?)\+(?P<kind>cluster|sentinel)://(?P<rest>.*)", re.IGNORECASE)
_PORTS: Final = {"cluster": 6379, "sentinel": 26379}
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


class Places(msgspec.Struct, frozen=True):
    """What a URL of several servers says."""

    kind: str
    """`cluster` or `sentinel`."""
    servers: tuple[Address, ...]
    service: str
    """Name of the master as the sentinels know it; "" for a cluster."""
    options: dict[str, Any]
    """As redis-py's connections take them: user, password, database, TLS."""
    sentinel_options: dict[str, Any]

    @property
    def tls(self) -> bool:
        return self.options.get("connection_class") is SSLConnection


def is_cluster(url: str) -> bool:
    """Whether `url` names a cluster."""
    found = _MANY.match(url)
    return found is not None and found["kind"].lower() == "cluster"


def connect(url: str, variable: str = "LSO_REDIS_URL") -> "redis.asyncio.Redis | Cluster":
    """A client for `url`, not connected yet. Raises ConfigurationError, naming `variable`, for what is no Redis URL."""
    try:
        if _MANY.match(url) is None:
            return redis.asyncio.Redis.from_pool(_pool(url))  # and so the pool is closed with the client
        places = parse(url)
    except ValueError as error:
        raise ConfigurationError(f"{variable} is not a Redis URL: {error}") from None
    if places.kind == "cluster":
        return Cluster(places.servers, _nodes(places))
    return redis.asyncio.Redis.from_pool(_sentinel_pool(places))


def connect_queue(url: str) -> "redis.asyncio.Redis":
    """A client for arq's queue, which cannot lie on a cluster. Raises ConfigurationError naming LSO_QUEUE_URL."""
    client = connect(url, "LSO_QUEUE_URL")
    if isinstance(client, Cluster):
        raise ConfigurationError(
            "LSO_QUEUE_URL must name a plain Redis for the workers' timetable where LSO_REDIS_URL is a cluster"
        )
    client.connection_pool.connection_kwargs["socket_timeout"] = TIMEOUT_S  # what arq sends makes no use of `trips`
    return client


def parse(url: str) -> Places:
    """What a URL of several servers says. Raises ValueError, with a text that shows no credentials."""
    found = _MANY.fullmatch(url)
    if found is None:
        raise ValueError("it must be redis+cluster://host:port,… or redis+sentinel://host:port,…/service")
    kind = found["kind"].lower()
    place, _, query = found["rest"].partition("?")
    authority, _, path = place.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    servers = tuple(_address(one, _PORTS[kind]) for one in hosts.split(","))
    if len(servers) > MOST_SERVERS:
        raise ValueError(f"it names {len(servers)} servers; the most is {MOST_SERVERS}")
    service, _, database = path.partition("/")
    if kind == "cluster" and path not in {"", "0"}:
        raise ValueError("a cluster has database 0 only, so nothing may follow its servers")
    if kind == "sentinel" and not service:
        raise ValueError("the name of the master must follow the sentinels: redis+sentinel://host:port,…/service")
    if database and not database.isdigit():
        raise ValueError("the database after the master's name must be a number")
    # The rest means what it means in a plain URL, so redis-py reads it as one.
    plain = f"{found['tls'].lower()}://{credentials}{at}host/{database or 0}?{query}"
    options: dict[str, Any] = dict(parse_url(plain))
    options.pop("host", None)
    sentinel = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    return Places(kind, servers, urllib.parse.unquote(service) if kind == "sentinel" else "", options, sentinel)


def _address(text: str, default: int) -> Address:
    """Host and port; an IPv6 address stands in brackets."""
    found = re.fullmatch(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]/\s]+))(?::(?P<port>\d{1,5}))?", text)
    if found is None or not 0 < int(found["port"] or default) < 1 << 16:
        raise ValueError("its servers must be host:port between commas")
    return found["v6"] or found["host"], int(found["port"] or default)


def _pool(url: str) -> "redis.asyncio.BlockingConnectionPool":
    return redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    )


def _nodes(places: Places) -> "Callable[[Address], redis.asyncio.Redis]":
    """How to reach a cluster's nodes."""
    kind = SSLConnection if places.tls else Connection
    options = {**KEEPALIVE, **places.options, "connection_class": kind, "db": 0}

    def node(address: Address) -> "redis.asyncio.Redis":
        host, port = address
        pool = redis.asyncio.BlockingConnectionPool(
            max_connections=CONNECTIONS, timeout=int(TIMEOUT_S), host=host, port=port, **options
        )
        return redis.asyncio.Redis.from_pool(pool)

    return node


class _MasterPool(redis.asyncio.BlockingConnectionPool, SentinelConnectionPool):
    """Connections to whoever is master now; past their number a caller waits instead of failing."""


def _sentinel_pool(places: Places) -> _MasterPool:
    asked = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S}
    tls = {name: value for name, value in places.options.items() if name.startswith("ssl_")}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        places.servers,
        sentinel_kwargs={**asked, **places.sentinel_options, **({"ssl": True, **tls} if places.tls else {})},
    )
    options = {
        **KEEPALIVE,
        **places.options,
        "connection_class": SentinelManagedSSLConnection if places.tls else SentinelManagedConnection,
    }
    return _MasterPool(
        max_connections=CONNECTIONS,
        timeout=int(TIMEOUT_S),
        service_name=places.service,
        sentinel_manager=sentinels,
        **options,
    )
