"""`vercel build`, the real one, on a copy of this checkout: no login, and nothing of the developer's own."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import nodejs, postgrest
from infra.local.environment import ROOT, home
from infra.local.errors import StackError

VERSION = "64.0.2"
# Vercel's own pin of `sandbox` names a version that was never published.
PACKAGE = {"private": True, "dependencies": {"vercel": VERSION}, "overrides": {"sandbox": "4.5.0"}}
PROJECT = {
    "projectId": "prj_lull",
    "orgId": "team_lull",
    "settings": {"framework": None},
}  # vercel.json decides
# What else lies in the folder of somebody who works with Lull; the values must never leave it.
PLANTED = "planted-secret"
PRIVATE = (
    ".env",
    ".env.local",
    ".env.production",
    ".local/dev.env",
    ".pytest_cache/README.md",
    ".idea/a.xml",
)
# The developer's settings of these tools would decide about the build.
_NOT_PASSED_ON = ("VERCEL", "NOW_", "PYTHON", "PYENV", "VIRTUAL_ENV", "UV_PROJECT", "UV_PYTHON", "CONDA")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Build:
    """What `vercel build` made."""

    folder: Path
    seconds: float
    log: str

    @property
    def output(self) -> Path:
        return self.folder / ".vercel" / "output"

    @property
    def config(self) -> dict[str, Any]:
        """Routes and crons."""
        return _read(self.output / "config.json")

    @property
    def functions(self) -> list[Path]:
        return sorted(path.parent for path in (self.output / "functions").rglob(".vc-config.json"))

    @property
    def function(self) -> dict[str, Any]:
        """The settings of the only function."""
        (function,) = self.functions
        return _read(function / ".vc-config.json")

    @property
    def python(self) -> Path:
        """The interpreter that it was built for."""
        return (self.folder / ".vercel" / "python" / ".venv" / "bin" / "python").resolve()

    def unpack(self, task: Path) -> None:
        """Put the function's files together as they lie on Vercel: those beside its settings, and those it names."""
        (function,) = self.functions
        shutil.copytree(function, task, ignore=shutil.ignore_patterns(".vc-config.json"))
        for name, source in self.function.get("filePathMap", {}).items():
            (task / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / source, task / name)


def copy_checkout(copy: Path) -> None:
    """Copy what Git knows or would add, as it is now, and plant private files beside it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():  # it may be deleted, and not yet committed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    for name in PRIVATE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(f"CRON_SECRET={PLANTED}\n")


def build(copy: Path, tools: Path, python: Path, uv: Path, report: Report) -> Build:
    """Run `vercel build --prod` in the copy; `tools` becomes the first folder of its PATH.

    Raises StackError with what it said when it fails.
    """
    node, cli = install(os.environ, report)
    tools.mkdir()
    said = subprocess.run([str(python), "-V"], check=True, capture_output=True, text=True).stdout
    minor = said.split()[1].rpartition(".")[0]
    for program, target in ((f"python{minor}", python), ("uv", uv), ("node", node)):
        (tools / program).symlink_to(target)
    (copy / ".vercel").mkdir()
    (copy / ".vercel" / "project.json").write_text(json.dumps(PROJECT))
    started = time.monotonic()
    done = subprocess.run(
        [str(node), str(cli), "build", "--prod", "--yes", "--global-config", str(tools / "login")],
        cwd=copy,
        env=_environment(os.environ, tools),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise StackError(f"`vercel build` failed:\n{done.stdout}")
    return Build(copy, time.monotonic() - started, done.stdout)


def install(environ: Mapping[str, str], report: Report) -> tuple[Path, Path]:
    """Return Node.js and Vercel's command; the command is fetched once and kept beside PostgREST."""
    npm = _recent_npm(environ, report)
    node = shutil.which("node", path=npm.environ["PATH"])
    assert node is not None
    installed = postgrest.cache_folder(home(environ)) / f"vercel@{VERSION}"
    if not installed.exists():
        report(f"npm: fetching vercel@{VERSION} (160 MB on disk, once) …")
        draft = installed.with_name(f"{installed.name}.{os.getpid()}")
        draft.mkdir(parents=True)
        (draft / "package.json").write_text(json.dumps(PACKAGE))
        how = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(
                [*npm.command, "install", *how], cwd=draft, env=npm.environ, capture_output=True, text=True
            )
            if done.returncode != 0:
                raise StackError(f"npm could not fetch vercel@{VERSION}:\n{done.stdout}{done.stderr}")
            if not installed.exists():  # somebody else may have been faster
                draft.rename(installed)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return Path(node), installed / "node_modules" / "vercel" / "dist" / "vc.js"


def find_uv() -> Path:
    """Return uv: the one of this Python environment, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise StackError("uv is missing: pip install -r tests/release/requirements.txt")
    return Path(found)


def _recent_npm(environ: Mapping[str, str], report: Report) -> nodejs.Npm:
    """The npm on PATH when its Node.js is one that Vercel's command runs on, else the one from PyPI."""
    node = shutil.which("node", path=environ.get("PATH"))
    if node is not None:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
        if int(version.removeprefix("v").split(".")[0] or 0) >= 20:
            return nodejs.find_npm(environ, report)
    return nodejs.find_npm({**environ, "PATH": ""}, report)


def _environment(environ: Mapping[str, str], tools: Path) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_PASSED_ON)}
    if sys.platform == "linux" and platform.machine() == "aarch64":
        kept["VERCEL_BUILD_ARCH"] = "aarch64"  # so that the function runs here
    return kept | {
        "PATH": os.pathsep.join((str(tools), "/usr/bin", "/bin")),
        "NO_UPDATE_NOTIFIER": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "VERCEL_TELEMETRY_DISABLED": "1",
    }


def _read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    assert isinstance(content, dict)
    return content
