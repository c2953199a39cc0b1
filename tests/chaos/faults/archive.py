"""Whoever writes the archive, killed at any point, and an archive that has no room."""

import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet as pq

from lso_core.archive.files import LocalFiles
from lso_core.archive.layout import Piece
from tests.chaos.catalogue import fault
from tests.chaos.faults.disk import fill_up, small_disk
from tests.chaos.ledger import Ledger
from tests.chaos.scene import metric
from tests.chaos.trial import Trial
from tests.e2e.load import Load
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, register
from tests.waiting import wait_for

SETTLED_S = 180.0
HOT_S = 1
SYSTEMS = 4


@fault("kill-archive")
def kill_archive(trial: Trial) -> None:
    """kill -9 of who writes the archive, at random points under load: every event is archived once."""
    service = trial.start_service(environ={"LSO_HOT_SECONDS": str(HOT_S)})
    killed = Counter[str]()
    with service.client() as http:
        systems = [register(http, window_seconds=3_600) for _ in range(SYSTEMS)]
        with Load(service.url, [one.id for one in systems]) as load:
            for _ in range(trial.size(2, 50)):
                time.sleep(trial.dice.uniform(0.5, 2.5))
                http.post("/archive/run")
                time.sleep(trial.dice.uniform(0.0, 1.5))
                killed[_kill(trial, service)] += 1
        ledger = Ledger(service, systems, load)
        for problem in ledger.close():
            trial.check(False, problem)
        _archive_all(http)
        for system in systems:
            found = Counter(archived(service.data_dir / "archive", system))
            twice = sum(count - 1 for count in found.values())
            missing = ledger.wanted[system.id] - len(found)
            trial.check(not twice, f"{twice} events of system {system.id} are archived twice")
            trial.check(not missing, f"{missing} events of system {system.id} are not archived")
        trial.figures |= {f"kills_{name}": count for name, count in killed.items()}
        trial.figures["events"] = sum(ledger.wanted.values())
        trial.figures["lost"] = int(metric(http, "lso_archive_lost_events_total"))
        trial.check(not trial.figures["lost"], "events left the hot tier before they were archived")


def _kill(trial: Trial, service: Service) -> str:
    """Kill the worker, or the process that builds files where there is one; which."""
    workers = wait_for(lambda: service.children("worker"), "there is a worker", SETTLED_S) or []
    builders = [one for one in service.tree() if "lso_core.archive.building" in " ".join(_words(one))]
    victims = [*builders, *workers]
    victim = trial.dice.choice(victims)
    victim.kill()
    return "builder" if victim in builders else "worker"


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _archive_all(http: httpx.Client) -> None:
    """Have everything archived."""
    time.sleep(HOT_S + 0.5)
    wanted = http.post("/archive/run").json()["run"]

    def done() -> bool:
        status = http.get("/archive").json()
        return bool(status["done"] and status["wanted"] == wanted)

    wait_for(done, "the archive is through", SETTLED_S)


def archived(archive: Path, system: ObservedSystem) -> list[tuple[int, int, int]]:
    """Entry and index of each archived event, as often as it is there."""
    found = []
    for file in LocalFiles(archive).listing(f"events/system_id={system.id}/"):
        assert Piece.parse(file.path) is not None, file.path
        table = pq.ParquetFile(archive / file.path).read(["entry_ms", "entry_seq", "index"])
        found += list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return found


@fault("archive-full")
def archive_full(trial: Trial) -> None:
    """No room for the archive: health and ingest go on, nothing is trimmed unarchived, and it is caught up by itself."""
    place = trial.folder / "small"
    place.mkdir()
    trial.stack.enter_context(small_disk(trial, place))
    filler = place / "filler"
    environ = {"LSO_HOT_SECONDS": str(HOT_S), "LSO_ARCHIVE_URL": str(place / "archive")}
    service = trial.start_service(environ=environ)
    with service.client() as http:
        system = register(http, window_seconds=3_600)
        fill_up(filler)
        with Load(service.url, [system.id]) as load:
            wait_for(lambda: len(load.batches) > 20, "the load is under way", SETTLED_S)
        time.sleep(HOT_S + 0.5)
        http.post("/archive/run")
        wait_for(lambda: "does not work" in http.get("/archive").json()["reason"], "the archive says so", SETTLED_S)
        trial.figures["reason"] = http.get("/archive").json()["reason"].rpartition(": ")[2].replace(" ", "_")
        trial.check(metric(http, "lso_archive_failing") == 1, "/metrics does not say that the archive fails")
        trial.check(http.get("/readyz").status_code == 200, "the service is not ready while the archive has no room")
        ledger = Ledger(service, [system], load)
        for problem in ledger.close():
            trial.check(False, problem)
        trial.check(not archived(place / "archive", system), "there were files where there was no room")
        filler.unlink()
        _archive_all(http)
        found = Counter(archived(place / "archive", system))
        trial.figures["events"] = sum(found.values())
        trial.check(sum(found.values()) == len(found) == ledger.wanted[system.id], "not every event is archived once")
        trial.check(metric(http, "lso_archive_failing") == 0, "/metrics still says that the archive fails")
