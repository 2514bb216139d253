"""The process environment: read at the entry points and passed on as an argument, and rewritten nowhere."""

import ast
from pathlib import Path

from infra.local.environment import ROOT

ENTRY_POINTS = {
    "api/index.py",
    "api/cold_start.py",
    "api/telemetry.py",  # variables of OpenTelemetry's, which its SDK reads as well
    "infra/__main__.py",
    "infra/aws/lambda_entry.py",
    "infra/local/api.py",  # a process of its own
    "infra/local/gateway.py",  # a process of its own
}
WRITES = {"setdefault", "update", "pop", "clear", "popitem"}


def names_environ(node: ast.AST) -> bool:
    """Whether this is `os.environ`."""
    return isinstance(node, ast.Attribute) and node.attr == "environ" and ast.unparse(node.value) == "os"


def sources() -> dict[str, ast.Module]:
    files = [path for folder in ("api", "infra") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    return {path.relative_to(ROOT).as_posix(): ast.parse(Path(path).read_text()) for path in files}


def test_only_entry_points_read_the_process_environment() -> None:
    readers = {
        name
        for name, tree in sources().items()
        if any(names_environ(node) or ast.unparse(node) == "os.getenv" for node in ast.walk(tree))
    }
    assert readers <= ENTRY_POINTS
    assert readers >= {"api/index.py", "infra/__main__.py"}, "this test finds what it looks for"


def test_nothing_but_the_cold_start_writes_into_it() -> None:
    writers = set()
    for name, tree in sources().items():
        for node in ast.walk(tree):
            assigned = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
            called = isinstance(node, ast.Attribute) and node.attr in WRITES
            if (assigned or called) and names_environ(node.value):  # type: ignore[attr-defined]
                writers.add(name)
    assert writers <= {"api/cold_start.py"}
