"""Ties a process to the life of the one that starts it, however that ends (Linux; elsewhere children must notice).

Run as a program it becomes COMMAND, after asking the kernel for a signal at its parent's death, which outlasts `exec`:

    python -I -S tether.py PARENT_PID SIGNAL COMMAND ARGUMENT...

A program of its own, since Python code between fork and exec is unsafe in a process that has threads; and with the
standard library only, so that it starts fast.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tethered(command: tuple[str, ...], at_death: signal.Signals) -> tuple[str, ...]:
    """The command line that runs `command` so that it gets the signal `at_death` when this process ends."""
    if sys.platform != "linux":
        return command
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(at_death)), *command)


def main() -> None:
    """Ask for the signal, then become the command."""
    import ctypes  # noqa: PLC0415 - slow, and only needed here

    parent, number, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before the wish was known
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
