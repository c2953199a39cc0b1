"""API keys: three roles, each reaching as far as those before it."""

import enum
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from lso_core.model.errors import ForbiddenError, UnauthorizedError
from lso_core.settings import key_pairs


class Role(enum.IntEnum):
    """How far a key reaches."""

    OPEN = 0
    """No key at all: probes, the documentation, and the dashboard's page, which asks for the key that it reads with."""
    READ = 1
    WRITE = 2
    """Reads, registers systems and sends events: what a pipeline needs."""
    ADMIN = 3
    """Also changes, rebuilds and deletes systems, and has the archive run."""


_OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/docs", "/schema/openapi.json"})
_OPEN_BELOW: Final = ("/docs/", "/assets/")
_SHA256: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_ROLES: Final = {"read": Role.READ, "write": Role.WRITE, "admin": Role.ADMIN}


def needed(method: str, path: str) -> Role:
    """The least role that a request needs."""
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return Role.OPEN
    if method in {"GET", "HEAD", "OPTIONS"}:
        return Role.READ
    return Role.WRITE if method == "POST" and not path.endswith(("/rebuild", "/archive/run")) else Role.ADMIN


class Guard:
    """Knows the keys, by their SHA-256 alone. Without any key everybody may do everything."""

    def __init__(self, keys: dict[bytes, Role]) -> None:
        self._keys = keys

    @classmethod
    def parse(cls, text: str) -> "Guard":
        """From `role:key` pairs between commas; a key may be given as `sha256:<hex>`. Raises ConfigurationError."""
        keys: dict[bytes, Role] = {}
        for role, key in key_pairs(text):
            hashed = _SHA256.fullmatch(key)
            digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(key.encode()).digest()
            keys[digest] = max(_ROLES[role], keys.get(digest, Role.OPEN))
        return cls(keys)

    @property
    def open(self) -> bool:
        """True where no key is configured."""
        return not self._keys

    def check(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise UnauthorizedError or ForbiddenError unless the request may go on."""
        if self.open or (role := needed(method, path)) is Role.OPEN:
            return
        key = presented(headers)
        if key is None:
            raise UnauthorizedError("send an API key as Authorization: Bearer or X-API-Key")
        had = self._role_of(key)
        if had is None:
            raise UnauthorizedError("the API key is not known here")
        if had < role:
            raise ForbiddenError(f"this needs a key of the role {role.name.lower()}; the key is of {had.name.lower()}")

    def _role_of(self, key: bytes) -> Role | None:
        """The key's role. Takes the same time whichever key it is, or none."""
        digest, found = hashlib.sha256(key).digest(), None
        for known, role in self._keys.items():
            if hmac.compare_digest(known, digest):
                found = role
        return found


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request shows."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return None
