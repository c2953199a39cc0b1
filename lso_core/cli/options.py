"""Settings as command-line options, as .env.example and as the documentation's table: all from `settings.field_docs`."""

import functools
from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    from lso_core.settings import FieldDoc


class ServerCommand(click.RichCommand):
    """A command whose options are LSO's settings. They are looked up when it runs, since they need a server's packages."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, the settings, and --help."""
        own = super().get_params(ctx)
        return [*own[:-1], *setting_options(), *own[-1:]]


@functools.cache
def setting_options() -> tuple[click.Option, ...]:
    """An option for every setting that a command line takes. `Settings.from_env` reads and checks the values."""
    from lso_core.settings import field_docs  # what a server needs, when a server runs

    return tuple(_option(field) for field in field_docs() if field.doc.option)


def _option(field: "FieldDoc") -> click.Option:
    default = "" if field.default in ("", False) else f", default {field.default}"
    text = f"{_sentence(field)} [{field.variable}{default}]"
    if isinstance(field.default, bool):
        return click.RichOption([field.option], is_flag=True, flag_value=True, default=None, help=text)
    return click.RichOption([field.option], type=str, metavar=_metavar(field), default=None, help=text)


def _metavar(field: "FieldDoc") -> str:
    return "N" if isinstance(field.default, int) else "TEXT"


def as_env_file() -> str:
    """.env.example: every setting, commented out at its default."""
    from lso_core.settings import field_docs

    head = (
        "# Everything that can be set, at its default; `lso config` prints this file. Variables win over defaults,\n"
        "# options of `lso up` over variables. Sizes are bytes and times seconds unless it says otherwise.\n"
    )
    return head + "".join(f"\n# {_sentence(field)}\n#{field.variable}={_plain(field)}\n" for field in field_docs())


def as_markdown() -> str:
    """The table in docs/operations.md."""
    from lso_core.settings import field_docs

    rows = [_row(field) for field in field_docs()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows, ""])


def _row(field: "FieldDoc") -> str:
    default = f"`{_plain(field)}`" if _plain(field) else ""
    return f"| `{field.variable}` | {default} | {_sentence(field)} |"


def _sentence(field: "FieldDoc") -> str:
    """The setting's text; the bounds of a number after it, where they say something."""
    doc = field.doc
    if doc.minimum is None or doc.maximum is None or doc.maximum > 1_000_000:
        return doc.text
    return f"{doc.text} ({doc.minimum:.0f} to {doc.maximum:.0f})"


def _plain(field: "FieldDoc") -> str:
    return str(int(field.default) if isinstance(field.default, bool) else field.default)
