"""States that a worker keeps at hand, as long as its lease and their cursor prove them current."""

from collections import OrderedDict
from typing import Final

import msgspec

from lso_core.compute.runs import Runs
from lso_core.compute.state import State
from lso_core.machine import memory_bytes
from lso_core.model.systems import System
from lso_core.model.windows import partition_of
from lso_core.store.folding import Position

MOST_BYTES: Final = 1 << 30
MEMORY_SHARE: Final = 8
"""No more than this part of the memory that there is."""
_SYSTEM_BYTES: Final = 4 << 10
_SLOT_BYTES: Final = 200
"""What a slot costs beside its bytes."""
_VALUES_BYTES: Final = 300
"""The percentiles of a stage."""
_RUN_BYTES: Final = 2 << 10


class Known(msgspec.Struct, frozen=True, gc=False):
    """One system as the worker last wrote or read it."""

    system: System
    revision: int
    position: Position
    state: State
    entry_bytes: int
    """Mean size of its entries."""
    runs: Runs = Runs()
    read: int = 0
    """How many entries were read last."""
    behind: bool = False
    """Its stream went on behind what was read last."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        state = self.state
        watched = _RUN_BYTES * len(self.runs.watched)
        slots = _SLOT_BYTES * len(state.slots) + state.packed
        window = len(state.cells) + len(state.sums) + _VALUES_BYTES * len(state.values)
        return _SYSTEM_BYTES + slots + window + watched


def affordable() -> int:
    """How many bytes a cache may take on this machine, or in this container."""
    return min(MOST_BYTES, memory_bytes() // MEMORY_SHARE)


class Cache:
    """Known systems by id; past `most_bytes` those that were not used for longest go."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._known: OrderedDict[int, Known] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, system_id: int) -> Known | None:
        """The system, if it is known."""
        known = self._known.get(system_id)
        if known is not None:
            self._known.move_to_end(system_id)
        return known

    def put(self, known: Known) -> None:
        """Keep a system, in place of what was known of it."""
        system_id = known.system.system_id
        self.drop(system_id)
        self._known[system_id] = known
        self._sizes[system_id] = known.size
        self._bytes += known.size
        while self._bytes > self._most_bytes and len(self._known) > 1:
            self.drop(next(iter(self._known)))

    def drop(self, system_id: int) -> None:
        """Forget a system."""
        if self._known.pop(system_id, None) is not None:
            self._bytes -= self._sizes.pop(system_id)

    def drop_partition(self, partition: int) -> None:
        """Forget all systems of a partition."""
        for system_id in [one for one in self._known if partition_of(one) == partition]:
            self.drop(system_id)
