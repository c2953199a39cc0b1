"""Cores and memory, on machines laid out as files."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lso_core import machine

GIB = 1024**3


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_machine_without_cgroups_has_all_its_memory(tmp_path: Path) -> None:
    assert machine.memory_bytes(lay_out(tmp_path, {})) == 16 * GIB


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/container/memory.max": "max\n",
        "sys/fs/cgroup/pod/memory.max": f"{2 * GIB}\n",
    }
    assert machine.memory_bytes(lay_out(tmp_path, files)) == 2 * GIB


def test_a_container_sees_its_limit_at_the_root_of_its_own_view(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"}
    assert machine.memory_bytes(lay_out(tmp_path, files)) == GIB


def test_the_older_cgroups_are_read_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GIB}\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert machine.memory_bytes(lay_out(tmp_path, files)) == 3 * GIB
    assert machine.cores(tmp_path) == len(os.sched_getaffinity(0))


def test_no_limit_of_the_older_kind_is_a_very_large_number(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}
    assert machine.memory_bytes(lay_out(tmp_path, files)) == 16 * GIB


def test_half_a_core_is_one_process(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    assert machine.cores(lay_out(tmp_path, files)) == 1


def test_no_quota_leaves_every_core(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}
    assert machine.cores(lay_out(tmp_path, files)) == len(os.sched_getaffinity(0))


def test_this_machine_has_some_of_both() -> None:
    assert machine.cores() >= 1
    assert machine.memory_bytes() > 64 * 1024**2


CHURN = """
import resource, sys
if sys.argv[1] == "keep":
    from lso_core.machine import keep_freed_memory
    keep_freed_memory()
def churn(times):
    for _ in range(times):
        blocks = [bytes(200_000) + b"x" for _ in range(4)]
        del blocks
churn(20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn(100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to")
def test_memory_that_was_freed_is_there_for_the_next_batch() -> None:
    def faults(how: str) -> int:
        ran = subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, check=True, timeout=60)
        return int(ran.stdout)

    assert faults("keep") < 100
    assert faults("leave") > 1_000
