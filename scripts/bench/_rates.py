"""Rounds summed up: medians and spread, the machine they were measured on, tables and JSON."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Rounds(NamedTuple):
    """One figure over several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Rounds":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 0) -> str:
        """Median and spread for people."""
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


def machine() -> Json:
    """What the figures depend on besides the code."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {
            name: importlib.metadata.version(name) for name in ("litestar", "uvicorn", "uvloop", "msgspec", "numpy")
        },
        "load_before": [round(one, 2) for one in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_json(path: str | None, result: Json) -> None:
    """Keep the result, every round of it."""
    if path is not None:
        Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def check_floor(what: str, figure: float, floor: float) -> None:
    """End with a failure where a figure is below its floor; 0 asks for none."""
    if floor and figure < floor:
        raise SystemExit(f"{what} is {figure:.2f}, below the floor of {floor:g}")


def check_ceiling(what: str, figure: float, ceiling: float) -> None:
    """End with a failure where a figure is above its ceiling; 0 asks for none."""
    if ceiling and figure > ceiling:
        raise SystemExit(f"{what} is {figure:.2f}, above the ceiling of {ceiling:g}")
