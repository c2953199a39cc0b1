"""Compiles the kernels into an environment: `python -m lso_core.compute.native.build [PREFIX]`.

With the machine's own compiler, and never a reason to fail: without the library everything works, more slowly.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from lso_core.compute import native

COMPILERS: Final = ("cc", "gcc", "clang")
NO_COMPILER: Final = f"there is no C compiler on the PATH ({', '.join(COMPILERS)})"
_LONGEST_S: Final = 120


class NotBuiltError(Exception):
    """The reason, as half a sentence."""


def ensure(prefix: Path, folder: Path = native.FOLDER) -> bool:
    """Compile what is not compiled yet, and remove what other sources gave. True where there was something to do.

    Raises NotBuiltError. Who calls it sees to it that nobody else does at the same time.
    """
    wanted = native.library(prefix, folder)
    if wanted.exists():
        return False
    new = wanted.with_name(f"{wanted.name}.{os.getpid()}")
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        _compile(new, folder)
        _load(new)
        new.replace(wanted)
    except OSError as error:
        raise NotBuiltError(f"{error.filename or wanted.parent} cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
    kind_of_machine = wanted.name.rpartition("-")[0]
    for stale in wanted.parent.glob(f"{kind_of_machine}-*.so"):
        if stale != wanted:
            stale.unlink(missing_ok=True)
    return True


def _compile(target: Path, folder: Path) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NotBuiltError(NO_COMPILER)
    files = [str(path) for path in native.sources(folder) if path.suffix == ".c"]
    command = [compiler, *native.FLAGS, "-o", str(target), *files, "-lm"]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LONGEST_S, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuiltError(f"{compiler} does not work: {error}") from error
    if done.returncode:
        raise NotBuiltError(f"{compiler} failed: {_first_error(done.stderr)}")


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else "it said nothing")


def _load(path: Path) -> None:
    """A library that cannot be loaded, for example from a disk that lets nothing be run, is as good as none."""
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise NotBuiltError(f"what the compiler made cannot be loaded: {error}") from error


def main() -> None:
    try:
        ensure(Path(sys.argv[1] if len(sys.argv) > 1 else sys.prefix))
    except NotBuiltError as error:
        sys.exit(f"The kernels are not compiled: {error}.")


if __name__ == "__main__":
    main()
