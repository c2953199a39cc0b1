"""Many commands to one server and their answers back, in one round trip; and the breaker on the way.

redis-py connects, signs in, keeps the pool and reads answers; its pipelines do the same as what is here at four times the
cost: they poll each connection before its use, start a task to write with a time limit, and pack commands in Python.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple

import hiredis
import redis.asyncio
import redis.exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA

from lso_core.model.errors import StoreError
from lso_core.store.breaker import Breaker

AWAY: Final = (redis.exceptions.RedisError, OSError)
"""What redis-py raises when a server is away."""
TIMEOUT_S: Final = 5.0
"""How long an answer may take. A connection that swallows packets is given up after that."""

_CLOSED: Final = "handler is closed"
"""What uvloop says, in a RuntimeError, of a write to a connection that was reset just before."""

_LINE: Final = b"\r\n"

Words = tuple[Any, ...]
"""A command."""


class Packed(NamedTuple):
    """A command as it is sent: of its first words, which are those of others too, the same bytes each time."""

    beginning: bytes
    rest: memoryview


class Beginning(NamedTuple):
    """The first words of a command, packed."""

    words: int
    data: bytes

    @classmethod
    def of(cls, words: Words) -> "Beginning":
        """These words, without the line that tells how many there are."""
        return cls(len(words), hiredis.pack_command(words).partition(_LINE)[2])

    def then(self, words: Words) -> Packed:
        """The command that goes on with `words`."""
        rest = hiredis.pack_command(words)
        return Packed(
            b"*%d\r\n%b" % (self.words + len(words), self.data), memoryview(rest)[rest.index(_LINE) + len(_LINE) :]
        )


class Way:
    """The way to one server, behind its breaker if it has one; while that is open a ping looks now and then whether
    the server is back, so that no caller has to wait for the answer.
    """

    def __init__(self, breaker: Breaker | None, ping: Callable[[], Awaitable[object]]) -> None:
        self._breaker = breaker
        self._ping = ping
        self._looks: set[asyncio.Task[None]] = set()

    def trip(self) -> "contextlib.AbstractContextManager[None]":
        """A trip that the breaker learns from. Raises StoreError where it lets nobody through."""
        if self._breaker is None:
            return contextlib.nullcontext()
        try:
            return _Watched(self._breaker, self._breaker.begin())
        except StoreError:
            self._look(self._breaker)
            raise

    def _look(self, breaker: Breaker) -> None:
        number = breaker.begin_probe()
        if number is None:
            return
        task = asyncio.get_running_loop().create_task(self._probe(breaker, number))
        self._looks.add(task)  # a loop keeps no hold on its tasks
        task.add_done_callback(self._looks.discard)

    async def _probe(self, breaker: Breaker, number: int) -> None:
        with contextlib.suppress(*AWAY), _Watched(breaker, number):
            await self._ping()


class _Watched:
    """A context that tells the breaker how a trip ends. Every trip is in one, so it is no generator, which would take longer."""

    __slots__ = ("_breaker", "_number")

    def __init__(self, breaker: Breaker, number: int) -> None:
        self._breaker = breaker
        self._number = number

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        gave_up = isinstance(error, asyncio.CancelledError)
        self._breaker.end(self._number, answered=None if gave_up else not isinstance(error, AWAY))


async def ping(client: Any) -> None:
    """Wait for an answer, whatever it says. Raises one of AWAY."""
    await execute(client, [("PING",)])


async def execute(client: "redis.asyncio.Redis", commands: Sequence[Words | Packed]) -> list[Any]:
    """The answers in order, errors of single commands among them. Raises one of AWAY."""
    return await exchange(client, await connected(client), commands)


async def connected(client: "redis.asyncio.Redis") -> Any:
    """A connection from the client's pool, for `exchange` to use and give back. Raises one of AWAY."""
    pool = client.connection_pool
    if not pool.can_get_connection():
        async with _limit():
            return await pool.get_connection()
    connection = pool.get_available_connection()  # type: ignore[no-untyped-call]
    if not connection.is_connected or _closed(connection):
        await _connect(client, connection)
    return connection


async def _connect(client: "redis.asyncio.Redis", connection: Any) -> None:
    try:
        async with _limit():
            await connection.disconnect(nowait=True)
            await connection.connect()
    except BaseException:
        await client.connection_pool.release(connection)
        raise


async def exchange(client: "redis.asyncio.Redis", connection: Any, commands: Sequence[Words | Packed]) -> list[Any]:
    """Send all commands and read their answers; then the connection is given back. Raises one of AWAY."""
    callbacks, answers = client.response_callbacks, []
    try:
        async with asyncio.timeout(TIMEOUT_S) as limit:
            await connection.send_packed_command(_packed(commands), check_health=False)
            for words in commands:
                answer = _here(connection)
                if answer is NOT_ENOUGH_DATA:
                    answer = await _answer(connection)
                    _extend(limit)
                callback = None if isinstance(words, Packed) else callbacks.get(words[0])
                answers.append(answer if callback is None or isinstance(answer, Exception) else callback(answer))
    except BaseException as error:
        await connection.disconnect(nowait=True)  # the answers that did not come are nobody's
        if isinstance(error, TimeoutError):
            raise _too_late() from None
        if isinstance(error, RuntimeError) and _CLOSED in str(error):
            raise redis.exceptions.ConnectionError("it closed the connection") from error
        raise
    finally:
        await client.connection_pool.release(connection)
    return answers


@contextlib.asynccontextmanager
async def _limit() -> AsyncIterator[None]:
    """Ends what takes longer than TIMEOUT_S."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except TimeoutError:
        raise _too_late() from None


def _too_late() -> redis.exceptions.TimeoutError:
    return redis.exceptions.TimeoutError(f"no answer within {TIMEOUT_S:g} s")


def _extend(limit: asyncio.Timeout) -> None:
    """An answer came: the next may take as long again. A second more or less does not matter, and setting it costs."""
    now, ends = asyncio.get_running_loop().time(), limit.when()
    if ends is not None and ends - now < TIMEOUT_S - 1:
        limit.reschedule(now + TIMEOUT_S)


def _here(connection: Any) -> Any:
    """The next answer where it has come already, as most have with one before them; or NOT_ENOUGH_DATA.

    redis-py looks for it through five calls. Raises one of AWAY.
    """
    reader = connection._parser._reader  # noqa: SLF001 - None where the connection has just been closed
    answer = NOT_ENOUGH_DATA if reader is None else reader.gets()
    if isinstance(answer, redis.exceptions.ConnectionError):  # as that the server is still loading
        raise answer
    return answer


async def _answer(connection: Any) -> Any:
    """The next answer, or the error that stands for it."""
    try:
        return await connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error


def _closed(connection: Any) -> bool:
    """Whether the other side has closed an idle connection.

    redis-py has no public way to know but to read, which costs more than a trip.
    """
    reader, writer = connection._reader, connection._writer  # noqa: SLF001
    return reader.at_eof() or (isinstance(writer, asyncio.StreamWriter) and writer.is_closing())


def _packed(commands: Sequence[Words | Packed]) -> list[Any]:
    """The bytes of all commands. To copy an argument of megabytes costs less than to look for them in every command."""
    parts: list[Any] = []
    for words in commands:
        if isinstance(words, Packed):
            parts += words
        else:
            parts.append(hiredis.pack_command(_split(words)))
    return parts


def _split(words: Words) -> Words:
    first = words[0]
    return (*first.split(), *words[1:]) if isinstance(first, str) and " " in first else words  # as in SCRIPT LOAD
