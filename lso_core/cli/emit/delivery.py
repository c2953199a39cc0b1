"""Sending batches until each is counted, or it is certain that it never will be."""

import random
import time
from collections.abc import Callable
from typing import Final

from lso_core.cli.talk import NEVER, Lso, TalkError
from lso_core.client.batch import Batch, now_ms
from lso_core.client.pause import Pause
from lso_core.client.transport import Reply, TransportError
from lso_core.client.verdict import ACCEPTED, DUPLICATE, HALVE, RETRY, judge

NAMED: Final = 3
"""Most bad lines that an error names."""


class Tally:
    """What became of the events so far."""

    def __init__(self) -> None:
        self.accepted = 0
        self.known = 0
        """Counted by an earlier run or attempt."""
        self.skipped = 0
        """Bad ones, kept in the dead letters."""
        self.batches = 0
        self.retries = 0


class Delivery:
    """One system's way in."""

    def __init__(
        self, lso: Lso, system_id: int, *, skip_invalid: bool, patience_s: float, say: Callable[[str], None]
    ) -> None:
        self._lso = lso
        self._system_id = system_id
        self._skip_invalid = skip_invalid
        self._patience_s = patience_s
        self._say = say
        self.tally = Tally()

    def send(self, lines: list[bytes], numbers: list[int], key: str) -> None:
        """Send lines under their key. Raises TalkError that says which of them were refused."""
        batch = Batch(self._system_id, lines, key=key, created_ms=now_ms(), first=None)
        self._send(batch, numbers)

    def _send(self, batch: Batch, numbers: list[int]) -> None:
        reply = self._until_answered(batch, numbers)
        verdict = judge(reply, batch)
        if verdict.kind in {ACCEPTED, DUPLICATE}:
            self._count(reply, len(batch.lines), verdict.kind == DUPLICATE)
        elif verdict.kind == HALVE:  # smaller pieces, whose keys follow from this one's
            middle = len(verdict.parts[0].lines)
            for part, its_numbers in zip(verdict.parts, (numbers[:middle], numbers[middle:]), strict=True):
                self._send(part, its_numbers)
        else:
            raise self._refusal(reply, numbers)

    def _until_answered(self, batch: Batch, numbers: list[int]) -> Reply:
        """The first answer that is final."""
        pause, give_up = Pause(random.random), time.monotonic() + self._patience_s
        while True:
            trouble, retry_after_s = "", None
            try:
                reply = self._lso.line.post_batch(
                    self._system_id, batch.body(), batch.key, skip_invalid=self._skip_invalid
                )
                verdict = judge(reply, batch)
                if verdict.kind != RETRY:
                    return reply
                trouble, retry_after_s = verdict.reason, verdict.retry_after_s
            except TransportError as error:
                trouble = self._lso.unreachable(error).message
            pause.failed(retry_after_s)
            if time.monotonic() + pause.left() > give_up:
                raise TalkError(f"{trouble}; stopped before line {numbers[0]}")
            self._say(trouble)
            self.tally.retries += 1
            time.sleep(pause.left())

    def _count(self, reply: Reply, sent: int, duplicate: bool) -> None:
        accepted = reply.body.get("accepted")
        good = accepted if isinstance(accepted, int) else sent
        self.tally.batches += 1
        self.tally.skipped += sent - good
        if duplicate:
            self.tally.known += good
        else:
            self.tally.accepted += good

    def _refusal(self, reply: Reply, numbers: list[int]) -> TalkError:
        errors = reply.body.get("errors")
        found = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
        named = [f"line {_number(e, numbers)}: {e.get('message')}" for e in found]
        if not any(isinstance(e.get("index"), int) for e in found):
            return self._lso.refusal(reply)
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        where = f"{'; '.join(named[:NAMED])}{more}"
        whole = f"lines {numbers[0]} to {numbers[-1]} were not sent (--on-invalid skip sends the good ones)"
        return TalkError(f"{where}; {whole}", status=reply.status, exit_code=NEVER)


def _number(finding: dict[str, object], numbers: list[int]) -> object:
    index = finding.get("index")
    return numbers[index] if isinstance(index, int) and 0 <= index < len(numbers) else "?"
