"""What this machine, or the container that this process is in, gives: cores and memory; and how memory is held.

The first two functions take the file system's root, so that a test can lay out another machine's `/proc` and `/sys`.
"""

import contextlib
import ctypes
import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt(3)."""
_OWN_MAPPING_BYTES = 32 << 20
"""A block from here on is the system's again as soon as it is freed."""
_KEPT_BYTES = 64 << 20
"""Most free bytes at the heap's end."""


def cores(root: Path = _ROOT) -> int:
    """Cores that this process may use: its affinity, and no more than the cgroup's share of time."""
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has none
        usable = os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _cpu_quotas(root)]
    return max(1, min([usable, *quotas]))


def memory_bytes(root: Path = _ROOT) -> int:
    """Memory that this process may use: the machine's, or what the cgroup leaves of it."""
    return min([_total_memory(root), *_memory_limits(root)])


def keep_freed_memory() -> None:
    """Let C's allocator keep some of what is freed, instead of giving it back to the system at once.

    A batch takes some blocks of hundreds of kilobytes for a millisecond, a fold or a file some of ten megabytes. Given back,
    each is faulted in anew page by page at the next one. Only glibc has to be told so.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _total_memory(root: Path) -> int:
    try:
        text = (root / "proc/meminfo").read_text()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kib = next(line.split()[1] for line in text.splitlines() if line.startswith("MemTotal:"))
    return int(kib) * 1024


def _memory_limits(root: Path) -> Iterator[int]:
    """Every limit from this process' cgroup up to the root; version 2 calls it memory.max."""
    for folder in _folders(root, ""):
        yield from _number(folder / "memory.max")
    for folder in _folders(root, "memory"):
        yield from _number(folder / "memory.limit_in_bytes")


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that each cgroup may use; version 2 writes "quota period" in one file."""
    for folder in _folders(root, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.strip().isdigit():
            yield int(quota) / int(period)
    for folder in _folders(root, "cpu"):
        for quota_us in _number(folder / "cpu.cfs_quota_us"):
            for period_us in _number(folder / "cpu.cfs_period_us"):
                yield quota_us / period_us


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """This process' folder of a controller ("" is version 2) and all above it, innermost first."""
    mount = root / "sys/fs/cgroup" / controller
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            inner = mount / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _number(path: Path) -> Iterator[int]:
    """The file's number; nothing where there is none, or none that limits ("max", -1)."""
    text = _text(path).strip()
    if text.isdigit() and int(text) > 0:
        yield int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
