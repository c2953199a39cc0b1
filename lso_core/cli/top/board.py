"""What `lso top` knows and how it is looked at. No terminal, no network, no clock: they come in from outside."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from lso_core.cli import show

HISTORY: Final = 60
"""Values of p95 that are remembered for each system, one a look."""
PAGE: Final = 10

Line = Mapping[str, Any]


class Order(NamedTuple):
    """A way to sort: what a line is sorted by, smallest first."""

    key: str
    name: str
    of: Callable[[Line], Any]


def _largest(value: Any) -> float:
    """Largest first, unknown last."""
    return 1.0 if value is None else -float(value)


ORDERS: Final = (
    Order(
        "s", "state", lambda line: show.WORST_FIRST.index(line["health"]) if line["health"] in show.WORST_FIRST else 9
    ),
    Order("n", "name", lambda line: str(line["name"])),
    Order("r", "rps", lambda line: _largest(line["rps"])),
    Order("e", "errors", lambda line: _largest(line["error_rate"])),
    Order("p", "p95", lambda line: _largest(line["p95_latency"])),
    Order("l", "lag", lambda line: show.seconds_of(line["last_event_at"]) or 0.0),
)


class Picture(NamedTuple):
    """One look at the fleet."""

    counts: Mapping[str, int]
    lines: list[Line]
    autoscale: Mapping[str, Any]
    at: float
    """When it was taken, seconds since the epoch."""


class Board:
    """The state of the screen."""

    def __init__(self) -> None:
        self.picture = Picture({}, [], {}, 0.0)
        self.trouble = ""
        """Why the picture is old; empty while it is not."""
        self.order = ORDERS[0]
        self.backwards = False
        self.filter = ""
        self.typing = False
        self.help = False
        self.selected: int | None = None
        """System id; None for the first line."""
        self.history: dict[int, deque[float | None]] = {}

    def show_picture(self, picture: Picture) -> None:
        """Take a new look."""
        self.picture, self.trouble = picture, ""
        old, self.history = self.history, {}
        for line in picture.lines:
            values = old.get(line["system_id"]) or deque(maxlen=HISTORY)
            values.append(line["p95_latency"])
            self.history[line["system_id"]] = values

    def show_trouble(self, sentence: str) -> None:
        """A look failed: the last picture stays."""
        self.trouble = sentence

    def rows(self) -> list[Line]:
        """The lines that pass the filter, in order."""
        wanted = self.filter.casefold()
        found = (
            [line for line in self.picture.lines if wanted in _searched(line)] if wanted else list(self.picture.lines)
        )
        found.sort(key=lambda line: str(line["name"]))
        found.sort(key=self.order.of)
        return found[::-1] if self.backwards else found

    def position(self, rows: list[Line]) -> int:
        """Where the selected system stands; the first line where it is gone."""
        return next((at for at, line in enumerate(rows) if line["system_id"] == self.selected), 0)

    def press(self, key: str) -> bool:
        """Do what a key asks for; False to end."""
        if self.typing:
            self._type(key)
        elif self.help:
            self.help = False
        elif key == "q":
            return False
        elif key in {"h", "?"}:
            self.help = True
        elif key == "/":
            self.typing = True
        elif key == "esc":
            self.filter = ""
        else:
            self._sort(key)
            self._move(key)
        return True

    def _type(self, key: str) -> None:
        if key in {"enter", "esc"}:
            self.typing = False
            self.filter = "" if key == "esc" else self.filter
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key

    def _sort(self, key: str) -> None:
        order = next((order for order in ORDERS if order.key == key), None)
        if order is not None:
            self.backwards = order is self.order and not self.backwards
            self.order = order

    def _move(self, key: str) -> None:
        rows = self.rows()
        steps = {"up": -1, "down": 1, "pageup": -PAGE, "pagedown": PAGE, "home": -len(rows), "end": len(rows)}
        if key in steps and rows:
            at = min(max(self.position(rows) + steps[key], 0), len(rows) - 1)
            self.selected = rows[at]["system_id"]


def _searched(line: Line) -> str:
    """What the filter looks at: name, state and reason."""
    return f"{line['name']} {line['health']} {line['reason']}".casefold()
