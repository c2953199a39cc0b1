"""`scripts/chaos`: break the service on purpose, and say whether what is promised held."""

import argparse
import sys

from tests.chaos.catalogue import faults, summary
from tests.chaos.trial import run


def main() -> int:
    """Run what is asked for; 1 where a promise did not hold."""
    known = faults()
    parser = argparse.ArgumentParser(
        "scripts/chaos",
        description="Break the service on purpose, one fault at a time, and say whether what is promised held.",
        epilog="faults:\n" + "\n".join(f"  {name:20} {summary(function)}" for name, function in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fault", nargs="+", choices=["all", *known], metavar="FAULT", help="one or more, or `all`")
    parser.add_argument("--seed", type=int, default=1, help="of the dice; the same seed throws the same (1)")
    parser.add_argument("--short", action="store_true", help="the form that the test suite runs: seconds, not minutes")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    asked = parser.parse_args()
    wanted = list(known) if "all" in asked.fault else asked.fault
    failed = False
    for name in wanted:
        result = run(name, known[name], asked.seed, short=asked.short)
        failed = failed or bool(result.problems)
        print(result.json() if asked.json else result.line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
