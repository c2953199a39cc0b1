"""Asking LSO. These calls wait for the network and raise: they are for scripts and checks, not for the middle of a run."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from lso_core.client.transport import Transport, TransportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lso_core.client.config import Config

OK = 200


class ReadError(Exception):
    """No answer, or one that is not the one asked for. `status` is HTTP's, 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reader:
    """Reads over a connection of its own."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._transport = Transport(config.address, config.api_key, config.options.timeout_s)

    def health(self) -> dict[str, Any]:
        return self.get(f"/systems/{self._system_id()}/health")

    def fleet(self) -> dict[str, Any]:
        return self.get("/health")

    def systems(self, name: str | None = None) -> list[dict[str, Any]]:
        """All pages, or the system of that name."""
        asked = {} if name is None else {"name": name}
        page = self.get("/systems", **asked)
        items = list(page["items"])
        while page.get("next"):
            page = self.get("/systems", **asked, cursor=str(page["next"]))
            items += page["items"]
        return items

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """One GET. Raises ReadError."""
        try:
            reply = self._transport.get(path + ("?" + urlencode(query, quote_via=quote) if query else ""))
        except TransportError as error:
            raise ReadError(0, f"LSO at {self._config.address} cannot be reached: {error}") from error
        finally:
            self._transport.close()
        if reply.status != OK:
            raise ReadError(reply.status, str(reply.body.get("detail") or f"LSO answered {reply.status}"))
        return dict(reply.body)

    def _system_id(self) -> int:
        system = self._config.system
        if isinstance(system, int):
            return system
        for found in self.systems(system):
            if found.get("name") == system:
                return int(found["system_id"])
        raise ReadError(404, f"LSO knows no system {system!r}")
