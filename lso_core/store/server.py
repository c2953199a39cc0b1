"""One process' way to Redis, be it one server or a cluster: every command goes through `Server`, one round trip for
any number of them.

Scripts are files in `scripts/`; `Server` sends them by digest and loads them where the server does not know them.
Redis' errors become LSO's here, and nowhere else.
"""

import asyncio
import functools
import hashlib
import importlib.resources
import itertools
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
import redis.asyncio
import redis.exceptions

from lso_core.model.errors import BadKeyError, StoreError, StoreUnfitError
from lso_core.model.windows import PARTITIONS, SLOT_MS
from lso_core.store import keys
from lso_core.store.breaker import Breakers
from lso_core.store.cluster import Address, Cluster
from lso_core.store.links import connect
from lso_core.store.trips import AWAY, Beginning, Packed, Way, execute, ping

OLDEST: Final = (7, 0)
BEGINNINGS: Final = 20_000
"""So many packed beginnings of calls are kept, of half a kilobyte to one each."""
LAYOUT: Final = {b"version": b"1", b"partitions": b"%d" % PARTITIONS, b"slot_ms": b"%d" % SLOT_MS}

_NO_WRITES: Final = ("MISCONF", "NOREPLICAS")
"""What Redis says when its disk is full; the second where it syncs each write (see `embedded`)."""

_BAD_KEY: Final = ("WRONGTYPE", "ERR user_script")
"""What Redis says when a command or a script met something in a key that it cannot work with."""
_FAILING_OVER: Final = ("CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED ", "ASK ")

Value = str | bytes | int | float
Command = tuple[Value, ...]
Waiting = TypeVar("Waiting")


class Call(msgspec.Struct, frozen=True):
    """A call of the script `name`.lua."""

    name: str
    keys: tuple[str, ...]
    args: tuple[Value, ...]
    fixed: "Fixed | None" = None
    """What stands before `args` in calls that are made often."""


class Fixed:
    """Arguments that are the same whenever the keys are, for one script and one server: all up to here is packed once."""

    __slots__ = ("args", "packed")

    def __init__(self, *args: Value) -> None:
        self.args = args
        self.packed: Beginning | None = None


class Ask(msgspec.Struct, frozen=True):
    """A command that names no key, for the server that has `key`."""

    command: Command
    key: str


class Script(msgspec.Struct, frozen=True):
    """A script's text and the digest that Redis knows it by."""

    text: bytes
    digest: str


Reading = tuple[tuple[str, ...], "asyncio.Future[tuple[int, list[bytes | None]]]"]
"""Keys of one partition, and who waits for their values."""


class Waiter(Protocol):
    """Who waits for an answer: a future, or what takes one without being a task."""

    def done(self) -> bool:
        """Whether nobody wants the answer any more."""
        ...

    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


Sending = tuple["Command | Call | Ask", Waiter]
"""A call, and who waits for its answer."""
TOGETHER_S: Final = 0.02
"""What comes while a trip to a server is under way goes with all that come until it is back, unless that takes longer."""


class Memory(msgspec.Struct, frozen=True):
    """What one server says of its memory, in bytes; `limit` is 0 where there is none."""

    used: int
    limit: int
    partitions: tuple[int, ...] = tuple(range(PARTITIONS))
    """Those that lie on it; on a cluster there are several servers."""


def load_scripts(*, flags: bool = True) -> dict[str, Script]:
    """All scripts by name; without their `#!lua` line where the server does not know such lines."""
    scripts = {}
    for file in importlib.resources.files(__package__).joinpath("scripts").iterdir():
        if file.name.endswith(".lua"):
            text = file.read_bytes() if flags else file.read_bytes().split(b"\n", 1)[1]
            digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
            scripts[file.name.removesuffix(".lua")] = Script(text, digest)
    return scripts


class _Line(Generic[Waiting]):
    """Who waits for one server."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.began_s = -math.inf
        """When the latest trip began that is not back yet, by the event loop's clock."""


