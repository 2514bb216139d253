"""The fenced blocks of a page: what they are, and whether what they show is what comes."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.environment import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS = {"sh", "sql"}
ANSWERS = {"json", "text"}


@dataclass
class Block:
    """A fenced block; `shown` is the answer that the page shows below a command."""

    page: Path
    line: int
    kind: str
    text: str
    shown: "Block | None" = None

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"

    def programs(self) -> list[list[str]]:
        """The commands of a shell block as words, without variables set in front and what follows a pipe."""
        lines = self.text.replace("\\\n", " ").splitlines()
        commands = [shlex.split(line, comments=True) for line in lines]
        return [_without_assignments(words) for words in commands if words]


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def blocks_of(page: Path) -> list[Block]:
    """List the blocks of a page, in order. An answer belongs to the last command of its section."""
    blocks: list[Block] = []
    for block, is_new_section in _fenced(page):
        if block.kind not in ANSWERS:
            blocks.append(block)
            continue
        assert not is_new_section and blocks and blocks[-1].kind in COMMANDS, f"{block}: the answer to what?"
        assert blocks[-1].shown is None, f"{block}: a second answer"
        blocks[-1].shown = block
    return blocks


def _fenced(page: Path) -> Iterator[tuple[Block, bool]]:
    """Each block, and whether a heading stands between it and the one before."""
    opened: Block | None = None
    is_new_section = True
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.fullmatch(r" *```(.*)", line)
        if fence and opened is None:
            opened = Block(page, number, fence[1], "")
        elif fence and opened:
            opened.text = textwrap.dedent(opened.text)
            yield opened, is_new_section
            opened, is_new_section = None, False
        elif opened:
            opened.text += line + "\n"
        elif line.startswith("#"):
            is_new_section = True
    assert opened is None, f"{opened}: never closed"


def check_json(shown: Any, real: Any, where: str) -> None:
    """The keys are the same, unless "…" stands for more; plain words are the same, other values of one type.

    An element that is shown of a list is like one of the real ones.
    """
    if isinstance(shown, dict):
        assert isinstance(real, dict), f"{where}: {real!r}"
        keys = shown.keys() - {"…"}
        assert keys <= real.keys() and ("…" in shown or keys == real.keys()), f"{where}: {sorted(real)}"
        for key in keys:
            check_json(shown[key], real[key], f"{where}.{key}")
    elif isinstance(shown, list):
        assert isinstance(real, list), f"{where}: {real!r}"
        for element in shown:
            assert any(_is_like(element, each, where) for each in real), (
                f"{where}: {element} is not in {real}"
            )
    elif isinstance(shown, str) and isinstance(real, str):
        pattern = ".*".join(map(re.escape, shown.split("…")))
        assert not re.fullmatch(r"[a-z -]+|.*….*", shown) or re.fullmatch(pattern, real), f"{where}: {real!r}"
    else:
        numbers = isinstance(shown, int | float) and isinstance(real, int | float)
        same = type(shown) is type(real) if not isinstance(shown, bool | None) else shown is real
        assert same or (numbers and not isinstance(shown, bool)), f"{where}: {real!r}"


def _is_like(shown: Any, real: Any, where: str) -> bool:
    try:
        check_json(shown, real, where)
    except AssertionError:
        return False
    return True


def check_lines(shown: str, real: str, where: str) -> None:
    """Every line that is shown comes, in this order; numbers may differ, and … is anything."""
    rest = real.splitlines()
    for line in filter(str.strip, shown.splitlines()):
        parts = (re.sub(r"\d+", r"\\d+", re.escape(part)) for part in line.strip().split("…"))
        pattern = re.sub(r"(\\ )+", r"\\s+", ".*".join(parts))
        found = next((n for n, each in enumerate(rest) if re.fullmatch(pattern, each.strip())), None)
        assert found is not None, f"{where}: {line!r} did not come in\n{real}"
        rest = rest[found + 1 :]


def check_table(shown: str, columns: list[str], rows: int, where: str) -> None:
    """What psql would show: the same columns, and rows where rows are shown."""
    head, rule, *body = shown.rstrip().splitlines()
    assert [name.strip() for name in head.split("|")] == columns, f"{where}: {columns}"
    assert set(rule) <= set("-+"), f"{where}: {rule}"
    assert rows or not body, f"{where}: no row came"
