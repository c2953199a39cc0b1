"""The fold loop's story: tend the leases, look what is ready, load, read, fold, commit, keep house.

`Folder` does one step at a time and says what it did; `worker.loops` calls the steps again and again.
"""

import asyncio
import functools
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

import msgspec
import structlog

from lso_core.compute import formats
from lso_core.compute.columns import CorruptEntryError, NewerFormatError
from lso_core.compute.fold import fold_all
from lso_core.model.errors import BadKeyError
from lso_core.model.health import Health
from lso_core.model.snapshots import Verdict
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import leases
from lso_core.store.folding import Folding, Lease, Outcome, Peek, Read, Stored, Trimmed, new_token
from lso_core.store.leases import Sharing, Worker
from lso_core.store.runs import RunStore
from lso_core.store.server import Server
from worker.cache import Cache, Known, affordable
from worker.run_reading import NOTHING, Wanted, gather
from worker.stepping import Begun, Decoded, MostlyUnreadableError, Step, begin, decode_all, end, know

log = structlog.get_logger(__name__)

STEP_SYSTEMS: Final = 800
"""Most quiet systems, and most busy ones, in one step…"""
CALM_STEP_SYSTEMS: Final = 2_400
"""…and most quiet ones where nobody busy waits: at both ends of a step Redis and the worker wait for each other."""
STEP_BYTES: Final = 32 << 20
"""About how many bytes of entries one step reads, as far as the last entries tell how large the next are."""
READ_BYTES: Final = 8 << 20
"""About how many of them for one system."""
TURN_S: Final = 0.002
"""How long a step computes until the other loops have their turn."""
SYSTEMS_TOGETHER: Final = 25
EVENTS_TOGETHER: Final = 20_000
"""So many are folded in one call, which nothing interrupts, and the system with which it is more."""
STEP_S: Final = 0.02
"""After so long a step begins with no more of the busy systems."""
PORTIONS: Final = 16
"""Into so many portions they are parted."""
QUIET_PORTION: Final = 50
"""So many of the quiet systems are committed while the next are folded."""
QUIET_BYTES: Final = 1_024
"""A system whose entries are no larger than this on average takes next to no time."""
READ_ENTRIES: Final = 2_000
FIRST_READ_ENTRIES: Final = 16
"""How many entries to read of a system whose entries' size is not known."""
GROWTH: Final = 4
"""Of a system no more than so many times the entries are read that were read before."""
COMMIT_BYTES: Final = 8 << 20
"""About how many bytes of commits travel in one round trip."""
PARK_MS: Final = 5_000
"""How long a system that cannot be folded waits for its next try."""
PRESSED: Final = 0.8
"""Share of maxmemory above which folded entries are trimmed whatever their age."""
HOT_SHARE: Final = 0.4
"""Share of maxmemory that folded entries may take."""
RATE_OVER_S: Final = 30.0
"""Arrival and fold rates are means that forget in about this time."""


Found = TypeVar("Found")


class FoldReport(msgspec.Struct, frozen=True):
    """What one step did."""

    systems: int = 0
    entries: int = 0
    events: int = 0
    fenced: int = 0
    """Commits refused because lease, cursor or token were no longer as read."""
    parked: int = 0
    dead: int = 0
    more: int = 0
    """Systems whose streams go on behind what was read."""
    busy: int = 0
    """Systems that were not quiet, whether they were folded or left for another step…"""
    left: int = 0
    """…and those of them whose turn it is, but for which this step had no time."""
    seconds: float = 0.0


class TendReport(msgspec.Struct, frozen=True):
    """What one round of tending did."""

    held: int
    taken: int
    released: int
    lost: int
    workers: int


