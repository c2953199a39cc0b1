"""`lso rebuild`: windows computed again from the entries that are still there."""

import itertools
import time
from typing import Any, Final

import rich_click as click

from lso_core.cli import show
from lso_core.cli.systems import as_json
from lso_core.cli.talk import AGAIN, Lso, TalkError, complete_system, pause_until, talking

LOOK_EVERY_S: Final = 0.25
AT_ONCE: Final = 200
"""So many are asked for before the first outcome is waited for: workers look for them twice a second."""
NOT_FOUND: Final = 404


@click.command()
@click.argument("system", nargs=-1, shell_complete=complete_system)
@click.option("--all", "every", is_flag=True, help="every registered system")
@click.option("--timeout", type=float, default=60.0, metavar="SECONDS", help="longest wait for the next outcome [60]")
@as_json
@talking
def rebuild(lso: Lso, system: tuple[str, ...], every: bool, timeout: float, as_json: bool) -> int:
    """Compute the windows of systems again from their events, as far as these are still there.

    Mends a state that cannot be read. A slot of which events were trimmed stays as it is. Exits with 1 where one failed.
    """
    if every == bool(system):
        raise click.UsageError("name systems, or say --all")
    ids = (int(item["system_id"]) for item in lso.items("/systems")) if every else map(lso.find, system)
    failed = 0
    while some := list(itertools.islice(ids, AT_ONCE)):
        asked = [system_id for system_id in some if _found(lso, "POST", system_id, may_be_gone=every)]
        for system_id in asked:
            outcome = _outcome(lso, system_id, timeout, may_be_gone=every)
            if outcome:
                show.put_json(outcome, indent=None) if as_json else click.echo(_sentence(outcome))
                failed += outcome["progress"] != "done"
    return 1 if failed else 0


def _outcome(lso: Lso, system_id: int, timeout_s: float, *, may_be_gone: bool) -> dict[str, Any]:
    """Wait for what became of a rebuild."""
    deadline = time.monotonic() + timeout_s
    while (found := _found(lso, "GET", system_id, may_be_gone=may_be_gone)).get("progress") == "pending":
        if time.monotonic() > deadline:
            late = f"system {system_id} was not rebuilt within {timeout_s:g} s, but will be once a worker can"
            raise TalkError(late, exit_code=AGAIN)
        pause_until(time.monotonic() + LOOK_EVERY_S)
    return found


def _found(lso: Lso, method: str, system_id: int, *, may_be_gone: bool) -> dict[str, Any]:
    """What is answered of a rebuild; nothing where the system is gone and that may be."""
    try:
        return lso.send(method, f"/systems/{system_id}/rebuild")
    except TalkError as error:
        if error.status == NOT_FOUND and may_be_gone:
            return {}
        raise


def _sentence(outcome: dict[str, Any]) -> str:
    if outcome["progress"] != "done":
        return f"system {outcome['system_id']}: not rebuilt: {show.clean(outcome['reason'])}"
    counts = "{replaced} slots replaced ({different} of them different), {kept} kept, {lost} lost".format(**outcome)
    return f"system {outcome['system_id']}: {counts}"
