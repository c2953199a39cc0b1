"""The kernels: plain C for what is done to every byte or event, compiled where LSO is installed.

Standard library only, and nothing of ours: what installs the environment uses it before there is one.
"""

import hashlib
import platform
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
FLAGS: Final = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra")
"""Nothing of this very machine's (an environment may be moved to another), and doubles as Python has them."""


def sources(folder: Path = FOLDER) -> list[Path]:
    """The C files, and what they include."""
    return sorted(path for path in folder.iterdir() if path.suffix in {".c", ".h"})


def library(prefix: Path = Path(sys.prefix), folder: Path = FOLDER) -> Path:
    """Where in an environment the library of just these sources is, for just this kind of machine."""
    digest = hashlib.sha256(repr(FLAGS).encode())
    for path in sources(folder):
        digest.update(b"\0%b\0%b" % (path.name.encode(), path.read_bytes()))
    return prefix / "lib" / f"lso-kernel-{sys.platform}-{platform.machine()}-{digest.hexdigest()[:16]}.so"
