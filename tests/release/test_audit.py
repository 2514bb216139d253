"""The packages that Lull names: pinned exactly, without conflicts, without known vulnerabilities."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

from infra.local.environment import ROOT
from tests.release.vercel_build import find_uv

FILES = [
    ROOT / "requirements.txt",
    *sorted(ROOT.glob("infra/**/requirements.txt")),
    ROOT / "tests/requirements.txt",
    ROOT / "tests/release/requirements.txt",
]
# Installed by `make bench`, and in folders of their own by the tests that use them.
OTHERS = [ROOT / "tests/bench/requirements.txt", *sorted(ROOT.glob("tests/release/*-tools.txt"))]
# With hashes of each package: what these require is in them, too.
LOCKS = [ROOT / "requirements.txt", ROOT / "infra/requirements.txt"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(\[[a-z0-9,-]+\])?==([0-9][A-Za-z0-9.!+]*)( *;.+)?$")
# Python's own, not chosen here.
INSTALLERS = {"pip", "setuptools", "wheel"}
Found = dict[str, dict[str, object]]


def lines_of(file: Path) -> list[str]:
    """A file's requirements, without comments."""
    bare = [re.sub(r"(^|\s)#.*|\s*\\$", "", line).strip() for line in file.read_text().splitlines()]
    return [line for line in bare if line and not line.startswith("--hash=")]


@pytest.mark.parametrize("file", [*FILES, *OTHERS], ids=lambda file: str(file.relative_to(ROOT)))
def test_every_requirement_is_pinned_exactly(file: Path) -> None:
    assert [line for line in lines_of(file) if not PIN.match(line)] == []


def test_a_package_is_pinned_once_and_installed_as_pinned() -> None:
    pins: dict[str, str] = {}
    for line in (line for file in FILES for line in lines_of(file)):
        found = PIN.match(line)
        assert found is not None, line
        name, _, pinned, marker = found.groups()
        assert pins.setdefault(name, pinned) == pinned, f"{name} stands twice"
        assert marker or version(name) == pinned, f"{name}: make release-check installs it"


def test_no_file_of_requirements_is_forgotten_here() -> None:
    found = [*ROOT.glob("requirements.txt"), *ROOT.glob("[it]*/**/requirements.txt")]
    assert set(found) <= {*FILES, *OTHERS}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_lock_is_whole_and_installs_by_its_hashes_alone(lock: Path) -> None:
    """pip would look up what the lock lacks, and refuses it: it has no hash."""
    looking = ["install", "-q", "--dry-run", "--ignore-installed", "--disable-pip-version-check", "--require-hashes"]
    command = [sys.executable, "-m", "pip", *looking, "-r", str(lock)]
    asked = subprocess.run(command, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr


@pytest.mark.timeout(300)
def test_the_locks_are_what_make_lock_writes(tmp_path: Path) -> None:
    for name in ("infra/lock.sh", "infra/requirements.in", "infra/local.in", "requirements.txt", "infra/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/uv").symlink_to(find_uv())
    done = subprocess.run(["sh", "infra/lock.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for lock in LOCKS:
        assert (tmp_path / lock.relative_to(ROOT)).read_text() == lock.read_text(), "run `make lock`"


def warnings_about(*pins: str) -> str:
    """What pip says of these releases when it looks them up, and installs nothing."""
    looking = ["install", "-q", "--dry-run", "--ignore-installed", "--no-deps", "--disable-pip-version-check"]
    asked = subprocess.run([sys.executable, "-m", "pip", *looking, *pins], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    return asked.stderr


@pytest.mark.timeout(300)
def test_no_pinned_release_was_withdrawn() -> None:
    """The package index says which releases their makers have taken back, and pip warns of them."""
    assert "yanked" in warnings_about("attrs==21.1.0")
    pins = [
        f"{found[1]}=={found[3]}" for file in FILES for line in lines_of(file) if (found := PIN.match(line))
    ]
    assert "yanked" not in warnings_about(*pins)


def test_nothing_that_is_installed_conflicts() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def audit(folder: Path, packages: dict[str, str]) -> Found:
    """Ask the advisory service about these packages; what it says, by name. Skips where it is not reached."""
    (folder / "packages.txt").write_text("".join(f"{name}=={pinned}\n" for name, pinned in packages.items()))
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "-r",
        str(folder / "packages.txt"),
        "--no-deps",
        "--disable-pip",
    ]
    quietly = ["--format", "json", "--progress-spinner", "off", "--timeout", "20"]
    done = subprocess.run([*command, *quietly], capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.skip(f"vulnerabilities: unreachable: {done.stderr.strip().splitlines()[-1]}")
    return {package["name"]: package for package in answer["dependencies"]}


@pytest.mark.timeout(300)
def test_no_installed_package_has_a_known_vulnerability(tmp_path: Path) -> None:
    """Transitive ones included. A package that the service does not know was not audited: that is no pass."""
    installed = {each.metadata["Name"].lower(): each.version for each in distributions()}
    packages = {name: pinned for name, pinned in sorted(installed.items()) if name not in INSTALLERS}
    # One question first: a package index that is no advisory service answers 404 to every one.
    if "skip_reason" in audit(tmp_path, {"httpx": packages["httpx"]})["httpx"]:
        pytest.skip("vulnerabilities: unreachable: the package index in use is no advisory service")
    found = audit(tmp_path, packages)
    unknown = sorted(name for name, package in found.items() if "skip_reason" in package)
    assert unknown == [], "not audited"
    assert {name: package["vulns"] for name, package in found.items() if package["vulns"]} == {}
