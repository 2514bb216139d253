"""The files of sql/functions: one folder a feature, one home a function, and the rules that each function keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.local.environment import ROOT
from tests.sql_servers import Connection

FUNCTIONS = ROOT / "sql" / "functions"
FILES = sorted(FUNCTIONS.rglob("*.sql"))
DEFINITION = re.compile(r"^create or replace function ((?:lull|public)\.\w+)", re.MULTILINE)
CALL = re.compile(r"\b((?:lull|public)\.\w+)\s*\(")
LONGEST_LINE = 120
LONGEST_FUNCTION = 60
# Longer, until they are split: to be removed from here then.
STILL_LONGER: set[str] = set()
SEARCH_PATH = "search_path=pg_catalog, pg_temp"


def feature(path: Path) -> str:
    return path.parent.name


def name(path: Path) -> str:
    return path.relative_to(FUNCTIONS).as_posix()


def code(path: Path) -> str:
    """Return the file without its comments."""
    return re.sub(r"--[^\n]*", "", path.read_text())


def lengths(text: str) -> dict[str, int]:
    """Return the lines of each function, from `create` to the end of its body."""
    bodies = re.finditer(
        r"^create or replace function (\S+?)\(.*?\bas (\$\w*\$)\n.*?\2", text, re.DOTALL | re.MULTILINE
    )
    return {each[1]: each[0].count("\n") + 1 for each in bodies}


HOMES = {function: feature(path) for path in FILES for function in DEFINITION.findall(code(path))}


def test_every_function_has_one_home() -> None:
    defined = [function for path in FILES for function in DEFINITION.findall(code(path))]
    assert len(defined) > 30
    assert sorted(defined) == sorted(set(defined))
    assert not list(FUNCTIONS.glob("*.sql"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_feature_calls_only_itself_and_core(path: Path) -> None:
    called = {function for function in CALL.findall(code(path)) if function in HOMES}
    assert {each: HOMES[each] for each in called if HOMES[each] not in (feature(path), "core")} == {}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_function_has_a_comment_and_no_line_is_too_long(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE] == []
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line.startswith("create or replace function") and not before.startswith("--")
    ]
    assert bare == []


def test_a_function_can_be_read_in_one_sitting() -> None:
    files = [*FILES, ROOT / "sql" / "migration_state.sql"]
    length = {function: lines for path in files for function, lines in lengths(path.read_text()).items()}
    assert length.keys() >= HOMES.keys(), "each function was measured"
    assert {
        function: lines
        for function, lines in length.items()
        if lines > LONGEST_FUNCTION and function not in STILL_LONGER
    } == {}
    assert {function for function in STILL_LONGER if length.get(function, 0) <= LONGEST_FUNCTION} == set()


def test_every_function_of_ours_has_the_search_path_of_the_rule(undone: Connection) -> None:
    """pg_temp last: otherwise a caller's temporary type `text` would run as Lull's owner."""
    others = undone.execute(
        """
        select p.oid::regprocedure::text as function from pg_catalog.pg_proc p
        where (p.pronamespace = 'lull'::regnamespace or p.oid::regprocedure::text in (select identity from lull.objects))
          and not coalesce(p.proconfig, '{}') @> array[%s]
        """,
        (SEARCH_PATH,),
    )
    assert [row["function"] for row in others] == []


def test_operations_and_helpers_are_nowhere_else() -> None:
    for path in [*(ROOT / "sql" / "migrations").glob("*.sql"), ROOT / "sql" / "grants.sql"]:
        assert "create or replace function" not in code(path), path.name
    installed = DEFINITION.findall(code(ROOT / "sql" / "migration_state.sql"))
    assert installed == ["lull.replace_functions", "lull.retire_helpers", "lull.replace_trigger", "lull.install"]
