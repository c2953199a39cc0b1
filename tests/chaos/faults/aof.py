"""A power cut's remains: the append-only file ends at any byte."""

import asyncio
import random
import re
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from lso_core.compute.state import decode_slot
from lso_core.model.batches import Batch
from lso_core.model.windows import PARTITIONS
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.embedded import EmbeddedServer
from lso_core.store.folding import Stored
from lso_core.store.leases import LEASE_MS
from lso_core.store.server import Server
from tests.chaos.catalogue import fault
from tests.chaos.trial import Trial
from tests.store.backends import find
from tests.store.rooms import Room, batch
from tests.worker.crew import fold_all
from worker.folding import Folder

SYSTEMS: Final = 6
BATCHES: Final = 240
WINDOW_S: Final = 3_600
"""Nothing rolls out of the window while a trial runs, so that its slots hold everything."""
MAXMEMORY: Final = 256 << 20


class Posted(msgspec.Struct, frozen=True):
    """One acknowledged batch."""

    system_id: int
    key: bytes
    batch: Batch
    entry: str


class History(msgspec.Struct, frozen=True):
    """What was done on a server before its file is cut."""

    home: Path
    path: str
    """The PATH on which this history's server program is found."""
    systems: list[int]
    posted: list[Posted]

    @property
    def file(self) -> Path:
        """The part of the append-only file that grows."""
        (found,) = (self.home / "redis" / "appendonlydir").glob("*.incr.aof")
        return found

    def entries_of(self, system_id: int) -> list[str]:
        return [one.entry for one in self.posted if one.system_id == system_id]

    def events_of(self, system_id: int) -> int:
        return sum(one.batch.count for one in self.posted if one.system_id == system_id)


