"""A Python that Vercel runs, wherever this machine has one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# Vercel's own order: its default, then the newest.
VERSIONS = ((3, 12), (3, 14), (3, 13))
_WHO_ARE_YOU = "import os, sys; print(*sys.version_info[:2], os.path.realpath(sys.executable))"


def find_python(environ: Mapping[str, str], uv: Path) -> Path | None:
    """Return the interpreter that suits Vercel best, or None; one that does not really run does not count."""
    found: dict[tuple[int, int], Path] = {}
    for candidate in _candidates(environ, uv):
        known = _ask(candidate)
        if known is not None:
            found.setdefault(*known)
            if known[0] == VERSIONS[0]:
                break
    return next((found[version] for version in VERSIONS if version in found), None)


def _candidates(environ: Mapping[str, str], uv: Path) -> Iterator[Path]:
    yield Path(sys.executable)
    for major, minor in VERSIONS:
        for folder in environ.get("PATH", "").split(os.pathsep):
            if program := shutil.which(f"python{major}.{minor}", path=folder):
                yield Path(program)
        pyenv = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        yield from sorted(pyenv.glob(f"versions/{major}.{minor}*/bin/python{major}.{minor}"), reverse=True)
    listing = [str(uv), "python", "list", "--only-installed", "--output-format", "json"]
    listed = subprocess.run(listing, capture_output=True, text=True, timeout=60)
    if listed.returncode == 0:
        yield from (Path(python["path"]) for python in json.loads(listed.stdout))


def _ask(candidate: Path) -> tuple[tuple[int, int], Path] | None:
    try:
        said = subprocess.run(
            [str(candidate), "-I", "-c", _WHO_ARE_YOU], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if said.returncode != 0:  # a shim of a version manager that has nothing behind it
        return None
    major, minor, path = said.stdout.strip().split(" ", 2)
    return (int(major), int(minor)), Path(path)
