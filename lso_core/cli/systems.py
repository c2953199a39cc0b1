"""`lso systems`: the registry of observed systems."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.talk import NEVER, Lso, TalkError, complete_system, talking

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # older releases of click know no parameter here
    _ParamType = click.ParamType

C = TypeVar("C", bound=Callable[..., Any])

CONFLICT = 409
DEFAULTS = {"error_rate": {"warn": 0.05, "crit": 0.20}}
"""What the server takes where nothing is said; a system that is told one limit keeps the other."""
NO_LIMIT = "none"


class Limit(_ParamType):
    """A threshold: a number above 0, or `none` for no limit; `5%` is 0.05."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip()
        if text.lower() == NO_LIMIT:
            return NO_LIMIT
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text!r} is neither a number nor {NO_LIMIT!r}", param, ctx)
        return number


THRESHOLDS = {
    "error_warn": ("error_rate", "warn", "share of errors above which it is DEGRADED, as 0.05 or 5%"),
    "error_crit": ("error_rate", "crit", "share of errors above which it is UNHEALTHY"),
    "p95_warn": ("p95_latency", "warn", "95th percentile of latency, in ms, above which it is DEGRADED"),
    "p95_crit": ("p95_latency", "crit", "95th percentile of latency, in ms, above which it is UNHEALTHY"),
}
"""Option to its place in `thresholds`."""


RUN_LIMITS = {
    "max_runtime": ("max_runtime_seconds", "a run that has not ended by then is TIMED_OUT and the system DEGRADED"),
    "heartbeat_timeout": ("heartbeat_timeout_seconds", "a run without any event for so long is LOST"),
}
"""Option to its member of a system, in seconds."""


def describing(command: C) -> C:
    """Give a command the options that describe a system."""
    decorators = [
        click.option("--description", help="what it is, for people"),
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="may be given several times"),
        click.option(
            "--window", "window_seconds", type=int, metavar="SECONDS", help="length of its rolling window, 60 to 3600"
        ),
        *(
            click.option("--" + n.replace("_", "-"), n, type=Limit(), help=text)
            for n, (_, _, text) in THRESHOLDS.items()
        ),
        *(
            click.option("--" + n.replace("_", "-"), n, type=Limit(), metavar="SECONDS", help=text)
            for n, (_, text) in RUN_LIMITS.items()
        ),
        click.option("--min-events", type=int, metavar="N", help="below this many events it is at most DEGRADED"),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="answer in JSON")
of_system = click.argument("system", shell_complete=complete_system)


@click.group()
def systems() -> None:
    """Register, list and change the systems that LSO observes."""


@systems.command()
@click.argument("name")
@describing
@click.option("--if-absent", is_flag=True, help="be content where it exists already")
@as_json
@talking
def add(lso: Lso, name: str, if_absent: bool, as_json: bool, **given: Any) -> int:
    """Register a system; prints its id."""
    try:
        made = lso.send("POST", "/systems", {"name": name, **_spec(given, DEFAULTS)})
    except TalkError as error:
        if error.status != CONFLICT or not if_absent:
            raise
        made = lso.get(f"/systems/{lso.find(name)}")
    show.put_json(made) if as_json else click.echo(made["system_id"])
    return 0


@systems.command(name="list")
@click.option("--tag", metavar="TAG", help="only systems with this tag")
@as_json
@talking
def list_(lso: Lso, tag: str | None, as_json: bool) -> int:
    """List the registered systems, newest first."""
    found = [item for item in lso.items("/systems") if tag is None or tag in item.get("tags", ())]
    if as_json:
        show.put_json(found)
        return 0
    table = show.table("id", "name", "window", "tags", "description", right=("id", "window"))
    for item in found:
        words = (
            item.get("name"),
            f"{item.get('window_seconds')} s",
            ", ".join(item.get("tags", ())),
            item.get("description"),
        )
        table.add_row(str(item.get("system_id")), *(Text(show.clean(word)) for word in words))
    show.put(show.console(), table)
    return 0


