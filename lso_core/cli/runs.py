"""`lso runs`: what each run of a system did, and what became of it."""

import itertools
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import rich_click as click
from rich.console import Console, Group, RenderableType
from rich.text import Text

from lso_core.cli import show, tail
from lso_core.cli.talk import Lso, complete_system, talking

STATES: Final = ("RUNNING", "SUCCESS", "FAILED", "TIMED_OUT", "LOST")
ENDED_BY_HAND: Final = "ended by hand with `lso runs --end`"

Run = Mapping[str, Any]


@click.command()
@click.argument("system", shell_complete=complete_system)
@click.argument("run", required=False)
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="only runs in this state")
@click.option(
    "--lines", "-n", type=click.IntRange(1), default=20, show_default=True, help="how many runs, or events of a run"
)
@click.option(
    "--end", is_flag=True, help="end RUN as failed: for one that hangs or is gone and will never say so itself"
)
@click.option("--json", "as_json", is_flag=True, help="answer in JSON")
@talking
def runs(lso: Lso, system: str, run: str | None, state: str | None, lines: int, end: bool, as_json: bool) -> int:
    """The latest runs of a system, or one of them with its stages and events; `latest` is the one that started last."""
    path = f"/systems/{lso.find(system)}"
    if run is None:
        if end:
            raise click.UsageError("--end needs the RUN that is to end")
        found = list(
            itertools.islice(lso.items(f"{path}/runs", state=state and state.upper(), limit=min(lines, 500)), lines)
        )
        show.put_json(found) if as_json else show.put(show.console(), _list(found, show.console()))
        return 0
    one = lso.get(f"{path}/runs/{quote(run, safe='')}", limit=min(lines, 500))
    if end:
        _end(lso, path, str(one["run_id"]))
        return 0
    show.put_json(one) if as_json else show.put(show.console(), _picture(one, show.console()))
    return 0


def _end(lso: Lso, path: str, run_id: str) -> None:
    """Send the end that a run did not send itself."""
    body = {"event_type": "end", "status": "error", "run_id": run_id, "payload": {"error_message": ENDED_BY_HAND}}
    lso.send("POST", f"{path}/events", {"events": [body]})
    click.echo(f"run {show.clean(run_id)} is ended as FAILED")


def _list(found: list[dict[str, Any]], console: Console) -> RenderableType:
    if not found:
        return Text("no runs")
    table = show.table(
        "state",
        "run",
        "started",
        "took",
        "attempt",
        "rows",
        "errors",
        "error",
        right=("took", "attempt", "rows", "errors"),
    )
    for run in found:
        table.add_row(
            show.state(run.get("state"), console),
            Text(show.clean(run.get("run_id"))),
            show.clean(run.get("started_at")),
            show.millis(run.get("duration_ms")),
            show.count(run.get("attempts")),
            show.count(run.get("rows")),
            show.count(run.get("errors")),
            Text(show.clean(run.get("error_summary") or "")),
        )
    return table


def _picture(run: Run, console: Console) -> RenderableType:
    """One run for people: what became of it, its stages, its events."""
    rank = run.get("rank") or {}
    head = Text.assemble(show.state(run.get("state"), console), ": ", show.clean(run.get("run_id")))
    rows = (
        ("started", run.get("started_at")),
        ("ended", run.get("ended_at") or "not yet"),
        ("took", f"{show.millis(run.get('duration_ms'))}{_ranked(rank)}"),
        ("attempts", show.count(run.get("attempts"))),
        ("events", f"{show.count(run.get('events'))}, {show.count(run.get('errors'))} of them errors"),
        *(
            (name.replace("_", " "), show.count(run[name]))
            for name in ("rows", "rows_in", "rows_out", "bytes")
            if run.get(name)
        ),
        *((("first error", run["error_summary"]),) if run.get("error_summary") else ()),
    )
    events = [tail.line(event) for event in reversed(run.get("timeline", {}).get("items", []))]
    return Group(
        head, show.facts(*((name, Text(show.clean(value))) for name, value in rows)), _stages(run, console), *events
    )


def _ranked(rank: Mapping[str, Any]) -> str:
    return f", {rank['text']}" if rank.get("runs") else ""


def _stages(run: Run, console: Console) -> RenderableType:
    stages = run.get("stages", [])
    if not stages:
        return Text("")
    table = show.table("stage", "state", "took", "events", "errors", "rows", right=("took", "events", "errors", "rows"))
    for stage in stages:
        table.add_row(
            Text(show.clean(stage.get("name"))),
            show.state(stage.get("state"), console),
            show.millis(stage.get("duration_ms")),
            show.count(stage.get("events")),
            show.count(stage.get("errors")),
            show.count(stage.get("rows")),
        )
    return Group(Text(""), table, Text(""))
