"""`lso dead-letters`: what could not be counted, looked at, sent again after a fix, or thrown away."""

import itertools
import sys
from typing import Any, Final

import rich_click as click
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.systems import as_json, of_system
from lso_core.cli.talk import NEVER, Lso, TalkError, talking

INPUT: Final = 422


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Look at what could not be counted, send it again after a fix, or throw it away."""


of_letters = click.argument("letter", nargs=-1)
all_of_them = click.option("--all", "every", is_flag=True, help="all of the system's")


@dead_letters.command(name="list")
@of_system
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, metavar="N", help="at most so many, newest first [100]"
)
@as_json
@talking
def list_(lso: Lso, system: str, limit: int, as_json: bool) -> int:
    """List a system's dead letters, newest first."""
    found = list(itertools.islice(_letters(lso, lso.find(system)), limit))
    if as_json:
        show.put_json(found)
        return 0
    table = show.table("id", "at", "kind", "events", "bytes", "field", "reason", right=("events", "bytes"))
    for one in found:
        words = (one["id"], one["at"], one["kind"], show.count(one["events"]), show.count(one["bytes"]))
        table.add_row(*words, *(Text(show.clean(one[name])) for name in ("field", "reason")))
    show.put(show.console(), table)
    return 0


@dead_letters.command(name="show")
@of_system
@click.argument("letter")
@as_json
@talking
def show_(lso: Lso, system: str, letter: str, as_json: bool) -> int:
    """Show one dead letter: why it is one, and what was sent."""
    found = lso.get(_path(lso.find(system), letter))
    if as_json:
        show.put_json(found)
        return 0
    rows = [(name, found[name]) for name in ("id", "at", "kind", "events", "field", "reason", "entry")]
    rows.append(
        ("sent", f"{show.count(found['bytes'])} bytes that are no text" if found["text"] is None else found["text"])
    )
    show.put(
        show.console(),
        show.facts(*((name, Text(show.clean(value))) for name, value in rows if value not in {None, ""})),
    )
    return 0


@dead_letters.command()
@of_system
@of_letters
@all_of_them
@as_json
@talking
def requeue(lso: Lso, system: str, letter: tuple[str, ...], every: bool, as_json: bool) -> int:
    """Send dead letters again, after a fix.

    Each is counted once, however often it is tried, and then gone from here. What is still wrong stays and is named; then
    the status is 2.
    """
    system_id = lso.find(system)
    refused = 0
    for one in _chosen(lso, system_id, letter, every=every):
        try:
            taken = lso.send("POST", _path(system_id, one) + "/requeue")
        except TalkError as error:
            if error.status != INPUT:
                raise
            refused += 1
            click.echo(f"lso: {one}: {error.message}", err=True)
            continue
        told = {"id": one, "accepted": taken["accepted"]}
        show.put_json(told, indent=None) if as_json else click.echo(
            f"{one}: {show.count(taken['accepted'])} events taken"
        )
    return NEVER if refused else 0


@dead_letters.command()
@of_system
@of_letters
@all_of_them
@click.option("--yes", "-y", is_flag=True, help="do not ask")
@talking
def purge(lso: Lso, system: str, letter: tuple[str, ...], every: bool, yes: bool) -> int:
    """Throw dead letters away."""
    system_id = lso.find(system)
    _check_choice(letter, every=every)
    if not yes and not sys.stdin.isatty():
        raise TalkError("throwing away cannot be undone; say --yes where nobody can be asked", exit_code=NEVER)
    what = "all dead letters" if every else ", ".join(map(show.clean, letter))
    if not yes and not click.confirm(f"Throw {what} of {show.clean(system)} away?", err=True):
        return 1
    if every:
        purged = lso.send("DELETE", f"/dead-letters?system_id={system_id}")["purged"]
    else:
        for one in letter:
            lso.send("DELETE", _path(system_id, one))
        purged = len(letter)
    click.echo(f"{show.count(purged)} thrown away")
    return 0


def _letters(lso: Lso, system_id: int) -> Any:
    return lso.items("/dead-letters", system_id=system_id)


def _chosen(lso: Lso, system_id: int, letters: tuple[str, ...], *, every: bool) -> list[str]:
    """The ids meant, oldest first where it is all of them: so they were sent."""
    _check_choice(letters, every=every)
    return [str(one["id"]) for one in _letters(lso, system_id)][::-1] if every else list(letters)


def _check_choice(letters: tuple[str, ...], *, every: bool) -> None:
    if every == bool(letters):
        raise click.UsageError("name letters by their ids, or say --all")


def _path(system_id: int, letter: str) -> str:
    """A letter's path. Raises TalkError for what cannot be an id, before it becomes another path."""
    if not letter.replace("-", "").isalnum():
        raise TalkError(f"{letter!r} is no id of a dead letter", exit_code=NEVER)
    return f"/dead-letters/{system_id}/{letter}"
