"""`lso demo`: believable systems in believable trouble."""

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

import rich_click as click

from lso_core.cli.demo.cast import CAST, Member
from lso_core.cli.demo.player import Player, wait_for
from lso_core.cli.demo.scenarios import MIXED, SCENARIOS, YES, trouble_of
from lso_core.cli.demo.story import Story
from lso_core.cli.talk import Lso, pause_until, talking

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:  # older releases of click know no parameter here
    _Choice = click.Choice

TICK_S: Final = 0.5


class Scenario(_Choice):
    """A scenario's name; USE_MOCK_DATA may also just say yes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return MIXED if str(value).strip().lower() in {"", *YES} else str(super().convert(value, param, ctx))


@click.command()
@click.option(
    "--scenario",
    type=Scenario(list(SCENARIOS)),
    envvar="USE_MOCK_DATA",
    default=MIXED,
    show_default=True,
    help="what goes wrong [USE_MOCK_DATA]",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=1.0,
    show_default=True,
    help="how fast the day goes by: traffic and schedules, not the trouble",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="the same seed makes the same events at the same time"
)
@click.option(
    "--duration",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="end after this long; 0 only fills the window [default: Ctrl-C]",
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="how long to wait for LSO to be ready",
)
@click.option("--parent-fd", type=int, hidden=True, help="a pipe that closes when `lso up` ends")
@talking
def demo(
    lso: Lso, scenario: str, speed: float, seed: int, duration: float | None, wait: float, parent_fd: int | None
) -> int:
    """Fill LSO with systems of all kinds and keep them going: watch with `lso top`.

    The trouble is there from the first moment, ends after two minutes, and comes back every six.
    """
    signal.signal(signal.SIGTERM, _leave)
    if parent_fd is not None:
        _end_with_parent(parent_fd)
    wait_for(lso, wait)
    began = time.time()
    story = Story(scenario, seed, speed, int(began * 1_000))
    player = Player(lso, story, CAST, _say)
    player.tell(story.began_ms)
    _say(f"{len(CAST)} systems and {player.sent():,} events of the last minutes; scenario {scenario}, seed {seed}")
    _play(player, story, None if duration is None else began + duration)
    return 0


def _play(player: Player, story: Story, end: float | None) -> None:
    """Go on until the end, if there is one."""
    words = dict.fromkeys((member.name for member in CAST), "")
    next_tick = time.monotonic()
    while end is None or time.time() < end:
        now = time.time()
        player.tell(int(now * 1_000))
        for member in CAST:
            _announce(member, story, now, words)
        next_tick = max(next_tick + TICK_S, time.monotonic())
        pause_until(next_tick if end is None else min(next_tick, time.monotonic() + max(0.0, end - time.time())))


def _announce(member: Member, story: Story, now: float, words: dict[str, str]) -> None:
    """Say when trouble comes and goes."""
    trouble = trouble_of(story.scenario, member, now - story.began_ms / 1_000)
    word = "" if trouble is None else trouble.word
    if word != words[member.name]:
        _say(f"{member.name} {word or 'is well again'}")
    words[member.name] = word


def _say(sentence: str) -> None:
    click.echo(f"demo: {sentence}", err=True)


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def _end_with_parent(parent_fd: int) -> None:
    def watch() -> None:
        os.read(parent_fd, 1)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
