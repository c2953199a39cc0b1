"""A process for the tests of `lso_core.aside`: it does what a frame says."""

import os
import time
from pathlib import Path

from lso_core.aside import serve

NICE = 7


def answer(frame: bytes) -> bytes:
    """`die` ends it, `sleep` takes long, `who` tells its pid, priority and group; anything else comes back."""
    if frame == b"die":
        os._exit(3)
    if frame == b"sleep":
        time.sleep(60)
    if frame == b"who":
        group = Path("/proc/self/autogroup")
        text = group.read_text() if group.exists() else f"nice {NICE}"
        return (
            f"{os.getpid()} {os.getpriority(os.PRIO_PROCESS, 0)} {text.split()[-1]} {os.environ.get('TOLD')}".encode()
        )
    return frame


if __name__ == "__main__":
    serve(answer, NICE)
