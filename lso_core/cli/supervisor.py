"""`lso up`: Redis, API and workers as one tree that starts together, heals itself, and ends together.

Most of a start is loading code. So API and workers are started before Redis, load theirs, and go on when a pipe says
that it answers; and what one can be ready without (further API processes, the demo) is started once the rest is ready.
The listening socket is bound here once and handed down, so that connections wait while an API process is started again.
A pipe whose writing end only this process holds tells the children that it is gone, also after kill -9.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

from lso_core import machine
from lso_core.cli.children import ApiChild, Backoff, Child, LsoChild, RedisChild, WorkerChild, child_environ, ended
from lso_core.cli.listening import listen, url_of
from lso_core.cli.processes import check_checkout, end_early, raise_file_limit
from lso_core.cli.shares import Shares
from lso_core.model.errors import ConfigurationError, LsoError, StoreError
from lso_core.settings import Settings, key_pairs
from lso_core.store.embedded import EmbeddedServer

DEMO_BY_S: Final = 1.0
API_BY_S: Final = 5.0
WORKERS_BY_S: Final = 7.5
REDIS_BY_S: Final = 9.5
"""When each kind must have ended after SIGTERM; one that has not is killed."""
REST_S: Final = 5.0
"""After how long without /readyz to start the rest all the same."""
PATIENCE_S: Final = 15.0
"""After how long without /readyz to say what it says."""
HOPELESS: Final = 8
"""Deaths in a row after which a service that was never ready is given up."""
EXIT_FAILED: Final = 1
EXIT_WRONG: Final = 2
"""A child's status that no second try mends: a wrong variable, a Redis that is not fit."""
MOCK_DATA: Final = "USE_MOCK_DATA"
NO: Final = frozenset({"", "0", "false", "no", "off"})
_POLL_S: Final = 0.05


def supervise(given: Mapping[str, Any]) -> int:
    """Run the service until SIGTERM, SIGINT or SIGHUP; the exit status. Raises LsoError where it cannot start."""
    end_early()
    settings = Settings.from_env(os.environ, **given)
    play = Play.wanted(os.environ, settings)
    check_checkout()
    raise_file_limit()
    with listen(settings) as listener:
        return asyncio.run(Supervisor(settings, listener, play).run())


class Play(NamedTuple):
    """A demo that runs with the service: made-up systems, kept going by `lso demo`."""

    scenario: str
    api_key: str

    @classmethod
    def wanted(cls, environ: Mapping[str, str], settings: Settings) -> "Play | None":
        """What USE_MOCK_DATA asks for, None where it does not. Raises ConfigurationError for an unknown scenario."""
        word = environ.get(MOCK_DATA, "").strip().lower()
        if word in NO:
            return None
        from lso_core.cli.demo.scenarios import MIXED, SCENARIOS, YES  # the whole demo, only where it is wanted

        scenario = MIXED if word in YES else word
        if scenario not in SCENARIOS:
            raise ConfigurationError(f"{MOCK_DATA} must be 1, 0 or one of {', '.join(SCENARIOS)}, not {word!r}")
        keys = dict(reversed(key_pairs(settings.api_keys)))
        key = keys.get("admin", "")
        if keys and (not key or key.startswith("sha256:")):
            raise ConfigurationError(f"{MOCK_DATA} needs an admin key in LSO_API_KEYS that is not given as sha256")
        return cls(scenario, key)

    def environ(self, url: str) -> dict[str, str]:
        """What `lso demo` is told."""
        return {MOCK_DATA: self.scenario, "LSO_URL": url, "LSO_API_KEY": self.api_key}


