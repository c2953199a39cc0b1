"""`lso top`: the fleet, live."""

import contextlib
import os
import select
import sys
import time
from typing import Final

import rich_click as click
from rich.live import Live

from lso_core.cli import show
from lso_core.cli.talk import NEVER, Lso, TalkError, talking
from lso_core.cli.top.board import Board
from lso_core.cli.top.feed import Feed, look
from lso_core.cli.top.screen import Size, draw
from lso_core.cli.top.terminal import keys, taken

REDRAW_S: Final = 1.0
"""Ages on the screen grow while nothing else happens."""


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, help="seconds between two looks"
)
@click.option(
    "--most", type=click.IntRange(1), default=2_000, show_default=True, help="how many systems to follow, worst first"
)
@click.option("--filter", "wanted", default="", help="begin with this filter")
@click.option("--json", "as_json", is_flag=True, help="one look in JSON, and end")
@talking
def top(lso: Lso, interval: float, most: int, wanted: str, as_json: bool) -> int:
    """The fleet, live and full-screen: state, reason, rate, errors, p95, lag. Press ? for the keys."""
    if as_json:
        picture = look(lso, most)
        show.put_json({"counts": picture.counts, "items": picture.lines, "autoscale": picture.autoscale})
        return 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise TalkError("top needs a terminal; `lso top --json` or `lso health` do without", exit_code=NEVER)
    board = Board()
    board.filter = wanted
    with contextlib.suppress(KeyboardInterrupt):
        _live(board, Feed(lso, interval, most), lso.url)
    return 0


def _live(board: Board, feed: Feed, where: str) -> None:
    """Draw, wait for a key, news or a new size, and again."""
    console = show.console()
    plain = not show.rich_shapes(console)
    with Live(console=console, screen=True, auto_refresh=False) as live, taken(feed.wake), feed:
        going = True
        while going:
            size = Size(*console.size)
            live.update(draw(board, size, time.time(), plain=plain, where=where), refresh=True)
            ready = select.select([0, feed.ready], [], [], REDRAW_S)[0]
            if feed.ready in ready:
                feed.drain()
                _take_news(board, feed)
            if 0 in ready:
                typed = os.read(0, 4096)
                going = bool(typed) and all(board.press(key) for key in keys(typed.decode("utf-8", "ignore")))


def _take_news(board: Board, feed: Feed) -> None:
    while not feed.news.empty():
        news = feed.news.get()
        if isinstance(news, str):
            board.show_trouble(news)
        else:
            board.show_picture(news)