class _Gathering(Generic[Waiting]):
    """Sends what many callers want in few trips: those of one turn of the event loop, and those that come during a trip.

    Each server has a line of its own, so that nobody waits for a server that he did not ask.
    """

    def __init__(self, send: Callable[[list[Waiting]], Awaitable[None]], home: Callable[[Waiting], Any]) -> None:
        self._send = send
        self._home = home
        self._new: list[Waiting] = []
        self._lines: dict[Any, _Line[Waiting]] = {}
        self._trips: set[asyncio.Task[None]] = set()

    def add(self, one: Waiting) -> None:
        """Send `one` with a trip that begins after this."""
        if not self._new:
            asyncio.get_running_loop().call_soon(self._sort_in)
        self._new.append(one)

    def _sort_in(self) -> None:
        new, self._new = self._new, []
        for home, group in _grouped(new, self._home).items():
            line = self._lines.setdefault(home, _Line())
            line.waiting += group
            self._go(line)

    def _go(self, line: _Line[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        if line.waiting and loop.time() - line.began_s > TOGETHER_S:
            task = loop.create_task(self._travel(line))
            self._trips.add(task)  # a loop keeps no hold on its tasks
            task.add_done_callback(self._trips.discard)

    async def _travel(self, line: _Line[Waiting]) -> None:
        """Trip after trip, while somebody waits and no other has begun meanwhile."""
        loop = asyncio.get_running_loop()
        while line.waiting and loop.time() - line.began_s > TOGETHER_S:
            group, line.waiting = line.waiting, []
            line.began_s = began_s = loop.time()
            try:
                await self._send(group)
            finally:
                if line.began_s == began_s:
                    line.began_s = -math.inf


class Server:
    """A Redis server as this process sees it."""

    def __init__(
        self, client: "redis.asyncio.Redis | Cluster", *, script_flags: bool = True, breakers: Breakers | None = None
    ) -> None:
        self._client = client
        self._way = Way(None if breakers is None else breakers.of(None), functools.partial(ping, client))
        if isinstance(client, Cluster):
            client.breakers = breakers
        self._cluster = client if isinstance(client, Cluster) else None
        self._scripts = load_scripts(flags=script_flags)
        self._sending: _Gathering[Sending] = _Gathering(self._flush, self._home_of_call)
        self._reading: _Gathering[Reading] = _Gathering(self._read, self._home_of_keys)
        self.round_trips = 0
        """How often this process went to Redis and back."""

    @classmethod
    def connect(cls, url: str, breakers: Breakers | None = None) -> "Server":
        """A server that is not asked yet whether it is fit. Raises ConfigurationError for what is no Redis URL.

        With `breakers` nobody waits for a server that does not answer.
        """
        return cls(connect(url), breakers=breakers)

    @classmethod
    async def open(cls, url: str, breakers: Breakers | None = None) -> "Server":
        """Connect to `url` and check that the server is fit. Raises ConfigurationError or StoreError."""
        server = cls.connect(url, breakers)
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
        """Raise StoreUnfitError where a server is too old, evicts keys, or was laid out otherwise."""
        for info in await self._infos("server"):
            version = str(info["redis_version"])
            if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
                raise StoreUnfitError(f"LSO_REDIS_URL names a Redis {version}; LSO needs 7.0 or newer")
        for memory in await self._infos("memory"):
            policy = memory.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                raise StoreUnfitError(
                    f"LSO_REDIS_URL names a Redis with maxmemory-policy {policy}, which drops data; set it to noeviction"
                )
        *_, layout = await self.run(
            *(("HSETNX", keys.LAYOUT, field, value) for field, value in LAYOUT.items()),
            ("HGETALL", keys.LAYOUT),
        )
        if layout != LAYOUT:
            written = ", ".join(f"{k.decode()} {v.decode()}" for k, v in sorted(layout.items()))
            raise StoreUnfitError(f"the data was laid out with other constants ({written}); use another Redis database")

    async def run(self, *calls: Command | Call | Ask) -> list[Any]:
        """Send all calls in one round trip; their answers in order. Raises StoreError if any fails."""
        answers = await self.each(*calls)
        for answer in answers:
            if isinstance(answer, BadKeyError):
                raise answer
        return answers

    async def each(self, *calls: Command | Call | Ask) -> list[Any]:
        """As `run`, with a BadKeyError in place of the answer of a call that met one, so that the others stand."""
        answers = await self.reached(*calls)
        for answer in answers:
            if isinstance(answer, StoreError) and not isinstance(answer, BadKeyError):
                raise answer
        return answers

    async def reached(self, *calls: Command | Call | Ask) -> list[Any]:
        """As `each`, with a StoreError in place of an answer that a server did not give, so that those of others stand.

        Raises StoreError where nothing at all could be asked.
        """
        self.round_trips += 1
        answers = await self._send(calls)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
        if unknown:
            await self._load({call.name for at in unknown if isinstance(call := calls[at], Call)})
            again = await self._send([calls[at] for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        for at, answer in enumerate(answers):
            if isinstance(answer, Exception):
                answers[at] = translate(answer)
        return answers

    async def timed(self, *calls: Command | Call) -> list[tuple[int, Any]]:
        """As `each`; beside each answer the time (ms) that its server had before it gave it."""
        if self._cluster is None:
            time, *found = await self.each(("TIME",), *calls)
            now_ms = _ms(time)
            return [(now_ms, answer) for answer in found]
        homes = {_tag(key): key for key in map(_key, calls)}
        answers = await self.each(*(Ask(("TIME",), key) for key in homes.values()), *calls)
        times = {tag: _ms(time) for tag, time in zip(homes, answers, strict=False)}
        return [(times[_tag(_key(call))], answer) for call, answer in zip(calls, answers[len(homes) :], strict=True)]

    async def one(self, call: Command | Call | Ask) -> Any:
        """The answer to one call, in a round trip of its own."""
        return (await self.run(call))[0]

    async def soon(self, call: Command | Call | Ask) -> Any:
        """The answer to one call, in a round trip shared with all others of this turn of the event loop."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(call, future)
        return await future

    def send(self, call: Command | Call | Ask, waiter: Waiter) -> None:
        """As `soon`; the answer, or the StoreError in its place, goes to `waiter`, who must not fail."""
        self._sending.add((call, waiter))

    async def get_soon(self, where: tuple[str, ...]) -> tuple[int, list[bytes | None]]:
        """Redis' time in ms and the values of `where`, read at one moment after this was called.

        Reads that share a round trip share one MGET: Redis answers it in a tenth of the time that the client needs for a
        command each.
        """
        future: asyncio.Future[tuple[int, list[bytes | None]]] = asyncio.get_running_loop().create_future()
        self._reading.add((where, future))
        return await future

    async def _read(self, reading: list[Reading]) -> None:
        """One round trip for reads of many callers, with one MGET for all that may stand in one."""
        groups = [reading] if self._cluster is None else [*_grouped(reading, lambda one: _tag(one[0][0])).values()]
        wanted = [dict.fromkeys(where for where, _ in group) for group in groups]
        calls = [
            call
            for group in wanted
            for call in (Ask(("TIME",), next(iter(group))[0]), ("MGET", *itertools.chain.from_iterable(group)))
        ]
        try:
            answers = await self.reached(*calls)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers wait for it
            answers = [error] * len(calls)
        for number, group in enumerate(groups):
            _hand_out(group, wanted[number], answers[2 * number], answers[2 * number + 1])

    async def memory(self) -> list[Memory]:
        """The memory of each server that answers: of one, but on a cluster. Raises StoreError where none does."""
        if self._cluster is None:
            return [_memory(await self.one(("INFO", "memory")))]
        found = await self.reached(*(Ask(("INFO", "memory"), keys.stats(p)) for p in range(PARTITIONS)))
        homes: dict[Address | None, list[int]] = {}
        for p, info in enumerate(found):
            if not isinstance(info, StoreError):
                homes.setdefault(self._cluster.owner(keys.stats(p)), []).append(p)
        if not homes:
            raise found[0]
        return [_memory(found[partitions[0]], tuple(partitions)) for partitions in homes.values()]

    async def _infos(self, section: str) -> list[dict[str, Any]]:
        """A section of INFO of each server."""
        if self._cluster is None:
            return [await self.one(("INFO", section))]
        where = (keys.LAYOUT, *map(keys.stats, range(PARTITIONS)))
        return await self.run(*(Ask(("INFO", section), key) for key in where))

    def _home_of_call(self, sending: Sending) -> "Address | None":
        """The server that a call goes to."""
        return None if self._cluster is None else self._cluster.owner(_key(sending[0]))

    def _home_of_keys(self, reading: Reading) -> "Address | None":
        """The server that a read goes to."""
        return None if self._cluster is None else self._cluster.owner(reading[0][0])

    async def _flush(self, waiting: list[Sending]) -> None:
        """One round trip for calls of many callers; each gets its own answer or error."""
        self.round_trips += 1
        try:
            answers = await self._send([call for call, _ in waiting])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers wait for it
            answers = [error] * len(waiting)
        for (call, waiter), answer in zip(waiting, answers, strict=True):
            if waiter.done():
                continue  # its caller went away
            if isinstance(answer, redis.exceptions.NoScriptError):
                await self._answer_alone(call, waiter)
            elif isinstance(answer, Exception):
                waiter.set_exception(translate(answer) if isinstance(answer, AWAY) else answer)
            else:
                waiter.set_result(answer)

    async def _answer_alone(self, call: Command | Call | Ask, waiter: Waiter) -> None:
        try:
            waiter.set_result(await self.one(call))
        except StoreError as error:
            waiter.set_exception(error)

    async def _send(self, calls: Sequence[Command | Call | Ask]) -> list[Any]:
        """The answers in order, errors of single commands among them. Raises StoreError where Redis is away."""
        try:
            if isinstance(self._client, Cluster):
                return await self._client.send([(_key(call), self._words(call)) for call in calls])
            with self._way.trip():
                return await execute(self._client, [self._packed(call) for call in calls])
        except AWAY as error:
            raise translate(error) from error

    def _words(self, call: Command | Call | Ask) -> Command:
        if isinstance(call, Ask):
            return call.command
        if not isinstance(call, Call):
            return call
        return *self._opening(call), *call.args

    def _opening(self, call: Call) -> Command:
        fixed = () if call.fixed is None else call.fixed.args
        return "EVALSHA", self._scripts[call.name].digest, len(call.keys), *call.keys, *fixed

    def _packed(self, call: Command | Call | Ask) -> Command | Packed:
        """The words of a call; of one with a fixed beginning its bytes."""
        if not isinstance(call, Call) or call.fixed is None:
            return self._words(call)
        if call.fixed.packed is None:
            call.fixed.packed = Beginning.of(self._opening(call))
        return call.fixed.packed.then(call.args)

    async def _load(self, names: set[str]) -> None:
        await self._send([("SCRIPT LOAD", self._scripts[name].text) for name in names])


def _key(call: Command | Call | Ask) -> str:
    """A key that lies where a call must go; what names none goes where the registry is."""
    if isinstance(call, Call):
        return call.keys[0]
    if isinstance(call, Ask):
        return call.key
    return next((word for word in call[1:] if isinstance(word, str) and word.startswith(keys.PREFIX)), keys.LAYOUT)


def _tag(key: str) -> str:
    """A key's hash tag: what has the same lies together."""
    return key[key.index("{") : key.index("}")]


def _grouped(items: Iterable[Waiting], by: Callable[[Waiting], Any]) -> dict[Any, list[Waiting]]:
    groups: dict[Any, list[Waiting]] = {}
    for one in items:
        groups.setdefault(by(one), []).append(one)
    return groups


def _ms(time: tuple[int, int]) -> int:
    return time[0] * 1_000 + time[1] // 1_000


def _memory(info: dict[str, Any], partitions: tuple[int, ...] = tuple(range(PARTITIONS))) -> Memory:
    return Memory(int(info["used_memory"]), int(info["maxmemory"]), partitions)


def _hand_out(reading: list[Reading], wanted: Iterable[tuple[str, ...]], time: Any, values: Any) -> None:
    """Give each caller its part of one MGET of all that was wanted, or the error in place of it."""
    error = next((one for one in (time, values) if isinstance(one, Exception)), None)
    found: dict[tuple[str, ...], tuple[int, list[bytes | None]]] = {}
    if error is None:
        now_ms, at = _ms(time), 0
        for where in wanted:
            found[where] = now_ms, values[at : at + len(where)]
            at += len(where)
    for where, future in reading:
        if future.done():
            continue  # its caller went away
        if error is None:
            future.set_result(found[where])
        else:
            future.set_exception(error)


def translate(error: Exception) -> StoreError:
    """A Redis error as one of LSO's."""
    if isinstance(error, StoreError):
        return error
    text = str(error)
    if isinstance(error, OSError):
        return StoreError(f"Redis cannot be reached: {text}")
    if isinstance(error, redis.exceptions.ReadOnlyError) or text.startswith(_FAILING_OVER):
        return StoreError(f"Redis is failing over: {text}")
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
