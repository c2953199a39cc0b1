"""The sweep: a net under the lists of work, for whatever was forgotten there."""

import structlog

from lso_core.model.windows import PARTITIONS
from lso_core.store.folding import Folding
from lso_core.store.registry import Registry

log = structlog.get_logger(__name__)


async def sweep(folding: Folding, registry: Registry, now_ms: int) -> int:
    """Put forgotten systems back on their lists and complete half-done registrations; how many there were."""
    finished = await registry.finish_pending(now_ms)
    found = sum([await folding.sweep(partition) for partition in range(PARTITIONS)])
    if found or finished:
        log.warning("sweep.found", systems=found, registrations=finished)
    return found + finished
