"""This release and the one before it: each a tree with its own migration and its own API process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api import __version__
from infra.local import ports
from infra.local.environment import ROOT, for_children
from infra.local.stack import start_api

VERSION, COMMIT = Path(__file__).with_name("previous.txt").read_text().split()


@dataclass(frozen=True)
class Release:
    """A tree of Lull, and the interpreter of an environment with what it requires."""

    tree: Path
    version: str
    python: str

    def migrate(self, database_url: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m infra migrate` as an operator of that release does."""
        environ = for_children(os.environ) | {"DATABASE_URL": database_url}
        command = [self.python, "-m", "infra", "migrate"]
        return subprocess.run(command, cwd=self.tree, env=environ, capture_output=True, text=True)

    @contextmanager
    def serving(self, settings: Mapping[str, str], log: Path) -> Iterator[httpx.Client]:
        """Give a client of its API, which runs while the block lasts."""
        port = ports.find_free()
        child = start_api(settings, port, environ=os.environ, log=log, tree=self.tree, python=self.python)
        try:
            with httpx.Client(base_url=f"http://{ports.HOST}:{port}", timeout=60, trust_env=False) as client:
                yield client
        finally:
            child.stop()


def this_release() -> Release:
    """The release in this checkout."""
    return Release(ROOT, __version__, sys.executable)


def previous_release(folder: Path) -> Release:
    """The release before it, taken from the history into a folder and installed there as its README says.

    It gets an environment of its own: this release need not require what that one did. The test is skipped where
    the history is missing.
    """
    archived = _git("archive", COMMIT)
    if archived.returncode != 0:
        _do_without(archived.stderr.decode(errors="replace").strip())
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archived.stdout, check=True)
    install = ["sh", "infra/bootstrap.sh", "requirements.txt", "infra/requirements.txt"]
    installed = subprocess.run(
        install, cwd=folder, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert installed.returncode == 0, installed.stderr
    return Release(folder, VERSION, str(folder / ".venv/bin/python"))


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        # Of this checkout only: a downloaded archive may lie within somebody else's repository.
        environ = os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)}
        return subprocess.run(["git", "-C", str(ROOT), *arguments], env=environ, capture_output=True)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, b"", b"git is not installed")


def _do_without(reason: str) -> None:
    sentence = f"release {VERSION} (commit {COMMIT[:7]}) cannot be read from the history: {reason}."
    shallow = _git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true"
    if shallow:
        sentence += " This clone is shallow: git fetch --unshallow (actions/checkout: fetch-depth: 0)."
    # Who checks out for CI can have the history; a green run without the test would say too much.
    (pytest.fail if shallow and os.environ.get("CI") else pytest.skip)(sentence)
