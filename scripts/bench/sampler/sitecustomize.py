"""Samples the Python stacks of the process that it is put into, by the processor time the process has used.

`profile.py` puts this folder on PYTHONPATH of the service it starts; every Python process then imports this module first.
Where BENCH_SAMPLES names a folder, a timer counts the process' own processor time (ITIMER_PROF), and at each turn the stack
is counted. An idle process is not sampled, and other load on the machine does not show. At SIGUSR2 the counts are written.
"""

import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

PERIOD_S = 0.001
DEPTH = 60
_counts: Counter[tuple[str, ...]] = Counter()


def start(folder: str) -> None:
    """Sample for ever; at SIGUSR2 write what was counted and begin afresh."""
    signal.signal(signal.SIGPROF, _take)
    signal.signal(signal.SIGUSR2, lambda *_: _write(Path(folder)))
    signal.setitimer(signal.ITIMER_PROF, PERIOD_S, PERIOD_S)


def _take(_signal: int, main: FrameType | None) -> None:
    stack = _stack(main)
    if stack and stack[0].endswith((":run", ":run_until_complete", ":select")):
        stack = _of_a_thread() or stack
    _counts[stack] += 1


def _of_a_thread() -> tuple[str, ...]:
    """The stack of a pool's thread at work; the main one waits in its loop."""
    own = threading.main_thread().ident
    for thread, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to see other threads
        stack = _stack(frame)
        if thread != own and stack and not stack[0].endswith(("thread.py:_worker", "threading.py:wait")):
            return stack
    return ()


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    """Innermost first, as file:function."""
    found: list[str] = []
    while frame is not None and len(found) < DEPTH:
        found.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        frame = frame.f_back
    return tuple(found)


def _write(folder: Path) -> None:
    text = json.dumps([[count, stack] for stack, count in _counts.most_common()])
    _counts.clear()
    unfinished = folder / f"{os.getpid()}.part"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / f"{os.getpid()}.json")


if os.environ.get("BENCH_SAMPLES"):
    start(os.environ["BENCH_SAMPLES"])
