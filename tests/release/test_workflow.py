"""`.github/workflows/`: valid by GitHub's own schema, careful with its rights, and made of make targets that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from infra.local.environment import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


@pytest.fixture(scope="module")
def jobs() -> dict[str, dict[str, Any]]:
    """Every job of every workflow, by file and name."""
    assert FILES
    return {f"{file.name}: {name}": job for file in FILES for name, job in read(file.name)["jobs"].items()}


def test_they_are_valid_workflows() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    checked = subprocess.run([*command, *map(str, FILES)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_they_may_only_read() -> None:
    for file in FILES:
        assert read(file.name)["permissions"] == {"contents": "read"}, file.name


def test_every_job_ends_and_takes_its_actions_by_commit(jobs: dict[str, dict[str, Any]]) -> None:
    for name, job in jobs.items():
        assert job["timeout-minutes"] <= 60, name
        assert "permissions" not in job, name
        for step in job["steps"]:
            assert "run" in step or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step


def test_a_commit_has_its_version_beside_it_and_is_the_same_everywhere() -> None:
    """A tag can be moved to other code; a commit cannot."""
    used = {line.strip() for file in FILES for line in file.read_text().splitlines() if "uses:" in line}
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in used), used
    assert len(used) == len({line.split("@")[0] for line in used})


def test_every_command_is_a_make_target_that_exists(jobs: dict[str, dict[str, Any]]) -> None:
    for name, job in jobs.items():
        for command in (line for step in job["steps"] for line in step.get("run", "").splitlines()):
            called = re.fullmatch(r"(sudo )?make ([a-z0-9-]+)( .+)?", command)
            assert called is not None, f"{name}: {command}"
            assert called[2] in TARGETS, f"{name}: {command}"


def test_the_upgrade_test_gets_the_history(jobs: dict[str, dict[str, Any]]) -> None:
    for name, job in jobs.items():
        if any("release-check" in step.get("run", "") for step in job["steps"]):
            [checkout] = [
                step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")
            ]
            assert checkout["with"]["fetch-depth"] == 0, name


def test_what_the_readme_promises_is_tried(jobs: dict[str, dict[str, Any]]) -> None:
    """Python 3.11 to 3.13, Postgres 15 and 17 as services of a job that hands their URL to the tests."""
    assert jobs["test.yml: tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    sql = jobs["test.yml: sql"]
    assert sql["strategy"]["matrix"]["postgres"] == ["15", "17"]
    service = sql["services"]["postgres"]
    [url] = [step["env"]["LULL_TEST_POSTGRES_URLS"] for step in sql["steps"] if "env" in step]
    assert f":{service['env']['POSTGRES_PASSWORD']}@127.0.0.1:{service['ports'][0].split(':')[0]}/" in url
