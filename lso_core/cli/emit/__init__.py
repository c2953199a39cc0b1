"""`lso emit`: one event from options, or NDJSON from a file or standard input, each counted once however often it is sent."""

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import rich_click as click

from lso_core.cli import show
from lso_core.cli.emit.cutting import Cutter, LineTooLongError, cuts
from lso_core.cli.emit.delivery import Delivery, Tally
from lso_core.cli.emit.resume import StateFile
from lso_core.cli.talk import NEVER, Lso, TalkError, complete_system, talking

MOST_EVENTS: Final = 10_000
EVENT_OPTIONS: Final = ("type", "status", "latency-ms", "stage", "run-id", "ts", "payload", "set")


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--system", "-s", envvar="LSO_SYSTEM", required=True, help="id or name [LSO_SYSTEM]", shell_complete=complete_system
)
@click.option("--type", "event_type", metavar="TYPE", help="send one event of this type, such as success")
@click.option("--status", type=click.Choice(["ok", "error"]), help="default: error for failure and error, else ok")
@click.option("--latency-ms", type=float, metavar="MS", help="duration; start, heartbeat, end and log may go without")
@click.option("--stage", help="step of the pipeline")
@click.option("--run-id", help="what the events of one run have in common")
@click.option("--ts", metavar="TIME", help="when it happened, RFC 3339 [default: now]")
@click.option("--payload", metavar="JSON", help="anything else, as a JSON object")
@click.option("--set", "extras", multiple=True, metavar="KEY=VALUE", help="one member of the payload; may be repeated")
@click.option(
    "--on-invalid",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="what a bad line does; skip keeps it in the dead letters",
)
@click.option(
    "--state", type=click.Path(dir_okay=False, path_type=Path), help="file that remembers how far the input was sent"
)
@click.option("--again", is_flag=True, help="count an input that was sent before once more")
@click.option(
    "--batch", type=click.IntRange(1, MOST_EVENTS), default=2_000, show_default=True, help="most events of one request"
)
@click.option(
    "--linger",
    type=click.FloatRange(0.01),
    default=1.0,
    show_default=True,
    help="seconds without input after which what waits is sent",
)
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="seconds to try again while LSO is away or busy",
)
@click.option("--no-register", is_flag=True, help="refuse a name that LSO does not know, instead of registering it")
@click.option("--json", "as_json", is_flag=True, help="say what was sent in JSON")
@click.option("--quiet", "-q", is_flag=True, help="no progress and no summary")
@talking
def emit(lso: Lso, **given: Any) -> int:
    """Send one event from options, or a file of events (NDJSON, one JSON object a line; - or nothing: standard input).

    Every batch has a key that follows from its content and place, so that the same input may be sent again after an
    interruption: what was counted is not counted twice.
    """
    single = _single(given)
    if single is None and given["file"] is None and sys.stdin.isatty():
        raise click.UsageError("give an event with --type, or a file, or pipe events in")
    system_id, is_new = lso.find_or_register(given["system"], register=not given["no_register"])
    if is_new and not given["quiet"]:
        click.echo(f"registered {show.clean(given['system'])} as system {system_id}", err=True)
    tally = _emit_input(lso, system_id, given) if single is None else _emit_one(lso, system_id, single, given)
    _summarize(tally, given)
    return 0


def _single(given: dict[str, Any]) -> dict[str, Any] | None:
    """The event that the options describe; None where events come from an input."""
    if given["event_type"] is None:
        stray = [name for name in EVENT_OPTIONS if given.get(name.replace("-", "_"))] + ["set"] * bool(given["extras"])
        if stray:
            raise click.UsageError(f"--{stray[0]} describes one event, which also needs --type")
        return None
    if given["file"] is not None:
        raise click.UsageError("--type sends one event; it does not go with a file")
    event_type = given["event_type"]
    event = {
        "event_type": event_type,
        "status": given["status"] or ("error" if event_type in {"failure", "error"} else "ok"),
        "latency_ms": given["latency_ms"],
        "stage": given["stage"],
        "run_id": given["run_id"],
        "ts": given["ts"],
        "payload": _payload(given["payload"], given["extras"]),
    }
    return {name: value for name, value in event.items() if value is not None}


def _payload(text: str | None, extras: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        payload = json.loads(text) if text is not None else {}
    except ValueError as error:
        raise click.UsageError(f"--payload is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise click.UsageError("--payload must be a JSON object")
    for extra in extras:
        name, found, value = extra.partition("=")
        if not found:
            raise click.UsageError(f"--set takes KEY=VALUE, not {extra!r}")
        payload[name] = _value(value)
    return payload or None


def _value(text: str) -> Any:
    """A number, true, false or null as JSON has them; anything else is text."""
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if not isinstance(value, dict | list | str):
            return value
    return text


def _emit_one(lso: Lso, system_id: int, event: dict[str, Any], given: dict[str, Any]) -> Tally:
    delivery = _delivery(lso, system_id, given, lambda text: _note(text, given))
    try:
        delivery.send([json.dumps(event).encode()], [1], "emit-" + secrets.token_hex(16))
    except TalkError as error:
        message = error.message.removeprefix("line 1: ").removesuffix("; stopped before line 1")
        raise error.saying(message.partition("; lines 1 to 1")[0]) from None
    return delivery.tally


def _emit_input(lso: Lso, system_id: int, given: dict[str, Any]) -> Tally:
    state = StateFile(given["state"], system_id, secrets.token_hex(8) if given["again"] else "")
    place = state.place
    with _opened(given["file"]) as fd, _progress(fd, place.offset, given) as progress:
        delivery = _delivery(lso, system_id, given, progress.note)
        state.skip(fd)
        cutter = Cutter(given["batch"], start=place.offset, line=place.line, first_end=place.under_way)
        try:
            for cut in cuts(fd, cutter, given["linger"]):
                state.sending(cut)
                if cut.lines:
                    delivery.send(cut.lines, cut.numbers, cut.key(system_id, place.salt))
                state.counted(cut)
                progress.reached(cut.end, delivery.tally)
        except LineTooLongError as error:
            raise TalkError(str(error), exit_code=NEVER) from None
        except TalkError as error:
            done = delivery.tally.accepted + delivery.tally.known
            raise error.saying(
                f"{error.message}; {done:,} events are counted, and the same command goes on from there"
            ) from None
    return delivery.tally


def _delivery(lso: Lso, system_id: int, given: dict[str, Any], say: Callable[[str], None]) -> Delivery:
    skip = given["on_invalid"] == "skip"
    return Delivery(lso, system_id, skip_invalid=skip, patience_s=given["patience"], say=say)


def _note(text: str, given: dict[str, Any]) -> None:
    if not given["quiet"]:
        click.echo(f"lso: {text}; trying again", err=True)


@contextlib.contextmanager
def _opened(file: str | None) -> Iterator[int]:
    if file is None or file == "-":
        yield sys.stdin.fileno()
        return
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _progress(fd: int, start: int, given: dict[str, Any]) -> Iterator[Any]:
    from lso_core.cli.emit.progress import Bar, Quiet

    if given["quiet"] or not sys.stderr.isatty():
        yield Quiet(lambda text: _note(text, given))
        return
    with Bar(fd, start) as bar:
        yield bar


def _summarize(tally: Tally, given: dict[str, Any]) -> None:
    if given["as_json"]:
        show.put_json(vars(tally), indent=None)
        return
    if given["quiet"]:
        return
    extra = f", {tally.known:,} were counted before" if tally.known else ""
    extra += f", {tally.skipped:,} bad ones went to the dead letters" if tally.skipped else ""
    click.echo(f"{tally.accepted:,} {'event' if tally.accepted == 1 else 'events'} accepted{extra}", err=True)
