"""Tables of events, sent as Arrow. For pipelines that have their events in one; pyarrow is theirs, and imported only here."""

from __future__ import annotations

import hashlib
import os
import random
import time

from lso_core.client.pause import Pause
from lso_core.client.registry import SystemBook
from lso_core.client.transport import ARROW, Transport, TransportError
from lso_core.client.verdict import ACCEPTED_STATUS, RETRY, TOO_LARGE_STATUS, Verdict, judge_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from lso_core.client.config import Config
    from lso_core.client.transport import Reply

BATCH_EVENTS = 10_000
BODY_BYTES = 8 * 1024 * 1024
"""A larger batch goes in halves; half of what a server takes by default."""
EXCHANGE_S = 30.0
"""A batch is some hundred KB to some MB, so one exchange may take longer than the SDK's small ones."""


class SendError(Exception):
    """Some of a table was not taken. `sent` events, the first ones, are counted; `status` is HTTP's, 0 without an answer."""

    def __init__(self, status: int, sent: int, message: str) -> None:
        super().__init__(f"{message}; {sent} events before are counted")
        self.status = status
        self.sent = sent


class TableSender:
    """Sends one table, batch after batch, each until it is answered."""

    def __init__(self, config: Config, key: str | None, timeout_s: float) -> None:
        self._config = config
        self._deadline = time.monotonic() + timeout_s
        self._transport = Transport(config.address, config.api_key, EXCHANGE_S)
        self._systems = SystemBook(self._transport, register=config.register)
        self._stem = os.urandom(16).hex() if key is None else hashlib.sha256(key.encode()).hexdigest()[:32]

    def send(self, table: Any) -> int:
        """How many events were taken, all of them. Raises SendError."""
        import pyarrow as pa  # noqa: PLC0415 - see above

        whole = pa.table(table).replace_schema_metadata(None)
        sent = 0
        try:
            for rows in self._pieces(whole):
                sent += self._deliver(rows, sent, sent)
        finally:
            self._transport.close()
        return sent

    @staticmethod
    def _pieces(whole: Any) -> Iterator[Any]:
        for start in range(0, whole.num_rows, BATCH_EVENTS):
            yield whole.slice(start, BATCH_EVENTS)

    def _deliver(self, rows: Any, start: int, sent: int) -> int:
        """Send the rows, which begin at `start` of the table, as one batch; where that is too large as two."""
        body, key = _stream(rows), f"{self._stem}{start:x}-{rows.num_rows:x}"
        if len(body) > BODY_BYTES and rows.num_rows > 1:
            return self._halve(rows, start, sent)
        reply = self._answer(body, key, sent)
        if reply.status == TOO_LARGE_STATUS and rows.num_rows > 1:
            return self._halve(rows, start, sent)
        if reply.status != ACCEPTED_STATUS:
            raise SendError(reply.status, sent, judge_status(reply).reason)
        return int(rows.num_rows)

    def _halve(self, rows: Any, start: int, sent: int) -> int:
        half = rows.num_rows // 2
        first = self._deliver(rows.slice(0, half), start, sent)
        return first + self._deliver(rows.slice(half), start + half, sent + first)

    def _answer(self, body: bytes, key: str, sent: int) -> Reply:
        """The answer that settles a batch: waits and tries again, with the same key, while that may help."""
        pause = Pause(random.random)
        while True:
            answer = self._attempt(body, key)
            if not isinstance(answer, Verdict):
                return answer
            if answer.kind != RETRY:
                raise SendError(0, sent, answer.reason)
            pause.failed(answer.retry_after_s)
            if time.monotonic() + pause.left() >= self._deadline:
                raise SendError(0, sent, f"gave up: {answer.reason}")
            time.sleep(pause.left())

    def _attempt(self, body: bytes, key: str) -> Reply | Verdict:
        """One attempt: an answer that settles the batch, or why there is none."""
        try:
            system_id = self._systems.find(self._config.system)
            if isinstance(system_id, Verdict):
                return system_id
            reply = self._transport.post_events(system_id, body, key, ARROW)
        except TransportError as error:
            return Verdict(RETRY, f"LSO at {self._config.address} cannot be reached: {error}")
        is_taken = reply.status == ACCEPTED_STATUS and "accepted" in reply.body
        verdict = judge_status(reply)
        return verdict if verdict.kind == RETRY and not is_taken else reply


def _stream(rows: Any) -> bytes:
    """The rows as an Arrow stream of one record batch."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.unify_dictionaries().combine_chunks())
    packed: bytes = sink.getvalue().to_pybytes()
    return packed
