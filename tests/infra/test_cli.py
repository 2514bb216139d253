"""`python -m infra`: help without asking, and a clear answer to a typing error."""

import subprocess
import sys

import pytest

from infra.__main__ import VERBS
from infra.local.environment import ROOT


def infra(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",)])
def test_help_lists_every_verb_in_a_line(arguments: tuple[str, ...]) -> None:
    shown = infra(*arguments)
    assert shown.returncode == 0
    for verb in VERBS:
        assert len([line for line in shown.stdout.splitlines() if line.startswith(f"  {verb} ")]) == 1


def test_an_unknown_verb_is_named() -> None:
    shown = infra("devv")
    assert shown.returncode == 2
    assert "'devv'" in shown.stderr


def test_make_without_a_target_shows_help() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    for target in ("demo", "dev", "test", "migrate", "lint", "clean"):
        assert f"make {target} " in shown.stdout
