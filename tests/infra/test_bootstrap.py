"""`infra/bootstrap.sh`: what `make` does on a machine that has only Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.environment import ROOT

SYSTEM = "/usr/bin:/bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "infra").mkdir()
    shutil.copy(ROOT / "infra" / "bootstrap.sh", tmp_path / "infra")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    return tmp_path


def bootstrap(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "infra/bootstrap.sh", "requirements.txt"],
        cwd=checkout,
        env={"PATH": SYSTEM, "PYTHON": python, "HOME": str(checkout), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def fake_python(folder: Path, script: str) -> str:
    path = folder / "python-for-tests"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_second_call_does_nothing_and_a_changed_file_installs_again(checkout: Path) -> None:
    first = bootstrap(checkout, sys.executable)
    assert first.returncode == 0, first.stderr
    assert "making .venv" in first.stderr
    assert "installing requirements.txt" in first.stderr
    assert bootstrap(checkout, sys.executable).stderr == ""
    (checkout / "requirements.txt").write_text("# nothing else\n")
    again = bootstrap(checkout, sys.executable).stderr
    assert "installing requirements.txt" in again
    assert "making .venv" not in again


def test_without_a_recent_python_it_says_what_to_install(checkout: Path) -> None:
    old = fake_python(checkout, "exit 1")
    done = bootstrap(checkout, old)
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="as root it installs the package instead of naming it")
def test_without_ensurepip_it_names_the_package(checkout: Path) -> None:
    script = f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"'
    done = bootstrap(checkout, fake_python(checkout, script))
    assert done.returncode == 1
    assert "apt-get install python3." in done.stderr


def test_a_broken_environment_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/gone/python3")
    assert "making .venv" in bootstrap(checkout, sys.executable).stderr
