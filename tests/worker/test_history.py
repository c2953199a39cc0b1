"""History over simulated days equals a count over its events, whichever part of it is hot and whichever archived.

Entries are put into the stream with the arrivals of a simulated clock, folded by the worker's own step, archived, merged
and expired by its own jobs.
"""

import asyncio
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lso_core.archive.files import LocalFiles
from lso_core.archive.history import WholeHistory
from lso_core.archive.layout import Kind, Piece
from lso_core.archive.warm import Warm
from lso_core.compute import columns
from lso_core.compute.histogram import index_of
from lso_core.compute.rollup_columns import Detail, RollupColumns
from lso_core.model import times
from lso_core.model.events import Event
from lso_core.model.rollups import Width, pieces
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.archiving import Archiving
from lso_core.store.folding import Read, new_token
from lso_core.store.history import History
from lso_core.telemetry import Telemetry
from tests.store.rooms import Room
from tests.worker.test_archive import Here
from worker.jobs import archive as archive_job
from worker.jobs import keep as keep_job
from worker.jobs.archive import Archiver
from worker.jobs.forget import forget_rows
from worker.jobs.keep import Keeper, KeepReport
from worker.stepping import decode, know, step

BEGIN_MS = 1_795_600_800_000
HOUR = 3_600_000
DAY = 86_400_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path), hot_seconds=600)


class Simulation:
    """One system whose time is ours."""

    def __init__(self, room: Room, system_id: int, seed: int) -> None:
        self.room = room
        self.system_id = system_id
        self.chance = random.Random(seed)
        self.now_ms = BEGIN_MS
        self.counted: dict[tuple[int, str], list[tuple[int, bool]]] = defaultdict(list)
        """Latency (µs) and error of each counted event, by start of its minute and stage."""
        files, archiving = LocalFiles(Path(room.settings.data_dir) / "archive"), Archiving(room.server)
        self.archiver = Archiver(archiving, files, room.settings, Telemetry(), lambda: 1 << 40, Here())
        self.keeper = Keeper(archiving, files, room.settings, Telemetry(), Here())

    def restart(self) -> "WholeHistory":
        """Somebody who reads and knows nothing yet."""
        server = self.room.server
        return WholeHistory(History(server), Archiving(server))

    async def send(self, count: int) -> None:
        """An entry of `count` events that arrives now; some have a time of their own, up to two days back."""
        events = []
        for _ in range(count):
            error, us = self.chance.random() < 0.2, self.chance.randint(1, 10**7)
            back = self.chance.choice([None, 0, 1_000, 200_000, 3 * HOUR, 2 * DAY])
            ts = None if back is None else self.now_ms - self.chance.randint(0, back)
            stage = self.chance.choice([None, "extract", "load"])
            events.append(
                Event(
                    "failure" if error else "success",
                    "error" if error else "ok",
                    us / 1_000,
                    ts=None if ts is None else times.to_text(ts),
                    stage=stage,
                )
            )
            minute = Width.MINUTE.start_of(self.now_ms if ts is None else ts)
            self.counted[minute, stage or ""].append((us, error))
        packed = columns.encode(columns.cut(events))
        body = columns.pack_body(msgspec.json.encode({"events": events}), columns.BodyKind.JSON)
        one, entry = self.system_id, f"{self.now_ms}-{self.chance.randint(1, 9)}"
        await self.room.server.run(
            ("XADD", keys.stream(one), entry, "at", self.now_ms, "n", count, "c", packed, "b", body),
            ("HINCRBY", keys.system(one), "added", count),
            ("HINCRBY", keys.system(one), "entries", 1),
            ("HINCRBY", keys.system(one), "bytes", len(packed) + len(body)),
            ("HSET", keys.system(one), "last", entry),
        )

    async def fold(self) -> None:
        known = know(await self.room.stored(self.system_id))
        read: Any = (await self.room.folding.read([(self.system_id, known.position.cursor, 1_000)]))[self.system_id]
        commit = step(known, Read(read.entries, self.now_ms), decode(read.entries), new_token()).commit
        [(outcome, _)] = await self.room.folding.commit([(await self.room.lease_of(self.system_id), commit)])
        assert outcome.name == "DONE"

    async def go(self) -> None:
        """Some time passes, and something happens."""
        self.now_ms += self.chance.choice([700, 20_000, 61_000, 15 * 60_000, HOUR, 7 * HOUR])
        await self.send(self.chance.randint(1, 12))
        await self.fold()
        if self.chance.random() < 0.4:
            assert (await self.archiver.turn(self.now_ms)).failed == 0
            await self.room.folding.trim([await self.room.lease_of(self.system_id)], 1 << 40, pressed=True)
        if self.chance.random() < 0.2:
            await self.keeper.turn(self.now_ms)

    def brute(self, from_ms: int, to_ms: int, width: Width) -> dict[tuple[int, str], Any]:
        """What a count over the events finds, by start and stage."""
        found: dict[tuple[int, str], list[tuple[int, bool]]] = defaultdict(list)
        for (minute, stage), values in self.counted.items():
            if from_ms <= minute < to_ms:
                found[width.start_of(minute), stage] += values
        return {
            place: _facts([us for us, _ in values], [error for _, error in values]) for place, values in found.items()
        }

    async def check(self) -> None:
        history, warm = self.restart(), Warm(self.room.settings)
        for width in Width:
            edges = sorted(
                width.start_of(BEGIN_MS + self.chance.randint(-2 * DAY, self.now_ms - BEGIN_MS)) for _ in "ab"
            )
            ends = [(BEGIN_MS - 3 * DAY, self.now_ms + DAY), (edges[0], edges[1] + width)]
            for from_ms, to_ms in ((width.start_of(a), width.start_of(b)) for a, b in ends):
                read = await history.read(self.system_id, pieces(from_ms, to_ms, width), 100_000)
                rows = await asyncio.to_thread(read.columns, warm, Detail.STAGE)
                found, counted = facts_of(rows, width), self.brute(from_ms, to_ms, width)
                assert found == counted
                with_errors = await asyncio.to_thread(read.columns, warm, Detail.ERRORS)
                assert with_errors.errors.sum() == sum(errors for _, errors, *_ in counted.values())


