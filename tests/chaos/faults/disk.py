"""No space left where the append-only file lies."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.chaos.catalogue import fault
from tests.chaos.ledger import Ledger, lost_batches
from tests.chaos.trial import Trial
from tests.chaos.watch import Watch, first_refusal, is_told_to_wait, refusal
from tests.e2e.load import Load
from tests.e2e.systems import ObservedSystem, register
from tests.waiting import wait_for

DISK: Final = "64m"
HEALED_S: Final = 30.0
FULL_S: Final = 3.0
RESTART_READS: Final = 40
"""A server that syncs each write ends at the first that fails; while it starts again nobody reads. A read takes 50 ms."""


@fault("disk-full")
def disk_full(trial: Trial) -> None:
    """A full disk under the append-only file: 503, reads go on, nothing accepted is lost, it heals by itself."""
    data = trial.folder / "data"
    data.mkdir()
    trial.stack.enter_context(small_disk(trial, data))
    for policy in trial.size(("everysec",), ("everysec", "always")):
        _Disk(trial, data, policy).fill()


class _Disk:
    """A service on a small disk, under load."""

    def __init__(self, trial: Trial, data: Path, policy: str) -> None:
        self._trial = trial
        self._policy = policy
        self._filler = data / "filler"
        self._redis_pid = 0
        """The server after the disk was full."""
        self._service = trial.start_service(environ={"LSO_REDIS_APPENDFSYNC": policy})
        with self._service.client() as http:
            self._systems = [register(http, window_seconds=3_600) for _ in range(3)]
            self._probe = register(http)
        self._http = trial.stack.enter_context(self._service.client())
        self._probe = ObservedSystem(self._http, {"system_id": self._probe.id, "name": self._probe.name})

    def fill(self) -> None:
        """Fill it, look for a while, make room, and kill the server: what was accepted must be in the file."""
        load = Load(self._service.url, [one.id for one in self._systems])
        redis_before = self._service.store_process().pid
        with load:
            wait_for(lambda: len(load.batches) > 50, "the load is under way", HEALED_S)
            with Watch(self._service.url, self._systems[0]) as watch:
                fill_up(self._filler)
                self._expect_refusals(self._trial.size(FULL_S, 4 * FULL_S))
            freed, start = time.monotonic(), len(load.batches)
            self._filler.unlink()
            wait_for(lambda: len(load.batches) > start + 20, "batches are taken again", HEALED_S)
            self._figure("accepts_after_s", round(load.batches[start].at_s - freed, 2))
        ledger = Ledger(self._service, self._systems, load)
        self._close(ledger)
        self._expect_on_disk(ledger)
        self._figure("reads", watch.answers.total())
        self._figure("reads_failed", watch.failed)
        allowed = 0 if self._policy == "everysec" else RESTART_READS
        self._trial.check(watch.failed <= allowed, f"{self._policy}: reads were answered {dict(watch.answers)}")
        if self._policy == "everysec":
            self._trial.check(redis_before == self._redis_pid, "everysec: Redis was started again")
        self._service.stop()

    def _expect_refusals(self, seconds: float) -> None:
        answer = first_refusal(self._probe, HEALED_S)
        until, why = time.monotonic() + seconds, {answer.text}
        while time.monotonic() < until:
            found = refusal(self._probe)
            if found is None:
                self._trial.check(self._policy == "always", f"{self._policy}: a batch was taken on a full disk")
                continue
            why.add(found.text)
            self._trial.check(is_told_to_wait(found), f"{self._policy}: a full disk answers {found.status_code}")
            time.sleep(0.1)
        if self._policy == "everysec":
            self._trial.check(any("disk" in text for text in why), f"{self._policy}: no refusal says why: {why}")

    def _expect_on_disk(self, ledger: Ledger) -> None:
        """Kill the server, and see that it comes back with everything that was accepted."""
        victim = self._service.store_process()
        self._redis_pid = victim.pid
        victim.kill()
        wait_for(lambda: not victim.is_running() and self._service.is_ready(), "the service is ready again", HEALED_S)
        lost = lost_batches(self._service, ledger.batches)
        self._trial.check(not lost, f"{self._policy}: {len(lost)} batches were accepted and never written")

    def _close(self, ledger: Ledger) -> None:
        self._trial.check(not ledger.lost, f"{self._policy}: {ledger.lost_events} acknowledged events are lost")
        for problem in ledger.close():
            self._trial.check(False, f"{self._policy}: {problem}")
        self._figure("accepted", sum(batch.events for batch in ledger.batches))

    def _figure(self, name: str, value: float) -> None:
        self._trial.figures[f"{self._policy}_{name}"] = value


@contextlib.contextmanager
def small_disk(trial: Trial, folder: Path) -> Iterator[None]:
    """Mount a few megabytes of memory at `folder`; leaves the trial where that is not permitted."""
    if os.geteuid() != 0:
        trial.skip("a small file system is mounted for it, which only root may do")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        trial.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(file: Path) -> None:
    """Write until there is no space left."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as target:
        for size in (1 << 20, 4_096, 1):
            with contextlib.suppress(OSError):
                while True:
                    target.write(b"x" * size)
