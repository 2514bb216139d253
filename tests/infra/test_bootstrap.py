"""`infra/bootstrap.sh`: what `make` does on a machine that has only Python."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.environment import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "infra").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "infra" / "bootstrap.sh", tmp_path / "infra")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    return tmp_path


def bootstrap(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "infra/bootstrap.sh", "requirements.txt"],
        cwd=checkout,
        env={
            "PATH": f"{checkout}/bin:/usr/bin:/bin",
            "PYTHON": python,
            "HOME": str(checkout),
            "PIP_NO_INDEX": "1",
        },
        capture_output=True,
        text=True,
        timeout=100,
    )


def fake(checkout: Path, name: str, script: str) -> str:
    """Put a program before those of the system on the PATH of `bootstrap`."""
    path = checkout / "bin" / name
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
    old = fake(checkout, "python", "exit 1")
    done = bootstrap(checkout, old)
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr


NO_ENSUREPIP = 'case "$2" in *ensurepip*) test -e "$0.installed" || exit 1;; esac; exec {python} "$@"'
APT_GET = 'echo "$@" >> "$0.log"; touch {python}.installed'


@pytest.mark.parametrize("user", ["0", "1000"], ids=["root", "ordinary user"])
def test_debians_package_for_environments_is_installed_or_named(checkout: Path, user: str) -> None:
    python = fake(checkout, "python", NO_ENSUREPIP.format(python=sys.executable))
    apt_get = fake(checkout, "apt-get", APT_GET.format(python=python))
    fake(checkout, "id", f"echo {user}")
    done = bootstrap(checkout, python)
    package = f"python3.{sys.version_info.minor}-venv"
    if user == "0":
        assert done.returncode == 0, done.stderr
        assert package in Path(f"{apt_get}.log").read_text()
    else:
        assert done.returncode == 1
        assert f"apt-get install {package}" in done.stderr
        assert not Path(f"{apt_get}.log").exists()


def test_a_broken_environment_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/gone/python3")
    assert "making .venv" in bootstrap(checkout, sys.executable).stderr
