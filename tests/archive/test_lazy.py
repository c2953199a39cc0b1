"""Who does not use the archive does not pay for it."""

import subprocess
import sys


def test_its_packages_are_loaded_when_they_are_used() -> None:
    program = (
        "import sys, api.app, worker.main; from lso_core.archive.files import find_files; from lso_core.settings import Settings;"
        "find_files(Settings()); print([name for name in ('duckdb', 'obstore', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "[]\n" == done.stdout


def test_without_its_packages_the_archive_is_off() -> None:
    program = (
        "import sys; from importlib import util; found = util.find_spec;"
        "util.find_spec = lambda name, *more: None if name == 'duckdb' else found(name, *more);"
        "from lso_core.archive.files import possible; from lso_core.settings import Settings; print(possible(Settings()).archive);"
        "possible(Settings(archive='required'))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "archive.off" in done.stdout
    assert done.stdout.endswith("\noff\n")
    assert "LSO_ARCHIVE=required needs duckdb" in done.stderr
