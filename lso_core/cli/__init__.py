"""The command line: `lso ...`. Importing this is light; what a command needs is imported when it runs."""

import sys


def main() -> int:
    """Run `lso` with this process' arguments; the exit status."""
    try:
        from lso_core.cli.app import run  # rich-click is an extra, and slow to import
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich", "rich_click"}:
            raise
        print(
            "lso: the command line needs rich-click and rich; install them with: pip install 'lso[cli]'",
            file=sys.stderr,
        )
        return 1
    return run(sys.argv[1:])
