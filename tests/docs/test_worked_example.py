"""The feature of docs/CONTRIBUTING.md, built from the page's own blocks in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.environment import ROOT
from tests.docs.worked_example import build, named_blocks

LONGEST = 45
COPIED = ("api", "infra", "sql", "tests", "docs")
CONFIGURATION = (".importlinter", ".ruff.toml", ".mypy.ini", ".pytest.ini", ".env.example", "vercel.json", "Makefile")
RULES = (
    "tests/sql/test_features.py::test_a_feature_calls_only_itself_and_core[keep_alive/keep_alive.sql]",
    "tests/sql/test_features.py::test_each_function_has_a_comment_and_no_line_is_too_long[keep_alive/keep_alive.sql]",
    "tests/api/test_cold_start.py::test_each_address_of_the_document_opens_exactly_one_feature",
)
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with the feature in it."""
    tree = tmp_path_factory.mktemp("example") / "lull"
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in CONFIGURATION:
        shutil.copy(ROOT / name, tree / name)
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", tree / ".mypy_cache")  # saves mypy 20 s
    build(tree)
    return tree


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the tree, whose packages come first."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=110,
    )


def check(tree: Path, *arguments: str) -> str:
    """Run Python in the tree; it must succeed."""
    done = run(tree, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_has_at_most_45_lines_and_changes_two_lines_of_other_files() -> None:
    blocks = named_blocks()
    feature = {path: text for path, (_, text) in blocks.items() if path.startswith(("api/keep_alive/", "sql/"))}
    assert len(feature) == 3
    assert sum(len(text.strip().splitlines()) for text in feature.values()) <= LONGEST
    changes = {path: re.findall(r"^\+", text, re.MULTILINE) for path, (kind, text) in blocks.items() if kind == "diff"}
    assert changes == {"api/features.py": ["+"], ".importlinter": ["+"]}


def test_it_is_migrated_called_and_keeps_the_rules(tree: Path) -> None:
    said = check(tree, "-m", "pytest", "-q", "-n", "0", "tests/keep_alive", *RULES)
    assert " passed" in said and "failed" not in said


def test_it_passes_lint_and_its_route_gets_into_the_page_of_the_api(tree: Path) -> None:
    check(tree, "-m", "ruff", "check", "api", "tests/keep_alive")
    check(tree, "-m", "mypy", "--strict", "--explicit-package-bases", "api/keep_alive", "tests/keep_alive")
    check(tree, "-c", LINT_IMPORTS)
    check(tree, "-m", "infra", "api-docs")
    assert "### POST /api/sessions/{id}/keep-alive" in (tree / "docs" / "api.md").read_text()


@pytest.mark.parametrize(
    ("path", "before", "after", "fault"),
    [
        (
            "api/keep_alive/routes.py",
            "router =",
            "import api.sessions.schemas\n\nrouter =",
            "api.keep_alive is not allowed to import api.sessions",
        ),
        (".importlinter", " | keep_alive", "", "The following modules are not listed as layers:\n\n- api.keep_alive"),
    ],
    ids=["imports another feature", "is not listed"],
)
def test_it_fails_lint_when_it_breaks_the_rules(tree: Path, path: str, before: str, after: str, fault: str) -> None:
    file = tree / path
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    try:
        done = run(tree, "-c", LINT_IMPORTS)
    finally:
        file.write_text(text)
    assert done.returncode == 1
    assert fault in done.stdout