def _facts(latencies: list[int], errors: list[bool]) -> tuple[Any, ...]:
    cells: dict[int, int] = defaultdict(int)
    for index in index_of(np.array(latencies, np.int64)).tolist():
        cells[index] += 1
    return len(latencies), sum(errors), sum(latencies), min(latencies), max(latencies), dict(cells)


def facts_of(rows: RollupColumns, width: Width) -> dict[tuple[int, str], Any]:
    found: dict[tuple[int, str], Any] = {}
    starts = [width.start_of(start) for start in np.repeat(rows.start_ms, rows.stages).tolist()]
    places = list(zip(starts, rows.names, strict=True))
    for place, sums in zip(places, rows.tallies.T.astype(np.int64).tolist(), strict=True):
        total, errors, _, sum_us, low, high, _ = sums
        have = found.setdefault(place, (0, 0, 0, low, high, {}))
        ends = min(have[3], low), max(have[4], high)
        found[place] = (have[0] + total, have[1] + errors, have[2] + sum_us, *ends, have[5])
    for at, index, count in zip(*(one.tolist() for one in (rows.tally_of_cells, rows.index, rows.count)), strict=True):
        cells = found[places[at]][5]
        cells[index] = cells.get(index, 0) + count
    return found


async def simulated(room: Room, seed: int, steps: int) -> Simulation:
    simulation = Simulation(room, (await room.system(f"s{seed}")).system_id, seed)
    for number in range(steps):
        await simulation.go()
        if number % 10 == 9:
            await simulation.check()
    await simulation.check()
    return simulation


async def test_days_of_history_equal_a_count_over_their_events(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_job, "ROW_BYTES", 2_000)
    monkeypatch.setattr(keep_job, "MANY", 4)
    simulation = await simulated(room, 1, 40)
    assert (await Archiving(room.server).filed(simulation.system_id)).mark > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(20))
