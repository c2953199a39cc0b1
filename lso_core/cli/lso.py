"""`python -m lso_core.cli.lso` is `lso`. The supervisor starts its children so: `ps` then shows `lso api`, `lso worker`."""

import sys

from lso_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
