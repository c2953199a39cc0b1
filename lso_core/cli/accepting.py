"""How API processes that share a listening socket come to have about as many connections each.

The kernel wakes all of them for a new connection, and whoever is quickest takes it. Left to themselves, one takes nearly all
of those that come together, has them as long as they are kept alive, and is busy while its siblings idle. So whoever has more
than another leaves it what comes, for a moment.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

import structlog

from lso_core.cli.shares import Shares

LOOK_S: Final = 0.001
"""How long a connection is left to others until it is looked at again…"""
LOOKS: Final = 20
"""…and how often; they may be busy, or stopped."""
AGAIN_S: Final = 0.2
"""After so long of taking what others did not they are asked again."""
AT_ONCE: Final = 64
"""After so many connections whatever else waits has its turn."""
RETRY_S: Final = 1.0
"""How long none is taken where the system has nothing left for it."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


class Acceptor:
    """Takes connections off a listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        factory: Callable[[], Any],
        connections: set[Any],
        most: int,
        shares: Shares | None,
    ) -> None:
        """`factory` makes a protocol, which is in `connections` while it is connected, and says `recount` when that changes.
        More than `most` will be refused.
        """
        self._listener = listener
        self._factory = factory
        self._connections = connections
        self._most = most
        self._shares = shares
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        """Set while none is taken."""
        self._leaving: asyncio.TimerHandle | None = None
        """Set while they are left to others."""
        self._looks = 0
        self._looked = 0.0
        listener.setblocking(False)
        self._go_on()

    async def close(self) -> None:
        """Take no more; what was taken goes on."""
        self._stop()
        self._listener.close()
        if self._shares is not None:
            self._shares.leave()
            self._shares = None
        if self._coming:
            await asyncio.wait(self._coming)

    def recount(self) -> None:
        """Know that there is a connection more or less, and let the other processes know."""
        if self._shares is None or self._resting is not None:
            return
        self._shares.tell(len(self._connections))
        if self._leaving is not None and not self._is_ahead(self._shares):
            self._go_on()

    def _go_on(self) -> None:
        self._stop()
        if self._shares is not None:
            self._shares.tell(len(self._connections))
        self._loop.add_reader(self._listener, self._take)

    def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        for timer in (self._resting, self._leaving):
            if timer is not None:
                timer.cancel()
        self._resting = self._leaving = None

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            if self._leaves_it():
                self._stop()
                self._leaving = self._loop.call_later(LOOK_S, self._go_on)
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.warning("connections.none-left", error=error.strerror, pause_s=RETRY_S)
                self._stop()
                self._resting = self._loop.call_later(RETRY_S, self._go_on)
                if self._shares is not None:
                    self._shares.leave()
                return
            task = self._loop.create_task(self._connect(connection))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    def _leaves_it(self) -> bool:
        """Whether another process should take what comes."""
        now, last = self._loop.time(), self._looked
        if self._shares is None or not self._is_ahead(self._shares):
            self._looks = 0
            return False
        if now - last > (AGAIN_S if self._looks > LOOKS else LOOK_S * LOOKS):
            self._looks = 0  # others took what was looked at then, or may do so by now
        if self._looks <= LOOKS:
            self._looks += 1
            self._looked = now
        return self._looks <= LOOKS

    def _is_ahead(self, shares: Shares) -> bool:
        return shares.is_ahead(len(self._connections) + len(self._coming), self._most)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # it is gone already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._factory, connection)
