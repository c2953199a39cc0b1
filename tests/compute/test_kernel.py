"""Compiling the kernels where LSO is installed, and doing without them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lso_core.compute import kernel, native
from lso_core.compute.native import build
from scripts import _venv

ROOT = Path(__file__).resolve().parents[2]
ONE = 'int lso_number(void);\n__attribute__((visibility("default"))) int lso_number(void) { return 1; }\n'
ALONE = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
NUMBER = "import ctypes; print(ctypes.CDLL(sys.argv[1]).lso_number())"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sources of one function."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "number.c").write_text(ONE)
    return sources


def number(library: Path) -> str:
    return subprocess.run([sys.executable, "-c", "import sys; " + NUMBER, library], check=True, capture_output=True,
                          text=True).stdout.strip()  # fmt: skip


def built(prefix: Path) -> list[Path]:
    return sorted((prefix / "lib").glob("*"))


def test_it_is_compiled_once(folder: Path, tmp_path: Path) -> None:
    assert build.ensure(tmp_path / "venv", folder)
    library = native.library(tmp_path / "venv", folder)
    assert "1" == number(library)
    assert not build.ensure(tmp_path / "venv", folder)
    assert [library] == built(tmp_path / "venv")


def test_what_other_sources_gave_is_compiled_anew_and_removed(folder: Path, tmp_path: Path) -> None:
    build.ensure(tmp_path / "venv", folder)
    before = native.library(tmp_path / "venv", folder)
    (folder / "number.c").write_text(ONE.replace("return 1", "return 2"))
    assert build.ensure(tmp_path / "venv", folder)
    after = native.library(tmp_path / "venv", folder)
    assert before != after
    assert [after] == built(tmp_path / "venv")
    assert "2" == number(after)


def test_a_changed_header_counts_as_a_changed_source(folder: Path, tmp_path: Path) -> None:
    before = native.library(tmp_path, folder)
    (folder / "number.h").write_text("/* */\n")
    assert before != native.library(tmp_path, folder)


def test_source_that_does_not_compile_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (folder / "number.c").write_text("int lso_number(void) { return many; }\n")
    with pytest.raises(build.NotBuiltError, match=r"failed: .*error.*many"):
        build.ensure(tmp_path / "venv", folder)
    assert [] == built(tmp_path / "venv")


def test_a_compiler_that_makes_no_library_is_no_compiler(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    cc = tools / "cc"
    cc.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho nothing > "$2"\n')
    cc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin")
    with pytest.raises(build.NotBuiltError, match="cannot be loaded"):
        build.ensure(tmp_path / "venv", folder)
    assert [] == built(tmp_path / "venv")


def test_a_machine_without_a_compiler_is_told_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.NotBuiltError, match=r"there is no C compiler on the PATH \(cc, gcc, clang\)"):
        build.ensure(tmp_path / "venv", folder)


def test_a_place_that_cannot_be_written_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "venv").write_text("a file")
    with pytest.raises(build.NotBuiltError, match="cannot be written"):
        build.ensure(tmp_path / "venv", folder)


def test_installations_at_the_same_time_end_with_one_whole_library(folder: Path, tmp_path: Path) -> None:
    """scripts/_venv.py lets one in at a time; this is the one who had no lock."""
    command = f"{ALONE}from pathlib import Path; from lso_core.compute.native import build; build.ensure(Path({str(tmp_path / 'venv')!r}), Path({str(folder)!r}))"
    running = [subprocess.Popen([sys.executable, "-I", "-c", command]) for _ in range(3)]
    assert [0, 0, 0] == [one.wait(60) for one in running]
    assert [native.library(tmp_path / "venv", folder)] == built(tmp_path / "venv")


def test_this_environment_has_the_kernels_of_this_checkout() -> None:
    if not any(map(shutil.which, build.COMPILERS)):
        pytest.skip(build.NO_COMPILER)
    assert kernel.trouble() is None


def test_without_a_library_nothing_fails(tmp_path: Path) -> None:
    code = "from lso_core.compute import kernel; print(kernel.function('lso_time_ms', result=None)); print(kernel.trouble())"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    lone = f"import sys; sys.prefix = {str(tmp_path)!r}; {code}"
    done = subprocess.run([sys.executable, "-c", lone], check=True, capture_output=True, text=True, env=environ)
    assert f"None\nthe kernels of this release were not compiled into {tmp_path}\n" == done.stdout


def test_what_installs_says_in_a_sentence_that_there_is_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _venv._compile(tmp_path)
    said = "LSO works, but takes events in more slowly than it could: there is no C compiler on the PATH (cc, gcc, clang).\n"
    assert said == capsys.readouterr().err
