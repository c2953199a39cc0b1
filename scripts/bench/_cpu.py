"""Processor time of processes by what they are: what a figure costs, whoever else uses the machine. Linux only."""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_ROLE = re.compile(r"lso_core\.cli\.lso (api|worker|up) ")
_QUIET_S = 0.25
_QUIET_SHARE = 0.1
"""Of a core: what runs below this is at rest."""
_SETTLE_S = 15.0


class Meter:
    """Processor seconds of a process and all below it, since it was made."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._before = spent(pid)

    def seconds(self) -> dict[str, float]:
        """What each role has used; nothing where the process is not known."""
        return {role: used - self._before.get(role, 0.0) for role, used in spent(self._pid).items()}


def spent(pid: int | None) -> dict[str, float]:
    """Processor seconds of a process and all below it, by role."""
    used: dict[str, float] = {}
    for one in family(pid):
        role = role_of(one)
        used[role] = used.get(role, 0.0) + _seconds_of(one)
    return used


def settle(pids: Sequence[int | None]) -> None:
    """Wait until none of these families does anything to speak of, so that it does not spoil the next one's turn."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        before = _total_s(pids)
        time.sleep(_QUIET_S)
        if _total_s(pids) - before <= _QUIET_SHARE * _QUIET_S:
            return


def _total_s(pids: Sequence[int | None]) -> float:
    return sum(sum(spent(pid).values()) for pid in pids)


def family(pid: int | None) -> list[int]:
    """A process and all below it."""
    if pid is None or not Path("/proc/self/stat").exists():
        return []
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def role_of(pid: int) -> str:
    """What a process is: `api`, `aside` (computes for an `api`), `builder`, `worker`, `up`, `redis`, or its program's name."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "ended"
    if "redis-server" in words or "valkey-server" in words or "redis-rdb" in words or "redis-aof" in words:
        return "redis"
    if "api.aside.serving" in words:
        return "aside"
    if "lso_core.archive.building" in words:
        return "builder"
    role = _ROLE.search(words)
    return role[1] if role else Path(words.split(" ")[0]).name


def _seconds_of(pid: int) -> float:
    """User and system time of a process with its threads, and of its children that have ended."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) * _TICK_S if fields else 0.0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state, on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []
