"""`lso run`: any command, observed. What LSO does or does not do never changes what the command does."""

import contextlib
import functools
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NoReturn

import rich_click as click

from lso_core import client as sdk
from lso_core.cli.run.relay import Relay, last_lines
from lso_core.cli.talk import DEFAULT_URL, complete_system
from lso_core.client.scopes import Span

NOT_FOUND: Final = 127
NOT_RUNNABLE: Final = 126
"""Statuses of a command that could not be started, as shells have them."""
OUTPUT_BYTES: Final = 6 * 1024
"""Most of the output that travels: even with every character escaped it stays under the payload's cap."""


class CommandFailedError(Exception):
    """The command ended otherwise than with status 0."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--system", "-s", envvar="LSO_SYSTEM", required=True, help="id or name [LSO_SYSTEM]", shell_complete=complete_system
)
@click.option("--stage", help="report the command as this step of a run")
@click.option("--run-id", help="what this run is called [default: made up]")
@click.option(
    "--heartbeat", type=click.FloatRange(0.1), default=30.0, show_default=True, help="seconds between signs of life"
)
@click.option(
    "--lines",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="last lines of output to report on failure; 0 for none",
)
@click.option("--no-register", is_flag=True, help="do not register a name that LSO does not know")
@click.option(
    "--url", envvar="LSO_URL", default=DEFAULT_URL, metavar="URL", help=f"where LSO is [LSO_URL, default {DEFAULT_URL}]"
)
@click.option("--api-key", envvar="LSO_API_KEY", default="", metavar="KEY", help="API key [LSO_API_KEY]")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(system: str, url: str, api_key: str, no_register: bool, command: tuple[str, ...], **options: object) -> int:
    """Run a command and report it: start, signs of life, outcome, duration, and its last words if it failed.

    Standard input, output and error, signals and the exit status are the command's own.
    """
    client = functools.partial(sdk.Client, url, system, api_key=api_key, register=not no_register)
    status = _observe(client, command, options)
    if status < 0:
        _end_by(-status)
    return status


def _observe(connect: Callable[[], sdk.Client], command: tuple[str, ...], options: Mapping[str, object]) -> int:
    """Run the command inside a run; its end, negative for a signal."""
    relay, status = Relay(command), 0
    spans: list[Span] = []
    with contextlib.suppress(CommandFailedError), contextlib.ExitStack() as scopes:

        def started() -> None:
            client = connect()  # not before the fork: it may have a thread
            scopes.callback(client.close)
            spans.extend(_enter(client, scopes, command[0], options))

        try:
            status = relay.run(started)
        except OSError as error:
            if spans:  # the command runs: this is something else
                raise
            started()
            status = _cannot_start(command[0], error)
            spans[-1].set(exit_code=status)
            raise CommandFailedError(f"the command could not be started: {error.strerror}") from None
        _report(spans[-1], status, relay, int(str(options["lines"])))
    return status


def _enter(
    client: sdk.Client, scopes: contextlib.ExitStack, program: str, options: Mapping[str, object]
) -> Iterator[Span]:
    """The run, and the stage in it where one is named; the innermost beats. Arguments may hold secrets and stay here."""
    run_id, stage, beat = options["run_id"], options["stage"], float(str(options["heartbeat"]))
    name = program.rpartition("/")[2] or program
    made = client.run(None if run_id is None else str(run_id), heartbeat=None if stage else beat, command=name)
    run = scopes.enter_context(made)
    yield run
    if stage:
        yield scopes.enter_context(run.stage(str(stage), heartbeat=beat, command=name))


def _report(span: Span, status: int, relay: Relay, lines: int) -> None:
    """Add the outcome to what is sent; raises CommandFailedError for all but status 0."""
    if status >= 0:
        span.set(exit_code=status)
    else:
        span.set(signal=_name(-status))
    if status == 0:
        return
    if lines:
        span.set(output=last_lines(relay.tail.bytes(), lines, OUTPUT_BYTES))
    raise CommandFailedError(f"exit status {status}" if status > 0 else f"ended by {_name(-status)}")


def _cannot_start(program: str, error: OSError) -> int:
    missing = isinstance(error, FileNotFoundError)
    click.echo(f"lso: {program} cannot be run: {error.strerror}", err=True)
    return NOT_FOUND if missing else NOT_RUNNABLE


def _name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _end_by(number: int) -> NoReturn:
    """End as the command did, so that whoever started us sees the same."""
    sys.stdout.flush()
    sys.stderr.flush()
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])
    )  # one core file is enough
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(128 + number)
