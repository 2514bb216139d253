"""Node.js and the packages of the contenders that run on it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.local import nodejs, postgrest

CONTENDERS = Path(__file__).parent / "contenders"
_OLDEST = 22  # that supabase-js runs on


@dataclass(frozen=True)
class Node:
    """How to run a contender's script."""

    binary: str
    scripts: Path

    def command(self, script: str) -> list[str]:
        """The command of one of the scripts in contenders/."""
        return [self.binary, str(self.scripts / script)]

    def version(self) -> str:
        return _version(self.binary)


def find_node(home: Path) -> Node:
    """Return Node.js with the contenders' packages beside their scripts, installed once."""
    environ = dict(os.environ)
    on_path = shutil.which("node")
    if on_path is None or int(_version(on_path).split(".")[0]) < _OLDEST:
        # the search for npm shall not find the one of a Node.js that is too old
        environ["PATH"] = os.pathsep.join(
            folder for folder in environ.get("PATH", "").split(os.pathsep) if not (Path(folder) / "node").exists()
        )
    npm = nodejs.find_npm(environ, print)
    binary = shutil.which("node", path=npm.environ.get("PATH"))
    assert binary is not None
    folder = postgrest.cache_folder(home) / "bench-npm"
    nodejs.ensure_packages(npm, folder, (CONTENDERS / "package.json").read_text(), print)
    for script in CONTENDERS.glob("*.mjs"):
        shutil.copy(script, folder)
    return Node(binary, folder)


def _version(binary: str) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return said.strip().removeprefix("v")
