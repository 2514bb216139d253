"""Every command and query in docs/ is run, and answers what the page shows.

A block of a new kind, or a program that nobody knows here, fails: nothing is shown that was not tried.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra.local.environment import ROOT
from tests.calls import add_session
from tests.docs.blocks import COMMANDS, PAGES, Block, blocks_of, check_json, check_lines, check_table
from tests.docs.programs import RUN, not_run
from tests.docs.worked_example import named_blocks
from tests.policies import FILE


def name(path: Path) -> str:
    """The page's path below docs/."""
    return path.relative_to(ROOT / "docs").as_posix().removesuffix(".md")


def pages_with(*kinds: str) -> pytest.MarkDecorator:
    """The pages that have a block of one of these kinds."""
    pages = [path for path in PAGES if any(block.kind in kinds for block in blocks_of(path))]
    return pytest.mark.parametrize("path", pages, ids=name)


each_page = pytest.mark.parametrize("path", PAGES, ids=name)
IN_ORDER = {"scaling", "own-tables", "runbook"}  # pages whose blocks build on one another: a test of their own runs them

# What a reader puts into a variable, by its place in an answer.
REMEMBERED = {
    "ID": ("session", "id"),
    "TOKEN": ("sessionToken",),
    "FILE": ("file", "id"),
    "UPLOAD_URL": ("upload", "url"),
}


@each_page
def test_every_block_is_of_a_kind_that_is_tried(path: Path) -> None:
    for block in blocks_of(path):
        if block.kind == "":
            assert re.search("[▶─]", block.text), f"{block}: neither a drawing nor a command"
        elif block.text not in {text for _, text in named_blocks().values()}:
            kinds = COMMANDS | {"toml"} | ({"python"} if path.stem == "user-sessions" else set())
            kinds |= {"js"} if path.stem in ("own-tables", "browser") else set()
            assert block.kind in kinds, f"{block}: a block of kind {block.kind}"


@pages_with("sql")
def test_its_queries_run_and_show_what_they_show(
    path: Path, night: dict[str, str], connect: Callable[..., psycopg.Connection[DictRow]]
) -> None:
    connection = connect(autocommit=False)
    for block in blocks_of(path):
        if block.kind != "sql" or path.stem in IN_ORDER:
            continue
        query = re.sub("<[A-Za-z]+>", lambda place: night[place[0]], block.text)
        try:
            result = connection.execute(query.encode())
        except psycopg.Error as error:
            pytest.fail(f"{block}: {error}")
        while result.nextset():
            pass
        if block.shown:
            columns = [column.name for column in result.description or ()]
            check_table(block.shown.text, columns, result.rowcount, str(block.shown))
        connection.rollback()


@pages_with("sh")
def test_its_commands_run_and_answer_what_they_show(
    path: Path,
    environment: dict[str, str],
    docs_server: str,
    night: dict[str, str],
    sql: psycopg.Connection[DictRow],
    tmp_path: Path,
) -> None:
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")  # what a command writes stays out of the checkout
    known = {
        **os.environ,
        **environment,
        "API_URL": docs_server,
        "PYTHONPATH": str(ROOT),
        "MAKEFLAGS": f"PYTHON={sys.executable} SETUP=@true --no-print-directory -s",
    }
    for block in blocks_of(path):
        if block.kind != "sh" or path.stem in IN_ORDER or is_only_checked(block):
            continue
        add_session(sql, age="25 h 17 min")  # in real life, too, somebody always leaves a draft behind
        answer = run(block, known, tmp_path)
        if answer.startswith("{"):
            known |= remembered(json.JSONDecoder().raw_decode(answer)[0])


def is_only_checked(block: Block) -> bool:
    """Check a block whose commands are not run; False for one that is to be run."""
    known = [not_run(words) for words in block.programs()]
    if not any(known):
        unknown = {words[0] for words in block.programs()} - RUN
        assert not unknown, f"{block}: nobody said how {unknown} are tried (tests/docs/programs.py)"
        return False
    for words, reason in zip(block.programs(), known, strict=True):
        assert reason, f"{block}: {words} can be run, in a block of its own"
        reason.check(words)
    return True


def run(block: Block, known: dict[str, str], folder: Path) -> str:
    """Run a block as a reader would, and compare what it says with what the page shows."""
    command = ["sh", "-eu", "-c", block.text]
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, timeout=60)
    said, shown = done.stdout + done.stderr, block.shown
    assert done.returncode == 0, f"{block}: {said}"
    if shown and shown.kind == "json":
        check_json(json.loads(shown.text), json.loads(done.stdout), str(shown))
    elif shown:
        check_lines(shown.text, done.stdout, str(shown))
    else:
        assert "urn:lull:problem" not in said, f"{block}: {said}"
    return done.stdout


def remembered(answer: dict[str, object]) -> dict[str, str]:
    """The variables that a reader sets from an answer."""
    found = {}
    for name, keys in REMEMBERED.items():
        value: object = answer
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            found[name] = value
    return found


@pages_with("toml")
def test_its_policies_can_be_used(path: Path, tmp_path: Path) -> None:
    for number, block in enumerate(block for block in blocks_of(path) if block.kind == "toml"):
        file = tmp_path / f"{number}.toml"
        file.write_text(FILE.read_text() + "\n" + block.text)
        policies = load_policies(Settings(policies_file=str(file)))
        assert policies[-1].name == tomllib.loads(block.text)["policy"][-1]["name"]
