"""All faults by name. A fault is a function of a `Trial`, registered where it is written, in a file under `faults/`."""

import importlib
import pkgutil
from collections.abc import Callable

from tests.chaos.trial import Fault

_FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Register a function as the fault `name`; the first line of its docstring says what it does."""

    def register(function: Fault) -> Fault:
        assert name not in _FAULTS, f"there are two faults called {name}"
        _FAULTS[name] = function
        return function

    return register


def faults() -> dict[str, Fault]:
    """Every fault, in the order of the files' and functions' names."""
    package = importlib.import_module("tests.chaos.faults")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
        importlib.import_module(f"tests.chaos.faults.{module.name}")
    return dict(_FAULTS)


def summary(function: Fault) -> str:
    """What a fault does, in a line."""
    return (function.__doc__ or "").strip().partition("\n")[0]
