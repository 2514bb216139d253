"""What the tests of the AWS deployment share: an interpreter, the bundle for this machine, and an emulator."""

import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra.aws.package import package
from infra.local.stack import LocalSupabase
from tests.release.aws_emulator import Aws, running_emulator
from tests.release.aws_tools import ARCHITECTURE, Python, python_of_the_bundle
from tests.sql.driver import stored

Note = Callable[[str], None]
NOTES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def note(pytestconfig: pytest.Config) -> Note:
    """Say something at the end of the run that its reader should know: what was measured, or left unrun."""
    return pytestconfig.stash.setdefault(NOTES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the notes below the results."""
    for said in config.stash.get(NOTES, []):
        terminalreporter.section("note")
        terminalreporter.write_line(said)


@dataclass(frozen=True)
class Bundle:
    """The bundle as a zip, unpacked as Lambda unpacks it, and what building it said."""

    python: Python
    zip: Path
    folder: Path
    described: str


@pytest.fixture(scope="module")
def shipped_policies(running_stack: LocalSupabase) -> Iterator[None]:
    """The database has the policies that a deployment ships: a run refuses others. The tests' own come back."""
    with (
        psycopg.connect(running_stack.database_url, autocommit=True, row_factory=dict_row) as connection,
        stored(connection, load_policies(Settings())),
    ):
        yield


@pytest.fixture(scope="session")
def aws_python() -> Python:
    """The interpreter for which the bundle is built and run."""
    return python_of_the_bundle()


@pytest.fixture(scope="session")
def bundle(aws_python: Python, tmp_path_factory: pytest.TempPathFactory, note: Note) -> Bundle:
    """The bundle for this machine's processor."""
    if sys.platform != "linux":
        pytest.skip("the bundle's wheels are for Linux: they cannot run on this system")
    folder = tmp_path_factory.mktemp("bundle")
    described = package(ARCHITECTURE, aws_python.version, folder / "lull.zip", os.environ)
    note(described)
    with zipfile.ZipFile(folder / "lull.zip") as packed:
        packed.extractall(folder / "task")
    return Bundle(aws_python, folder / "lull.zip", folder / "task", described)


@pytest.fixture(scope="session")
def emulator(aws_python: Python, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """A running ministack."""
    with running_emulator(aws_python, tmp_path_factory.mktemp("ministack")) as aws:
        yield aws
