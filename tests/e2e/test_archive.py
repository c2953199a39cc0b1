"""The archive from outside: events and history go on behind the hot tier, and the command line looks after it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest

from lso_core.model import times
from tests.e2e.answers import pages
from tests.e2e.conftest import StartService
from tests.e2e.service import Service
from tests.e2e.systems import ObservedSystem, event, register
from tests.waiting import wait_for

MINUTE = 60_000


def lso(service: Service, *words: str, status: int = 0) -> str:
    """What a command says."""
    command = [sys.executable, "-m", "lso_core.cli.lso", *words]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LSO_")}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**inherited, "LSO_URL": service.url}
    )
    assert (status, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    said: str = done.stdout
    return said


def told(system: ObservedSystem, **query: str) -> list[dict[str, Any]]:
    return [item for page in pages(system.http, f"{system.path}/events", limit="7", **query) for item in page]


@pytest.mark.timeout(120)
def test_what_is_archived_is_read_on_and_kept_sound(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(environ={"LSO_HOT_SECONDS": "2"})
    with service.client() as http:
        system, gone = register(http, window_seconds=3600), register(http)
        begin_ms = int(time.time() * 1_000) // MINUTE * MINUTE - 5 * MINUTE
        for number in range(40):  # of minutes that are over, so that they make rows of history at once
            ts = times.to_text(begin_ms + number * 5_000)
            system.take([event(ts=ts, payload={"n": number}, stage="load", latency_ms=number + 0.5)])
        ends = ({"event_type": kind, "status": "ok", "run_id": "nightly"} for kind in ("start", "end"))
        gone.take([event(run_id="nightly", stage="load"), *ends])
        system.health_with(total=40)
        gone.health_with(total=1)
        span = {"from": times.to_text(begin_ms), "to": times.to_text(begin_ms + 5 * MINUTE)}
        before = told(system, **span)
        series = {"metric": "total,errors,min,p50,p95,max", **span, "step": "60"}
        points = http.get(f"{system.path}/series", params=series).json()["series"][0]["points"]
        run = http.get(f"{gone.path}/runs/nightly").json()["timeline"]
        assert ["end", "start", "success"] == [item["event_type"] for item in run["items"]]
        assert [39 - number for number in range(40)] == [item["payload"]["n"] for item in before]

        time.sleep(2.5)  # past the hot tier's time; what is waited for next cannot be asked for earlier
        assert "the archive works" in lso(service, "archive", "run")
        wait_for(lambda: not told(system), "the hot tier forgets", within=30)
        assert before == told(system, **span)
        assert points == http.get(f"{system.path}/series", params=series).json()["series"][0]["points"]
        wait_for(lambda: not told(gone), "so it does the run", within=30)
        assert run == http.get(f"{gone.path}/runs/nightly").json()["timeline"]
        status = http.get("/archive").json()
        assert (True, 0) == (status["working"], status["lost"])
        assert all(tier["files"] > 0 for tier in status["tiers"].values())
        assert 'lso_archive_files{holds="events"} ' in http.get("/metrics").text

        archive = service.data_dir / "archive"
        rows = duckdb.execute(
            f"SELECT system_id, count(*), max(latency_ms) FROM read_parquet('{archive}/events/**/*.parquet') "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        assert [(system.id, 40, 39.5), (gone.id, 3, 12.0)] == [
            (one, count, round(most, 6)) for one, count, most in rows
        ]
        minutes = ds.dataset(archive / "minutes", partitioning="hive").to_table()
        assert 40 == sum(minutes.filter(ds.field("system_id") == system.id)["total"].to_pylist())

        assert "sound" in lso(service, "archive", "verify", "--data-dir", str(service.data_dir))
        words = ("replay", "--from", span["from"], "--to", span["to"], "--data-dir", str(service.data_dir))
        assert f"system {system.id}: 40 events read, 4 of 5 minutes, 0 different" in lso(service, *words)
        again = tmp_path / "again"
        lso(service, *words, "--into", str(again))
        assert 40 == sum(ds.dataset(again / "minutes", partitioning="hive").to_table()["total"].to_pylist())

        [damaged] = (archive / f"events/system_id={system.id}").rglob("*.parquet")
        sound = damaged.read_bytes()
        damaged.write_bytes(sound[:100] + b"\0\0\0\0" + sound[104:])
        said = lso(service, "archive", "verify", "--data-dir", str(service.data_dir), status=1)
        assert f"{damaged.relative_to(archive)} cannot be read" in said
        damaged.unlink()
        said = lso(service, "archive", "verify", "--data-dir", str(service.data_dir), status=0)
        damaged.write_bytes(sound)

        assert 204 == http.delete(gone.path).status_code
        wait_for(lambda: not list(archive.rglob(f"system_id={gone.id}/**/*.parquet")), "its files go", within=45)
        assert before == told(system, **span)


@pytest.mark.timeout(60)
def test_without_an_archive_there_is_none(start_service: StartService) -> None:
    service = start_service(environ={"LSO_HOT_SECONDS": "1", "LSO_ARCHIVE": "off"})
    with service.client() as http:
        system = register(http)
        system.take([event(payload={"n": 1})])
        system.health_with(total=1)
        wait_for(lambda: not told(system, to="2100-01-01T00:00:00Z"), "the event expires", within=30)
        status = http.get("/archive").json()
        assert (False, "off") == (status["working"], status["mode"])
        assert "LSO_ARCHIVE is off" in status["reason"]
        assert 503 == http.post("/archive/run").status_code
        assert not (service.data_dir / "archive").exists()
