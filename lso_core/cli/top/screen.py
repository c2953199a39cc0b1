"""The board as lines of text, exactly as many and as wide as the terminal has."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from rich.cells import set_cell_size
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.top.board import ORDERS, Board, Line

STALE_S: Final = 10.0
"""A picture older than this says so."""
TREND: Final = 16
REASON: Final = 16
"""Least width that a reason is worth showing in."""
HELP: Final = (
    "q           end",
    "↑ ↓ PgUp PgDn Home End",
    "            choose a system; its reason stands below the table",
    "s n r e p l sort by state, name, rps, errors, p95, lag; again: the other way round",
    "/           show only systems whose name, state or reason contains what you type",
    "Esc         show all again",
    "h ?         this help; any key leaves it",
    "",
    "trend       p95 of the looks so far, newest right",
    "lag         time since the system's last event",
)


class Column(NamedTuple):
    """One column: its title, width, and what it says of a line."""

    title: str
    width: int
    right: bool
    order: str
    """Key that sorts by it; empty where none does."""
    cell: Callable[[Line], Text | str]


class Size(NamedTuple):
    """Of a terminal, in cells."""

    width: int
    height: int


def draw(board: Board, size: Size, now: float, *, plain: bool, where: str) -> Text:
    """The whole screen."""
    head = [_counts(board, plain), _observer(board, now, where)]
    rows = board.rows()
    foot = [_reason(board, rows), _keys(board)]
    room = max(0, size.height - len(head) - len(foot) - 1)
    body = (
        [Text(line, style="bold") for line in HELP[:room]]
        if board.help
        else list(_table(board, rows, size.width, room, now, plain))
    )
    fill = [Text("")] * (size.height - len(head) - len(foot) - len(body))
    lines = [*head, *body, *fill, *foot][: size.height]
    for line in lines:
        line.truncate(size.width, overflow="ellipsis" if not plain else "crop")
    return Text("\n").join(lines)


def _counts(board: Board, plain: bool) -> Text:
    counts = board.picture.counts
    line = Text(f"LSO  {sum(counts.values()):,} systems  ", style="bold")
    for state in show.WORST_FIRST:
        look = show.LOOKS[state]
        line.append(f"  {look.plain if plain else look.shape} {counts.get(state, 0)} {state}", style=look.style)
    return line


def _observer(board: Board, now: float, where: str) -> Text:
    """What LSO says of itself; in red that it says nothing, and how old the picture is."""
    picture = board.picture
    if board.trouble:
        age = f"the picture is {show.span(now - picture.at)} old" if picture.at else "there is no picture yet"
        return Text(f"{age}: {show.clean(board.trouble)}", style="bold red")
    if not picture.at:
        return Text(f"asking {where} …", style="dim")
    backlog = picture.autoscale.get("backlog", {})
    said = (
        f"{where}   observer: {backlog.get('events', 0):,} events wait, {backlog.get('oldest_age_s', 0):.1f} s behind"
    )
    late = f"   the picture is {show.span(now - picture.at)} old" if now - picture.at > STALE_S else ""
    return Text(
        f"{said}, workers {picture.autoscale.get('workers', show.NONE)}{late}", style="yellow" if late else "dim"
    )


def _table(board: Board, rows: list[Line], width: int, room: int, now: float, plain: bool) -> Iterator[Text]:
    columns = _columns(board, rows, width, now, plain)
    yield _titles(board, columns, plain)
    if not rows and board.picture.at:
        yield Text(
            "no system passes the filter" if board.filter else "no systems yet; `lso demo` brings some", style="dim"
        )
    at = board.position(rows)
    first = max(0, min(at - (room - 1) // 2, len(rows) - (room - 1)))
    for number, line in enumerate(rows[first : first + max(0, room - 1)], first):
        text = Text("  ").join(_fit(column, column.cell(line)) for column in columns)
        if number == at:
            text.stylize("reverse")
        yield text


def _columns(board: Board, rows: list[Line], width: int, now: float, plain: bool) -> list[Column]:
    """Those there is room for; the reason takes what is left."""
    longest = max((len(str(line["name"])) for line in rows), default=0)
    wide = 11 if width >= 60 else 1
    columns = [
        Column("state"[:wide], wide, False, "s", lambda line: _state(line, plain, wide)),
        Column(
            "system",
            min(max(longest, 6), 28 if width >= 100 else 18),
            False,
            "n",
            lambda line: show.clean(line["name"]),
        ),
        Column("rps", 7, True, "r", lambda line: show.rps(line["rps"])),
        Column("errors", 7, True, "e", lambda line: show.share(line["error_rate"])),
        Column("p95", 8, True, "p", lambda line: show.millis(line["p95_latency"])),
        Column("lag", 6, True, "l", lambda line: show.age(line["last_event_at"], now)),
        Column("trend", TREND, False, "", lambda line: _trend(board, line, plain)),
        Column("since", 6, True, "", lambda line: show.age(line["since"], now)),
    ]
    fitting: list[Column] = []
    for column in columns:
        if _width([*fitting, column]) <= width or len(fitting) < 2:
            fitting.append(column)
    left = width - _width(fitting) - 2
    if left >= REASON:
        fitting.append(Column("reason", left, False, "", lambda line: show.clean(line["reason"])))
    return fitting


def _width(columns: list[Column]) -> int:
    return sum(column.width + 2 for column in columns) - 2


def _fit(column: Column, cell: Text | str) -> Text:
    """A cell in exactly its column's width."""
    text = cell if isinstance(cell, Text) else Text(cell)
    if column.right:
        return Text(set_cell_size(text.plain.rjust(column.width), column.width), style=text.style)
    return Text(set_cell_size(text.plain, column.width), style=text.style)


def _titles(board: Board, columns: list[Column], plain: bool) -> Text:
    arrows = ("v", "^") if plain else ("▾", "▴")
    titles = []
    for column in columns:
        sorted_by = column.order == board.order.key
        title = column.title + (arrows[board.backwards] if sorted_by else "")
        titles.append(_fit(column, Text(title, style="bold underline" if sorted_by else "bold")))
    return Text("  ").join(titles)


def _state(line: Line, plain: bool, width: int) -> Text:
    look = show.LOOKS.get(line["health"], show.LOOKS["UNKNOWN"])
    shape = look.plain if plain else look.shape
    return Text(shape if width == 1 else f"{shape} {line['health']}", style=look.style)


def _trend(board: Board, line: Line, plain: bool) -> Text:
    values = list(board.history.get(line["system_id"], ()))[-TREND:]
    return Text(show.sparkline(values, plain=plain).rjust(TREND), style="cyan")


def _reason(board: Board, rows: list[Line]) -> Text:
    if not rows:
        return Text("")
    line = rows[board.position(rows)]
    return Text.assemble((f"{show.clean(line['name'])}: ", "bold"), show.clean(line["reason"]))


def _keys(board: Board) -> Text:
    if board.typing:
        return Text(f"/{board.filter}_", style="bold")
    filtered = f"   only: {board.filter} (Esc: all)" if board.filter else ""
    sorts = " ".join(order.key for order in ORDERS)
    return Text(f"q end   ↑↓ choose   {sorts} sort   / filter   ? help{filtered}", style="dim")
