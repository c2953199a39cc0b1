"""Rebuilding: a system's window computed again from its entries, under the lease, and put in the place of the stored one.

A slot is replaced only where every entry that may have touched it is still there: nothing of the stream was trimmed, or
the slot starts after the arrival of the oldest entry left (an event's time is never after its arrival). The others stay.
Folding leaves the system alone meanwhile. Its neighbours must not notice: entries are read in pieces with a rest after
each, and a system that takes long is set aside, so that it does not hold the partition's watermark back.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import structlog

from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.fold import fold
from lso_core.compute.runs import Run, Runs, Tally, advance, decode_run, decode_tally
from lso_core.compute.state import (
    NO_EVENTS,
    Meta,
    Slot,
    decode_meta,
    decode_slot,
    encode_meta,
    encode_slot,
    from_slots,
    slot_field,
    slot_start,
)
from lso_core.compute.summarize import summarize
from lso_core.model import times
from lso_core.model.errors import BadKeyError, StoreError
from lso_core.model.health import Health
from lso_core.model.rebuilds import Progress, Rebuild
from lso_core.model.snapshots import Verdict
from lso_core.model.systems import System
from lso_core.model.windows import partition_of
from lso_core.store.folding import Commit, Entry, Lease, Outcome, Position, Stored, new_token
from lso_core.store.rebuilds import Extent, Rebuilds
from lso_core.store.runs import RunWrites
from worker.folding import FIRST_READ_ENTRIES, PARK_MS, READ_BYTES, READ_ENTRIES, Folder
from worker.stepping import decode, fresh

log = structlog.get_logger(__name__)

TRIES: Final = 5
"""A fold that was under way when the rebuild began moves the state once; more tries than that find something else."""
LONG_S: Final = 3.0
"""A system that takes longer is set aside, for PARK_MS again and again."""
LONGEST_REST_S: Final = 1.0
_SET_ASIDE: Final = "its window is being computed again from its events"


class LeaseLostError(Exception):
    """Somebody else folds the partition by now, and will rebuild what is asked for."""


class Salvaged(msgspec.Struct, frozen=True):
    """What of a stored state can be read."""

    meta: Meta | None
    slots: dict[int, Slot]
    unreadable: frozenset[int]
    """Slots by their first millisecond."""
    foreign: list[bytes]
    """Fields that are no slots."""


class Recomputed(msgspec.Struct, frozen=True):
    """A system's window from the entries that are left."""

    meta: Meta
    slots: dict[int, Slot]
    complete_from_ms: int
    """Slots that start here or later are complete; 0 where nothing was trimmed."""


