"""What pipelines install: one import name, no third-party package, everything that belongs to it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.e2e.service import running_service
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout with the tools that are here."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    (built,) = folder.glob("*.whl")
    return built


def run_in_nothing(wheel: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` with the standard library and the wheel, and nothing else."""
    program = f"import sys; sys.path.insert(0, {str(wheel)!r}); sys.argv[0] = 'lso'\n{code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)


def test_it_brings_no_import_name_but_lso_core(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert [name for name in names if not name.endswith(".dist-info")] == ["lso_core"]


def test_it_holds_everything_that_is_in_the_package(wheel: Path) -> None:
    kept = {str(path.relative_to(ROOT)) for path in (ROOT / "lso_core").rglob("*") if path.is_file()}
    wanted = {name for name in kept if "__pycache__" not in name}
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_it_asks_for_no_other_package(wheel: Path) -> None:
    (name,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA")]
    metadata = zipfile.ZipFile(wheel).read(name).decode()
    wanted = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in wanted if "extra ==" not in line] == []


def test_the_sdk_is_there_with_nothing_else_installed(wheel: Path) -> None:
    done = run_in_nothing(wheel, "from lso_core import client; print(callable(client.init))")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_command_line_says_what_it_needs(wheel: Path) -> None:
    done = run_in_nothing(wheel, "from lso_core.cli import main; sys.exit(main())")
    assert done.returncode == 1
    assert done.stderr == "lso: the command line needs rich-click and rich; install them with: pip install 'lso[cli]'\n"


PIPELINE = """
import sys
from lso_core import client as lso
lso.init(sys.argv[1], system="from-the-wheel")
with lso.run() as run:
    for stage in ("extract", "load"):
        with run.stage(stage) as span:
            span.set(rows=3)
sys.exit(0 if lso.flush(10) else "the events were not taken")
"""


def test_a_pipeline_with_only_the_wheel_installed_is_observed(wheel: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(empty)], check=True)
    python = empty / "bin" / "python"
    install = ["install", "--no-index", "--no-deps", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    with running_service() as service:
        subprocess.run([str(python), "-I", "-c", PIPELINE, service.url], check=True, timeout=30)

        def seen() -> dict[str, int] | None:
            [system] = httpx.get(f"{service.url}/systems?name=from-the-wheel").json()["items"]
            metrics = httpx.get(f"{service.url}/systems/{system['system_id']}/metrics").json()
            return dict(metrics["event_types"]) if metrics["total"] == 2 else None

        assert wait_for(seen, "both stages are counted") == {"start": 1, "success": 2, "end": 1}
