"""`lso tail`: the events of a system as they arrive."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import rich_click as click
from rich.console import Console
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.talk import AGAIN, Lso, TalkError, complete_system, pause_until, talking

PAGE: Final = 500
MOST_PAGES: Final = 40
"""Most pages read at once to catch up, or to find what is wanted among what is not."""

Event = dict[str, Any]


class Place(NamedTuple):
    """Where an event stands in its system's stream."""

    ms: int
    sequence: int
    number: int
    """Its place in the entry."""

    @classmethod
    def of(cls, entry: str, index: object) -> "Place":
        ms, _, sequence = entry.partition("-")
        return cls(int(ms), int(sequence or 0), int(str(index)))

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> "Place":
        return cls.of(str(event["entry"]), event["index"])

    @classmethod
    def of_cursor(cls, cursor: str) -> "Place":
        entry, _, index = cursor.rpartition(".")
        return cls.of(entry, index)


START: Final = Place(0, 0, 0)


class Stream:
    """The events of one system that are wanted, oldest first, each once."""

    def __init__(self, lso: Lso, system_id: int, wanted: Mapping[str, str | None]) -> None:
        self._lso = lso
        self._path = f"/systems/{system_id}/events"
        self._wanted = wanted
        self._seen: Place | None = None
        self.skipped = False
        """Whether the last look could not reach back to the one before."""

    def last(self, count: int) -> list[Event]:
        """The newest `count` events; what comes after them is for `fresh`."""
        self._seen = self._newest()
        return self._back_to(START, count)

    def fresh(self) -> list[Event]:
        """What came since the last look."""
        seen, newest = self._seen or START, self._newest()
        if newest <= seen:
            return []
        found = self._back_to(seen, PAGE * MOST_PAGES)
        self._seen = max([newest, *map(Place.of_event, found)])
        return found

    def _newest(self) -> Place:
        """Where the stream ends now, whatever is wanted of it."""
        items = self._lso.get(self._path, limit=1)["items"]
        return Place.of_event(items[0]) if items else START

    def _back_to(self, seen: Place, count: int) -> list[Event]:
        """Wanted events after `seen`, at most the newest `count`, oldest first."""
        found: list[Event] = []
        self.skipped = False
        if count <= 0:
            return found
        for number, page in enumerate(self._lso.pages(self._path, **self._wanted, limit=min(count, PAGE)), 1):
            found += (event for event in page["items"] if Place.of_event(event) > seen)
            cursor = page.get("next")
            if cursor is None or len(found) >= count or Place.of_cursor(str(cursor)) <= seen:
                break
            if number >= MOST_PAGES:
                self.skipped = seen != START
                break
        return found[:count][::-1]


@click.command()
@click.argument("system", shell_complete=complete_system)
@click.option(
    "--lines", "-n", type=click.IntRange(0), default=10, show_default=True, help="how many past events to begin with"
)
@click.option("--no-follow", is_flag=True, help="end after those")
@click.option("--type", "event_type", metavar="TYPE", help="only events of this type")
@click.option("--status", type=click.Choice(["ok", "error"]), help="only events with this status")
@click.option("--stage", help="only events of this stage")
@click.option("--run-id", help="only events of this run")
@click.option(
    "--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="seconds between two looks"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@talking
def tail(
    lso: Lso, system: str, lines: int, no_follow: bool, interval: float, as_json: bool, **wanted: str | None
) -> int:
    """Show the events of a system as they arrive, until Ctrl-C."""
    stream, console = Stream(lso, lso.find(system), wanted), show.console()
    _put(stream.last(lines), console, as_json)
    while not no_follow:
        pause_until(time.monotonic() + interval)
        _look(stream, console, as_json, interval)
    return 0


def _look(stream: Stream, console: Console, as_json: bool, interval: float) -> None:
    """One look; while LSO is away it says so once and goes on trying."""
    said = False
    while (events := _fresh(stream, said)) is None:
        said = True
        pause_until(time.monotonic() + interval)
    if stream.skipped:
        click.echo("lso: more events came than can be shown; some are left out", err=True)
    _put(events, console, as_json)


def _fresh(stream: Stream, said: bool) -> list[Event] | None:
    """The new events; None where LSO cannot say now."""
    try:
        return stream.fresh()
    except TalkError as error:
        if error.exit_code != AGAIN:  # the system was deleted, or the key
            raise
        if not said:
            click.echo(f"lso: {error.message}; trying again", err=True)
        return None


def _put(events: list[Event], console: Console, as_json: bool) -> None:
    for event in events:
        if as_json:
            click.echo(json.dumps(event, ensure_ascii=False))
        elif console.is_terminal:
            console.print(line(event), soft_wrap=True)
        else:
            click.echo(line(event).plain)
    sys.stdout.flush()


def line(event: Mapping[str, Any]) -> Text:
    """One event for people."""
    failed = event.get("status") == "error"
    parts: list[tuple[str, str]] = [
        (show.clean(event.get("ts") or event.get("at")), "dim"),
        (f"{show.clean(event.get('status')):<5}", "bold red" if failed else "green"),
        (f"{show.clean(event.get('event_type')):<10}", ""),
        (f"{show.millis(event.get('latency_ms')):>8}", ""),
    ]
    parts += [
        (f"{name}={show.clean(event[key])}", "cyan")
        for name, key in (("stage", "stage"), ("run", "run_id"))
        if event.get(key)
    ]
    if event.get("payload"):
        parts.append((show.clean(json.dumps(event["payload"], ensure_ascii=False)), "dim"))
    return Text("  ").join(Text(text, style=style) for text, style in parts)
