"""One client: what pipelines call. Nothing here raises into them or waits for anything."""

from __future__ import annotations

import os
import threading
import time

from lso_core.client import forks
from lso_core.client.batch import now_ms
from lso_core.client.config import ConfigError, read_config
from lso_core.client.courier import Courier
from lso_core.client.encoding import UnsendableError, encode
from lso_core.client.notices import Notices
from lso_core.client.scopes import RunScope, StageScope, current_span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from lso_core.client.config import Config
    from lso_core.client.reading import Reader


class Client:
    """Sends the events of one system to one LSO, and reads from it.

    A wrong configuration gives a client that does nothing and has said so once, in one log line.
    """

    def __init__(
        self,
        url: str | None = None,
        system: int | str | None = None,
        *,
        api_key: str | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        register: bool = True,
        **options: float,
    ) -> None:
        self._notices = Notices()
        self._config: Config | None = None
        self._courier: Courier | None = None
        self._closed = False
        self._problem = ""
        try:
            self._config = read_config(
                url,
                system,
                api_key=api_key,
                spool_dir=spool_dir,
                register=register,
                options=options,
                environ=os.environ,
            )
        except Exception as error:  # noqa: BLE001 - wrong arguments of any kind must not end the pipeline
            self._problem = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            self._notices.warn("config", f"LSO is off: {self._problem}")
            return
        self._courier = Courier(self._config, self._notices)
        forks.watch(self)
        if self._courier.has_inheritance():
            self._start(self._courier)

    def run(self, run_id: str | None = None, *, heartbeat: float | None = None, **payload: object) -> RunScope:
        """One run of the pipeline: a context manager, sync and async, and a decorator."""
        return RunScope(self, run_id, heartbeat, payload)

    def stage(self, name: str, *, heartbeat: float | None = None, **payload: object) -> StageScope:
        """A step, of the current run where there is one: a context manager, sync and async, and a decorator."""
        return StageScope(self, name, None, heartbeat, payload)

    def event(
        self,
        event_type: str,
        /,
        *,
        status: str | None = None,
        latency_ms: float | None = None,
        stage: str | None = None,
        run_id: str | None = None,
        ts: float | None = None,
        **payload: object,
    ) -> None:
        """Send one event. `status` is "ok" or "error" (by default what the type says), `ts` seconds since the epoch or
        a datetime (by default now); run and stage are the current ones. Types other than start, heartbeat, end and log
        are counted and need `latency_ms`.
        """
        if run_id is None or stage is None:
            span = current_span(self)
            if span is not None:
                run_id = run_id if run_id is not None or span.run is None else span.run.run_id
                stage = stage if stage is not None else span.stage_name
        self.emit(event_type, status, latency_ms, stage, run_id, payload, None, ts)

    def emit(
        self,
        event_type: str,
        status: str | None,
        latency_ms: float | None,
        stage: str | None,
        run_id: str | None,
        payload: Mapping[str, object],
        essential: Mapping[str, object] | None = None,
        ts: float | None = None,
    ) -> None:
        """`event` with every field given. `essential` is payload that is kept when the rest is too large."""
        courier = self._courier
        if courier is None:
            return
        try:
            ts_ms = now_ms() if ts is None else _milliseconds(ts)
            line, payload_cut = encode(event_type, status, latency_ms, stage, run_id, ts_ms, payload, essential)
            if payload_cut:
                courier.counters.add("payloads_cut")
            if self._closed:
                courier.counters.add("lost_at_exit")
            else:
                courier.queue.offer(line)
                if not courier.started:
                    self._start(courier)
        except Exception as error:  # noqa: BLE001 - whatever it is, the pipeline must not hear of it
            self._reject(courier, error)

    def send_table(self, table: Any, *, key: str | None = None, timeout: float = 60.0) -> int:
        """Send a table of events as Arrow: anything that `pyarrow.table` takes, with the fields of an event as columns.

        Waits until LSO has taken all of it, in batches of 10,000, and answers how many events that were. Unlike the rest it
        raises: SendError for what is refused or not taken in time. With a `key` the same table may be sent again within
        `key_memory_s`: what was counted is not counted twice.
        """
        from lso_core.client.tables import SendError, TableSender  # noqa: PLC0415 - brings the network modules

        if self._config is None:
            raise SendError(0, 0, f"LSO is off: {self._problem}")
        return TableSender(self._config, key, timeout).send(table)

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until every event so far is answered for, `timeout` seconds at most. Whether they are."""
        return True if self._courier is None else self._courier.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Send what can be sent in time, save the rest in the spool, stop. The end of the process does it too."""
        if self._courier is None or self._config is None or self._closed:
            return
        self._closed = True
        forks.unwatch(self)
        lost = self._courier.close(self._config.options.exit_timeout_s if timeout is None else timeout)
        if lost:
            self._notices.say(
                f"{lost} events could not be sent before the end and are lost; a spool_dir would have kept them"
            )

    def stats(self) -> dict[str, Any]:
        """What became of the events of this process: `emitted`, `sent`, `pending`, `dropped` and why, `retries`…"""
        courier = self._courier
        if courier is None:
            return {"enabled": False, "problem": self._problem}
        lost, counters = courier.lost(), courier.counters
        return {
            "enabled": True,
            "emitted": courier.queue.accepted + courier.queue.refused + counters.get("invalid"),
            "sent": counters.get("sent"),
            "waiting": courier.queue.waiting,
            "pending_batches": courier.outbox.pending(),
            "spooled_batches": courier.outbox.spooled(),
            "dropped": sum(lost.values()),
            "dropped_by_reason": lost,
            "payloads_cut": counters.get("payloads_cut"),
            "batches": counters.get("batches"),
            "claimed_batches": counters.get("claimed_batches"),
            "duplicate_batches": counters.get("duplicate_batches"),
            "retries": counters.get("retries"),
        }

    def health(self) -> dict[str, Any]:
        """LSO's answer about this client's system. Waits for the network, and raises ReadError."""
        return self._reader().health()

    def systems(self, name: str | None = None) -> list[dict[str, Any]]:
        """Every system that LSO knows, or the one of that name. Waits for the network, and raises ReadError."""
        return self._reader().systems(name)

    def fleet(self) -> dict[str, Any]:
        """The health of all systems: counts by state and the first page. Waits for the network, and raises ReadError."""
        return self._reader().fleet()

    def warn(self, text: str) -> None:
        """One log line of the client's own, once."""
        self._notices.warn(text, text)

    def beat(self, token: int, every_s: float, beat: Callable[[], None]) -> None:
        """Call `beat` every so often until `beat_no_more`, on the client's own thread."""
        courier = self._courier
        if courier is None or self._closed:
            return
        try:
            courier.heartbeats.add(token, every_s, beat)
            courier.ring()
            if not courier.started:
                self._start(courier)
        except Exception as error:  # noqa: BLE001 - as in emit
            self._notices.warn("heartbeat", f"a heartbeat cannot be started: {error}")

    def beat_no_more(self, token: int) -> None:
        if self._courier is not None:
            self._courier.heartbeats.remove(token)

    def is_own_thread(self) -> bool:
        """Whether the caller is the client itself."""
        return self._courier is not None and self._courier.owns_thread(threading.get_ident())

    def start_afresh(self) -> None:
        """In a forked child: what waits is the parent's, so begin with nothing."""
        if self._courier is not None and self._config is not None:
            inherited, self._courier = self._courier, Courier(self._config, self._notices)
            inherited.abandon()

    def _start(self, courier: Courier) -> None:
        courier.start()
        forks.watch_child_exit()

    def _reject(self, courier: Courier, error: Exception) -> None:
        courier.counters.add("invalid")
        kind = "" if isinstance(error, UnsendableError) else f"{type(error).__name__}: "
        self._notices.warn(f"invalid-{kind}", f"an event is not sent (said once, counted always): {kind}{error}")

    def _reader(self) -> Reader:
        from lso_core.client.reading import Reader, ReadError  # noqa: PLC0415 - brings the network modules

        if self._config is None:
            raise ReadError(0, f"LSO is off: {self._problem}")
        return Reader(self._config)


def _milliseconds(ts: object) -> int:
    """Seconds since the epoch, or anything with a `timestamp()`, in milliseconds. Raises UnsendableError."""
    try:
        seconds = ts.timestamp() if hasattr(ts, "timestamp") else float(ts)  # type: ignore[arg-type]
        time.gmtime(seconds)
        return round(seconds * 1000)
    except (TypeError, ValueError, OverflowError, OSError):
        raise UnsendableError("ts must be seconds since the epoch or a datetime") from None
