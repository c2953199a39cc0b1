"""What the command line costs to import, and completion."""

import subprocess
import sys

from lso_core.cli.lazy import COMMANDS
from tests.cli.conftest import RunLso, environ
from tests.e2e.service import Service

HEAVY = ("litestar", "redis", "msgspec", "numpy", "uvicorn", "arq", "structlog", "lso_core.settings", "lso_core.store")


def python(program: str, url: str = "") -> str:
    """What a Python program prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environ(url), capture_output=True, text=True, check=True, timeout=30).stdout


def test_importing_the_commands_brings_no_server_package() -> None:
    modules = ["lso_core.cli.app", *(place.partition(":")[0] for place in COMMANDS.values())]
    assert "[]\n" == python(f"import sys, {', '.join(modules)}; print([n for n in {HEAVY!r} if n in sys.modules])")


def test_listing_the_commands_brings_no_network_module() -> None:
    program = "import sys; from lso_core.cli.app import run; run(['--version']); print('http.client' in sys.modules)"
    assert "False" == python(program).splitlines()[-1]


def test_what_starts_the_service_loads_neither_numpy_nor_the_demo() -> None:
    """Nothing starts before it is loaded, and they would take as long as all the rest."""
    others = ("numpy", "lso_core.cli.demo")
    program = f"import sys, lso_core.cli.supervisor; print([n for n in {others!r} if n in sys.modules])"
    assert "[]\n" == python(program)


def test_every_command_works_where_no_server_package_is_installed(service: Service, lso: RunLso, name: str) -> None:
    lso("systems", "add", name)
    commands = (("systems", "list"), ("health", name), ("tail", name, "--no-follow"), ("top", "--json"),
                ("emit", "-s", name, "--type", "log"), ("run", "-s", name, "--", "true"))  # fmt: skip
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY[:7]!r})); from lso_core.cli.app import run"
    said = python(f"{blocked}; print([run([*words]) for words in {commands!r}])", service.url)
    assert "[0, 0, 0, 0, 0, 0]" == said.splitlines()[-1]


def test_every_command_is_listed_and_has_help(lso: RunLso) -> None:
    listed = lso("--help").stdout
    assert [] == [name for name in COMMANDS if name not in listed]
    assert "where LSO is [LSO_URL" in " ".join(lso("tail", "--help").stdout.replace("│", " ").split())


def test_the_shell_completes_commands_and_systems(lso: RunLso, name: str) -> None:
    lso("systems", "add", name)
    commands = lso(_LSO_COMPLETE="bash_complete", COMP_WORDS="lso he", COMP_CWORD="1")
    systems = lso(_LSO_COMPLETE="bash_complete", COMP_WORDS=f"lso health {name[:9]}", COMP_CWORD="2")
    assert "plain,health\n" == commands.stdout
    assert f"plain,{name}" in systems.stdout.splitlines()