@systems.command(name="show")
@of_system
@as_json
@talking
def show_(lso: Lso, system: str, as_json: bool) -> int:
    """Show one system: its description, window and thresholds."""
    found = lso.get(f"/systems/{lso.find(system)}")
    show.put_json(found) if as_json else _put(found)
    return 0


@systems.command(name="set")
@of_system
@click.option("--name", help="a new name")
@describing
@as_json
@talking
def set_(lso: Lso, system: str, name: str | None, as_json: bool, **given: Any) -> int:
    """Change a system; what is not given stays. A limit of `none` is taken away, --tag replaces all tags."""
    path = f"/systems/{lso.find(system)}"
    current = lso.get(path)
    change = ({} if name is None else {"name": name}) | _spec(given, current.get("thresholds", {}))
    if not change:
        raise click.UsageError("nothing to change was given")
    changed = lso.send("PATCH", path, change)
    show.put_json(changed) if as_json else _put(changed)
    return 0


@systems.command()
@click.argument("system", nargs=-1, required=True, shell_complete=complete_system)
@click.option("--yes", "-y", is_flag=True, help="do not ask")
@talking
def rm(lso: Lso, system: tuple[str, ...], yes: bool) -> int:
    """Delete systems with everything that is known of them."""
    doomed = [(lso.find(one), one) for one in system]
    if not yes and not sys.stdin.isatty():
        raise TalkError("deleting cannot be undone; say --yes where nobody can be asked", exit_code=NEVER)
    names = ", ".join(show.clean(name) for _, name in doomed)
    if not yes and not click.confirm(f"Delete {names} with all events and history?", err=True):
        return 1
    for system_id, _ in doomed:
        lso.send("DELETE", f"/systems/{system_id}")
    return 0


def _spec(given: Mapping[str, Any], thresholds: Mapping[str, Any]) -> dict[str, Any]:
    """The request's members for the options that were given; `thresholds` are replaced as a whole, so changed in a copy."""
    plain = ("description", "window_seconds")
    spec = {name: given[name] for name in plain if given[name] is not None}
    for option, (member, _) in RUN_LIMITS.items():
        if given[option] is not None:
            spec[member] = None if given[option] == NO_LIMIT else _whole(given[option])
    if given["tags"]:
        spec["tags"] = [tag for tag in given["tags"] if tag]
    merged = {name: dict(level) if isinstance(level, dict) else level for name, level in thresholds.items()}
    for option, (measure, level, _) in THRESHOLDS.items():
        if given[option] is not None:
            merged.setdefault(measure, {})[level] = None if given[option] == NO_LIMIT else given[option]
    if given["min_events"] is not None:
        merged["min_events"] = given["min_events"]
    return spec | {"thresholds": merged} if merged != thresholds else spec


def _seconds(value: Any) -> str:
    return "no limit" if value is None else f"{value} s"


def _whole(number: float) -> float | int:
    """A whole number as such; the server says what it thinks of others."""
    return int(number) if number.is_integer() else number


def _put(system: Mapping[str, Any]) -> None:
    """One system, for people."""
    limits = system.get("thresholds", {})
    errors, p95 = limits.get("error_rate", {}), limits.get("p95_latency", {})
    rows = (
        ("id", system.get("system_id")),
        ("name", system.get("name")),
        ("description", system.get("description")),
        ("tags", ", ".join(system.get("tags", ()))),
        ("window", f"{system.get('window_seconds')} s"),
        (
            "error rate",
            f"DEGRADED above {show.share(errors.get('warn'))}, UNHEALTHY above {show.share(errors.get('crit'))}",
        ),
        (
            "p95 latency",
            f"DEGRADED above {show.millis(p95.get('warn'))}, UNHEALTHY above {show.millis(p95.get('crit'))}",
        ),
        ("min events", limits.get("min_events")),
        *((option.replace("_", " "), _seconds(system.get(member))) for option, (member, _) in RUN_LIMITS.items()),
        ("created", system.get("created_at")),
    )
    show.put(show.console(), show.facts(*((name, Text(show.clean(value))) for name, value in rows)))
