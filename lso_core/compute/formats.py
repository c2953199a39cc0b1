"""The formats that this release reads."""

from lso_core.compute import columns, runs, state
from lso_core.model.formats import Formats


def read_here() -> Formats:
    """What this release reads."""
    return {"columns": columns.FORMAT, "state": state.STATE_FORMAT, "runs": runs.RUN_FORMAT}
