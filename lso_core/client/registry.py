"""Which id a system's name stands for: asked once, registered when unknown."""

from __future__ import annotations

import time
from urllib.parse import quote

from lso_core.client.verdict import REFUSED, Verdict, judge_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lso_core.client.transport import Reply, Transport

ASK_AGAIN_S = 30.0
"""How long a name that is unknown, and may not be registered, counts as unknown before it is asked for again."""
FOUND, CREATED, CONFLICT = 200, 201, 409


class SystemBook:
    """Names and their ids, as this process has come to know them."""

    def __init__(self, transport: Transport, *, register: bool) -> None:
        self._transport = transport
        self._register = register
        self._ids: dict[str, int] = {}
        self._unknown_until: dict[str, float] = {}

    def find(self, system: int | str) -> int | Verdict:
        """The id, or what its absence means for a batch. Raises TransportError."""
        if isinstance(system, int):
            return system
        if system in self._ids:
            return self._ids[system]
        if time.monotonic() < self._unknown_until.get(system, 0.0):
            return self._unknown(system)
        answer = self._ask(system)
        if isinstance(answer, int):
            self._ids[system] = answer
        return answer

    def forget(self, system: int | str) -> None:
        """The id is not valid any more: the name is asked for again."""
        self._ids.pop(str(system), None)

    def _ask(self, name: str) -> int | Verdict:
        reply = self._transport.get(f"/systems?name={quote(name, safe='')}")
        if reply.status != FOUND:
            return judge_status(reply)
        known = _id_in(reply, name)
        if known is not None:
            return known
        if self._register:
            return self._create(name)
        self._unknown_until[name] = time.monotonic() + ASK_AGAIN_S
        return self._unknown(name)

    def _create(self, name: str) -> int | Verdict:
        reply = self._transport.post_json("/systems", {"name": name})
        created = reply.body.get("system_id")
        if reply.status == CREATED and isinstance(created, int):
            return created
        if reply.status != CONFLICT:
            return judge_status(reply)
        again = _id_in(self._transport.get(f"/systems?name={quote(name, safe='')}"), name)  # somebody else was quicker
        return Verdict("retry", f"the system {name!r} is being registered by somebody else") if again is None else again

    def _unknown(self, name: str) -> Verdict:
        return Verdict(REFUSED, f"LSO knows no system {name!r}, and register is off", topic="unknown-system")


def _id_in(reply: Reply, name: str) -> int | None:
    items = reply.body.get("items")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("name") == name and isinstance(item.get("system_id"), int):
            return int(item["system_id"])
    return None
