"""The commands of `lso`, and what is common to them: one sentence for an error, and exit statuses.

0 done; 1 not possible now; 2 a wrong option, variable or server that no second try mends.
"""

import sys
from typing import Any

import rich_click as click

from lso_core import __version__
from lso_core.cli.lazy import LazyGroup
from lso_core.cli.options import ServerCommand

EXIT_FAILED = 1
EXIT_WRONG = 2


@click.group(name="lso", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="lso %(version)s")
def lso() -> None:
    """LSO, the Living Systems Observatory: is this system well, how do we know, and since when?"""


@lso.command(cls=ServerCommand)
def up(**given: Any) -> int:
    """Run the whole service: embedded Redis, API and workers, as one supervised tree."""
    from lso_core.cli.supervisor import supervise

    return supervise(given)


@lso.command(cls=ServerCommand)
@click.option("--fd", type=int, hidden=True, help="a listening socket to serve, handed down by `lso up`")
@click.option("--parent-fd", type=int, hidden=True, help="a pipe that closes when `lso up` ends")
@click.option("--after-fd", type=int, hidden=True, help="a pipe that closes once Redis answers")
@click.option("--shares-fd", type=int, hidden=True, help="memory that says how many connections the others have")
@click.option("--number", type=int, hidden=True, help="of this process there")
def api(
    fd: int | None, parent_fd: int | None, after_fd: int | None, shares_fd: int | None, number: int | None, **given: Any
) -> int:
    """Run one API process on the Redis that LSO_REDIS_URL names."""
    from lso_core.cli.processes import serve_api

    place = None if shares_fd is None or number is None else (shares_fd, number)
    return serve_api(given, fd, parent_fd, after_fd, place)


@lso.command(cls=ServerCommand)
@click.option("--parent-fd", type=int, hidden=True, help="a pipe that closes when `lso up` ends")
@click.option("--after-fd", type=int, hidden=True, help="a pipe that closes once Redis answers")
def worker(parent_fd: int | None, after_fd: int | None, **given: Any) -> int:
    """Run one worker process on the Redis that LSO_REDIS_URL names."""
    from lso_core.cli.processes import run_worker

    return run_worker(given, parent_fd, after_fd)


@lso.command()
@click.option("--markdown", is_flag=True, help="as the table in docs/operations.md")
def config(markdown: bool) -> int:
    """Print every setting with its default and meaning, as .env.example has them."""
    from lso_core.cli.options import as_env_file, as_markdown

    click.echo(as_markdown() if markdown else as_env_file(), nl=False)
    return 0


def run(arguments: list[str]) -> int:
    """Run a command; whatever goes wrong in an expected way becomes one sentence and a status."""
    try:
        return int(lso.main(arguments, prog_name="lso", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in {"lso_core", "api", "worker"}:
            raise
        return _refuse(
            f"this needs the package {error.name}; servers run from a checkout (./scripts/up) or the image", EXIT_FAILED
        )
    except Exception as error:
        status = _status_of(error)
        if status is None:
            raise
        return _refuse(str(error), status)


def _status_of(error: Exception) -> int | None:
    """The exit status of an error that is meant for people; None for a fault of the program."""
    errors = sys.modules.get("lso_core.model.errors")
    if errors is None or not isinstance(error, errors.LsoError):
        return None
    return EXIT_WRONG if isinstance(error, errors.ConfigurationError) else EXIT_FAILED


def _refuse(sentence: str, status: int) -> int:
    click.echo(f"lso: {sentence}", err=True)
    return status
