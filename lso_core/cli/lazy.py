"""A group whose commands are imported when they are asked for: `lso health` does not pay for `lso top`."""

import importlib
from typing import Any, Final

import rich_click as click

COMMANDS: Final = {
    "archive": "lso_core.cli.archive:archive",
    "dead-letters": "lso_core.cli.dead_letters:dead_letters",
    "demo": "lso_core.cli.demo:demo",
    "doctor": "lso_core.cli.doctor:doctor",
    "emit": "lso_core.cli.emit:emit",
    "health": "lso_core.cli.health:health",
    "rebuild": "lso_core.cli.rebuild:rebuild",
    "replay": "lso_core.cli.archive:replay",
    "run": "lso_core.cli.run:run",
    "runs": "lso_core.cli.runs:runs",
    "systems": "lso_core.cli.systems:systems",
    "tail": "lso_core.cli.tail:tail",
    "top": "lso_core.cli.top:top",
}
"""Commands that talk to a running LSO: name to `module:attribute`."""


class LazyGroup(click.RichGroup):
    """A group that knows where its commands are before it has them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name].partition(":")
            self.add_command(getattr(importlib.import_module(module), attribute), cmd_name)
        return super().get_command(ctx, cmd_name)
