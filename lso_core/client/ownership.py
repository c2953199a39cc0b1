"""Who owns a spool file: the process that holds the lock of the owner named in it.

Every client process that touches a spool directory makes a random owner name and holds an flock on `<owner>.lock`
for as long as it lives. The kernel gives the lock up when the process dies, however it dies, so a lock that can be
taken means an owner that is gone: nothing here looks at process ids, which come back, and may mean something else in
another container.
"""

from __future__ import annotations

import contextlib
import os
import sys

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"


def try_lock(fd: int) -> bool:
    """Take the lock if nobody has it."""
    if sys.platform == "win32":
        raise OSError("a spool needs flock, which this platform lacks")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Owner:
    """This process' name in a spool directory, with the lock that proves it alive."""

    def __init__(self, directory: str) -> None:
        self.name = os.urandom(8).hex()
        self._path = os.path.join(directory, self.name + LOCK)
        hidden = os.path.join(directory, "." + self.name + LOCK)
        self._fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if not try_lock(self._fd):
            os.close(self._fd)
            raise OSError(f"no file can be locked in {directory}")
        os.rename(hidden, self._path)  # locked before it can be seen

    def release(self, *, remove: bool) -> None:
        """Let the files go to whoever comes next; without files the lock's name goes too."""
        if remove:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor only: for a forked child, whose parent keeps the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Heir:
    """The lock of an owner that is gone, held while its files are taken over."""

    def __init__(self, directory: str, owner: str) -> None:
        self._path = os.path.join(directory, owner + LOCK)
        self._fd = -1

    def __enter__(self) -> bool:
        """Whether the owner is gone. A lock file that is missing proves that too."""
        try:
            self._fd = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return try_lock(self._fd)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def bury(self) -> None:
        """Remove the lock file: no file names its owner any more."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
