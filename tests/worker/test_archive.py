"""The archive's job on a real server: what is old enough is durable before it is trimmed, once, whatever ends the job."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from lso_core.archive.building import Answer, Order, build
from lso_core.archive.events import Archived
from lso_core.archive.files import LocalFiles
from lso_core.archive.layout import Kind, Piece
from lso_core.archive.warm import Warm
from lso_core.compute import columns
from lso_core.compute.readback import Reading, Wanted
from lso_core.model.batches import StoredEntry
from lso_core.model.errors import ArchiveError, BacklogFullError
from lso_core.model.windows import PARTITIONS, partition_of
from lso_core.settings import Settings
from lso_core.store import keys
from lso_core.store.archiving import Archiving
from lso_core.telemetry import Telemetry
from tests.store.rooms import Room, batch
from tests.waiting import eventually
from worker.builder import Builder
from worker.jobs import archive as job
from worker.jobs.archive import Archiver, ArchiveReport

CAP = 1 << 30


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path), hot_seconds=0)


class Here:
    """Builds in this process, which is quicker to start than one beside it."""

    async def build(self, order: Order) -> Answer:
        return build(order)

    async def rest(self) -> None:
        pass

    async def close(self) -> None:
        pass


def archiver(room: Room, files: LocalFiles | None = None, cap: int = CAP) -> Archiver:
    files = files or LocalFiles(Path(room.settings.data_dir) / "archive")
    return Archiver(Archiving(room.server), files, room.settings, Telemetry(), lambda: cap, Here())


async def turn(room: Room, files: LocalFiles | None = None, cap: int = CAP) -> ArchiveReport:
    """One turn of the job, a moment later, so that everything is of the past."""
    return await archiver(room, files, cap).turn(await room.now_ms() + 1)


async def trim(room: Room, system_id: int, cap: int = CAP, *, pressed: bool = False) -> Any:
    return await room.folding.trim([await room.lease_of(system_id)], cap, pressed=pressed)


async def filled(room: Room, entries: int, events: int = 3, *, name: str = "weather") -> int:
    system_id = (await room.system(name)).system_id
    for _ in range(entries):
        await room.store.ingest.append(system_id, batch(events), None)
    await room.fold(system_id)
    return system_id


def pieces(settings: Settings, kind: Kind = Kind.EVENTS) -> list[Piece]:
    found = LocalFiles(Path(settings.data_dir) / "archive").listing(f"{kind.value}/")
    return [piece for one in found if (piece := Piece.parse(one.path)) is not None]


def archived(settings: Settings) -> list[tuple[int, int, int]]:
    """Every row of every file: entry and index. What is there twice shows twice."""
    found = []
    for piece in pieces(settings):
        table = pq.ParquetFile(Path(settings.data_dir) / "archive" / piece.path).read()
        found += list(zip(*(table[name].to_pylist() for name in ("entry_ms", "entry_seq", "index")), strict=True))
    return found


async def hot(room: Room, system_id: int) -> list[tuple[int, int, int]]:
    found = []
    for entry in (await room.store.reads.entries(system_id, None, 10_000))[::-1]:
        ms, sequence = map(int, entry.entry_id.split("-"))
        found += [(ms, sequence, index) for index in range(entry.count)]
    return found


async def test_what_is_archived_may_be_trimmed_and_nothing_else(room: Room, settings: Settings) -> None:
    system_id = await filled(room, 4)
    await room.store.ingest.append(system_id, batch(2), None)
    everything = await hot(room, system_id)
    assert (await trim(room, system_id)).entries == 0
    report = await turn(room)
    assert (report.pieces, report.events, report.failed) == (1, 12, 0)
    assert archived(settings) == everything[:12]
    assert (await trim(room, system_id)).entries == 4
    assert await hot(room, system_id) == everything[12:]
    await room.fold(system_id)
    assert (await turn(room)).events == 2
    assert archived(settings) == everything
    assert (await trim(room, system_id)).entries == 1
    assert (await room.stats(partition_of(system_id)))["hot"] == 0
    assert await room.server.one(("EXISTS", keys.unarchived(partition_of(system_id)))) == 0
    assert await turn(room) == ArchiveReport()


async def test_events_wait_for_company_until_they_are_old_or_many(room: Room) -> None:
    own = Room(room.server, msgspec.structs.replace(room.settings, hot_seconds=60))
    await filled(own, 3)
    one, now_ms = archiver(own), await own.now_ms()
    assert [(await one.turn(now_ms + 60_000 * age)).pieces for age in (0, 2, 3)] == [0, 0, 0]
    assert (await one.turn(now_ms + 60_000 * 4 + 1)).pieces == 1
    await filled(own, 2, name="busy")
    assert (await turn(own, cap=100)).events == 6, "memory is wanted"


async def test_whoever_asks_gets_everything_past_the_horizon(room: Room) -> None:
    own = Room(room.server, msgspec.structs.replace(room.settings, hot_seconds=60))
    await filled(own, 3)
    await Archiving(own.server).note(wanted="x")
    assert (await archiver(own).turn(await own.now_ms() + 61_000)).events == 9
    assert (await Archiving(own.server).notes())["done"] == "x"


async def test_a_piece_holds_one_day_and_no_more_than_fits(
    room: Room, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MOST_EVENTS", 10)
    monkeypatch.setattr(job, "READ_ENTRIES", 3)
    system_id = await filled(room, 20)
    everything = await hot(room, system_id)
    assert (await turn(room)).pieces == 5
    assert archived(settings) == everything
    edges = [(one.after, one.last) for one in pieces(settings)]
    assert [after for after, _ in edges[1:]] == [last for _, last in edges[:-1]]


class Failing(LocalFiles):
    """A real folder that is full after so many files."""

    left = 0

    def write(self, path: str, data: bytes) -> None:
        if self.left <= 0:
            raise ArchiveError("the disk is full")
        self.left -= 1
        super().write(path, data)


async def test_a_store_that_fails_is_tried_again_and_nothing_is_trimmed_meanwhile(
    room: Room, settings: Settings, tmp_path: Path
) -> None:
    system_id, files = await filled(room, 3), Failing(tmp_path / "archive")
    everything, one = await hot(room, system_id), archiver(room, files)
    for left in (0, 1):  # the first file says whose archive it is
        files.left = left
        assert (await one.turn(await room.now_ms() + 1)).failed == 1
        assert (await Archiving(room.server).notes())["error"] == "the disk is full"
        assert (await trim(room, system_id)).entries == 0
    assert one._telemetry.samples()['lso_archive_failures_total{reason="store"}'] == 2
    files.left = 1
    assert (await one.turn(await room.now_ms() + 1)).events == 9
    assert (await Archiving(room.server).notes())["error"] == ""
    assert archived(settings) == everything


async def test_an_archive_of_another_redis_is_left_alone(room: Room, settings: Settings, tmp_path: Path) -> None:
    await filled(room, 1)
    await turn(room)
    before = LocalFiles(tmp_path / "archive").listing()
    await room.server.one(("HDEL", keys.ARCHIVE, "name"))
    system_id = await filled(room, 1, name="other")
    assert (await turn(room)).failed == 1
    assert "belongs to another Redis" in (await Archiving(room.server).notes())["error"]
    assert LocalFiles(tmp_path / "archive").listing() == before
    assert (await trim(room, system_id)).entries == 0


async def test_past_the_budget_what_is_not_archived_goes_and_is_counted(room: Room) -> None:
    system_id = await filled(room, 3)
    size = (await room.stats(partition_of(system_id)))["hot"]
    assert (await trim(room, system_id, cap=size * 2 // 3)).lost == 0, "half as much again may wait"
    lost = await trim(room, system_id, cap=size // 3)
    assert (lost.entries, lost.lost) == (3, 9)
    ledger = await Archiving(room.server).ledger(system_id)
    assert (ledger.archived, ledger.lost) == (0, 9)
    await room.store.ingest.append(system_id, batch(4), None)
    await room.fold(system_id)
    assert (await turn(room)).events == 4
    ledger = await Archiving(room.server).ledger(system_id)
    assert (ledger.archived, ledger.lost) == (4, 9)
    await room.store.ingest.append(system_id, batch(5), None)
    await room.fold(system_id)
    assert (await trim(room, system_id, pressed=True)).lost == 5
    assert (await room.health(system_id))["total"] == 18


async def test_what_is_being_archived_is_not_dropped_meanwhile(room: Room, settings: Settings) -> None:
    """However slowly the file is built: else a busy system would lose what was read before it is marked, again and again."""
    system_id = await filled(room, 3)
    size = (await room.stats(partition_of(system_id)))["hot"]
    everything, lost = await hot(room, system_id), list[int]()

    class Pressed(Here):
        async def build(self, order: Order) -> Answer:
            lost.append((await trim(room, system_id, cap=size // 3)).lost)
            return await super().build(order)

    files = LocalFiles(Path(settings.data_dir) / "archive")
    one = Archiver(Archiving(room.server), files, room.settings, Telemetry(), lambda: CAP, Pressed())
    assert (await one.turn(await room.now_ms() + 1)).events == 9
    assert lost == [0]
    assert archived(settings) == everything
    for _ in range(3):
        await room.store.ingest.append(system_id, batch(3), None)
    await room.fold(system_id)
    assert (await trim(room, system_id, cap=size // 3)).lost == 9, "the job is over"


async def test_its_neighbours_do_not_pay_for_what_is_held(room: Room) -> None:
    system_id = await filled(room, 200)
    partition = partition_of(system_id)
    neighbours = [await filled(room, 1, name=f"n{number}") for number in range(3 * PARTITIONS)]
    near = [one for one in neighbours if partition_of(one) == partition]
    assert near
    size = (await room.stats(partition))["hot"]
    assert await Archiving(room.server).hold(system_id) == ""
    assert (await trim(room, system_id, cap=size // 2)).lost == 0
    assert [(await Archiving(room.server).ledger(one)).lost for one in near] == [0] * len(near)


async def test_what_is_held_has_its_bound_and_none_where_memory_is_short(room: Room) -> None:
    system_id, other = await filled(room, 40), await filled(room, 2, name="other")
    size = (await room.stats(partition_of(system_id)))["hot"]
    archiving = Archiving(room.server)
    assert await archiving.hold(system_id) == ""
    assert (await trim(room, system_id, cap=size // 6)).lost == 0
    assert (await trim(room, system_id, cap=size // 20)).lost > 0, (
        "there are more than eight shares and another one and a half"
    )
    assert (await room.stats(partition_of(system_id)))["hot"] == 0
    assert await archiving.hold(other) == ""
    assert (await trim(room, other, pressed=True)).lost == 6
    assert await archiving.hold(1 << 40) is None, "there is no such system"


async def test_an_archive_that_does_not_answer_holds_nothing(room: Room, settings: Settings, tmp_path: Path) -> None:
    class Full(LocalFiles):
        """A real folder that is full whenever events are to be written."""

        def write(self, path: str, data: bytes) -> None:
            if path.startswith("events/"):
                raise ArchiveError("there is no room")
            super().write(path, data)

    system_id = await filled(room, 3)
    size = (await room.stats(partition_of(system_id)))["hot"]
    assert (await turn(room, Full(tmp_path / "archive"))).failed == 1
    assert (await trim(room, system_id, cap=size // 3)).lost == 9


async def test_however_long_a_file_takes_it_is_held(room: Room, settings: Settings) -> None:
    system_id = await filled(room, 3)
    size = (await room.stats(partition_of(system_id)))["hot"]
    everything, lost = await hot(room, system_id), list[int]()

    class Slow(Here):
        async def build(self, order: Order) -> Answer:
            await asyncio.sleep(1)
            lost.append((await trim(room, system_id, cap=size // 3)).lost)
            return await super().build(order)

    files = LocalFiles(Path(settings.data_dir) / "archive")
    archiving = Archiving(room.server, lock_ms=300)
    one = Archiver(archiving, files, room.settings, Telemetry(), lambda: CAP, Slow())
    assert (await one.turn(await room.now_ms() + 1)).events == 9
    assert (lost, archived(settings)) == ([0], everything)


async def test_what_repeats_fills_no_file_beyond_what_fits_in_memory(
    room: Room, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_id = await filled(room, 6)
    [entry] = await room.store.reads.entries(system_id, None, 1)
    monkeypatch.setattr(job, "MOST_INFLATED", 2 * columns.inflated(entry.body))
    report = await turn(room)
    assert (report.pieces, report.events) == (3, 18)
    assert len(archived(settings)) == 18


async def test_who_was_held_up_goes_on_behind_what_was_dropped(room: Room, settings: Settings) -> None:
    """Between the list of who waits and a system's turn its oldest entries may have gone."""
    system_id = await filled(room, 3)
    size = (await room.stats(partition_of(system_id)))["hot"]
    first = (await hot(room, system_id))[:3]

    class Late(Archiving):
        async def hold(self, system_id: int) -> str | None:
            if not lost:
                lost.append((await trim(room, system_id, cap=size // 3)).lost)
                await room.store.ingest.append(system_id, batch(2), None)
                await room.fold(system_id)
            return await super().hold(system_id)

    lost: list[int] = []
    files = LocalFiles(Path(settings.data_dir) / "archive")
    one = Archiver(Late(room.server), files, room.settings, Telemetry(), lambda: CAP, Here())
    await one.turn(await room.now_ms() + 60_000)
    ledger = await Archiving(room.server).ledger(system_id)
    assert (lost, ledger.lost) == ([9], 9)
    await one.turn(await room.now_ms() + 60_000)
    assert (await Archiving(room.server).ledger(system_id)).archived == 2
    assert not set(first) & set(archived(settings))


async def test_of_what_is_partly_archived_only_the_rest_is_lost(room: Room) -> None:
    system_id = await filled(room, 2)
    await turn(room)
    for _ in range(3):
        await room.store.ingest.append(system_id, batch(5), None)
    await room.fold(system_id)
    lost = await trim(room, system_id, pressed=True)
    assert (lost.entries, lost.lost) == (5, 15)


async def test_where_the_archive_is_required_new_events_wait_instead(room: Room) -> None:
    size = len(batch(3).columns) + len(batch(3).body)
    own = Room(room.server, msgspec.structs.replace(room.settings, archive="required", hot_bytes=32 * 2 * size))
    system_id = await filled(own, 3)
    assert (await trim(own, system_id, pressed=True)).entries == 0
    await own.store.ingest.append(system_id, batch(3), None)
    await own.fold(system_id)
    with pytest.raises(BacklogFullError, match="LSO_ARCHIVE=required"):
        await own.store.ingest.append(system_id, batch(1), None)
    assert (await turn(own)).events == 12
    assert (await trim(own, system_id)).entries == 4
    await own.store.ingest.append(system_id, batch(1), None)


async def test_the_sweep_finds_what_waits_for_an_archive(room: Room) -> None:
    system_id = await filled(room, 2)
    await room.server.one(("DEL", keys.unarchived(partition_of(system_id))))
    assert (await turn(room)).events == 0
    assert await room.folding.sweep(partition_of(system_id)) == 1
    assert (await turn(room)).events == 6


async def test_a_system_that_is_deleted_meanwhile_is_not_marked(room: Room) -> None:
    system_id = await filled(room, 1)
    [waiting] = await Archiving(room.server).waiting([1 << 50] * PARTITIONS, 9)
    [entry] = await room.store.reads.entries(system_id, None, 9)
    await room.store.registry.delete(system_id)
    assert not await Archiving(room.server).mark(waiting, entry, 3, 100)
    assert await room.keys_of(system_id) == []


async def test_the_file_of_a_system_that_is_deleted_while_it_is_written_goes(
    room: Room, settings: Settings, tmp_path: Path
) -> None:
    class Slow(LocalFiles):
        """A real folder that takes long enough for somebody to delete the system."""

        def write(self, path: str, data: bytes) -> None:
            super().write(path, data)
            if path.startswith("events/"):
                asyncio.run_coroutine_threadsafe(room.store.registry.delete(system_id), loop).result()

    loop = asyncio.get_running_loop()
    system_id = await filled(room, 1)
    assert (await turn(room, Slow(tmp_path / "archive"))).pieces == 0
    assert pieces(settings) == []


async def test_two_jobs_at_once_mark_once(room: Room) -> None:
    system_id = await filled(room, 2)
    [waiting] = await Archiving(room.server).waiting([1 << 50] * PARTITIONS, 9)
    newest, oldest = await room.store.reads.entries(system_id, None, 9)
    assert await Archiving(room.server).mark(waiting, oldest, 3, 100)
    assert not await Archiving(room.server).mark(waiting, newest, 6, 200)
    assert (await Archiving(room.server).ledger(system_id)).archived == 3


async def pages(room: Room, warm: Warm, system_id: int, wanted: Wanted, limit: int) -> list[tuple[str, int]]:
    """All pages, hot and warm, as the route puts them together."""
    from lso_core.compute.readback import Place

    found: list[tuple[str, int]] = []
    place: Place | None = None
    while True:
        reading = Reading(system_id, wanted, place, limit)
        reading.feed(await room.store.reads.entries(system_id, None if place is None else place.newest, 10_000))
        page = reading.page(ended=True)
        items, following = page.items, page.next
        if following is None:
            more = Archived(warm, system_id, wanted).page(reading.next, limit - len(items))
            items, following = [*items, *more.items], more.next
        found += [(one.entry, one.index) for one in items]
        if following is None:
            return found
        place = Place.parse(following)


async def test_files_are_built_in_a_process_beside(room: Room, settings: Settings) -> None:
    system_id = await filled(room, 4)
    everything, builder = await hot(room, system_id), Builder()
    files = LocalFiles(Path(settings.data_dir) / "archive")
    one = Archiver(Archiving(room.server), files, settings, Telemetry(), lambda: CAP, builder)
    try:
        assert (await one.turn(await room.now_ms() + 1)).events == 12
        assert builder._aside._process is not None
        os.kill(builder._aside._process.pid, signal.SIGSTOP)  # so that it dies over its work
        await filled(room, 1, name="other")
        turn = asyncio.create_task(one.turn(await room.now_ms() + 1))
        await eventually(builder._aside._turn.locked, "it is given something to build")
        os.kill(builder._aside._process.pid, signal.SIGKILL)
        assert (await turn).failed == 1
        assert (await one.turn(await room.now_ms() + 1)).events == 3, "it is started again"
    finally:
        await one.close()
    assert archived(settings)[:12] == everything


async def test_a_job_that_runs_twice_at_once_mixes_nothing_up(room: Room, settings: Settings) -> None:
    """A job that is tried again meets the next one of the timetable in one process."""
    ids = [await filled(room, 6, events=number + 1, name=f"s{number}") for number in range(6)]
    files, builder = LocalFiles(Path(settings.data_dir) / "archive"), Builder()
    one = Archiver(Archiving(room.server), files, settings, Telemetry(), lambda: CAP, builder)
    orders = [Order(await room.store.reads.entries(system_id, None, 9)) for system_id in ids]
    try:
        answers = await asyncio.gather(*map(builder.build, orders))
        assert [6 * (number + 1) for number in range(6)] == [answer.events for answer in answers]
        now_ms = await room.now_ms() + 1
        reports = await asyncio.gather(*(one.turn(now_ms) for _ in range(3)))
        assert sum(report.events for report in reports) == 6 * 21
        assert sum(report.pieces > 0 for report in reports) == 1
    finally:
        await one.close()
    for number, system_id in enumerate(ids):
        assert len(archived_of(settings, system_id)) == 6 * (number + 1)


@pytest.mark.parametrize("limit", [3, 500])
async def test_pages_go_on_from_hot_to_warm_without_gap_or_overlap(room: Room, settings: Settings, limit: int) -> None:
    chance, one = random.Random(limit), archiver(room)
    system_id = (await room.system()).system_id
    for _ in range(12):
        for _ in range(chance.randint(1, 3)):
            await room.store.ingest.append(system_id, batch(chance.randint(1, 4)), None)
        if chance.random() < 0.7:
            await room.fold(system_id)
        if chance.random() < 0.5:
            await one.turn(await room.now_ms() + 1)
        if chance.random() < 0.3:
            await trim(room, system_id)
    wanted = sorted({*archived(settings), *await hot(room, system_id)}, reverse=True)
    found = await pages(room, Warm(settings), system_id, Wanted(from_ms=0), limit)
    assert found == [(f"{ms}-{sequence}", index) for ms, sequence, index in wanted]


async def test_warm_events_are_filtered_as_hot_ones(room: Room, settings: Settings) -> None:
    system_id = await filled(room, 2)
    await room.store.ingest.append(system_id, batch(4, errors=3, event_type="failure"), None)
    await room.fold(system_id)
    everything: list[StoredEntry] = await room.store.reads.entries(system_id, None, 99)
    middle = everything[1].at_ms
    wishes = [
        Wanted(status="error"),
        Wanted(event_type="success"),
        Wanted(stage="load"),
        Wanted(run_id="r"),
        Wanted(from_ms=middle, to_ms=middle + 1),
        Wanted(to_ms=middle),
    ]
    hot_answers = []
    for wanted in wishes:
        reading = Reading(system_id, wanted, None, 500)
        reading.feed(everything)
        hot_answers.append(reading.page(ended=True).items)
    await turn(room)
    warm = Warm(settings)
    assert hot_answers == [(Archived(warm, system_id, wanted).page(None, 500)).items for wanted in wishes]


KILLED = """
import asyncio, os, random, signal, sys
from pathlib import Path
from lso_core.archive.building import Answer, Order, build
from lso_core.archive.events import Archived
from lso_core.archive.files import LocalFiles
from lso_core.settings import Settings
from lso_core.store.archiving import Archiving
from lso_core.store.server import Server
from lso_core.telemetry import Telemetry
from worker.jobs import archive
from worker.jobs.archive import Archiver

url, folder, after, now_ms = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
archive.MOST_EVENTS = 30
count = 0

def step(frame, event, argument):
    global count
    if event == "call" and ("/lso_core/archive/" in frame.f_code.co_filename or "/worker/" in frame.f_code.co_filename
                            or frame.f_code.co_name in ("mark", "add", "lock", "entries")):
        count += 1
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    server = Server.connect(url)
    settings = Settings(data_dir=folder, hot_seconds=0)
    one = Archiver(Archiving(server), LocalFiles(Path(folder) / "archive"), settings, Telemetry(), lambda: 1 << 30)
    sys.setprofile(step)
    await one.turn(now_ms)
    sys.setprofile(None)
    print(count, flush=True)
    await one.close()
    await server.close()

asyncio.run(main())
"""


async def run_killed(room: Room, url: str, after: int) -> int | None:
    """A job in a process of its own that kills itself at its `after`-th call; how many calls it made if it lived."""
    await room.server.one(("DEL", keys.archiving("write")))
    arguments = [url, room.settings.data_dir, str(after), str(await room.now_ms() + 1)]
    command = [sys.executable, "-c", KILLED, *arguments]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


async def killed_at(room: Room, settings: Settings, url: str, chance: random.Random, kills: int) -> None:
    ids = [await filled(room, 0, name=f"s{number}") for number in range(2)]
    sent: dict[int, list[tuple[int, int, int]]] = {one: [] for one in ids}
    for _ in range(kills):
        for one in ids:
            for _ in range(chance.randint(0, 12)):
                receipt = await room.store.ingest.append(one, batch(chance.randint(1, 9)), None)
                assert receipt.entries is not None
                ms, sequence = map(int, receipt.entries[0].split("-"))
                sent[one] += [(ms, sequence, index) for index in range(receipt.accepted)]
            await room.fold(one)
        await run_killed(room, url, chance.randint(1, 500))
        if chance.random() < 0.5:
            for one in ids:
                await trim(room, one)
        for one in ids:
            known = {*await hot(room, one), *(row for row in archived_of(settings, one))}
            assert known == set(sent[one]), "no loss"
    while await run_killed(room, url, -1) is None:
        pass
    for one in ids:
        await trim(room, one)
        assert await hot(room, one) == []
        assert archived_of(settings, one) == sent[one], "no loss, no duplicate, in order"


def archived_of(settings: Settings, system_id: int) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for piece in pieces(settings):
        if piece.system_id == system_id:
            table = pq.ParquetFile(Path(settings.data_dir) / "archive" / piece.path).read()
            found += list(zip(*(table[name].to_pylist() for name in ("entry_ms", "entry_seq", "index")), strict=True))
    return found


async def test_a_job_killed_here_and_there_loses_and_doubles_nothing(
    room: Room, settings: Settings, backend: Any
) -> None:
    await killed_at(room, settings, f"unix://{backend.socket}", random.Random(7), kills=2)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_job_killed_at_fifty_points_loses_and_doubles_nothing(
    room: Room, settings: Settings, backend: Any
) -> None:
    await killed_at(room, settings, f"unix://{backend.socket}", random.Random(os.getpid()), kills=50)
