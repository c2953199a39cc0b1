"""One process' way to Redis: every command goes through `Server.run`, one round trip for any number of them.

Scripts are files in `scripts/`; `Server` sends them by digest and loads them where the server does not know them.
Redis' errors become LSO's here, and nowhere else.
"""

import asyncio
import hashlib
import importlib.resources
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import redis.exceptions

from lso_core.model.errors import BadKeyError, ConfigurationError, StoreError, StoreUnfitError
from lso_core.model.windows import PARTITIONS, SLOT_MS
from lso_core.store import keys

CONNECTIONS: Final = 32
"""Most connections of one process; what comes on top waits its turn."""
TIMEOUT_S: Final = 5.0
"""How long an answer may take. A connection that swallows packets is given up after that."""
OLDEST: Final = (7, 0)
LAYOUT: Final = {b"version": b"1", b"partitions": b"%d" % PARTITIONS, b"slot_ms": b"%d" % SLOT_MS}

AWAY: Final = (redis.exceptions.RedisError, OSError)
"""What libraries that share our pool raise when Redis is away."""

_NO_WRITES: Final = ("MISCONF", "NOREPLICAS")
"""What Redis says when its disk is full; the second where it syncs each write (see `embedded`)."""

_BAD_KEY: Final = ("WRONGTYPE", "ERR user_script")
"""What Redis says when a command or a script met something in a key that it cannot work with."""

_CLOSED: Final = "handler is closed"
"""What uvloop says, in a RuntimeError, of a write to a connection that was reset just before."""

Value = str | bytes | int | float
Command = tuple[Value, ...]


class Call(msgspec.Struct, frozen=True):
    """A call of the script `name`.lua."""

    name: str
    keys: tuple[str, ...]
    args: tuple[Value, ...]


class Script(msgspec.Struct, frozen=True):
    """A script's text and the digest that Redis knows it by."""

    text: bytes
    digest: str


class Memory(msgspec.Struct, frozen=True):
    """What the server says of its memory, in bytes; `limit` is 0 where there is none."""

    used: int
    limit: int


def load_scripts(*, flags: bool = True) -> dict[str, Script]:
    """All scripts by name; without their `#!lua` line where the server does not know such lines."""
    scripts = {}
    for file in importlib.resources.files(__package__).joinpath("scripts").iterdir():
        if file.name.endswith(".lua"):
            text = file.read_bytes() if flags else file.read_bytes().split(b"\n", 1)[1]
            digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
            scripts[file.name.removesuffix(".lua")] = Script(text, digest)
    return scripts


