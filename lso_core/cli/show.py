"""How things look: states by colour, shape and word; numbers short; nothing that came over the wire can steer the terminal."""

import datetime as dt
import io
import json
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import rich_click as click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDE: Final = 4_000
"""Columns of an output that is no terminal: nothing is cut for whoever reads it."""
NONE: Final = "-"
"""Stands for what is not known."""


class Look(NamedTuple):
    """How one state is shown."""

    shape: str
    plain: str
    """The shape where the terminal knows ASCII only."""
    style: str


LOOKS: Final = {
    "OK": Look("●", "o", "green"),
    "DEGRADED": Look("▲", "^", "yellow"),
    "UNHEALTHY": Look("■", "#", "bold red"),
    "UNKNOWN": Look("?", "?", "cyan"),
    "RUNNING": Look("▶", ">", "cyan"),
    "SUCCESS": Look("●", "o", "green"),
    "FAILED": Look("■", "#", "bold red"),
    "TIMED_OUT": Look("▲", "^", "yellow"),
    "LOST": Look("?", "?", "yellow"),
}
WORST_FIRST: Final = ("UNHEALTHY", "DEGRADED", "UNKNOWN", "OK")
EXIT_CODES: Final = {"OK": 0, "DEGRADED": 1, "UNHEALTHY": 2, "UNKNOWN": 3}
BARS: Final = "▁▂▃▄▅▆▇█"
PLAIN_BARS: Final = "_.,:-=+#"


def console(*, err: bool = False) -> Console:
    """A console on stdout or stderr: colours on a terminal only, full width elsewhere."""
    stream = sys.stderr if err else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a locale without the shapes must not end the command
    made = Console(stderr=err, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=err, highlight=False, width=WIDE)


def put(console: Console, what: RenderableType) -> None:
    """Print; without the blanks that fill a table's columns where it is read by a program."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as caught:
        console.print(what)
    lines = (line.rstrip() for line in caught.get().splitlines())
    click.echo("\n".join(lines), err=console.stderr)


def put_json(value: object, *, indent: int | None = 2) -> None:
    """JSON on stdout; `indent` None for one line."""
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False))


def rich_shapes(console: Console) -> bool:
    """Whether the console can show more than ASCII."""
    return console.encoding.startswith("utf")


def clean(text: object) -> str:
    """Text from elsewhere, without anything that a terminal would obey."""
    said = str(text)
    return said if said.isprintable() else "".join(c if c.isprintable() else " " if c in "\n\t" else "�" for c in said)


def state(health: object, console: Console) -> Text:
    """A state as shape, word and colour."""
    word = str(health)
    look = LOOKS.get(word, LOOKS["UNKNOWN"])
    return Text(f"{look.shape if rich_shapes(console) else look.plain} {clean(word)}", style=look.style)


def count(value: Any) -> str:
    return NONE if value is None else f"{value:,}"


def share(value: Any) -> str:
    """A share of one, as percent."""
    return NONE if value is None else f"{value * 100:.1f} %"


def rps(value: Any) -> str:
    return NONE if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def millis(value: Any) -> str:
    """Milliseconds, in the unit that suits them."""
    if value is None:
        return NONE
    if value < 1_000:
        return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
    seconds = value / 1_000
    return f"{seconds:.2f} s" if seconds < 100 else span(seconds)


def span(seconds: float | None) -> str:
    """A length of time, in its largest unit or two."""
    if seconds is None:
        return NONE
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"


def seconds_of(text: Any) -> float | None:
    """An RFC 3339 time as seconds since the epoch; None for what is none."""
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def age(text: Any, now: float) -> str:
    """How long ago a time was."""
    at = seconds_of(text)
    return NONE if at is None else span(now - at)


def sparkline(values: Sequence[float | None], *, plain: bool = False) -> str:
    """One bar a value, from the smallest to the largest; a blank where there is none.

    The scale spans a fifth of the largest at least, so that what hardly moves looks flat.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    bars, low, high = PLAIN_BARS if plain else BARS, min(known), max(known)
    step = max(high - low, abs(high) / 5) / (len(bars) - 1) or 1.0
    return "".join(" " if value is None else bars[int((value - low) / step + 0.5)] for value in values)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; columns named in `right` are numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column != "reason")
    return made


def facts(*rows: tuple[str, RenderableType]) -> Table:
    """Names and values, one a line."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column()
    for name, value in rows:
        made.add_row(name, value)
    return made
