"""The blocks of docs/CONTRIBUTING.md that are files or changes of files, and how they are put into a tree."""

import re
from pathlib import Path

from infra.local.environment import ROOT

PAGE = ROOT / "docs" / "CONTRIBUTING.md"
_NAMED = re.compile(r"^`([\w./]+)`:\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named_blocks() -> dict[str, tuple[str, str]]:
    """Each block below a line that names a file: path → (kind, text). A `diff` is a change, all others are files."""
    return {path: (kind, text) for path, kind, text in _NAMED.findall(PAGE.read_text())}


def build(tree: Path) -> None:
    """Write the files and make the changes in a copy of the checkout."""
    for path, (kind, text) in named_blocks().items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(changed(target.read_text(), text) if kind == "diff" else text)


def changed(text: str, diff: str) -> str:
    """Apply a diff: its lines with a blank or a minus stand in the text once, one after another; … is any text."""
    lines = diff.splitlines()
    before = "\n".join(_pattern(line[1:]) for line in lines if line[0] in " -")
    found = re.findall(f"^{before}$", text, re.MULTILINE)
    assert len(found) == 1, f"{before!r} is {len(found)} times in the file"
    after = "\n".join(line[1:] for line in lines if line[0] in " +").replace("…", r"\1")
    return re.sub(f"^{before}$", after, text, flags=re.MULTILINE)


def _pattern(line: str) -> str:
    return "(.*)".join(map(re.escape, line.split("…")))