class Supervisor:
    """One running service."""

    def __init__(self, settings: Settings, listener: socket.socket, play: Play | None = None) -> None:
        self._settings = settings
        self._listener = listener
        self._play = play
        self._url = url_of(listener)
        self._stopping = asyncio.Event()
        self._status = 0
        self._ready = asyncio.Event()
        self._clearing: set[asyncio.Task[None]] = set()
        self._server: EmbeddedServer | None = None
        self._redis: list[Child] = []
        self._apis: list[Child] = []
        self._workers: list[Child] = []
        self._demos: list[Child] = []
        self._alive, self._held = os.pipe()
        """The pipe: children read `_alive`, which ends when nobody holds `_held` any more."""
        self._answers, self._silent = os.pipe()
        """One more: `_answers` ends when Redis does answer, and `_silent` is closed."""

    async def run(self) -> int:
        """Start everything, keep it going until told to stop, and end it in order."""
        self._heed_signals()
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._unless_stopped(self._start())
            works = (self._announce(), *map(self._keep, self._first()), *map(self._keep_later, self._rest()))
            tasks = [self._watched(work) for work in works]
            await self._stopping.wait()
        finally:
            for task in (*tasks, *self._clearing):
                task.cancel()
            failures = await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()
        for failure in failures:
            if isinstance(failure, Exception):
                raise failure
        return self._status

    def _watched(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task whose failure ends the service, since nothing would be started again after it."""

        def heed(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and task.exception() is not None:
                self._stopping.set()

        task = asyncio.create_task(work)
        task.add_done_callback(heed)
        return task

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants to survive SIGHUP
                loop.add_signal_handler(number, self._stopping.set)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, or leave it where a signal comes first; the stop is then the caller's next step."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _start(self) -> None:
        """What it takes to be ready; Redis last, since the others have something to do until it answers."""
        url = self._settings.redis_url or self._claim_redis()
        self._make_children(child_environ(os.environ, {**self._settings.environ(), "LSO_REDIS_URL": url}))
        for child in reversed(self._first()):
            await child.start()
        await _check(url, named=bool(self._settings.redis_url))
        os.close(self._silent)
        self._silent = -1

    def _claim_redis(self) -> str:
        """Where the server will be."""
        settings = self._settings
        self._server = EmbeddedServer.claim(
            settings.data_dir, maxmemory=settings.redis_maxmemory, appendfsync=settings.redis_appendfsync
        )
        self._redis.append(RedisChild(self._server, say))
        return self._server.url

    def _make_children(self, environ: Mapping[str, str]) -> None:
        cores, fds = machine.cores(), {"--parent-fd": self._alive, "--after-fd": self._answers}
        apis = self._settings.api_processes or cores
        shares_fd = Shares.file(apis)
        shares, listening = Shares(shares_fd), {"--fd": self._listener.fileno(), **fds}
        self._apis += [ApiChild(number, listening, environ, shares_fd, shares) for number in range(1, apis + 1)]
        for number in range(1, (self._settings.workers or default_workers(cores)) + 1):
            self._workers.append(WorkerChild("worker", number, fds, environ))
        if self._play is not None:
            told = {**environ, **self._play.environ(self._url)}
            self._demos.append(LsoChild("demo", 1, {"--parent-fd": self._alive}, told))

    def _first(self) -> list[Child]:
        """What is ready when all of them run."""
        return [*self._redis, *self._workers, *self._apis[:1]]

    def _rest(self) -> list[Child]:
        return [*self._apis[1:], *self._demos]

    async def _keep_later(self, child: Child) -> None:
        """Start a child when the service is ready, or should be; then keep it going."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_S):
                await self._ready.wait()
        await child.start()
        await self._keep(child)

    async def _keep(self, child: Child) -> None:
        """Start a child that runs already again whenever it ends."""
        backoff, started = Backoff(), time.monotonic()
        while not self._is_hopeless(status := await child.wait(), backoff.deaths):
            pause = backoff.pause(time.monotonic() - started)
            say(f"{child.name} {ended(status)}; starting it again{f' in {pause:.1f} s' if pause else ''}")
            self._clear_up(child)
            await asyncio.sleep(pause)
            started = time.monotonic()
            try:
                await child.start()
            except (LsoError, OSError) as error:
                say(str(error))
        self._stopping.set()

    def _is_hopeless(self, status: int, deaths: int) -> bool:
        """Whether no further start can help: the child said so, in its own words, or it never comes up."""
        if status == EXIT_WRONG:
            self._status = EXIT_WRONG
        elif deaths >= HOPELESS and not self._ready.is_set():
            say(f"a process ended {deaths} times in a row, and LSO was never ready; giving up")
            self._status = EXIT_FAILED
        return self._status != 0

    def _clear_up(self, child: Child) -> None:
        """Clear up behind a dead child while the next one starts."""
        task = asyncio.create_task(child.after_death())
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def _announce(self) -> None:
        """Say where LSO listens, once it can accept and fold."""
        began, patient = time.monotonic(), True
        while (answer := await _ask_ready(self._listener, self._url)) != "ready":
            if patient and time.monotonic() - began > PATIENCE_S:
                say(f"not ready after {PATIENCE_S:.0f} s: {answer}")
                patient = False
            await asyncio.sleep(_POLL_S)
        self._ready.set()
        where = (
            f"{self._server.binary.release} in {self._settings.data_dir}" if self._server else "named by LSO_REDIS_URL"
        )
        tell(f"LSO listens on {self._url} (docs at /docs). Its Redis: {where}.")
        tell(f"Stop it with Ctrl-C, or with: kill {os.getpid()}")

    async def _end(self) -> None:
        """End everything, what accepts first and what remembers last."""
        began = time.monotonic()
        await _stop_all(self._demos, within=DEMO_BY_S)
        self._listener.close()  # with the children's own: from now on connections are refused
        for children, by in ((self._apis, API_BY_S), (self._workers, WORKERS_BY_S), (self._redis, REDIS_BY_S)):
            await _stop_all(children, within=max(0.1, began + by - time.monotonic()))
        if self._server is not None:
            self._server.close()
        for fd in (self._held, self._alive, self._answers, self._silent):
            if fd >= 0:
                os.close(fd)


def default_workers(cores: int) -> int:
    """One worker keeps up with the API processes of a small machine."""
    return 1 if cores < 4 else 2


def say(sentence: str) -> None:
    """Tell the person who runs the service what happens in it."""
    tell(f"lso: {sentence}", sys.stderr)


def tell(text: str, stream: TextIO = sys.stdout) -> None:
    """Write a line; nobody reading any more is no reason to end."""
    with contextlib.suppress(OSError):
        print(text, file=stream, flush=True)


async def _check(url: str, *, named: bool) -> None:
    """Raise ConfigurationError or StoreError where the Redis at `url` is not fit, naming the variable that names it."""
    from lso_core.store.server import Server  # loads redis, while the children load theirs

    try:
        await (await Server.open(url)).close()
    except StoreError as error:
        raise ConfigurationError(f"LSO_REDIS_URL: {error}" if named else str(error)) from error


async def _stop_all(children: Sequence[Child], within: float) -> None:
    await asyncio.gather(*(child.stop(within) for child in children))


async def _ask_ready(listener: socket.socket, url: str) -> str:
    """What /readyz says: "ready", or why not."""
    host = url.removeprefix("http://").rpartition(":")[0].strip("[]")
    port = listener.getsockname()[1]
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            with contextlib.closing(writer):
                writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
    except OSError as error:  # TimeoutError is one
        return f"no API process answers ({error!r})"
    status = head.split(" ", 2)[1] if head.count(" ") > 1 else ""
    return "ready" if status == "200" else f"/readyz answers {head.partition(chr(13))[0]} {body}".strip()
