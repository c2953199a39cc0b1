"""Standing between a command and the terminal or pipes it would have had, without its noticing.

Each of the command's outputs is what ours is: a terminal (a pty of the same size) where ours is one, else a pipe. Where
standard input and output are our terminal, the command gets the pty as its controlling terminal and ours is set to raw,
as ssh does it; otherwise standard input is simply inherited, and the terminal's signals reach the command by themselves.
"""

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

READ: Final = 64 * 1024
KEPT_BYTES: Final = 16 * 1024
"""How much of the end of the output is remembered."""
POLL_S: Final = 0.1
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""What is handed on to the command."""
HEARD: Final = frozenset({*SIGNALS, signal.SIGCHLD, signal.SIGWINCH})


class Tail:
    """The last bytes of everything that the command said."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        with self._lock:
            self._parts.append(data)
            self._size += len(data)
            while self._size - len(self._parts[0]) >= KEPT_BYTES:
                self._size -= len(self._parts.popleft())

    def bytes(self) -> bytes:
        with self._lock:
            return b"".join(self._parts)[-KEPT_BYTES:]


class Pump(threading.Thread):
    """Carries one of the command's outputs to ours, as it comes."""

    def __init__(self, source: int, target: int, tail: Tail, ended: threading.Event) -> None:
        super().__init__(daemon=True)
        self._source, self._target, self._tail, self._ended = source, target, tail, ended

    def run(self) -> None:
        while True:
            ready = select.select([self._source], [], [], POLL_S)[0]
            if not ready and self._ended.is_set():
                break  # whatever still holds the other end is not the command
            if ready and not self._carry():
                break
        os.close(self._source)

    def _carry(self) -> bool:
        """Carry what is there; False at the end, or where nobody reads us any more: the command then learns it too."""
        try:
            data = os.read(self._source, READ)
            self._tail.add(data)
            rest = memoryview(data)
            while rest:
                rest = rest[_write(self._target, rest) :]
        except OSError:  # EIO: the pty's other end is closed
            return False
        return bool(data)


def _write(target: int, data: memoryview) -> int:
    """As os.write; waits where whoever shares our output made it non-blocking."""
    try:
        return os.write(target, data)
    except BlockingIOError:
        select.select([], [target], [])
        return 0


class Relay:
    """Runs one command."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._ended = threading.Event()
        self.tail = Tail()
        self._screens = [os.isatty(fd) for fd in (0, 1, 2)]
        self._owns_terminal = self._screens[0] and self._screens[1] and _in_foreground()
        self._master = self._slave = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._old_mask: set[Any] = set()

    def run(self, started: Callable[[], None]) -> int:
        """The command's end, negative for a signal. Raises OSError where it cannot be started."""
        self._old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # ignored by default, and then it would not wake us
        before = termios.tcgetattr(0) if self._owns_terminal else None
        pumps = self._start(before)
        started()  # threads begin here, after the fork
        for pump in pumps:
            pump.start()
        try:
            if before is not None:
                tty.setraw(0, termios.TCSADRAIN)
                threading.Thread(target=self._type, daemon=True).start()
            status = self._wait()
            self._ended.set()
            for pump in pumps:
                pump.join()
        finally:
            if before is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, before)
        return status

    def _start(self, before: list[Any] | None) -> list[Pump]:
        """Start the command; what carries its outputs."""
        if self._screens[1] or self._screens[2]:
            self._open_pty(before)
        outputs = [self._slave if self._screens[fd] else subprocess.PIPE for fd in (1, 2)]
        self._process = process = subprocess.Popen(
            self._command,
            stdin=self._slave if self._owns_terminal else None,
            stdout=outputs[0],
            stderr=outputs[1],
            preexec_fn=self._prepare,  # noqa: PLW1509 - no thread is running yet
            bufsize=0,
        )
        pipes = [(process.stdout, 1), (process.stderr, 2)]
        pumps = [Pump(os.dup(pipe.fileno()), fd, self.tail, self._ended) for pipe, fd in pipes if pipe is not None]
        for pipe, _ in pipes:
            if pipe is not None:
                pipe.close()
        if self._master >= 0:
            os.close(self._slave)
            pumps.append(Pump(os.dup(self._master), 1 if self._screens[1] else 2, self.tail, self._ended))
        return pumps

    def _open_pty(self, before: list[Any] | None) -> None:
        self._master, self._slave = pty.openpty()
        self._copy_size()
        if before is not None:
            termios.tcsetattr(self._slave, termios.TCSANOW, before)
            return
        modes = termios.tcgetattr(self._slave)
        modes[1] &= ~termios.OPOST  # our own terminal does what is to be done with line ends
        termios.tcsetattr(self._slave, termios.TCSANOW, modes)

    def _copy_size(self) -> None:
        if self._master >= 0:
            with contextlib.suppress(OSError):
                size = fcntl.ioctl(1 if self._screens[1] else 2, termios.TIOCGWINSZ, bytes(8))
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def _prepare(self) -> None:
        """In the child, before the command: its terminal, and the signals as we found them."""
        if self._owns_terminal:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)

    def _wait(self) -> int:
        process = self._process
        assert process is not None, "started before"  # noqa: S101
        while process.poll() is None:
            number, is_terminals = _next_signal()
            if number == signal.SIGWINCH:
                self._copy_size()
            elif number in SIGNALS and (self._owns_terminal or not is_terminals):
                # What our terminal sent, it sent to the command as well, where that is not in a session of its own.
                process.send_signal(number)
        return process.returncode

    def _type(self) -> None:
        """Carry what is typed to the command."""
        with contextlib.suppress(OSError):
            while not self._ended.is_set():
                if not select.select([0], [], [], POLL_S)[0]:
                    continue
                data = os.read(0, READ)
                if not data:
                    return
                os.write(self._master, data)


def _next_signal() -> tuple[int, bool]:
    """A signal, and whether the kernel sent it: 0 where none came in a while."""
    if sys.platform == "darwin":
        return signal.sigwait(HEARD), False
    found = signal.sigtimedwait(HEARD, 1.0)
    return (0, False) if found is None else (found.si_signo, found.si_pid == 0)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def last_lines(data: bytes, lines: int, most_bytes: int) -> str:
    """The last lines of an output as text, without colours and other orders to a terminal."""
    text = _plain(data.decode("utf-8", "replace"))
    kept = "\n".join(list(_lines(text))[-lines:])
    return kept.encode()[-most_bytes:].decode("utf-8", "ignore")


def _lines(text: str) -> Iterator[str]:
    """Lines as they stood at last: a progress bar writes over itself."""
    for line in text.split("\n"):
        shown = line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
        if shown:
            yield shown


def _plain(text: str) -> str:
    import re

    text = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])", "", text)
    return "".join(c for c in text if c.isprintable() or c in "\n\r\t")
