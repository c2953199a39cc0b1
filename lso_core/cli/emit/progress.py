"""How far `lso emit` is, on a terminal."""

import os
import stat
from collections.abc import Callable
from typing import Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.emit.delivery import Tally


class Quiet:
    """Says only what goes wrong."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.note = say

    def reached(self, offset: int, tally: Tally) -> None:
        """Nothing to show."""


class Bar:
    """A bar over the input's bytes; where the input's size is not known it only moves."""

    def __init__(self, fd: int, start: int) -> None:
        found = os.fstat(fd)
        total = found.st_size if stat.S_ISREG(found.st_mode) else None
        words = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*words, console=show.console(err=True))
        self._task = self._progress.add_task("sending", total=total, completed=start)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def reached(self, offset: int, tally: Tally) -> None:
        events = tally.accepted + tally.known
        self._progress.update(self._task, completed=offset, description=f"{events:,} events")

    def note(self, text: str) -> None:
        self._progress.console.print(Text(f"{show.clean(text)}; trying again", style="yellow"))
