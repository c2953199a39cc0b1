"""Clients that send a byte a second, and clients that never read their answers."""

import math
import select
import socket
import statistics
import threading
import time
from types import TracebackType
from typing import Final, Self

import psutil

from tests.chaos.catalogue import fault
from tests.chaos.lines import Line
from tests.chaos.trial import Trial
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, events, register
from tests.waiting import wait_for

MIB: Final = 1 << 20
TIMEOUT_S: Final = 3
"""LSO_CLIENT_TIMEOUT in this trial."""
RATIO: Final = 2.0
"""The others' p99 may become this many times as long; a part of it is what the slow clients cost themselves."""
MEMORY: Final = 128 * MIB
"""An API process may grow by so much."""


@fault("slow-clients")
def slow_clients(trial: Trial) -> None:
    """Clients that send a byte a second, and clients that never read: others do not notice, and they are cut off."""
    dripping, deaf = trial.size((100, 40), (500, 200))
    service = trial.start_service("--api-processes", "1", environ={"LSO_CLIENT_TIMEOUT": str(TIMEOUT_S)})
    (api,) = service.children("api")
    with service.client() as http:
        system = register(http)
        for _ in range(20):
            system.take(events(500, payload={"text": "x" * 200}))
        system.health_with(total=10_000)
    seconds = trial.size(2.0, 6.0)
    before, after, grown = [], [], 0
    for _ in range(trial.size(1, 5)):
        before.append(_p99_ms(service, system, seconds))
        memory = api.memory_info().rss
        with _Slow(service, system, dripping, deaf, bodies=not trial.short) as slow:  # a body may take a minute
            time.sleep(0.5)
            after.append(_p99_ms(service, system, seconds))
            grown = max(grown, api.memory_info().rss - memory)
            wait_for(lambda: slow.cut_off >= dripping + deaf, "all slow clients are cut off", 90)
        trial.check(grown < MEMORY, f"the API process grew by {grown / MIB:.0f} MiB")
    ratio = statistics.median(after) / statistics.median(before)
    trial.figures.update(
        dripping=dripping,
        deaf=deaf,
        p99_before_ms=round(statistics.median(before), 2),
        p99_meanwhile_ms=round(statistics.median(after), 2),
        ratio=round(ratio, 2),
        grown_mib=round(grown / MIB, 1),
    )
    trial.check(ratio < trial.size(20, RATIO), f"the others' p99 is {ratio:.1f} times as long")
    wait_for(lambda: _connections(api) < 20, "their connections are gone", 30)


def _p99_ms(service: Service, system: ObservedSystem, seconds: float) -> float:
    """Of health reads and small posts by one polite client."""
    took = []
    until = time.monotonic() + seconds
    with Line(service.address) as line:
        while time.monotonic() < until:
            began = time.perf_counter()
            status, _ = line.get(f"{system.path}/health")
            took.append((time.perf_counter() - began) * 1_000)
            assert status == 200
            time.sleep(0.002)
    return sorted(took)[math.ceil(0.99 * len(took)) - 1]


class _Slow:
    """Slow clients on one thread, each until it is cut off."""

    def __init__(self, service: Service, system: ObservedSystem, dripping: int, deaf: int, *, bodies: bool) -> None:
        self.cut_off = 0
        body = b'{"events": [' + b" " * 10_000
        head = f"POST {system.path}/events HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n".encode()
        whole = head + b"Content-Length: 20000\r\n\r\n"
        self._drips = [
            _Drip(service.address, whole if bodies and number % 2 else head, head + body) for number in range(dripping)
        ]
        ask = f"GET {system.path}/events?limit=500 HTTP/1.1\r\nHost: deaf\r\n\r\n".encode() * 20
        self._deaf = [_connect(service.address, ask) for _ in range(deaf)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for one in (*self._deaf, *(drip.socket for drip in self._drips)):
            one.close()

    def _run(self) -> None:
        waiting = dict.fromkeys(self._deaf)
        drips = list(self._drips)
        while not self._stop.wait(1.0):
            drips = [one for one in drips if one.drip()]
            for one in list(waiting):
                if _is_reset(one):
                    del waiting[one]
            self.cut_off = len(self._drips) - len(drips) + len(self._deaf) - len(waiting)


class _Drip:
    """One client that sends a byte at each turn."""

    def __init__(self, address: tuple[str, int], sent: bytes, rest: bytes) -> None:
        self.socket = _connect(address, sent)
        self._rest = rest[len(sent) :] or b" " * 20_000

    def drip(self) -> bool:
        """Send the next byte. Whether the server still listens."""
        try:
            self.socket.send(self._rest[:1])
            answered = self.socket.recv(4_096)
        except BlockingIOError:
            self._rest = self._rest[1:]
            return True
        except OSError:
            return False
        return bool(answered) and b" 408 " not in answered


def _connect(address: tuple[str, int], sent: bytes) -> socket.socket:
    """A connection with a small window, on which something was sent."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect(address)
    made.sendall(sent)
    made.setblocking(False)
    return made


def _is_reset(one: socket.socket) -> bool:
    """Whether the server gave a connection up. Nothing is read: this client is deaf."""
    poll = select.poll()
    poll.register(one, select.POLLRDHUP)
    return any(event & (select.POLLHUP | select.POLLERR | select.POLLRDHUP) for _, event in poll.poll(0))


def _connections(api: psutil.Process) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in api.net_connections(kind="tcp"))
