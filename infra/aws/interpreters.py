"""Find an interpreter on this machine with the Python version of a Lambda runtime."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


def find_interpreter(version: str, environ: Mapping[str, str], *, with_pip: bool = False) -> Path | None:
    """Return an interpreter of this version, such as 3.13; None when there is none that starts."""
    for candidate in _candidates(version, environ):
        if _is(candidate, version, with_pip=with_pip):
            return candidate
    return None


def _candidates(version: str, environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(sys.executable)
    found = shutil.which(f"python{version}", path=environ.get("PATH"))
    if found:
        yield Path(found)
    # pyenv's shims on PATH refuse to start a version that is not selected
    pyenv = Path(environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def _is(candidate: Path, version: str, *, with_pip: bool) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])" + ("; import pip" if with_pip else "")
    try:
        asked = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and asked.stdout.strip() == version
