"""The fleet as one process knows it. Pure: it is told what was read, and says what is new."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from lso_core.model import snapshots
from lso_core.model.batches import FleetShare
from lso_core.model.health import Health
from lso_core.model.windows import PARTITIONS, SLOT_MS

REMEMBERED_GONE: Final = 10_000
"""Systems that are gone are remembered for viewers that come back; this many."""
SKEW_MS: Final = 2_000
"""How far the clocks of several Redis servers may be apart, or one be set back."""
_WHOLE: Final = -1


class Line(msgspec.Struct, frozen=True):
    """One system, as it is shown."""

    body: bytes
    """A `FleetLine` as JSON."""
    health: str
    tags: tuple[str, ...]
    seen_ms: int
    """Redis' time of the read that found it like this."""


class _Told(msgspec.Struct):
    """What of a line is looked at here."""

    health: str
    tags: tuple[str, ...] = ()


_told = msgspec.json.Decoder(_Told)


class Change(msgspec.Struct, frozen=True):
    """What one look found to be new."""

    changed: set[int]
    gone: set[int]


class Picture:
    """Every system's line, kept up with what is read."""

    def __init__(self, stale_after_ms: int) -> None:
        self.lines: dict[int, Line] = {}
        self.counts = dict.fromkeys((health.name for health in Health), 0)
        self.as_of_ms = 0
        """Everything that Redis was told until then is in."""
        self.behind_ms = 0
        """How far the slowest partition's folding is behind."""
        self._stale_after_ms = stale_after_ms
        self._shares: list[dict[int, bytes]] = [{} for _ in range(PARTITIONS)]
        self._positions = [_WHOLE] * PARTITIONS
        self._stood_in_ms: list[int | None] = [None] * PARTITIONS
        """When a partition's lines last got the verdict of an observer that is behind."""
        self._looks = 0
        self._gone: deque[tuple[int, int]] = deque()
        self._complete_since_ms: int | None = None

    def positions(self) -> Sequence[int]:
        """What to ask for next: what is new, and one partition in turn as a whole, to mend whatever went amiss."""
        turn = self._looks % PARTITIONS
        return [_WHOLE if p == turn else position for p, position in enumerate(self._positions)]

    def take(self, shares: Sequence[FleetShare]) -> Change:
        """Take in one look."""
        seen_ms = max(share.now_ms for share in shares)
        self.as_of_ms = min(share.now_ms for share in shares)
        self.behind_ms = max(0, *(share.now_ms - (share.watermark_ms or 0) for share in shares))
        self._looks += 1
        if self._complete_since_ms is None:
            self._complete_since_ms = self.as_of_ms
        change = Change(set(), set())
        for partition, share in enumerate(shares):
            fresh, gone = self._take_share(partition, share)
            self._show(partition, share, fresh, seen_ms, change)
            self._drop(gone, seen_ms, change)
        return change

    def since(self, as_of_ms: int) -> Change | None:
        """What is new to a viewer that knows the fleet as of then; None where that is not known any more."""
        complete = self._complete_since_ms
        if complete is None or not complete <= as_of_ms - SKEW_MS < self.as_of_ms:
            return None
        earliest = as_of_ms - SKEW_MS
        return Change(
            {system_id for system_id, line in self.lines.items() if line.seen_ms >= earliest},
            {system_id for seen_ms, system_id in self._gone if seen_ms >= earliest},
        )

    def _take_share(self, partition: int, share: FleetShare) -> tuple[set[int], set[int]]:
        """Systems whose stored line is new, and those that are no more."""
        known = self._shares[partition]
        fresh = {system_id for system_id, body in share.lines.items() if known.get(system_id) != body}
        gone = known.keys() - share.lines.keys() if share.whole else set()
        for system_id in gone:
            del known[system_id]
        known.update(share.lines)
        self._positions[partition] = share.position if len(known) == share.size else _WHOLE
        return fresh, gone

    def _show(self, partition: int, share: FleetShare, fresh: set[int], seen_ms: int, change: Change) -> None:
        """Put new lines into the picture; all of a partition where the observer falls behind or has caught up."""
        verdict = snapshots.observer_behind(share.watermark_ms, share.now_ms, self._stale_after_ms)
        stood_in_ms = self._stood_in_ms[partition]
        stored = self._shares[partition]
        if verdict is None:
            for system_id in fresh if stood_in_ms is None else stored:
                self._put(system_id, stored[system_id], seen_ms, change)
            self._stood_in_ms[partition] = None
            return
        again = stood_in_ms is None or share.now_ms - stood_in_ms >= SLOT_MS  # the sentence says how far behind
        for system_id in stored if again else fresh:
            line = snapshots.line_with_verdict(stored[system_id], verdict, observer_behind=True)
            self._put(system_id, line, seen_ms, change)
        self._stood_in_ms[partition] = share.now_ms if again else stood_in_ms

    def _put(self, system_id: int, body: bytes, seen_ms: int, change: Change) -> None:
        before, told = self.lines.get(system_id), _told.decode(body)
        if before is not None:
            self.counts[before.health] -= 1
        self.counts[told.health] += 1
        self.lines[system_id] = Line(body, told.health, told.tags, seen_ms)
        change.changed.add(system_id)

    def _drop(self, gone: Iterable[int], seen_ms: int, change: Change) -> None:
        for system_id in gone:
            self.counts[self.lines.pop(system_id).health] -= 1
            change.gone.add(system_id)
            self._gone.append((seen_ms, system_id))
        while len(self._gone) > REMEMBERED_GONE:
            self._complete_since_ms = self._gone.popleft()[0] + 1
