"""`lso health`: is it well, how do we know, and since when?"""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import rich_click as click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from lso_core.cli import show
from lso_core.cli.talk import Lso, TalkError, complete_system, pause_until, talking

UNKNOWN: Final = show.EXIT_CODES["UNKNOWN"]
SHOWN: Final = 50
"""Most systems of the fleet that are listed; the worst come first."""

Answer = dict[str, Any]


class HealthCommand(click.RichCommand):
    """With --exit-code the status is a verdict, so what keeps us from one must not look like UNHEALTHY (2): it is UNKNOWN."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        verdict = "--exit-code" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            self._end(ctx, error, verdict)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            self._end(ctx, error, bool(ctx.params.get("exit_code")))
            raise

    @staticmethod
    def _end(ctx: click.Context, error: click.ClickException, verdict: bool) -> None:
        if verdict:
            error.show()
            ctx.exit(UNKNOWN)


@click.command(cls=HealthCommand)
@click.argument("system", required=False, shell_complete=complete_system)
@click.option("--watch", "-w", is_flag=True, help="go on until Ctrl-C; away from a terminal, a line for each change")
@click.option(
    "--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, help="seconds between two looks"
)
@click.option("--exit-code", is_flag=True, help="exit with 0 OK, 1 DEGRADED, 2 UNHEALTHY, 3 UNKNOWN or no answer")
@click.option("--json", "as_json", is_flag=True, help="answer in JSON, with --watch one line for each change")
@talking
def health(lso: Lso, system: str | None, watch: bool, interval: float, exit_code: bool, as_json: bool) -> int:
    """How well a system is, or the whole fleet: the verdict, the reason, since when, and the figures."""
    ask = _asker(lso, system)
    if not watch:
        answer = ask()
        show.put_json(answer) if as_json else show.put(show.console(), picture(answer, show.console()))
    else:
        answer = _watch(ask, interval, as_json)
    return show.EXIT_CODES.get(verdict(answer), UNKNOWN) if exit_code else 0


def verdict(answer: Mapping[str, Any]) -> str:
    """The state of a system, or the worst of a fleet; an empty fleet is UNKNOWN."""
    if "counts" not in answer:
        return str(answer.get("health", "UNKNOWN"))
    return next((state for state in show.WORST_FIRST if answer["counts"].get(state)), "UNKNOWN")


def picture(answer: Mapping[str, Any], console: Console) -> RenderableType:
    """An answer for people."""
    return _fleet(answer, console) if "counts" in answer else _system(answer, console)


def _asker(lso: Lso, system: str | None) -> Callable[[], Answer]:
    if system is None:
        return lambda: lso.get("/health")
    path = f"/systems/{lso.find(system)}/health"
    return lambda: lso.get(path)


def _watch(ask: Callable[[], Answer], interval: float, as_json: bool) -> Answer:
    """Look until Ctrl-C; the last answer. The first look must succeed, later ones may fail for a while."""
    answer = ask()
    with contextlib.suppress(KeyboardInterrupt):
        _watch_live(ask, answer, interval) if sys.stdout.isatty() and not as_json else _watch_lines(
            ask, answer, interval, as_json
        )
    return answer


def _watch_live(ask: Callable[[], Answer], answer: Answer, interval: float) -> None:
    console, seen = show.console(), time.monotonic()
    with Live(picture(answer, console), console=console, auto_refresh=False) as live:
        while True:
            pause_until(time.monotonic() + interval)
            trouble = _refresh(answer, ask)
            seen = seen if trouble else time.monotonic()
            note = Text(f"{trouble} (shown: {show.span(time.monotonic() - seen)} old)" if trouble else "", style="red")
            live.update(Group(picture(answer, console), note) if trouble else picture(answer, console), refresh=True)


def _watch_lines(ask: Callable[[], Answer], answer: Answer, interval: float, as_json: bool) -> None:
    said: tuple[object, ...] = ()
    trouble = ""
    while True:
        now = (verdict(answer), answer.get("since"), answer.get("counts"))
        if now != said:
            show.put_json(answer, indent=None) if as_json else click.echo(_line(answer))
            sys.stdout.flush()
        said = now
        pause_until(time.monotonic() + interval)
        trouble, before = _refresh(answer, ask), trouble
        if trouble and not before:
            click.echo(f"lso: {trouble}; trying again", err=True)


def _refresh(answer: Answer, ask: Callable[[], Answer]) -> str:
    """Bring the answer up to date; a sentence where that failed, and the answer stays."""
    try:
        fresh = ask()
    except TalkError as error:
        return error.message
    answer.clear()
    answer.update(fresh)
    return ""


def _line(answer: Answer) -> str:
    if "counts" not in answer:
        return f"{answer.get('as_of')} {answer.get('health')}: {show.clean(answer.get('reason'))}"
    return f"{verdict(answer)}: " + ", ".join(f"{answer['counts'].get(s, 0)} {s}" for s in show.WORST_FIRST)


def _system(answer: Mapping[str, Any], console: Console) -> RenderableType:
    head = Text.assemble(show.state(answer.get("health"), console), ": ", show.clean(answer.get("reason")))
    window = f"{show.count(answer.get('total'))} events in {answer.get('window_seconds')} s, {show.rps(answer.get('rps'))} a second"
    wrong = f"{show.count(answer.get('errors'))} ({show.share(answer.get('error_rate'))})"
    rows = (
        ("since", answer.get("since")),
        ("window", window),
        ("errors", wrong),
        ("p95 latency", show.millis(answer.get("p95_latency"))),
        ("last event", answer.get("last_event_at") or "none yet"),
        ("last ok", answer.get("last_ok_at") or "none yet"),
        ("as of", answer.get("as_of")),
    )
    return Group(head, show.facts(*((name, Text(show.clean(value))) for name, value in rows)))


def _fleet(answer: Mapping[str, Any], console: Console) -> RenderableType:
    counts, items = answer["counts"], answer.get("items", [])
    head = Text("   ").join(Text.assemble(show.state(s, console), f" {counts.get(s, 0)}") for s in show.WORST_FIRST)
    table = show.table("state", "system", "since", "errors", "p95", "reason", right=("errors", "p95"))
    for line in items[:SHOWN]:
        table.add_row(
            show.state(line.get("health"), console),
            Text(show.clean(line.get("name"))),
            show.age(line.get("since"), time.time()),
            show.share(line.get("error_rate")),
            show.millis(line.get("p95_latency")),
            Text(show.clean(line.get("reason"))),
        )
    more = sum(counts.values()) - min(len(items), SHOWN)
    rest = [Text(f"… and {more} more, none worse than these; `lso top` shows all", style="dim")] if more > 0 else []
    return Group(head, table, *rest)
