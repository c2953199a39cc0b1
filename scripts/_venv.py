"""Makes the checkout's environment and keeps it at the lock file: `_venv.py LOCK` prints the environment's directory.

Standard library only, and what of ours needs nothing else: it runs before anything is installed. Whatever is said to the
person goes to stderr.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lso_core.compute.native import build  # noqa: E402 - the checkout is no package before the line above

STAMP = "lso-installed.json"
LOG = "lso-install.log"

# A shell line first: an environment's path may hold spaces or be longer than a #! line can be.
LAUNCHER = """#!/bin/sh
'''exec' "$(dirname "$0")/python" "$0" "$@"
' '''
import sys
from lso_core.cli import main
sys.exit(main())
"""


class SetupError(Exception):
    """One sentence on why there is no environment."""


def main() -> int:
    lock = ROOT / sys.argv[1]
    venv = Path(os.environ.get("LSO_VENV") or ROOT / ".venv").absolute()
    try:
        with _alone(venv):
            _prepare(venv, lock)
    except SetupError as error:
        print(f"LSO is not installed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"LSO is not installed: {error.filename or venv} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(venv)
    return 0


@contextmanager
def _alone(venv: Path) -> Iterator[None]:
    """One installer at a time; a second one waits and then finds the work done."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(venv.name + ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another installation into the same environment ...", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(venv: Path, lock: Path) -> None:
    """Do as little as the stamp allows; without a stamp (never made, or interrupted) begin anew."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = _read_stamp(venv)
    if stamp is None:
        _make(venv)
        stamp = {}
    if stamp.get(lock.name) != digest:
        _install(venv, lock)
        stamp = _after(stamp, lock, digest)
    _link(venv)
    _compile(venv)
    _compile_ahead(venv)
    _write(venv / STAMP, json.dumps({"python": _version(), **stamp}))


def _read_stamp(venv: Path) -> dict[str, str] | None:
    """What is installed, by lock file; None where the environment is missing, broken or of another Python."""
    try:
        stamp: dict[str, str] = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return None
    if not _runs(venv, ""):
        return None
    made_with = stamp.pop("python", "")
    return stamp if "LSO_PYTHON" not in os.environ or made_with == _version() else None


def _runs(venv: Path, code: str) -> bool:
    try:
        return (
            subprocess.run([venv / "bin" / "python", "-I", "-c", code], check=False, capture_output=True).returncode
            == 0
        )
    except OSError:
        return False


def _make(venv: Path) -> None:
    """Make an environment; over a broken one of ours, but never over one that somebody made by hand and that works."""
    by_hand = (venv / "pyvenv.cfg").exists() and not (venv / LOG).exists()
    if by_hand and _runs(venv, "import pip, sys; sys.exit(sys.version_info < (3, 11))"):
        return
    if venv.exists():
        if not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
            raise SetupError(
                f"{venv} holds something else than a Python environment; name another directory with LSO_VENV."
            )
        shutil.rmtree(venv)
    print(f"Making an environment in {venv} with Python {sys.version.split()[0]} ...", file=sys.stderr)
    made = subprocess.run([sys.executable, "-I", "-m", "venv", venv], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupError(_why_not_made(made.stdout + made.stderr))


def _why_not_made(output: str) -> str:
    if "ensurepip" in output or "No module named venv" in output:
        version = "{}.{}".format(*sys.version_info[:2])
        return (
            f"{sys.executable} has no venv module; install it (on Debian and Ubuntu: apt install python{version}-venv), "
            "or name another Python with LSO_PYTHON."
        )
    return f"{sys.executable} -m venv failed: {_last_line(output)}"


def _install(venv: Path, lock: Path) -> None:
    """Bring the environment to the lock. The stamp goes first, so that an interrupted installation is never trusted."""
    print(f"Installing what {lock.name} lists (once; a minute or so) ...", file=sys.stderr)
    (venv / STAMP).unlink(missing_ok=True)
    log = venv / LOG
    options = [
        "--disable-pip-version-check",
        "--no-input",
        "--no-warn-script-location",
        "--require-hashes",
        "--no-deps",
    ]
    command = [str(venv / "bin" / "python"), "-I", "-m", "pip", "install", *options, "--requirement", str(lock)]
    with log.open("w") as out:
        status = subprocess.run(command, check=False, stdout=out, stderr=subprocess.STDOUT).returncode
    if status != 0:
        raise SetupError(_why_not_installed(log.read_text(errors="replace"), lock, log))


def _why_not_installed(output: str, lock: Path, log: Path) -> str:
    unreachable = (
        "NewConnectionError",
        "Failed to establish",
        "ConnectTimeout",
        "NameResolutionError",
        "Max retries exceeded",
        "ProxyError",
    )
    if any(sign in output for sign in unreachable):
        return f"the package index cannot be reached; the first start needs a network (pip's own words are in {log})."
    if "No space left" in output:
        return f"the disk is full (pip's own words are in {log})."
    return f"pip could not install {lock.name}: {_last_line(output)} (more in {log})"


def _after(stamp: dict[str, str], lock: Path, digest: str) -> dict[str, str]:
    """The development lock holds everything that the other one does, in the same versions."""
    done = {**stamp, lock.name: digest}
    if lock.name == "requirements-dev.lock":
        done["requirements.lock"] = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    return done


def _link(venv: Path) -> None:
    """Let the checkout's own packages be imported, and put `lso` beside `python`."""
    (site,) = venv.glob("lib/python3.*/site-packages")
    _write(site / "lso-checkout.pth", f"{ROOT}\n")
    _write(venv / "bin" / "lso", LAUNCHER, mode=0o755)


def _compile(venv: Path) -> None:
    """The kernels make LSO faster; without them it works as well."""
    try:
        build.ensure(venv)
    except build.NotBuiltError as error:
        print(f"LSO works, but takes events in more slowly than it could: {error}.", file=sys.stderr)


def _compile_ahead(venv: Path) -> None:
    """Bytecode, so that no process compiles it at its start: each would where Python is told to write none, or may not."""
    rooms = [str(ROOT / room) for room in ("api", "lso_core", "worker")]
    subprocess.run([venv / "bin" / "python", "-I", "-m", "compileall", "-q", *rooms], check=False, capture_output=True)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, and only when it differs."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


def _version() -> str:
    return "{}.{}".format(*sys.version_info[:2])


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
