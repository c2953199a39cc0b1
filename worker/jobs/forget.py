"""Without an archive history reaches back a day: older rollup rows would fill Redis."""

from typing import Final

from lso_core.model.rollups import Width
from lso_core.store.archiving import Archiving

KEPT_MS: Final = Width.DAY
EVERY_MS: Final = Width.HOUR
SYSTEMS: Final = 200
"""Most systems of a partition in one turn."""


async def forget_rows(archiving: Archiving, now_ms: int) -> int:
    """Drop rows that are older than KEPT_MS, of each system at most every EVERY_MS; how many systems were looked at."""
    found = await archiving.unfiled(now_ms - KEPT_MS - EVERY_MS, SYSTEMS)
    for system_id in found:
        await archiving.drop_rows(system_id, now_ms - KEPT_MS)
    return len(found)