class Folder:
    """Folds the partitions whose leases it holds."""

    def __init__(self, server: Server, settings: Settings, worker_id: str) -> None:
        self.worker_id = worker_id
        self.server = server
        self.store = Folding(server, settings)
        self._runs = RunStore(server)
        self._settings = settings
        self._leases: dict[int, Lease] = {}
        self._cache = Cache(affordable())
        self._careful = False
        """The last read failed: perhaps it asked for too much."""
        self._line: list[int] = []
        """Busy systems that still have their turn in this round."""
        self._ahead_ms = 0.0
        self._fold_rate = 0.0
        self._arrivals = _Rate()
        self._hot_cap = settings.hot_bytes // PARTITIONS
        self._pressed = False
        self._held_back: set[int] = set()
        self._met_newer: dict[int, NewerFormatError] = {}
        self._reads = dict(formats.read_here())
        self._sharing = Sharing(Worker(worker_id, reads=self._reads), [])

    # -- leases -------------------------------------------------------------------------------------------------

    async def tend(self) -> TendReport:
        """Say that this worker lives, renew its leases, take or give back what makes the shares even."""
        me = Worker(self.worker_id, len(self._leases), self._fold_rate, self._arrivals.rate, self._reads)
        now_ms, workers = await leases.beat(self.server, me)
        self._ahead_ms = now_ms - _monotonic_ms()
        self._sharing = sharing = Sharing(me, workers)
        surplus = self._leases.keys() - sharing.kept({p: lease.needs for p, lease in self._leases.items()})
        self._forget(surplus)
        released = await leases.release(self.server, self.worker_id, surplus)
        mine = set(self._leases)
        free = await leases.free(self.server, mine, now_ms) if sharing.wants_more(len(mine)) else []
        take = sharing.chosen(free, len(mine), now_ms)
        held = await leases.tend(self.server, self.worker_id, mine, take)
        lost = mine - {one.partition for one in held}
        self._forget(lost)
        for one in held:
            if one.taken:
                self._cache.drop_partition(one.partition)
            self._leases[one.partition] = Lease(one.partition, self.worker_id, one.epoch, one.needs)
        return TendReport(len(self._leases), sum(one.taken for one in held), released, len(lost), len(workers))

    async def leave(self) -> None:
        """Give everything back, so that others fold on at once."""
        self._forget(set(self._leases))
        await leases.leave(self.server, self.worker_id)

    def held(self) -> dict[int, Lease]:
        """The leases held, by partition."""
        return dict(self._leases)

    def let_go(self, partition: int) -> None:
        """Know that a partition's lease was given back."""
        self._forget({partition})

    async def leave_to_newer(self, partition: int, error: NewerFormatError) -> bool:
        """Give a partition's lease back for a worker that can read what this one cannot; False where none is alive."""
        lease = self._leases.get(partition)
        if lease is None or not self._sharing.can_leave(error.needs):
            return False
        self._forget({partition})
        needs = {name: max(number, lease.needs.get(name, 0)) for name, number in error.needs.items()}
        log.warning("lease.left-to-newer", partition=partition, reason=str(error))
        return await leases.leave_to(self.server, self.worker_id, partition, {**lease.needs, **needs})

    @contextmanager
    def holding_back(self, system_id: int) -> Iterator[None]:
        """Leave a system alone for a while, and know nothing of it afterwards."""
        self._held_back.add(system_id)
        try:
            yield
        finally:
            self._held_back.discard(system_id)
            self._cache.drop(system_id)

    def _forget(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._leases.pop(partition, None)
            self._cache.drop_partition(partition)

    # -- folding ------------------------------------------------------------------------------------------------

    async def fold_once(self, *, busy: bool = True) -> FoldReport:
        """Fold and roll what wants it, as much as fits one step; first the quiet systems, and without `busy` these alone.

        The busy ones go in rounds, a few at a time for as long as the step may take, and the next step goes on with them.
        """
        began = time.perf_counter()
        calm, lively = await self._look()
        if not calm and not lively:
            return FoldReport()
        resting = 0 if busy else len(lively)
        known, parked = await self._know(calm + (lively if busy else []))
        quiet, others = _parted(_within_budget(known, careful=self._careful))
        report = FoldReport(parked=parked, busy=len(others) + resting)
        report = _plus(report, await self._fold_quiet(quiet))
        waiting = self._line_up(others) if busy else []
        for portion in _portions(waiting):
            report = _plus(report, await self._fold_portion(portion))
            self._line = self._line[len(portion) :]
            if time.perf_counter() - began > STEP_S:
                break
        await self._leave_to_newer()
        seconds = time.perf_counter() - began
        self._measure(report.events, seconds)
        return msgspec.structs.replace(
            report, seconds=seconds if report.systems or report.fenced else 0.0, left=len(self._line)
        )

    async def _look(self) -> tuple[list[int], list[int]]:
        """Systems that want a step, in the order of their turns, as many as it takes: those not known to be busy, and the busy ones.

        Who comes first is read of many partitions; only where that does not make a step, more of each, and more again.
        """
        partitions = sorted(self._leases)
        most = max(1, min(STEP_SYSTEMS, 2 * STEP_SYSTEMS // max(1, len(partitions))))
        while True:
            peeks = await self.store.peek(partitions, self.redis_now_ms(), most)
            found = [one for one in _in_turn(peeks) if one not in self._held_back]
            lively = [one for one in found if self._is_known_busy(one)]
            busy = frozenset(lively)
            calm = [one for one in found if one not in busy]
            wanted = STEP_SYSTEMS if lively else CALM_STEP_SYSTEMS
            there_is_more = any(len(part) == most for peek in peeks for part in (peek.ready, peek.due))
            if len(calm) >= wanted or most >= wanted or not there_is_more:
                return calm[:wanted], lively[:STEP_SYSTEMS]
            most = min(wanted, CALM_STEP_SYSTEMS // STEP_SYSTEMS * most)

    def _is_known_busy(self, system_id: int) -> bool:
        known = self._cache.get(system_id)
        return known is not None and not _is_quiet(known)

    def _line_up(self, busy: "Chosen") -> "Chosen":
        """Those whose turn it is: who is left of the round, else all of them for a new one."""
        chosen = {one.system.system_id: (one, most) for one, most in busy}
        self._line = [system_id for system_id in self._line if system_id in chosen] or list(chosen)
        return [chosen[system_id] for system_id in self._line]

    async def _fold_quiet(self, chosen: "Chosen") -> FoldReport:
        """Read, fold and commit systems that take little time each: while some are folded, Redis sends what the next want and
        takes what the last made.
        """
        parked_all, reading, committing = 0, None, list[asyncio.Task[FoldReport]]()
        portions = [chosen[at : at + QUIET_PORTION] for at in range(0, len(chosen), QUIET_PORTION)]
        try:
            for portion, following in itertools.pairwise((*portions, [])):
                reads = await (reading or self._read(portion))
                reading = asyncio.create_task(self._read(following))
                steps, parked = await self._fold(portion, reads)
                parked_all += parked
                committing.append(asyncio.create_task(self._commit(steps)))
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
            done = await asyncio.gather(*committing)
        return functools.reduce(_plus, done, FoldReport(parked=parked_all))

    async def _fold_portion(self, chosen: "Chosen") -> FoldReport:
        """Read, fold and commit some systems."""
        if not chosen:
            return FoldReport()
        steps, parked = await self._fold(chosen, await self._read(chosen))
        return _plus(await self._commit(steps), FoldReport(parked=parked))

    async def _know(self, wanted: list[int]) -> tuple[list[Known], int]:
        """The systems wanted, from the cache or the store; and how many had to be parked."""
        known = {one: cached for one in wanted if (cached := self._cache.get(one)) is not None}
        missing, loaded, parked = [one for one in wanted if one not in known], dict[int, Stored | BadKeyError](), 0
        for at in range(0, len(missing), STEP_SYSTEMS):
            loaded |= await self.store.load(missing[at : at + STEP_SYSTEMS])
        await self.store.forget([one for one in missing if one not in loaded])
        for system_id, stored in loaded.items():
            try:
                known[system_id] = know(_sound(stored))
                self._cache.put(known[system_id])
            except NewerFormatError as error:
                parked += await self._meet_newer(system_id, "its state was", error)
            except (CorruptEntryError, BadKeyError) as error:
                reason = f"the stored state of this system cannot be read: {error}; `lso rebuild {system_id}` mends it"
                parked += await self._park(system_id, reason)
        return [known[one] for one in wanted if one in known], parked

    async def _read(self, chosen: "Chosen") -> "Reads":
        """So many entries of each system."""
        self._careful = True  # until it is known that the answer was not too long for the time that it has
        reads = await self.store.read([(one.system.system_id, one.position.cursor, most) for one, most in chosen])
        self._careful = False
        return reads

    async def _fold(self, chosen: "Chosen", reads: "Reads") -> tuple[list[Step], int]:
        """Fold what was read of each system; one that fails is parked, the others go on."""
        found = {one: read.entries for one, read in reads.items() if isinstance(read, Read)}
        decoded = dict(zip(found, decode_all([*found.values()]), strict=True))
        gathered = await gather(self._runs, (_runs_wanted(one, decoded) for one, _ in chosen))
        steps, failed, rested = list[Step](), list[tuple[int, Exception]](), time.perf_counter()
        for together in _together(chosen, reads):
            begun = list[Begun]()
            for one in together:
                system_id = one.system.system_id
                try:
                    begun.append(begin(one, _sound(reads[system_id]), decoded[system_id]))
                except Exception as error:  # noqa: BLE001 - one bad system must not stop the others of its partition
                    failed.append((system_id, error))
            for beginning, folded in zip(begun, fold_all([one.unfolded for one in begun]), strict=True):
                system_id = beginning.known.system.system_id
                try:
                    runs = _sound(gathered.get(system_id, NOTHING))
                    steps.append(end(beginning, _sound(folded), new_token(), runs))
                except Exception as error:  # noqa: BLE001 - as above
                    failed.append((system_id, error))
            if time.perf_counter() - rested > TURN_S:
                await asyncio.sleep(0)  # so that leases are renewed meanwhile
                rested = time.perf_counter()
        return steps, sum([await self._set_aside(system_id, error) for system_id, error in failed])

    async def _set_aside(self, system_id: int, error: Exception) -> int:
        """Park a system that cannot be folded, or leave it to another worker; how many were parked."""
        if isinstance(error, NewerFormatError):
            return await self._meet_newer(system_id, "its entries were", error)
        if isinstance(error, MostlyUnreadableError):
            return await self._park(system_id, f"its events are not buried but wait: {error}")
        if isinstance(error, BadKeyError):
            return await self._park(system_id, f"its stream cannot be read: {error}")
        log.error("fold.failed", system_id=system_id, exc_info=error)
        return await self._park(system_id, "LSO failed to fold its events; see the worker's log")

    async def _meet_newer(self, system_id: int, what: str, error: NewerFormatError) -> int:
        """Leave the partition to a worker that can read it, after this step; where none is alive the system alone is parked."""
        if self._sharing.can_leave(error.needs):
            self._met_newer[partition_of(system_id)] = error
            return 0
        return await self._park(system_id, f"{what} written by a newer release: {error}")

    async def _leave_to_newer(self) -> None:
        met, self._met_newer = self._met_newer, {}
        for partition, error in met.items():
            await self.leave_to_newer(partition, error)

    async def _commit(self, steps: list[Step]) -> FoldReport:
        report = FoldReport()
        for chunk in _chunks(steps):
            report = _plus(report, await self._commit_chunk(chunk))
        return report

    async def _commit_chunk(self, chunk: list[Step]) -> FoldReport:
        """Commit some systems and remember those that went through."""
        leased: list[tuple[Lease, Step]] = []
        for one in chunk:
            system_id = one.commit.system.system_id
            self._cache.drop(system_id)  # until the answer is there nothing is known: it may have been lost on the way
            if (lease := self._leases.get(partition_of(system_id))) is not None:
                leased.append((lease, one))
        outcomes = await self.store.commit([(lease, one.commit) for lease, one in leased])
        done, parked, refused = list[Step](), 0, len(chunk) - len(leased)
        for (lease, one), (outcome, revision) in zip(leased, outcomes, strict=True):
            if outcome is Outcome.DONE:
                self._remember(one, revision)
                done.append(one)
            elif outcome is Outcome.BROKEN:
                reason = "its state cannot be written: a key of it holds something else than it should"
                parked += await self._park(one.commit.system.system_id, reason)
            elif outcome is not Outcome.GONE:
                refused += 1
                log.info("fold.refused", system_id=one.commit.system.system_id, outcome=outcome.name)
            if outcome is Outcome.FENCED:
                self._forget({lease.partition})
        return _plus(_report_of(done), FoldReport(fenced=refused, parked=parked))

    def _remember(self, one: Step, revision: int) -> None:
        """Keep the state at hand, unless the system was changed meanwhile or will want nothing for long."""
        if revision == one.known.revision and (one.known.state.slots or one.known.runs.watched):
            self._cache.put(one.known)

    async def _park(self, system_id: int, reason: str) -> int:
        self._cache.drop(system_id)
        lease = self._leases.get(partition_of(system_id))
        if lease is None:
            return 0
        verdict = Verdict(Health.UNKNOWN, self.redis_now_ms(), reason)
        outcome = await self.store.park(lease, system_id, verdict, PARK_MS)
        if outcome is not Outcome.DONE:
            return 0
        log.error("fold.parked", system_id=system_id, reason=reason)
        return 1

    # -- housekeeping -------------------------------------------------------------------------------------------

    async def keep_house(self) -> Trimmed:
        """Trim the hot tier, let parked systems try again, look at Redis' memory and at the arrival rate."""
        limited = [one for one in await self.server.memory() if one.limit]
        if limited:  # where there are several servers, the tightest is the measure for all
            self._pressed = any(one.used > PRESSED * one.limit for one in limited)
            shares = (int(HOT_SHARE * one.limit) // len(one.partitions) for one in limited)
            self._hot_cap = min(self._settings.hot_bytes // PARTITIONS, *shares)
            self.store.mark_for(self._hot_cap)
        held = list(self._leases.values())
        await self.store.unpark(held)
        mine = sorted(self._leases)
        self._arrivals.observe(frozenset(mine), await self.store.arrived(mine), time.monotonic())
        trimmed = Trimmed(0, 0, more=True)
        while trimmed.more:
            piece = await self.store.trim(held, self._hot_cap, pressed=self._pressed)
            trimmed = Trimmed(
                trimmed.entries + piece.entries, trimmed.bytes + piece.bytes, piece.more, trimmed.lost + piece.lost
            )
        return trimmed

    @property
    def hot_cap(self) -> int:
        """Bytes of folded entries that one partition may keep."""
        return self._hot_cap

    def redis_now_ms(self) -> int:
        """Redis' time as last learnt, carried on by this machine's monotonic clock."""
        return int(_monotonic_ms() + self._ahead_ms)

    def _measure(self, events: int, seconds: float) -> None:
        """Take one step's speed into the fold rate; small steps measure overhead, not folding."""
        if events < 1_000:
            return
        weight = min(1.0, seconds / RATE_OVER_S * 10)
        rate = events / seconds
        self._fold_rate = rate if not self._fold_rate else self._fold_rate + weight * (rate - self._fold_rate)


class _Rate:
    """Events a second, from a counter looked at now and then."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._seen: tuple[frozenset[int], int, float] | None = None

    def observe(self, partitions: frozenset[int], count: int, now_s: float) -> None:
        """Take in the counter's value for `partitions`; other partitions than before start afresh."""
        before, self._seen = self._seen, (partitions, count, now_s)
        if before is None or before[0] != partitions or now_s <= before[2]:
            return
        seconds = now_s - before[2]
        rate = max(0, count - before[1]) / seconds
        self.rate += min(1.0, seconds / RATE_OVER_S * 3) * (rate - self.rate)


def _monotonic_ms() -> float:
    return time.monotonic() * 1_000


def _sound(found: Found | Exception) -> Found:
    """What was found; raises what was met instead."""
    if isinstance(found, Exception):
        raise found
    return found


def _runs_wanted(one: Known, decoded: Mapping[int, Decoded]) -> Wanted:
    """What the runs of a system need of a step; nothing where its stream could not be read."""
    system_id = one.system.system_id
    arrivals = decoded[system_id].arrivals if system_id in decoded else []
    return Wanted(system_id, one.runs, arrivals, one.position.cursor, one.entry_bytes)


def _in_turn(peeks: list[Peek]) -> Iterable[int]:
    """Systems of all partitions by turns, of each one with entries and one that is only due, each once."""
    queues = [_alternating(peek.ready, peek.due) for peek in peeks]
    return dict.fromkeys(_alternating(*queues))


def _alternating(*queues: Iterable[int]) -> list[int]:
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    return [one for one in turns if one is not None]


def _within_budget(known: list[Known], *, careful: bool) -> list[tuple[Known, int]]:
    """Systems with how many entries to read of each, so that all together read about STEP_BYTES; one of each where careful.

    Every system has an even share; those that were behind after their last step share as much again among themselves.
    How large its entries are a system tells by those that were read last. The next may be larger, so it is read no more
    than GROWTH times as many.
    """
    behind = sum(one.behind for one in known)
    even, deep = (min(READ_BYTES, STEP_BYTES // max(1, count)) for count in (len(known), behind))
    return [(one, 1 if careful else _entries_of(one, deep if one.behind else even)) for one in known]


Chosen = list[tuple[Known, int]]
Reads = dict[int, Read | BadKeyError]


def _together(chosen: Chosen, reads: Reads) -> Iterable[list[Known]]:
    """Systems in groups that are folded in one call: so that it is worth its while, and takes no more than a turn or so."""
    group, events = list[Known](), 0
    for one, _ in chosen:
        read = reads[one.system.system_id]
        group.append(one)
        events += sum([entry.events for entry in read.entries]) if isinstance(read, Read) else 0
        if len(group) == SYSTEMS_TOGETHER or events > EVENTS_TOGETHER:
            yield group
            group, events = [], 0
    if group:
        yield group


def _parted(chosen: Chosen) -> tuple[Chosen, Chosen]:
    """Quiet systems, which take next to no time and should not wait for their neighbours' thousands of events; and the others."""
    quiet, others = Chosen(), Chosen()
    for one, most in chosen:
        (quiet if _is_quiet(one) else others).append((one, most))
    return quiet, others


def _is_quiet(one: Known) -> bool:
    return one.entry_bytes <= QUIET_BYTES and not one.behind


def _portions(busy: Chosen) -> Iterable[Chosen]:
    size = max(2, len(busy) // PORTIONS)
    return (busy[at : at + size] for at in range(0, len(busy), size))


def _entries_of(one: Known, size: int) -> int:
    """How many entries of a system are about so many bytes."""
    most = min(READ_ENTRIES, max(FIRST_READ_ENTRIES, GROWTH * one.read))
    return max(1, min(most, size // one.entry_bytes if one.entry_bytes else FIRST_READ_ENTRIES))


def _chunks(steps: list[Step]) -> Iterable[list[Step]]:
    """Steps in groups of about COMMIT_BYTES."""
    chunk: list[Step] = []
    size = 0
    for one in steps:
        chunk.append(one)
        size += sum(map(len, one.commit.slots.values())) + one.commit.runs.size
        if size > COMMIT_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _report_of(done: list[Step]) -> FoldReport:
    return FoldReport(
        systems=len(done),
        entries=sum(one.commit.after.entries - one.commit.before.entries for one in done),
        events=sum(one.events for one in done),
        dead=sum(len(one.commit.dead) for one in done),
        more=sum(one.known.behind for one in done),
    )


def _plus(one: FoldReport, other: FoldReport) -> FoldReport:
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return FoldReport(*(a + b for a, b in pairs))