async def test_weeks_of_history_equal_a_count_over_their_events(
    room: Room, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(archive_job, "ROW_BYTES", 2_000)
    monkeypatch.setattr(keep_job, "MANY", 4)
    await simulated(room, seed, 150)


async def test_merging_leaves_every_event_once_and_in_few_files(room: Room, settings: Settings) -> None:
    simulation = Simulation(room, (await room.system()).system_id, 5)
    for _ in range(12):
        simulation.now_ms += 2 * HOUR
        await simulation.send(5)
        await simulation.fold()
        await simulation.archiver.turn(simulation.now_ms + HOUR)
    files = LocalFiles(Path(settings.data_dir) / "archive")

    def files_of(kind: Kind) -> list[Piece]:
        return [one for found in files.listing(f"{kind.value}/") if (one := Piece.parse(found.path)) is not None]

    before = len(files_of(Kind.EVENTS))
    assert (await simulation.keeper.turn(simulation.now_ms + 2 * DAY)).merged == 0, "a reader may hold an older mark"
    report = await simulation.keeper.turn(simulation.now_ms + 2 * DAY + HOUR)
    days = {piece.period for piece in files_of(Kind.EVENTS)}
    assert before > len(files_of(Kind.EVENTS)) == len(days)
    assert report.merged > 0
    await simulation.check()
    notes = await Archiving(room.server).notes()
    assert int(notes["events_files"]) == len(days)
    assert int(notes["events_bytes"]) == sum(found.size for found in files.listing("events/"))
    assert await simulation.keeper.turn(simulation.now_ms + 2 * DAY + HOUR) == KeepReport()


async def test_each_tier_is_kept_for_its_time(room: Room, settings: Settings) -> None:
    simulation = Simulation(room, (await room.system()).system_id, 6)
    for _ in range(3):
        simulation.now_ms += HOUR
        await simulation.send(5)
        await simulation.fold()
    await simulation.archiver.turn(simulation.now_ms + 12 * HOUR)
    files = LocalFiles(Path(settings.data_dir) / "archive")
    kept = []
    for days in (1, 40, 460, 4_100):
        await simulation.keeper.turn(simulation.now_ms + days * DAY)
        kept.append([kind.value for kind in Kind if files.listing(f"{kind.value}/")])
    assert kept == [["events", "minutes", "hours", "days"], ["hours", "days"], ["days"], []]


async def test_the_files_of_a_deleted_system_go(room: Room, settings: Settings) -> None:
    simulations = [Simulation(room, (await room.system(name)).system_id, 7) for name in ("one", "other")]
    ids = [one.system_id for one in simulations]
    for simulation in simulations:
        await simulation.send(5)
        await simulation.fold()
        simulation.now_ms += HOUR
        await simulation.send(5)
        await simulation.fold()
        await simulation.archiver.turn(simulation.now_ms + 12 * HOUR)
    await room.store.registry.delete(ids[0])
    files = LocalFiles(Path(settings.data_dir) / "archive")
    assert (await simulations[0].keeper.turn(BEGIN_MS + DAY)).deleted > 0
    systems = {piece.system_id for found in files.listing() if (piece := Piece.parse(found.path)) is not None}
    assert systems == {ids[1]}
    assert await Archiving(room.server).unlinked() == []


async def test_without_an_archive_history_reaches_back_a_day(room: Room) -> None:
    simulation = Simulation(room, (await room.system()).system_id, 8)
    for _ in range(30):
        simulation.now_ms += HOUR
        await simulation.send(3)
        await simulation.fold()
    begin = (await Archiving(room.server).rows(simulation.system_id)).rows
    assert await forget_rows(Archiving(room.server), simulation.now_ms) == 1
    left = (await Archiving(room.server).rows(simulation.system_id)).rows
    assert left == [row for row in begin if row[1] >= simulation.now_ms - DAY]
    assert 0 < len(left) < len(begin)
    assert await forget_rows(Archiving(room.server), simulation.now_ms) == 0