class Rebuilder:
    """Does the rebuilds that were asked for in the partitions that a folder holds."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._store = folder.store
        self._rebuilds = Rebuilds(folder.server)

    async def once(self) -> int:
        """Do what is asked for now; how many came to an end."""
        ended = 0
        for system_id in await self._rebuilds.wanted(sorted(self._folder.held())):
            lease = self._folder.held().get(partition_of(system_id))
            if lease is not None:
                ended += await self._try(lease, system_id)
        return ended

    async def _try(self, lease: Lease, system_id: int) -> bool:
        """Rebuild one system; False where it must wait for another turn, of this worker or of another."""
        try:
            with self._folder.holding_back(system_id):
                outcome = await self._rebuild(lease, system_id)
        except LeaseLostError:
            return False
        except NewerFormatError as error:
            if await self._folder.leave_to_newer(lease.partition, error):
                return False
            outcome = Rebuild(system_id, Progress.FAILED, reason=str(error))
        except (CorruptEntryError, BadKeyError) as error:
            outcome = Rebuild(system_id, Progress.FAILED, reason=str(error))
        except StoreError:
            raise
        except Exception:  # what is wrong with one system must not end the worker
            log.exception("rebuild.failed", system_id=system_id)
            outcome = Rebuild(system_id, Progress.FAILED, reason="LSO failed to rebuild it; see the worker's log")
        outcome = outcome or Rebuild(system_id, Progress.FAILED, reason="the system is gone")
        await self._rebuilds.end(outcome)
        log.info("rebuild.ended", **msgspec.to_builtins(outcome))
        return True

    async def _rebuild(self, lease: Lease, system_id: int) -> Rebuild | None:
        """The outcome, None where the system is gone. Raises LeaseLostError and what cannot be read."""
        for _ in range(TRIES):
            stored = (await self._store.load([system_id])).get(system_id)
            if stored is None:
                return None
            extent = await self._rebuilds.extent(system_id)
            if isinstance(stored, BadKeyError):
                await self._reset(lease, system_id, extent)
                return None
            if not extent.sound:
                _sure(await self._rebuilds.drop_unsound(lease, system_id))
            commit, outcome = await self._replace(lease, stored)
            [(done, _)] = await self._store.commit([(lease, commit)])
            if done is not Outcome.MOVED:
                return outcome if _sure(done) else None
        raise LeaseLostError

    async def _reset(self, lease: Lease, system_id: int, extent: Extent) -> None:
        """Put an empty state at the end of the stream. That is half of a rebuild: the next turn, of whoever takes the lease
        that this gives back, fills it. Raises LeaseLostError unless the system is gone.
        """
        left, at_ms = 0, _ms_of(extent.last)
        async for entries in self._entries(lease, system_id, extent.last, extent.entry_bytes):
            left += sum(one.size for one in entries)
            at_ms = max([at_ms, *(one.at_ms for one in entries if one.at_ms is not None)])
        position = Position(extent.last, new_token(), extent.events, extent.entries, extent.bytes, at_ms)
        if _sure(await self._rebuilds.reset(lease, system_id, position, extent.bytes - left, PARK_MS)):
            log.warning("rebuild.reset", system_id=system_id)
            self._folder.let_go(lease.partition)
            raise LeaseLostError

    async def _replace(self, lease: Lease, stored: Stored) -> tuple[Commit, Rebuild]:
        """What to write in the place of a stored state, and what that changes."""
        try:
            system = stored.system
        except msgspec.MsgspecError as error:
            raise CorruptEntryError(f"its settings cannot be read: {error}") from error
        found = _salvage(stored)
        anew = await self._recompute(lease, system, stored, found)
        slots, outcome = _merged(system, found, anew)
        watched, lost_runs = _salvage_runs(stored)
        runs = advance(watched, watched, anew.meta.as_of_ms, system.run_limits).runs
        state, summary = summarize(from_slots(anew.meta, slots), system, runs)
        changed = {start: slot for start, slot in slots.items() if found.slots.get(start) != slot}
        gone = [slot_field(start) for start in (found.slots.keys() | found.unreadable) - slots.keys()]
        commit = Commit(
            system=system,
            revision=stored.revision,
            before=stored.position,
            after=msgspec.structs.replace(stored.position, token=new_token()),
            meta=encode_meta(state.meta),
            slots={slot_field(start): encode_slot(slot) for start, slot in changed.items()},
            dropped=[*gone, *found.foreign],
            rows=[],
            due_ms=0,  # the next fold sees to deadlines of runs, too
            summary=summary,
            dead=[],
            runs=RunWrites(gone=lost_runs, due_ms=runs.due_ms),
        )
        return commit, outcome

    async def _recompute(self, lease: Lease, system: System, stored: Stored, found: Salvaged) -> Recomputed:
        """Fold what is left of the stream up to the cursor, from nothing."""
        meta = fresh(system) if found.meta is None else found.meta
        written_ms = stored.position.written_ms
        as_of_ms = max(meta.as_of_ms, _folded_up_to(system, stored.position), written_ms)
        meta = msgspec.structs.replace(meta, as_of_ms=as_of_ms)
        state = from_slots(meta, {start: _empty(slot) for start, slot in found.slots.items()})
        count, cursor = 0, stored.position.cursor
        async for entries in self._entries(lease, system.system_id, cursor, stored.entry_bytes):
            decoded = decode(entries)
            if decoded.newer is not None:
                raise decoded.newer
            count += len(entries)
            as_of_ms = max([state.meta.as_of_ms, *(arrival.at_ms + 1 for arrival in decoded.arrivals)])
            state = fold(state, decoded.arrivals, system.window, as_of_ms).state
        slots = {start: full for start, slot in state.opened().items() if (full := _without_empty(slot)) is not None}
        whole = count >= stored.position.entries
        meta = msgspec.structs.replace(
            state.meta, written_ms=written_ms
        )  # rows stay as they are: none is written again
        return Recomputed(meta, slots, 0 if whole else await self._complete_from(system.system_id, meta))

    async def _complete_from(self, system_id: int, meta: Meta) -> int:
        """The first millisecond that nothing of what was trimmed can lie in.

        Asked for after all was read: what is still there then was there all the while, however much was trimmed meanwhile.
        """
        first = await self._read(system_id, "", 1)
        if not first:
            return meta.as_of_ms + 1
        return 1 + max(_ms_of(first[0].entry_id), first[0].at_ms or 0)

    async def _entries(self, lease: Lease, system_id: int, last: str, entry_bytes: int) -> AsyncIterator[list[Entry]]:
        """The entries of a stream up to `last`, oldest first, in pieces of about READ_BYTES, none empty.

        `entry_bytes`: their mean size as far as it is known. Raises LeaseLostError.
        """
        cursor, end = "", _place(last)
        most = min(FIRST_READ_ENTRIES, max(1, READ_BYTES // max(1, entry_bytes)))
        since = time.monotonic()
        while cursor != last:
            began = time.monotonic()
            entries = [one for one in await self._read(system_id, cursor, most) if _place(one.entry_id) <= end]
            if not entries:
                return
            yield entries
            cursor = entries[-1].entry_id
            mean = 1 + sum(one.size for one in entries) // len(entries)
            most = max(1, min(READ_ENTRIES, READ_BYTES // mean, 4 * most))
            await asyncio.sleep(min(LONGEST_REST_S, time.monotonic() - began))
            if self._folder.held().get(lease.partition) != lease:
                raise LeaseLostError
            if time.monotonic() - since > LONG_S:
                since = time.monotonic()
                verdict = Verdict(Health.UNKNOWN, self._folder.redis_now_ms(), _SET_ASIDE)
                _sure(await self._store.park(lease, system_id, verdict, PARK_MS))

    async def _read(self, system_id: int, cursor: str, most: int) -> list[Entry]:
        """Entries after `cursor`. Raises BadKeyError."""
        read = (await self._store.read([(system_id, cursor, most)]))[system_id]
        if isinstance(read, BadKeyError):
            raise read
        return read.entries


def _sure(outcome: Outcome) -> bool:
    """Whether it was done; False where the system is gone. Raises LeaseLostError or BadKeyError."""
    if outcome is Outcome.FENCED:
        raise LeaseLostError
    if outcome is Outcome.BROKEN:
        raise BadKeyError("its state cannot be written: a key of it holds something else than it should")
    return outcome is Outcome.DONE


def _folded_up_to(system: System, position: Position) -> int:
    """The time up to which everything that was accepted is folded, at least."""
    if position.cursor:
        return 1 + max(_ms_of(position.cursor), position.at_ms or 0)
    return times.from_text(system.created_at)


def _merged(system: System, found: Salvaged, anew: Recomputed) -> tuple[dict[int, Slot], Rebuild]:
    """The slots of the window, each as computed or as stored, and how many of each."""
    start_ms = system.window.start_of(anew.meta.as_of_ms)
    slots: dict[int, Slot] = {}
    replaced = different = kept = lost = 0
    for start in sorted(found.slots.keys() | found.unreadable | anew.slots.keys()):
        before, after = found.slots.get(start), anew.slots.get(start)
        if start < start_ms:
            continue
        if start >= anew.complete_from_ms:
            replaced += 1
            different += before != after
            slots |= {} if after is None else {start: after}
        elif before is not None:
            kept += 1
            slots[start] = before
        else:  # without a meta whatever was in the slot is gone; else it lay outside a shorter window
            lost += start in found.unreadable or found.meta is None
    return slots, Rebuild(system.system_id, Progress.DONE, replaced, different, kept, lost)


def _salvage(stored: Stored) -> Salvaged:
    """Read of a state what can be read. Raises NewerFormatError: what a newer release wrote is not broken."""
    slots: dict[int, Slot] = {}
    unreadable: set[int] = set()
    foreign: list[bytes] = []
    for field, value in stored.slots.items():
        try:
            start = slot_start(field)
        except CorruptEntryError:
            foreign.append(field)
            continue
        try:
            slots[start] = decode_slot(value)
        except CorruptEntryError:
            unreadable.add(start)
    try:
        meta = None if stored.meta is None else decode_meta(stored.meta)
    except CorruptEntryError:
        meta = None
    named = {start: slot for start, slot in slots.items() if meta is not None and _is_named(slot, meta)}
    return Salvaged(meta, named, frozenset(unreadable | slots.keys() - named.keys()), foreign)


def _salvage_runs(stored: Stored) -> tuple[Runs, list[str]]:
    """The watched runs that can be read, and the ids of the others. Raises NewerFormatError."""
    watched: dict[str, Run] = {}
    lost: list[str] = []
    tally = Tally()
    for run_id, value in stored.runs.items():
        try:
            if run_id:
                watched[run_id.decode()] = decode_run(value)
            else:
                tally = decode_tally(value)
        except CorruptEntryError:
            lost.append(run_id.decode())
    return Runs(watched, tally), lost


def _is_named(slot: Slot, meta: Meta) -> bool:
    """Whether the names of a slot's numbers are known, without which nobody can tell what they mean."""
    stages, event_types = max(slot.stages, default=0), max(slot.event_types, default=-1)
    return stages <= len(meta.stages) and event_types < len(meta.event_types)


def _empty(slot: Slot) -> Slot:
    """A slot with nothing in it that still holds its names' numbers, so that the fold gives none of them anew."""
    return Slot(stages=dict.fromkeys(slot.stages, NO_EVENTS), event_types=dict.fromkeys(slot.event_types, 0))


def _without_empty(slot: Slot) -> Slot | None:
    """The slot without what only held a number; None where nothing is left."""
    stages = {number: tally for number, tally in slot.stages.items() if tally.total}
    event_types = {number: count for number, count in slot.event_types.items() if count}
    if not (stages or event_types or slot.late or slot.clock_skewed):
        return None
    return msgspec.structs.replace(slot, stages=stages, event_types=event_types)


def _place(entry_id: str) -> tuple[int, int]:
    """An entry id as numbers, which compare as the stream orders them."""
    ms, _, sequence = entry_id.partition("-")
    return int(ms or 0), int(sequence or 0)


def _ms_of(entry_id: str) -> int:
    return _place(entry_id)[0]
