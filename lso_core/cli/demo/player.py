"""Telling the story to an LSO: systems registered or taken up again, the window filled, and then on as time goes by."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from lso_core.cli.demo.cast import Member
from lso_core.cli.demo.story import Story
from lso_core.cli.talk import Lso, TalkError
from lso_core.client.transport import TransportError

MOST_EVENTS: Final = 5_000
MARGIN_MS: Final = 5_000
"""How far inside its window the first event of a system lies."""
CONFLICT, FORBIDDEN, ACCEPTED, UNKNOWN = 409, 403, 202, 404

Say = Callable[[str], None]


def enroll(lso: Lso, member: Member, say: Say) -> int:
    """The id of the member's system, registered or brought up to date."""
    spec = member.spec()
    known = lso.lookup(member.name)
    if known is None:
        return int(lso.send("POST", "/systems", {"name": member.name, **spec})["system_id"])
    system_id = int(known["system_id"])
    if any(known.get(name) != value for name, value in spec.items()):
        try:
            lso.send("PATCH", f"/systems/{system_id}", spec)
        except TalkError as error:
            if error.status != FORBIDDEN:  # the key may send but not change
                raise
            say(f"{member.name} keeps its own description and thresholds: {error.message}")
    return system_id


class Part:
    """One member on stage: how far its story has been told."""

    def __init__(self, lso: Lso, story: Story, member: Member, system_id: int) -> None:
        self._lso, self._story, self._nonce = lso, story, secrets.token_hex(8)
        self.member, self.system_id = member, system_id
        self.told_ms = story.began_ms - member.window_s * 1_000 + MARGIN_MS
        """Everything before it is counted."""
        self.sent = 0
        past = [json.dumps(told.event).encode() for told in story.past(member, self.told_ms)]
        self._under_way: list[tuple[int, list[bytes]]] = [(self.told_ms, past)]
        """Batches not yet known to be counted, each with the moment that follows it."""

    def tell(self, now_ms: int) -> None:
        """Send what has happened by now. Raises TalkError or TransportError; then the same is sent again next time."""
        self._send_all()
        start_ms = max(self.told_ms, now_ms - self.member.window_s * 1_000 + MARGIN_MS)
        self._under_way = list(self._batches(start_ms, now_ms))
        self._send_all()

    def _send_all(self) -> None:
        while self._under_way:
            end_ms, lines = self._under_way[0]
            if lines:
                self._send(lines, f"demo-{self._nonce}-{end_ms}-{len(self._under_way)}")
            self._under_way.pop(0)
            self.sent += len(lines)
            self.told_ms = end_ms

    def _batches(self, start_ms: int, end_ms: int) -> list[tuple[int, list[bytes]]]:
        lines = [json.dumps(told.event).encode() for told in self._story.events(self.member, start_ms, end_ms)]
        pieces = [lines[at : at + MOST_EVENTS] for at in range(0, len(lines), MOST_EVENTS)] or [[]]
        return [(end_ms, piece) for piece in pieces]

    def _send(self, lines: list[bytes], key: str) -> None:
        reply = self._lso.line.post_batch(self.system_id, b"\n".join(lines) + b"\n", key)
        if reply.status != ACCEPTED:
            raise self._lso.refusal(reply)


class Player:
    """All members."""

    def __init__(self, lso: Lso, story: Story, cast: tuple[Member, ...], say: Say) -> None:
        self._lso, self._story, self._say = lso, story, say
        self.parts = [Part(lso, story, member, enroll(lso, member, say)) for member in cast]
        self._trouble = ""

    def tell(self, now_ms: int) -> None:
        """Send what has happened by now, for everybody; while LSO is away that is said once, and made up for later."""
        try:
            for part in self.parts:
                part.tell(now_ms)
        except (TalkError, TransportError) as error:
            sentence = error.message if isinstance(error, TalkError) else self._lso.unreachable(error).message
            if isinstance(error, TalkError) and error.exit_code != 1 and error.status != UNKNOWN:
                raise
            self._say_once(sentence)
            if isinstance(error, TalkError) and error.status == UNKNOWN:
                self._enroll_again()
            return
        if self._trouble:
            self._say("LSO answers again")
            self._trouble = ""

    def sent(self) -> int:
        return sum(part.sent for part in self.parts)

    def _say_once(self, sentence: str) -> None:
        if not self._trouble:
            self._say(f"{sentence}; trying again")
        self._trouble = sentence

    def _enroll_again(self) -> None:
        """Somebody deleted systems: they come back with new ids."""
        for part in self.parts:
            part.system_id = enroll(self._lso, part.member, self._say)


def wait_for(lso: Lso, patience_s: float, pause_s: float = 0.25) -> None:
    """Wait until LSO can take events. Raises TalkError when it cannot in time, or refuses us."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            lso.get("/readyz")
            return
        except TalkError as error:
            if error.exit_code != 1 or time.monotonic() > give_up:
                raise
        time.sleep(pause_s)


def as_rows(parts: list[Part]) -> list[dict[str, Any]]:
    """The systems on stage."""
    return [{"system_id": part.system_id, "name": part.member.name, "events": part.sent} for part in parts]
