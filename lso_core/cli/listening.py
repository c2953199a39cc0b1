"""The listening socket: bound once, shared by all API processes, and refused in one sentence where it cannot be had."""

import errno
import ipaddress
import socket
import time
from typing import Any, Final

from lso_core.model.errors import ConfigurationError
from lso_core.settings import Settings, key_pairs

BACKLOG: Final = 2_048
"""Connections that wait while the API processes are busy, or being started again."""
PATIENCE_S: Final = 1.5
"""How long the API processes of a supervisor that was killed may take to let go of the port."""


def listen(settings: Settings) -> socket.socket:
    """A listening socket on `settings.host` and `settings.port`. Raises ConfigurationError."""
    family, address = _resolve(settings)
    if not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        _check_exposure(settings)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _bind(family, address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise ConfigurationError(_why_not(settings, error)) from None
        time.sleep(0.05)


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        return f"http://127.0.0.1:{port}" if address.version == 4 else f"http://[::1]:{port}"
    return f"http://{host}:{port}" if address.version == 4 else f"http://[{host}]:{port}"


def _resolve(settings: Settings) -> tuple[socket.AddressFamily, Any]:
    """The first address of the host; IPv4 before IPv6, as `localhost` is expected to be."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(f"LSO_HOST {settings.host!r} is no address or name that this machine knows") from None
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _bind(family: socket.AddressFamily, address: Any) -> socket.socket:
    both = family == socket.AF_INET6 and address[0] == "::"  # then IPv4 comes along
    return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)


def _check_exposure(settings: Settings) -> None:
    if not key_pairs(settings.api_keys) and not settings.insecure:
        raise ConfigurationError(
            f"LSO_HOST {settings.host} can be reached from other machines; set LSO_API_KEYS, or give --insecure to go without keys"
        )


def _why_not(settings: Settings, error: OSError) -> str:
    where = f"port {settings.port} on {settings.host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken by another program; choose another with --port or LSO_PORT"
    if error.errno == errno.EACCES:
        return f"{where} needs more rights than this user has; choose one above 1023 with --port or LSO_PORT"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"LSO_HOST {settings.host} is not an address of this machine"
    return f"{where} cannot be listened on: {error.strerror}"
