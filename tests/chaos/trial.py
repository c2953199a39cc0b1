"""One run of one fault: how large, with which dice, and what came out."""

import json
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from tests.e2e.service import Service

Figure = int | float | str


class Result(msgspec.Struct, frozen=True):
    """What one trial showed."""

    fault: str
    seed: int
    form: str
    """`short` or `long`."""
    seconds: float
    figures: dict[str, Figure]
    """What was measured, units in the names: `takeover_p50_s`."""
    problems: list[str]
    """Promises that did not hold, a sentence each; empty where all did."""
    skipped: str = ""
    """Why it was not run, "" where it was."""

    @property
    def line(self) -> str:
        """The result on one line."""
        if self.skipped:
            return f"SKIP {self.fault} not run: {self.skipped}"
        head = f"{'FAIL' if self.problems else 'PASS'} {self.fault} seed={self.seed} form={self.form}"
        figures = " ".join(
            f"{name}={value:,}" if isinstance(value, int) else f"{name}={value}" for name, value in self.figures.items()
        )
        problems = "".join(f" | {' '.join(problem.split())}" for problem in self.problems)
        return f"{head} {figures} ({self.seconds:.0f} s){problems}"

    def json(self) -> str:
        """The result as a line of JSON."""
        return json.dumps({"passed": not (self.problems or self.skipped), **msgspec.to_builtins(self)})


class SkippedError(Exception):
    """This machine cannot show the fault; the text says why."""


class Trial:
    """What a fault works with: size, dice, a folder, services that end with it, and a place for its findings."""

    def __init__(self, seed: int, folder: Path, stack: ExitStack, *, short: bool) -> None:
        self.short = short
        self.seed = seed
        self.dice = random.Random(seed)
        self.folder = folder
        self.stack = stack
        """Closed when the trial ends, also when it fails."""
        self.figures: dict[str, Figure] = {}
        self.problems: list[str] = []

    def size(self, short: Any, long: Any) -> Any:
        """The one of two values that fits this form."""
        return short if self.short else long

    def check(self, holds: bool, otherwise: str) -> None:
        """Note a promise that did not hold, and go on."""
        if not holds:
            self.problems.append(otherwise)

    def skip(self, reason: str) -> NoReturn:
        """Leave a trial that this machine does not permit."""
        raise SkippedError(reason)

    def start_service(
        self, *options: str, environ: Mapping[str, str] | None = None, redis_url: str | None = None
    ) -> Service:
        """`lso up` with data of its own in this trial's folder; it must still end well, however it was treated."""
        service = Service.start(self.folder, *options, environ=environ, redis_url=redis_url)
        self.stack.callback(_end, service)
        return service


Fault = Callable[[Trial], None]


def run(name: str, fault: Fault, seed: int, *, short: bool) -> Result:
    """Try one fault. Whatever goes wrong in it is a problem of the result, never an exception."""
    began = time.monotonic()
    figures: dict[str, Figure] = {}
    problems: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="lso-chaos-") as folder, ExitStack() as stack:
            trial = Trial(seed, Path(folder), stack, short=short)
            figures, problems = trial.figures, trial.problems
            fault(trial)
    except SkippedError as error:
        return Result(name, seed, _form(short), round(time.monotonic() - began, 1), {}, [], str(error))
    except Exception as error:  # noqa: BLE001 - a failed trial is a result, and `all` goes on
        place = traceback.extract_tb(error.__traceback__)[-1]
        problems.append(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}")
    return Result(name, seed, _form(short), round(time.monotonic() - began, 1), figures, problems)


def _form(short: bool) -> str:
    return "short" if short else "long"


def _end(service: Service) -> None:
    if service.process.poll() is None:
        service.resume()
        service.stop()
