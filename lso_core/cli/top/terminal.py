"""Keys from a terminal, and the terminal as it was when we leave."""

import contextlib
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any, Final, NoReturn

SEQUENCES: Final = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down",
    "\x1b[5~": "pageup", "\x1b[6~": "pagedown",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end",
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace",
}  # fmt: skip


def keys(typed: str) -> Iterator[str]:
    """The keys behind what was typed; sequences that mean nothing to us are dropped whole."""
    at = 0
    while at < len(typed):
        length = next((n for n in (4, 3, 1) if typed[at : at + n] in SEQUENCES), 0)
        if length:
            yield SEQUENCES[typed[at : at + length]]
        elif typed[at] == "\x1b":
            length = _length(typed[at:])
            if length == 1:
                yield "esc"
        else:
            length = 1
            yield typed[at]
        at += length


def _length(sequence: str) -> int:
    """How long the unknown escape sequence at the beginning is; 1 for the key alone."""
    if sequence[1:2] not in {"[", "O"}:
        return 1
    ends = (at for at, char in enumerate(sequence[2:], 3) if "@" <= char <= "~")
    return next(ends, len(sequence))


@contextlib.contextmanager
def taken(wake: int) -> Iterator[None]:
    """Have keys at once and without echo; a new size writes to `wake`; SIGTERM and SIGHUP leave in order."""
    before = termios.tcgetattr(0)
    handlers: list[tuple[signal.Signals, Any]] = [
        (signal.SIGWINCH, lambda *_: None),
        (signal.SIGTERM, _leave),
        (signal.SIGHUP, _leave),
        (signal.SIGTSTP, signal.SIG_IGN),
    ]
    old = [(number, signal.signal(number, handler)) for number, handler in handlers]
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        tty.setcbreak(0, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(old_wake)
        for number, handler in old:
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