class Server:
    """A Redis server as this process sees it."""

    def __init__(self, client: "redis.asyncio.Redis", *, script_flags: bool = True) -> None:
        self._client = client
        self._scripts = load_scripts(flags=script_flags)
        self._waiting: list[tuple[Command | Call, asyncio.Future[Any]]] = []
        self._reading: list[tuple[tuple[str, ...], asyncio.Future[tuple[int, list[bytes | None]]]]] = []
        self._flushes: set[asyncio.Task[None]] = set()
        self.round_trips = 0
        """How often this process went to Redis and back."""

    @classmethod
    def connect(cls, url: str) -> "Server":
        """A server that is not asked yet whether it is fit. Raises ConfigurationError for what is no Redis URL."""
        return cls(connect(url))

    @classmethod
    async def open(cls, url: str) -> "Server":
        """Connect to `url` and check that the server is fit. Raises ConfigurationError or StoreError."""
        server = cls.connect(url)
        try:
            await server.check()
        except BaseException:
            await server.close()
            raise
        return server

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def check(self) -> None:
        """Raise StoreUnfitError where the server is too old, evicts keys, or was laid out otherwise."""
        info, memory, *_, layout = await self.run(
            ("INFO", "server"),
            ("INFO", "memory"),
            *(("HSETNX", keys.LAYOUT, field, value) for field, value in LAYOUT.items()),
            ("HGETALL", keys.LAYOUT),
        )
        version = str(info["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise StoreUnfitError(f"LSO_REDIS_URL names a Redis {version}; LSO needs 7.0 or newer")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise StoreUnfitError(
                f"LSO_REDIS_URL names a Redis with maxmemory-policy {policy}, which drops data; set it to noeviction"
            )
        if layout != LAYOUT:
            written = ", ".join(f"{k.decode()} {v.decode()}" for k, v in sorted(layout.items()))
            raise StoreUnfitError(f"the data was laid out with other constants ({written}); use another Redis database")

    async def run(self, *calls: Command | Call) -> list[Any]:
        """Send all calls in one round trip; their answers in order. Raises StoreError if any fails."""
        answers = await self.each(*calls)
        for answer in answers:
            if isinstance(answer, BadKeyError):
                raise answer
        return answers

    async def each(self, *calls: Command | Call) -> list[Any]:
        """As `run`, with a BadKeyError in place of the answer of a call that met one, so that the others stand."""
        self.round_trips += 1
        answers = await self._send(calls)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
        if unknown:
            await self._load({call.name for call in calls if isinstance(call, Call)})
            again = await self._send([calls[at] for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        for at, answer in enumerate(answers):
            if isinstance(answer, Exception):
                error = translate(answer)
                if not isinstance(error, BadKeyError):
                    raise error from answer
                answers[at] = error
        return answers

    async def one(self, call: Command | Call) -> Any:
        """The answer to one call, in a round trip of its own."""
        return (await self.run(call))[0]

    async def soon(self, call: Command | Call) -> Any:
        """The answer to one call, in a round trip shared with all others of this turn of the event loop."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._start_flush)
        self._waiting.append((call, future))
        return await future

    async def get_soon(self, where: tuple[str, ...]) -> tuple[int, list[bytes | None]]:
        """Redis' time in ms and the values of `where`, read at one moment.

        All reads of this turn of the event loop share one MGET: Redis answers it in a tenth of the time that the
        client needs for a command each.
        """
        future: asyncio.Future[tuple[int, list[bytes | None]]] = asyncio.get_running_loop().create_future()
        if not self._reading:
            asyncio.get_running_loop().call_soon(self._start_reading)
        self._reading.append((where, future))
        return await future

    def _start_reading(self) -> None:
        reading, self._reading = self._reading, []
        self._keep(self._read(reading))

    async def _read(
        self, reading: list[tuple[tuple[str, ...], "asyncio.Future[tuple[int, list[bytes | None]]]"]]
    ) -> None:
        try:
            (seconds, micros), values = await self.run(
                ("TIME",), ("MGET", *(key for where, _ in reading for key in where))
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers wait for it
            for _, future in reading:
                if not future.done():
                    future.set_exception(error)
            return
        now_ms, at = seconds * 1_000 + micros // 1_000, 0
        for where, future in reading:
            if not future.done():
                future.set_result((now_ms, values[at : at + len(where)]))
            at += len(where)

    async def memory(self) -> Memory:
        """The server's memory."""
        info = await self.one(("INFO", "memory"))
        return Memory(int(info["used_memory"]), int(info["maxmemory"]))

    def _start_flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._keep(self._flush(waiting))

    def _keep(self, work: "Coroutine[Any, Any, None]") -> None:
        """Run `work` beside the callers that wait for it; a loop keeps no hold on its tasks."""
        task = asyncio.get_running_loop().create_task(work)
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    async def _flush(self, waiting: list[tuple[Command | Call, asyncio.Future[Any]]]) -> None:
        """One round trip for calls of many callers; each gets its own answer or error."""
        self.round_trips += 1
        try:
            answers = await self._send([call for call, _ in waiting])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers wait for it
            answers = [error] * len(waiting)
        for (call, future), answer in zip(waiting, answers, strict=True):
            if future.done():
                continue  # its caller went away
            if isinstance(answer, redis.exceptions.NoScriptError):
                await self._answer_alone(call, future)
            elif isinstance(answer, redis.exceptions.RedisError):
                future.set_exception(translate(answer))
            elif isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _answer_alone(self, call: Command | Call, future: "asyncio.Future[Any]") -> None:
        try:
            future.set_result(await self.one(call))
        except StoreError as error:
            future.set_exception(error)

    async def _send(self, calls: Sequence[Command | Call]) -> list[Any]:
        """The answers in order, errors of single commands among them. Raises StoreError where Redis is away."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                pipeline.execute_command(*self._words(call))
            return list(await pipeline.execute(raise_on_error=False))
        except redis.exceptions.RedisError as error:
            raise translate(error) from error
        except OSError as error:
            raise StoreError(f"Redis cannot be reached: {error}") from error
        except RuntimeError as error:
            if _CLOSED not in str(error):
                raise
            raise StoreError("Redis cannot be reached: it closed the connection") from error

    def _words(self, call: Command | Call) -> Command:
        if not isinstance(call, Call):
            return call
        return ("EVALSHA", self._scripts[call.name].digest, len(call.keys), *call.keys, *call.args)

    async def _load(self, names: set[str]) -> None:
        await self._send([("SCRIPT LOAD", self._scripts[name].text) for name in names])


def connect(url: str) -> "redis.asyncio.Redis":
    """A client for `url`, not connected yet. Raises ConfigurationError for what is no Redis URL."""
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        )
    except ValueError as error:
        raise ConfigurationError(f"LSO_REDIS_URL is not a Redis URL: {error}") from None
    return redis.asyncio.Redis.from_pool(pool)  # and so the pool is closed with the client


def translate(error: Exception) -> StoreError:
    """A Redis error as one of LSO's."""
    if isinstance(error, StoreError):
        return error
    text = str(error)
    if isinstance(error, redis.exceptions.AuthenticationError):
        return StoreError(f"Redis refuses the credentials: {text}")
    if isinstance(error, redis.exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return StoreError("Redis is out of memory (maxmemory); nothing was stored")
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return StoreError("Redis is still loading its data")
    if text.startswith(_NO_WRITES):
        return StoreError("Redis cannot write to its disk; nothing was stored")
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return StoreError(f"Redis cannot be reached: {text}")
    kind = BadKeyError if text.startswith(_BAD_KEY) else StoreError
    return kind(f"Redis answered with an error: {text}")
