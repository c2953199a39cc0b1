"""A Redis Cluster: which node has which slot, and the way of many commands to their nodes and back.

A node's answer that it did not do what it was told (MOVED, ASK, TRYAGAIN, CLUSTERDOWN), and a connection that could not be
made, are safe to try again. A connection that broke after the commands were sent is not: what became of them is unknown,
so that their answer is the error, and whoever sent them decides.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import redis.exceptions
from redis.crc import key_slot

from lso_core.model.errors import StoreError
from lso_core.store.breaker import Breakers
from lso_core.store.trips import AWAY, Way, connected, exchange, ping

Address = tuple[str, int]
Routed = tuple[str, tuple[Any, ...]]
"""A key of the slot it belongs to, and the words of a command."""

SLOTS: Final = 16_384
ATTEMPTS: Final = 3
PAUSE_S: Final = 0.02
"""Before the first repetition; twice as long before each further one."""
ASK_S: Final = 1.0
"""How long one node may take to say who has which slot, before the next is asked."""

_NOT_DONE: Final = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")
_EVERYWHERE: Final = "SCRIPT LOAD"
"""Goes to every master: also one that is only about to get a slot must know the scripts."""


class _Unsent(msgspec.Struct, frozen=True):
    """In place of an answer: the command did not leave this process."""

    error: Exception


class Cluster:
    """The nodes of a cluster, as far as this process knows them."""

    def __init__(self, seeds: Sequence[Address], node: "Callable[[Address], redis.asyncio.Redis]") -> None:
        self._seeds = tuple(seeds)
        self._node = node
        self._clients: dict[Address, redis.asyncio.Redis] = {}
        self._ways: dict[Address, Way] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._slots: dict[str, int] = {}
        self._stale = True
        self._learning = asyncio.Lock()
        self.breakers: Breakers | None = None
        """Where set, nobody waits for a node that does not answer."""

    async def aclose(self) -> None:
        """Give all connections back."""
        clients, self._clients = self._clients, {}
        await asyncio.gather(*(client.aclose() for client in clients.values()))

    def owner(self, key: str) -> Address | None:
        """The node that had a key when last looked, None before that or where the cluster has nobody for it."""
        return self._owners[self._slot(key)]

    async def send(self, commands: Sequence[Routed]) -> list[Any]:
        """The answers in order, errors among them; one pipeline a node, all nodes at once.

        Commands of one slot are done in their order. Where one of them has to be repeated on another node, those of its
        slot that name no key of their own (TIME) are repeated with it.
        """
        answers: list[Any] = [None] * len(commands)
        todo = list(range(len(commands)))
        asked: dict[int, Address] = {}
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(PAUSE_S * 2**attempt if self._stale else 0)
            if self._stale:
                await self._learn()
            await self._send_each([(at, *commands[at]) for at in todo], asked, answers)
            asked = self._redirect([at for at in todo if _not_done(answers[at])], answers)
            slots = {self._at(commands[at]) for at in todo if _not_done(answers[at])}
            if not slots:
                break
            todo = [
                at
                for at in todo
                if _not_done(answers[at]) or (_is_time(commands[at]) and self._at(commands[at]) in slots)
            ]
            asking = {self._at(commands[at]): place for at, place in asked.items()}
            asked |= {
                at: asking[slot] for at in todo if _is_time(commands[at]) and (slot := self._at(commands[at])) in asking
            }
        return [answer.error if isinstance(answer, _Unsent) else answer for answer in answers]

    async def _send_each(self, work: list[tuple[int, str, Any]], asked: dict[int, Address], answers: list[Any]) -> None:
        groups: dict[Address, list[tuple[int, Any, bool]]] = {}
        for at, key, words in work:
            owner = asked.get(at) or self._owners[self._slot(key)]
            places: list[Address | None] = [owner]
            if words[0] == _EVERYWHERE:
                places = [*(set(self._owners) - {None})]
            for place in places:
                if place is None:
                    answers[at] = redis.exceptions.ResponseError("CLUSTERDOWN no node has the slot of this key")
                else:
                    groups.setdefault(place, []).append((at, words, at in asked))
        await asyncio.gather(*(self._send_to(address, group, answers) for address, group in groups.items()))

    async def _send_to(self, address: Address, group: list[tuple[int, Any, bool]], answers: list[Any]) -> None:
        """Send one node its commands and put its answers in their places."""
        client = self._client(address)
        commands = [
            words for _, command, asking in group for words in ((("ASKING",), command) if asking else (command,))
        ]
        sent = False
        try:
            with self._way(address).trip():
                connection = await connected(client)
                sent = True
                found = iter(await exchange(client, connection, commands))
        except AWAY as error:
            self._stale = True
            for at, _, _ in group:
                answers[at] = error if sent else _Unsent(error)
            return
        except StoreError as error:  # the breaker's
            for at, _, _ in group:
                answers[at] = error
            return
        for at, _, asking in group:
            if asking:
                next(found)
            answers[at] = next(found)

    def _redirect(self, again: list[int], answers: list[Any]) -> dict[int, Address]:
        """Take in what nodes said of slots; where to ask just this once, by command."""
        asked = {}
        for at in again:
            word, _, rest = str(answers[at]).partition(" ") if not isinstance(answers[at], _Unsent) else ("", "", "")
            if word in {"MOVED", "ASK"}:
                slot, _, place = rest.partition(" ")
                host, _, port = place.rpartition(":")
                home = self._owners[int(slot)]
                address = (host or (home[0] if home else ""), int(port))
                if word == "ASK":
                    asked[at] = address
                else:
                    self._owners[int(slot)] = address
            else:
                self._stale = True
        return asked

    def _at(self, command: Routed) -> int:
        return self._slot(command[0])

    def _slot(self, key: str) -> int:
        """The slot of a key; ours all have a hash tag, of which there are few."""
        tag = key[: key.find("}") + 1]
        if tag not in self._slots:
            self._slots[tag] = key_slot(tag.encode())
        return self._slots[tag]

    def _way(self, address: Address) -> Way:
        if address not in self._ways:
            breaker = None if self.breakers is None else self.breakers.of(address)
            self._ways[address] = Way(breaker, functools.partial(self._look, address))
        return self._ways[address]

    async def _look(self, address: Address) -> None:
        """See whether a node is back; where it is not, another may have taken its place."""
        try:
            await ping(self._client(address))
        except AWAY:
            self._stale = True
            raise

    def _client(self, address: Address) -> "redis.asyncio.Redis":
        if address not in self._clients:
            self._clients[address] = self._node(address)
        return self._clients[address]

    async def _learn(self) -> None:
        """Ask the nodes, one after the other until one answers, who has which slot. Raises redis' ConnectionError."""
        async with self._learning:
            if not self._stale:
                return
            known = {owner: None for owner in self._owners if owner is not None}
            reason: Exception | None = None
            for address in dict.fromkeys((*known, *self._seeds)):
                try:
                    async with asyncio.timeout(ASK_S):
                        found = await self._client(address).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                except redis.exceptions.AuthenticationError:
                    raise
                except redis.exceptions.ResponseError as error:
                    raise redis.exceptions.ConnectionError(f"it is no cluster: {error}") from error
                except (redis.exceptions.RedisError, OSError) as error:
                    reason = error
                    continue
                await self._take(address, found)
                return
            raise redis.exceptions.ConnectionError(f"no node of the cluster answers: {reason}")

    async def _take(self, asked: Address, found: Any) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for first, last, nodes, *_ in found:
            host, port = nodes[0], nodes[1]
            owners[first : last + 1] = [((host or b"").decode() or asked[0], int(port))] * (last + 1 - first)
        self._owners, self._stale = owners, False
        gone = set(self._clients) - {owner for owner in owners if owner is not None} - set(self._seeds)
        for address in gone:  # its connections in use end where they are given back
            await self._clients.pop(address).aclose()


def _is_time(command: Routed) -> bool:
    return command[1] == ("TIME",)


def _not_done(answer: Any) -> bool:
    """Whether a command certainly was not executed, so that it may be sent again."""
    return isinstance(answer, _Unsent) or (
        isinstance(answer, redis.exceptions.ResponseError) and str(answer).startswith(_NOT_DONE)
    )
