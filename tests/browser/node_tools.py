"""npm's packages of the browser tests (package.json beside this file), and what is made of lull.js with them."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.local import nodejs, postgrest
from infra.local.environment import ROOT, home

CLIENTS = ROOT / "api" / "clients"
SOURCE = CLIENTS / "lull.js"
MINIFIED, TYPES = CLIENTS / "_lull.min.js", CLIENTS / "lull.d.ts"
BANNER = "/* Lull in a browser: https and a browser of 2024 or newer. Readable, with its types: api/clients/lull.js. MIT. */"


@dataclass(frozen=True)
class Tools:
    """Node.js, and the folder of the packages."""

    node: str
    environ: dict[str, str]
    packages: Path

    def run(self, *command: str) -> str:
        """What a script of a package prints. Raises AssertionError with its output when it fails."""
        script = str(self.packages / command[0])
        done = subprocess.run(
            [self.node, script, *command[1:]], env=self.environ, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@cache
def tools() -> Tools:
    """The packages, fetched once."""
    npm = nodejs.find_npm(os.environ, print)
    node = shutil.which("node", path=npm.environ.get("PATH"))
    assert node is not None
    folder = postgrest.cache_folder(home(os.environ)) / "browser-npm"
    wanted = Path(__file__).with_name("package.json").read_text()
    return Tools(node, npm.environ, nodejs.ensure_packages(npm, folder, wanted, print))


def minified() -> str:
    """lull.js as it is served."""
    how = ("--minify", "--format=esm", "--target=es2022", "--log-level=warning", f"--banner:js={BANNER}")
    return tools().run("esbuild/bin/esbuild", str(SOURCE), *how)


def declared(folder: Path) -> str:
    """The types of lull.js, written by TypeScript's compiler, which checks the file by its strictest rules."""
    how = ("--allowJs", "--checkJs", "--strict", "--target", "es2024", "--module", "esnext")
    libraries = ("--lib", "es2024,dom,dom.iterable", "--types", "")
    emit = ("--declaration", "--emitDeclarationOnly", "--outDir", str(folder))
    tools().run("typescript/bin/tsc", *how, *libraries, *emit, str(SOURCE))
    return (folder / TYPES.name).read_text()
