"""Runs and stages: what is being done at the moment, and for how long.

A scope (`lso.run()`, `run.stage("load")`) is a recipe: a context manager for sync and async code, and a decorator. A
span is one performance of it: `with` and each call of a decorated function make a new one, so that nothing is shared
between threads or coroutines that go through the same scope. The innermost span is kept in a context variable.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from contextvars import ContextVar

from lso_core.client.forks import generation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType
    from typing import ParamSpec, Self, TypeVar

    from lso_core.client.client import Client

    P = ParamSpec("P")
    R = TypeVar("R")

COROUTINE, GENERATORS = 0x80, 0x20 | 0x200
"""Flags of code objects (inspect.CO_COROUTINE, CO_GENERATOR, CO_ASYNC_GENERATOR); importing inspect costs 10 ms."""

_current: ContextVar[Span | None] = ContextVar("lso_current", default=None)


class Span:
    """One run or stage that is going on."""

    stage_name: str | None = None

    def __init__(self, client: Client, scope: Scope, run: Run | None) -> None:
        self._client = client
        self._scope = scope
        self._run = run
        self._payload = dict(scope.payload)
        self._generation = generation()
        self._parent: Span | None = None
        self._token: Token[Span | None] | None = None
        self._started = 0.0

    def set(self, **payload: object) -> None:
        """Add to what is sent when this ends."""
        self._payload.update(payload)

    def __enter__(self) -> Self:
        self._parent = _current.get()
        self._token = _current.set(self)
        self._started = time.perf_counter()
        self._opened()
        if self._scope.heartbeat is not None:
            self._client.beat(id(self), self._scope.heartbeat, self._heartbeat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scope.heartbeat is not None:
            self._client.beat_no_more(id(self))
        if self._generation == generation():  # a forked child leaves its parent's runs and stages to the parent
            self._closed(self._elapsed_ms(), None if _is_success(error) else error)
        self._step_out()

    def _step_out(self) -> None:
        if self._token is None:
            return
        try:
            _current.reset(self._token)
        except (ValueError, RuntimeError):  # left in another context than it was entered in, as async generators are
            if _current.get() is self:
                _current.set(self._parent)

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000.0

    def _run_id(self) -> str | None:
        return None if self._run is None else self._run.run_id

    def _heartbeat(self) -> None:
        payload = {"elapsed_ms": round(self._elapsed_ms())}
        self._client.emit("heartbeat", "ok", None, self.stage_name, self._run_id(), payload)

    def _opened(self) -> None:
        """What happens at the start."""

    def _closed(self, latency_ms: float, error: BaseException | None) -> None:
        """What happens at the end."""
        raise NotImplementedError

    def _count(self, latency_ms: float, error: BaseException | None) -> None:
        """Emit the counted outcome."""
        outcome, status = ("success", "ok") if error is None else ("failure", "error")
        self._client.emit(outcome, status, latency_ms, self.stage_name, self._run_id(), self._payload, _said(error))

    @property
    def client(self) -> Client:
        return self._client

    @property
    def parent(self) -> Span | None:
        return self._parent

    @property
    def run(self) -> Run | None:
        return self._run

    def comes_from(self, scope: Scope) -> bool:
        return self._scope is scope


class Run(Span):
    """A run that is going on: `start` at its beginning, `end` or its outcome at its end."""

    def __init__(self, client: Client, scope: RunScope) -> None:
        super().__init__(client, scope, None)
        self._run = self
        self.run_id = scope.run_id or os.urandom(8).hex()
        self.had_stages = False

    def stage(self, name: str, *, heartbeat: float | None = None, **payload: object) -> StageScope:
        """A step of this run; `heartbeat` is the number of seconds between its signs of life."""
        return StageScope(self._client, name, self, heartbeat, payload)

    def event(
        self,
        event_type: str,
        /,
        *,
        status: str | None = None,
        latency_ms: float | None = None,
        stage: str | None = None,
        ts: float | None = None,
        **payload: object,
    ) -> None:
        """An event of this run."""
        self._client.event(
            event_type, status=status, latency_ms=latency_ms, stage=stage, run_id=self.run_id, ts=ts, **payload
        )

    def _opened(self) -> None:
        self._client.emit("start", "ok", None, None, self.run_id, self._payload)

    def _closed(self, latency_ms: float, error: BaseException | None) -> None:
        """A run is counted only where it had no stages: those were counted."""
        if not self.had_stages:
            self._count(latency_ms, error)
            return
        status = "ok" if error is None else "error"
        self._client.emit("end", status, latency_ms, None, self.run_id, self._payload, _said(error))


class Stage(Span):
    """A step that is going on; counted at its end."""

    def __init__(self, client: Client, scope: StageScope, run: Run | None) -> None:
        super().__init__(client, scope, run)
        self.stage_name = scope.name
        if run is not None:
            run.had_stages = True

    def _closed(self, latency_ms: float, error: BaseException | None) -> None:
        self._count(latency_ms, error)


class Scope:
    """What a run or a stage should be like. Enter it, or decorate a function with it, as often as you like."""

    def __init__(self, client: Client | None, heartbeat: float | None, payload: dict[str, object]) -> None:
        self._client = client
        self.heartbeat = heartbeat
        self.payload = payload
        self._entered: list[Span] = []

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate: each call is a span of its own. Coroutine functions stay coroutine functions."""
        flags = _code_flags(function)
        if flags & GENERATORS:
            self._get_client().warn(
                "a decorated generator function is timed only until it returns its generator; use `with` in it"
            )
        return self._around_coroutine(function) if flags & COROUTINE else self._around(function)

    def _around(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def observed(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._span():
                return function(*args, **kwargs)

        return observed

    def _around_coroutine(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        async def observed(*args: P.args, **kwargs: P.kwargs) -> object:
            with self._span():
                return await function(*args, **kwargs)  # type: ignore[misc]

        return observed  # type: ignore[return-value]

    def _enter(self, span: Span) -> None:
        span.__enter__()
        self._entered.append(span)

    def _span(self) -> Span:
        raise NotImplementedError

    def _get_client(self) -> Client:
        if self._client is None:
            from lso_core.client import default_client  # noqa: PLC0415 - made by whoever needs it first

            return default_client()
        return self._client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        span = self._leave()
        if span is not None:
            span.__exit__(kind, error, trace)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _leave(self) -> Span | None:
        """The span that this context entered, where several threads or tasks are inside the same scope."""
        span = _current.get()
        if span is None or not span.comes_from(self):
            return self._entered.pop() if self._entered else None
        with contextlib.suppress(ValueError):
            self._entered.remove(span)
        return span


class RunScope(Scope):
    """`lso.run()`."""

    def __init__(
        self, client: Client | None, run_id: str | None, heartbeat: float | None, payload: dict[str, object]
    ) -> None:
        super().__init__(client, heartbeat, payload)
        self.run_id = run_id

    def _span(self) -> Run:
        return Run(self._get_client(), self)

    def __enter__(self) -> Run:
        run = self._span()
        self._enter(run)
        return run

    async def __aenter__(self) -> Run:
        return self.__enter__()


class StageScope(Scope):
    """`run.stage(name)` or `lso.stage(name)`; the latter belongs to whichever run is current when it is entered."""

    def __init__(
        self, client: Client | None, name: str, run: Run | None, heartbeat: float | None, payload: dict[str, object]
    ) -> None:
        super().__init__(client, heartbeat, payload)
        self.name = name
        self._run = run

    def _span(self) -> Stage:
        client = self._get_client()
        return Stage(client, self, self._run or current_run(client))

    def __enter__(self) -> Stage:
        stage = self._span()
        self._enter(stage)
        return stage

    async def __aenter__(self) -> Stage:
        return self.__enter__()


def current_span(client: Client) -> Span | None:
    """The innermost span of this client: spans of other clients may lie around it."""
    span = _current.get()
    while span is not None and span.client is not client:
        span = span.parent
    return span


def current_run(client: Client) -> Run | None:
    span = current_span(client)
    return None if span is None else span.run


def _is_success(error: BaseException | None) -> bool:
    """`sys.exit()` with no or a zero code and a generator that is not read to its end are no failures."""
    if isinstance(error, SystemExit):
        return error.code in {None, 0}
    return error is None or isinstance(error, GeneratorExit)


def _said(error: BaseException | None) -> dict[str, object]:
    if error is None:
        return {}
    from lso_core.client.encoding import capped  # noqa: PLC0415 - importing this module must stay cheap

    return {"error_type": type(error).__name__, "error_message": capped(error)}


def _code_flags(function: object) -> int:
    """Flags of the code behind a function, method, partial or callable object; 0 where there is none."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None:
        call = getattr(type(function), "__call__", None)  # noqa: B004 - its code is wanted, not whether it is callable
        code = getattr(call, "__code__", None)
    return getattr(code, "co_flags", 0)
