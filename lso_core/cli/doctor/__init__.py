"""`lso doctor`: is the observer itself well? Every check says what it found and, where something is wrong, what to do."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import rich_click as click
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.doctor.checks import Check, Level
from lso_core.cli.talk import Lso, talking

LOOKS: Final[Mapping[Level, tuple[str, str, str]]] = {
    "well": ("✓", "ok", "green"),
    "look": ("!", "!!", "yellow"),
    "wrong": ("✗", "XX", "bold red"),
    "skipped": ("·", "..", "dim"),
}


@click.command()
@click.option(
    "--data-dir",
    envvar="LSO_DATA_DIR",
    default="data",
    metavar="PATH",
    help="the embedded server's files [LSO_DATA_DIR, default data]",
)
@click.option("--json", "as_json", is_flag=True, help="answer in JSON")
@talking
def doctor(lso: Lso, data_dir: str, as_json: bool) -> int:
    """Check configuration, service, clocks, lag, Redis and disk; exit with 1 where something is wrong."""
    from lso_core.cli.doctor import local, remote

    found = [
        *local.configuration(os.environ),
        *local.kernels(),
        *remote.service(lso),
        *local.redis(os.environ, Path(data_dir)),
        *local.disk(Path(data_dir)),
    ]
    show.put_json([check._asdict() for check in found]) if as_json else _put(found)
    return 1 if any(check.level == "wrong" for check in found) else 0


def _put(found: list[Check]) -> None:
    console = show.console()
    table = show.table("", "check", "found")
    for check in found:
        shape, plain, style = LOOKS[check.level]
        said = Text(show.clean(check.found))
        if check.advice:
            said.append(
                f"\n→ {show.clean(check.advice)}" if console.is_terminal else f" -> {show.clean(check.advice)}",
                style="bold",
            )
        table.add_row(Text(shape if show.rich_shapes(console) else plain, style=style), check.name, said)
    table.columns[2].no_wrap = not console.is_terminal
    show.put(console, table)
