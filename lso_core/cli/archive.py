"""`lso archive`: how the archive does, having it run now, and whether everything in it is sound. `lso replay`: its events
through the fold again.
"""

import os
import time
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from lso_core.cli import show
from lso_core.cli.systems import as_json
from lso_core.cli.talk import AGAIN, Lso, TalkError, pause_until, talking

if TYPE_CHECKING:
    from lso_core.archive.files import Files
    from lso_core.model.archives import SystemArchive

LOOK_EVERY_S: Final = 0.5
SHOWN: Final = 20
"""Most things of a kind that are told one by one."""

where = click.option("--archive-url", metavar="URL", help="where the archive is [LSO_ARCHIVE_URL]")
data_dir = click.option(
    "--data-dir", metavar="DIR", help="whose folder `archive` it is where no URL is given [LSO_DATA_DIR]"
)


@click.group()
def archive() -> None:
    """Look after the archive of events and rollups."""


@archive.command()
@as_json
@talking
def status(lso: Lso, as_json: bool) -> int:
    """Say how the archive does. Exits with 1 where it does not work."""
    found = lso.get("/archive")
    show.put_json(found) if as_json else click.echo(_told(found))
    return 0 if found["working"] or found["mode"] == "off" else AGAIN


def _told(found: dict[str, Any]) -> str:
    head = "the archive works" if found["working"] else f"the archive does not work: {show.clean(found['reason'])}"
    lines = [f"{head} (LSO_ARCHIVE={found['mode']}, last through {found['worked_at'] or 'never'})"]
    lines += (
        f"  {name:8} {tier['files']:>9,} files {tier['bytes']:>16,} bytes" for name, tier in found["tiers"].items()
    )
    if found["lost"]:
        lines.append(f"  {found['lost']:,} events left the hot tier before they were archived")
    return "\n".join(lines)


@archive.command()
@click.option("--timeout", type=float, default=600.0, metavar="SECONDS", help="longest wait for the end [600]")
@talking
def run(lso: Lso, timeout: float) -> int:
    """Write everything past the hot tier's time now, merge small files, and drop what is too old."""
    wanted = lso.send("POST", "/archive/run", {})["run"]
    deadline = time.monotonic() + timeout
    while not ((found := lso.get("/archive"))["done"] and found["wanted"] == wanted):
        if found["wanted"] != wanted:
            raise TalkError("somebody else asked for a run meanwhile", exit_code=AGAIN)
        if time.monotonic() > deadline:
            reason = f": {show.clean(found['reason'])}" if found["reason"] else ""
            raise TalkError(f"the archive was not through within {timeout:g} s{reason}", exit_code=AGAIN)
        pause_until(time.monotonic() + LOOK_EVERY_S)
    click.echo(_told(found))
    return 0


@archive.command()
@where
@data_dir
@click.option("--offline", is_flag=True, help="do not ask LSO what should be there")
@talking
def verify(lso: Lso, archive_url: str | None, data_dir: str | None, offline: bool) -> int:
    """Read every file and see that nothing is damaged or missing. Exits with 1 where something is."""
    files = _open(archive_url, data_dir)
    from lso_core.archive.checking import check

    wrong = 0
    for verdict in check(files, lambda system_id: None if offline else _said(lso, system_id)):
        name = f"system {verdict.system_id} {verdict.kind.value}" if verdict.system_id else verdict.kind.value
        click.echo(f"{name}: {verdict.files:,} files, {verdict.rows:,} rows, {'damaged' if verdict.wrong else 'sound'}")
        for sentence in (*verdict.wrong, *verdict.notes)[:SHOWN]:
            click.echo(f"  {show.clean(sentence)}")
        wrong += len(verdict.wrong)
    click.echo(f"the archive at {files.where} is {'damaged' if wrong else 'sound'}")
    return 1 if wrong else 0


def _said(lso: Lso, system_id: int) -> "SystemArchive | None":
    """What LSO says of a system; None where it knows none."""
    import msgspec

    from lso_core.model.archives import SystemArchive

    try:
        return msgspec.convert(lso.get(f"/systems/{system_id}/archive"), SystemArchive)
    except TalkError as error:
        if error.status == 404:
            return None
        raise


@click.command()
@click.option("--from", "from_", required=True, metavar="TIME", help="first minute, as 2026-11-26T10:00:00Z")
@click.option("--to", required=True, metavar="TIME", help="first minute after it")
@click.option(
    "--system", "systems", type=int, multiple=True, metavar="ID", help="only these; may be given several times"
)
@click.option(
    "--into", metavar="URL", help="write what comes of it as an archive of its own: a folder, s3:// and the like"
)
@where
@data_dir
def replay(
    from_: str, to: str, systems: tuple[int, ...], into: str | None, archive_url: str | None, data_dir: str | None
) -> int:
    """Feed archived events through the fold again and print where history says something else.

    Changes nothing but what --into names. Exits with 1 where there is a difference.
    """
    files = _open(archive_url, data_dir)
    from lso_core.archive.replaying import Replayer
    from lso_core.model import times
    from lso_core.model.rollups import Width

    from_ms, to_ms = _minute("--from", from_), _minute("--to", to)
    if from_ms >= to_ms:
        raise click.UsageError("--to must be later than --from")
    replayer = Replayer(files, from_ms, to_ms, None if into is None else _open(into, None))
    different = 0
    for system_id in systems or replayer.systems():
        found = replayer.replay(system_id)
        different += len(found.different)
        minutes = f"{found.minutes:,} of {(to_ms - from_ms) // Width.MINUTE:,} minutes"
        click.echo(f"system {system_id}: {found.events:,} events read, {minutes}, {len(found.different):,} different")
        if found.until_ms < to_ms:
            click.echo(f"  its events are archived up to {times.to_text(found.until_ms)} only")
        for sentence in found.different[:SHOWN]:
            click.echo(f"  {sentence}")
    return 1 if different else 0


def _minute(option: str, text: str) -> int:
    from lso_core.model import times
    from lso_core.model.rollups import Width

    try:
        ms = times.from_text(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
    if ms % Width.MINUTE:
        raise click.UsageError(f"{option} must be a whole minute")
    return ms


def _open(archive_url: str | None, data_dir: str | None) -> "Files":
    """The archive that options or variables name. Raises ConfigurationError."""
    from lso_core.archive.files import find_files
    from lso_core.model.errors import ConfigurationError
    from lso_core.settings import Settings

    settings = Settings.from_env(os.environ, archive_url=archive_url, data_dir=data_dir, archive="best-effort")
    if (files := find_files(settings)) is None:
        raise ConfigurationError('the archive\'s packages are not installed; pip install "lso[archive]"')
    return files