@fault("cut-aof")
def cut_aof(trial: Trial) -> None:
    """The append-only file cut at a random byte: the server starts, every system is consistent, only a tail is missing."""
    cuts, starts_s = trial.size(8, 100), list[float]()
    programs = [name for name in ("redis", "valkey") if find(name) is not None]
    inside = tails = 0
    histories = [asyncio.run(_make_history(trial, name)) for name in programs]
    time.sleep(LEASE_MS / 1_000)  # the holder's time is over, wherever its history is cut off
    for name, history in zip(programs, histories, strict=True):
        content = history.file.read_bytes()
        for number in range(cuts // len(programs)):
            within = number % 2 == 1
            at = _inside_a_transaction(content, trial.dice) if within else trial.dice.randrange(len(content))
            cut = Cut(trial, history, content[:at], f"{name} cut at byte {at:,} of {len(content):,}")
            starts_s.append(asyncio.run(cut.examine()))
            inside, tails = inside + within, tails + cut.missing
    trial.figures.update(
        cuts=len(starts_s),
        inside_transactions=inside,
        servers="+".join(programs),
        missing_batches_mean=round(tails / len(starts_s), 1),
        start_p50_s=round(statistics.median(starts_s), 3),
        start_max_s=round(max(starts_s), 3),
    )


def _inside_a_transaction(content: bytes, dice: random.Random) -> int:
    """A place between the first byte of some MULTI and the last byte of its EXEC."""
    starts = [found.start() for found in re.finditer(rb"\*1\r\n\$5\r\nMULTI\r\n", content)]
    start = dice.choice(starts)
    end = content.index(b"*1\r\n$4\r\nEXEC\r\n", start) + len(b"*1\r\n$4\r\nEXEC\r\n")
    return dice.randrange(start + 1, end)


@asynccontextmanager
async def _room(home: Path, path: str) -> AsyncIterator[Room]:
    """The store on an embedded server of its own."""
    embedded = EmbeddedServer.claim(home, maxmemory=MAXMEMORY, path=path)
    try:
        await embedded.start()
        server = await Server.open(embedded.url)
        try:
            yield Room(server, Settings())
        finally:
            await server.close()
    finally:
        await embedded.stop()
        embedded.close()


async def _make_history(trial: Trial, name: str) -> History:
    """Systems, batches and folds in turn, by two workers one after the other."""
    found = find(name)
    assert found is not None
    path = trial.folder / f"bin-{name}"
    path.mkdir()
    (path / Path(found.path).name).symlink_to(found.path)
    history = History(trial.folder / name, str(path), [], [])
    async with _room(history.home, history.path) as room:
        for at in range(SYSTEMS):
            history.systems.append((await room.system(f"s{at}", window_seconds=WINDOW_S)).system_id)
        folder = Folder(room.server, room.settings, "first")
        await folder.tend()
        for at in range(BATCHES):
            await _post(room, history, trial.dice, at)
            if trial.dice.random() < 0.2:
                await folder.fold_once()
            if at == BATCHES // 2:
                await folder.leave()
                folder = Folder(room.server, room.settings, "second")
                await folder.tend()
    return history


async def _post(room: Room, history: History, dice: random.Random, at: int) -> None:
    count = dice.randrange(1, 40)
    sent = batch(count, errors=dice.randrange(count + 1), latency_ms=dice.randrange(1, 5_000), digest=b"%016d" % at)
    system_id, key = dice.choice(history.systems), b"key-%d" % at
    receipt = await room.store.ingest.append(system_id, sent, key)
    assert receipt.entries is not None
    history.posted.append(Posted(system_id, key, sent, receipt.entries[0]))


class Cut:
    """One cut of one history's file, and what the server makes of it."""

    def __init__(self, trial: Trial, history: History, content: bytes, name: str) -> None:
        self._trial = trial
        self._history = history
        self._name = name
        self._home = trial.folder / "cut"
        self.missing = 0
        """Acknowledged batches that went with the tail."""
        shutil.rmtree(self._home, ignore_errors=True)
        shutil.copytree(history.home, self._home)
        file = self._home / history.file.relative_to(history.home)
        file.write_bytes(content)

    async def examine(self) -> float:
        """Start a server on what is left, look, fold, and send everything again; seconds until the server was ready."""
        began = time.monotonic()
        async with _room(self._home, self._history.path) as room:
            took = time.monotonic() - began
            there = [one for one in self._history.systems if await self._is_as_it_was(room, one)]
            folder = Folder(room.server, room.settings, "after")
            await self._fold(room, folder, there)
            await self._send_again(room, folder, there)
        return took

    def _check(self, holds: bool, otherwise: str) -> None:
        self._trial.check(holds, f"{self._name}: {otherwise}")

    async def _is_as_it_was(self, room: Room, system_id: int) -> bool:
        """Compare what is stored of a system with itself and with the history; false where it was not made yet."""
        entries = await _entries(room, system_id)
        ids, originals = [one for one, _ in entries], self._history.entries_of(system_id)
        self._check(ids == originals[: len(ids)], f"system {system_id} misses more than a tail")
        self.missing += len(originals) - len(ids)
        found = (await room.folding.load([system_id])).get(system_id)
        if not isinstance(found, Stored):
            self._check(found is None and not ids, f"system {system_id} has entries and cannot be loaded: {found}")
            return False
        events = sum(count for _, count in entries)
        added = [int(one or 0) for one in await room.server.one(("HMGET", keys.system(system_id), "added", "entries"))]
        self._check(added == [events, len(ids)], f"system {system_id} says it was sent {added}, not {events}")
        upto = ids.index(found.position.cursor) + 1 if found.position.cursor else 0
        folded = sum(count for _, count in entries[:upto])
        totals = [found.position.events, _slot_sum(found)] + ([await _total(room, system_id)] if upto else [])
        self._check(
            set(totals) == {folded} and found.position.entries == upto,
            f"system {system_id}: {upto} entries with {folded} events up to the cursor; "
            f"counted, in slots, shown: {totals}, in {found.position.entries} entries",
        )
        return True

    async def _fold(self, room: Room, folder: Folder, systems: Sequence[int]) -> None:
        """A new worker folds what waits: everything in the streams is counted, and the running sums are nought."""
        await folder.tend()
        report = await fold_all(folder)
        self._check(report.parked == report.dead == report.fenced == 0, f"folding says {report}")
        for system_id in systems:
            entries = await _entries(room, system_id)
            found = await room.stored(system_id)
            totals = {found.position.events, _slot_sum(found)} | ({await _total(room, system_id)} if entries else set())
            self._check(totals == {sum(n for _, n in entries)}, f"system {system_id}: {totals} counted after folding")
        for partition in range(PARTITIONS):
            stats = await room.stats(partition)
            left = [stats.get(name, 0) for name in ("events", "entries", "bytes")]
            self._check(left == [0, 0, 0], f"partition {partition} still counts {left} as waiting")
        self._check((await folder.tend()).held == PARTITIONS, "some partition has no holder")

    async def _send_again(self, room: Room, folder: Folder, systems: Sequence[int]) -> None:
        """Every batch again, under its key: those that are there are duplicates, and the tail is made good."""
        there = {one: {entry for entry, _ in await _entries(room, one)} for one in systems}
        sent = [one for one in self._history.posted if one.system_id in there]
        receipts = await asyncio.gather(*(room.store.ingest.append(one.system_id, one.batch, one.key) for one in sent))
        for one, receipt in zip(sent, receipts, strict=True):
            known = one.entry in there[one.system_id]
            self._check(
                receipt.duplicate == known, f"entry {one.entry} is there: {known}, its key: {receipt.duplicate}"
            )
        await fold_all(folder)
        for system_id in systems:
            total, wanted = (await room.stored(system_id)).position.events, self._history.events_of(system_id)
            self._check(
                total == wanted, f"system {system_id} counts {total} of {wanted} after everything was sent again"
            )


async def _entries(room: Room, system_id: int) -> list[tuple[str, int]]:
    """Id and events of each entry in a system's stream."""
    found = await room.server.one(("XRANGE", keys.stream(system_id), "-", "+"))
    return [(entry.decode(), int(fields[b"n"])) for entry, fields in found]


def _slot_sum(found: Stored) -> int:
    slots = [decode_slot(value) for value in found.slots.values()]
    return sum(tally.total for slot in slots for tally in slot.stages.values())


async def _total(room: Room, system_id: int) -> int:
    return int((await room.health(system_id))["total"])
