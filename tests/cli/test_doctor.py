"""`lso doctor`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from lso_core.cli.doctor import checks
from tests.cli.conftest import RunLso, environ
from tests.e2e.service import Service

PROGRAM = "import sys; sys.modules['msgspec'] = None; from lso_core.cli import main; sys.exit(main())"


def levels(output: str) -> dict[str, str]:
    return {check["name"]: check["level"] for check in json.loads(output)}


def test_a_service_that_is_well_passes_every_check(lso: RunLso, service: Service) -> None:
    done = lso("doctor", "--json", "--data-dir", str(service.data_dir))
    found = levels(done.stdout)
    assert 0 == done.returncode, done.stdout
    assert {"configuration", "kernels", "service", "ready", "clock", "key", "lag", "workers", "redis version", "redis policy",
            "redis memory", "redis aof", "redis clock", "disk"} == set(found)  # fmt: skip
    assert {"well"} == {level for name, level in found.items() if name != "disk"}


def test_what_is_wrong_comes_with_what_to_do_and_status_1(lso: RunLso, distribution_redis: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(distribution_redis) as server:
        server.config_set("maxmemory-policy", "allkeys-lru")
        server.config_set("appendonly", "no")
    words = ("doctor", "--url", "http://127.0.0.1:1", "--data-dir", str(tmp_path))
    done = lso(*words, LSO_REDIS_URL=distribution_redis)
    assert 1 == done.returncode
    said = done.stdout.splitlines()
    assert any("cannot be reached" in line and "-> start it" in line for line in said)
    assert any("allkeys-lru" in line and "CONFIG SET maxmemory-policy noeviction" in line for line in said)
    assert any("append-only file is off" in line and "CONFIG SET appendonly yes" in line for line in said)
    assert any("no limit" in line for line in said)


def test_a_wrong_variable_and_an_absent_redis_are_found(lso: RunLso, tmp_path: Path) -> None:
    done = lso("doctor", "--json", "--data-dir", str(tmp_path), LSO_PORT="many", LSO_REDIS_URL="redis://127.0.0.1:1")
    found = levels(done.stdout)
    assert (1, "wrong", "wrong") == (done.returncode, found["configuration"], found["redis"])


def test_without_the_servers_packages_it_says_so_and_checks_the_rest(service: Service) -> None:
    command = [sys.executable, "-c", PROGRAM, "doctor", "--json"]
    done = subprocess.run(command, env=environ(service.url), capture_output=True, text=True, timeout=30, check=False)
    found = levels(done.stdout)
    assert (0, "skipped", "skipped", "well") == (done.returncode, found["configuration"], found["redis"], found["lag"])
    assert 2 == done.stdout.count("the servers' packages are not installed here")


@pytest.mark.parametrize(
    ("check", "level"),
    [
        (checks.clock(0.4, 0.5, "x"), "well"),
        (checks.clock(-5.0, 0.5, "x"), "look"),
        (checks.clock(90.0, 0.5, "x"), "wrong"),
        (checks.version({"redis_version": "6.2.1"}), "wrong"),
        (checks.version({"redis_version": "7.2.4", "valkey_version": "9.1.0"}), "well"),
        (checks.persistence({"aof_enabled": 1, "aof_last_write_status": "err"}, None), "wrong"),
        (checks.persistence({"aof_enabled": 1}, "no"), "look"),
        (checks.persistence({"aof_enabled": 1}, "always"), "well"),
        (checks.disk(100 << 20, 1 << 40, "x"), "wrong"),
        (checks.disk(2 << 30, 1 << 40, "x"), "look"),
        (checks.disk(200 << 30, 1 << 40, "x"), "well"),
    ],
)
def test_figures_are_judged(check: checks.Check, level: str) -> None:
    assert level == check.level
    assert bool(check.advice) == (level != "well")


@pytest.mark.parametrize(
    ("age", "workers", "wanted", "found"),
    [(0.1, 1, 1, ["well", "well"]), (8, 1, 2, ["look", "look"]), (60, 0, 1, ["wrong", "wrong"])],
)
def test_lag_and_workers_are_judged(age: float, workers: int, wanted: int, found: list[str]) -> None:
    autoscale = {"backlog": {"events": 9, "oldest_age_s": age}, "workers": workers, "desired_workers": wanted}
    assert found == [check.level for check in checks.lag(autoscale)]
