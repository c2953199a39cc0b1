"""The command line: light to import, its options from the settings, its errors one sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lso_core import __version__
from lso_core.cli.options import as_env_file, as_markdown
from lso_core.settings import OTHER_VARIABLES, field_docs

OF_TESTS = {"LSO_TEST_REDIS"}
ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"arq", "hdrh", "litestar", "lz4", "msgspec", "numpy", "redis", "structlog", "uvicorn"}


def lso(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`lso ARGUMENTS` as a process of its own, in a terminal wide enough not to wrap."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("LSO_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "lso_core.cli.lso", *arguments],
        env={**environ, "PYTHONPATH": str(ROOT), "COLUMNS": "250", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter that ran `code`."""
    program = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}}, file=sys.stderr)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_the_command_line_loads_no_server_and_no_rich() -> None:
    assert loaded_by("import lso_core.cli") & (HEAVY | {"rich", "rich_click", "click"}) == set()


def test_its_help_loads_no_server() -> None:
    assert loaded_by("from lso_core.cli.app import run; run(['--help'])") & HEAVY == set()


def test_the_example_of_variables_is_what_the_settings_say() -> None:
    assert as_env_file() == (ROOT / ".env.example").read_text()
    assert as_env_file() == lso("config").stdout
    assert as_markdown() == lso("config", "--markdown").stdout


def test_the_table_in_the_documentation_is_what_the_settings_say() -> None:
    rows = as_markdown().splitlines()[2:]
    assert [field.variable for field in field_docs()] == [row.split("`")[1] for row in rows]
    assert as_markdown() in (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("file", ["README.md", "Dockerfile", "compose.yaml", "scripts/up", "docs/operations.md"])
def test_no_file_names_a_variable_that_there_is_not(file: str) -> None:
    named = set(re.findall(r"\bLSO_[A-Z_]+\b", (ROOT / file).read_text()))
    assert named - {field.variable for field in field_docs()} - OTHER_VARIABLES - OF_TESTS == set()


def test_help_names_every_option_with_its_variable_and_default() -> None:
    text = " ".join(lso("up", "--help").stdout.split())
    for field in field_docs():
        assert (f"{field.option} " in text) == field.doc.option
        assert (f"[{field.variable}" in text) == field.doc.option
    assert "[LSO_PORT, default 8000]" in text


def test_the_version_is_the_packages() -> None:
    assert lso("--version").stdout == f"lso {__version__}\n"


@pytest.mark.parametrize("command", ["up", "api", "worker"])
def test_a_wrong_option_is_refused_in_one_sentence(command: str) -> None:
    done = lso(command, "--port", "99999")
    assert (done.returncode, done.stderr) == (2, "lso: --port must be a whole number from 0 to 65535, not 99999\n")


@pytest.mark.parametrize("command", ["up", "api", "worker"])
def test_a_wrong_variable_is_refused_in_one_sentence(command: str) -> None:
    done = lso(command, LSO_WINDOW_SECONDS="5")
    assert done.returncode == 2
    assert done.stderr == "lso: LSO_WINDOW_SECONDS must be a whole number from 60 to 3600, not 5\n"


def test_an_unknown_option_or_command_is_refused_without_a_traceback() -> None:
    for arguments in (["up", "--prot", "1"], ["upp"]):
        done = lso(*arguments)
        assert done.returncode == 2
        assert "No such" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_process_alone_wants_to_know_its_redis(command: str) -> None:
    done = lso(command)
    assert done.returncode == 2
    assert done.stderr == "lso: LSO_REDIS_URL is not set; it names the Redis to use (`lso up` brings one along)\n"
