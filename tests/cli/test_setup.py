"""What scripts/up and scripts/test say where they cannot make an environment."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("LSO_", "PIP_"))}
    command = [str(ROOT / "scripts" / script)]
    return subprocess.run(
        command, env={**environ, **variables}, capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.parametrize("script", ["up", "test", "check"])
def test_a_python_that_does_not_do_is_refused_by_name(script: str, tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run(script, LSO_PYTHON=str(old), LSO_VENV=str(tmp_path / "venv"))
    assert done.returncode == 1
    assert done.stderr == f"{script}: LSO_PYTHON={old} is not a Python of version 3.11 or newer.\n"


def test_a_directory_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "diary").write_text("dear")
    done = run("up", LSO_VENV=str(tmp_path / "venv"))
    assert done.returncode == 1
    assert f"{tmp_path}/venv holds something else than a Python environment" in done.stderr
    assert (tmp_path / "venv" / "diary").read_text() == "dear"


def test_no_network_is_one_sentence(tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "https://127.0.0.1:1/simple", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    done = run("up", LSO_VENV=str(tmp_path / "venv"), PIP_NO_CACHE_DIR="1", **nowhere)
    assert done.returncode == 1
    assert "the package index cannot be reached; the first start needs a network" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "venv" / "lso-installed.json").exists()
