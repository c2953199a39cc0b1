"""The members of the supervised tree: how one is started, watched, started again, and ended."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from lso_core.cli.processes import ROOT
from lso_core.cli.shares import Shares
from lso_core.model.errors import LsoError
from lso_core.store.embedded import EmbeddedServer, end
from lso_core.store.tether import tethered

Say = Callable[[str], None]


class Child(Protocol):
    """A process of the tree."""

    name: str

    async def start(self) -> None:
        """Start it; raises LsoError where it does not come up."""

    async def wait(self) -> int:
        """Wait for its end; the status, negative for a signal."""
        ...

    async def stop(self, within: float) -> None:
        """End it: SIGTERM, and SIGKILL after `within` seconds."""

    async def after_death(self) -> None:
        """Clear up behind it."""


class Backoff:
    """How long to wait before the next start: not at all, then 0.1 s doubling to 2 s; anew after 5 s alive."""

    FIRST_S, LONGEST_S, WELL_AFTER_S = 0.1, 2.0, 5.0

    def __init__(self) -> None:
        self.deaths = 0
        """Deaths in a row."""

    def pause(self, alive_s: float) -> float:
        """The pause after a life of `alive_s` seconds."""
        if alive_s >= self.WELL_AFTER_S:
            self.deaths = 0
        self.deaths += 1
        return 0.0 if self.deaths == 1 else min(self.FIRST_S * 2 ** (self.deaths - 2), self.LONGEST_S)


class RedisChild:
    """The embedded server as a member of the tree."""

    name = "redis"

    def __init__(self, server: EmbeddedServer, say: Say) -> None:
        self.server = server
        self._say = say

    async def start(self) -> None:
        await self.server.start(self._say)

    async def wait(self) -> int:
        return await self.server.wait()

    async def stop(self, within: float) -> None:
        await self.server.stop(within)

    async def after_death(self) -> None:
        """Nothing: the lock stays with the supervisor, and the next start removes the socket."""


class LsoChild:
    """A process of ours: `lso ROLE ARGUMENTS`, which ends with this process."""

    def __init__(
        self,
        role: str,
        number: int,
        arguments: Mapping[str, int],
        environ: Mapping[str, str],
        more: tuple[str, ...] = (),
    ) -> None:
        """`arguments` are options with descriptors that it inherits; `more` are others."""
        self.name = f"{role} {number}"
        self._role = role
        self._fds = arguments
        self._more = more
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        words = [word for option, fd in self._fds.items() for word in (option, str(fd))]
        self._process = await asyncio.create_subprocess_exec(
            *tethered(
                (sys.executable, "-P", "-m", "lso_core.cli.lso", self._role, *words, *self._more), signal.SIGKILL
            ),
            stdin=asyncio.subprocess.DEVNULL,
            env={**self._environ, **self.own_environ()},
            pass_fds=tuple(self._fds.values()),
            start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in order
        )

    def own_environ(self) -> dict[str, str]:
        """Variables of this child alone, made anew for each start."""
        return {}

    async def wait(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return await self._process.wait()

    async def stop(self, within: float) -> None:
        if self._process is not None:
            await end(self._process, within)

    async def after_death(self) -> None:
        """Nothing."""


class ApiChild(LsoChild):
    """An API process, which shares its listening socket with others."""

    def __init__(
        self, number: int, arguments: Mapping[str, int], environ: Mapping[str, str], shares_fd: int, shares: Shares
    ) -> None:
        super().__init__("api", number, {**arguments, "--shares-fd": shares_fd}, environ, ("--number", str(number - 1)))
        self._place = number - 1
        self._shares = shares

    async def after_death(self) -> None:
        self._shares.leave(self._place)  # so that no connection is left to it


class WorkerChild(LsoChild):
    """A worker; each start is a new worker to the others, and a dead one's leases are given back for it."""

    _worker_id = ""

    def own_environ(self) -> dict[str, str]:
        self._worker_id = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        return {"LSO_WORKER_ID": self._worker_id}

    async def after_death(self) -> None:
        from lso_core.store.leases import release_worker  # loads redis

        with contextlib.suppress(LsoError):  # Redis is away: then the leases end by themselves
            await release_worker(self._environ["LSO_REDIS_URL"], self._worker_id)


def child_environ(own: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """What children are told: everything that this process was told, every setting, and where our packages are."""
    path = [str(ROOT), *filter(None, [own.get("PYTHONPATH")])]
    return {**own, **settings, "PYTHONPATH": os.pathsep.join(path)}


def ended(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"
