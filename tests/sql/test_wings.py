"""A wing's SQL calls only itself and core. A wing is a file's name up to the first underscore."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.local.environment import ROOT

FILES = sorted((ROOT / "sql" / "functions").glob("*.sql"))
DEFINITION = re.compile(r"^create or replace function ((?:lull|public)\.\w+)", re.MULTILINE)
CALL = re.compile(r"\b((?:lull|public)\.\w+)\s*\(")


def wing(path: Path) -> str:
    return path.stem.split("_")[0]


def code(path: Path) -> str:
    """Return the file without its comments."""
    return re.sub(r"--[^\n]*", "", path.read_text())


HOMES = {name: wing(path) for path in FILES for name in DEFINITION.findall(code(path))}


def test_every_function_has_one_home() -> None:
    defined = [name for path in FILES for name in DEFINITION.findall(code(path))]
    assert len(defined) > 30
    assert sorted(defined) == sorted(set(defined))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_wing_calls_only_itself_and_core(path: Path) -> None:
    called = {name for name in CALL.findall(code(path)) if name in HOMES}
    assert {name: HOMES[name] for name in called if HOMES[name] not in (wing(path), "core")} == {}


def test_operations_and_helpers_are_nowhere_else() -> None:
    for path in [*(ROOT / "sql" / "migrations").glob("*.sql"), ROOT / "sql" / "grants.sql"]:
        assert "create or replace function" not in code(path), path.name
    installed = DEFINITION.findall(code(ROOT / "sql" / "ledger.sql"))
    assert installed == ["lull.replace_functions", "lull.retire_helpers", "lull.install"]
