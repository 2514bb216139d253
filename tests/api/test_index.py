"""The composition root, and what the platforms are told about it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.calls import CLEANUP


def start(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Import the app as a platform does, in a process of its own."""
    command = [sys.executable, "-c", "from api.index import app; print(sorted(app.openapi()['paths']))"]
    environ = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)


def test_the_app_starts_without_any_setting(checkout: Path) -> None:
    assert f"'{CLEANUP}'" in start(checkout).stdout


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SESSION_TIMEOUT_MINUTES", "soon", "SESSION_TIMEOUT_MINUTES: "),
        ("POLICIES_FILE", "nowhere.toml", "nowhere.toml: "),
    ],
)
def test_a_bad_setting_refuses_to_start_and_says_which(
    variable: str, value: str, sentence: str, checkout: Path
) -> None:
    started = start(checkout, **{variable: value})
    assert started.returncode == 1
    assert sentence in started.stderr.splitlines()[-1]


def test_vercel_builds_one_function_and_calls_the_cleanup_daily(checkout: Path) -> None:
    config = json.loads((checkout / "vercel.json").read_text())
    assert config["framework"] == "fastapi"
    assert config["functions"]["api/index.py"]["maxDuration"] == 60
    assert config["crons"] == [{"path": CLEANUP, "schedule": "0 2 * * *"}]


def test_nothing_shadows_the_entry_that_vercel_is_to_find(checkout: Path) -> None:
    assert not (checkout / "pyproject.toml").exists()
    for name in ("app", "main", "server", "asgi", "wsgi"):
        assert not list(checkout.glob(f"{name}.py"))
        assert not (checkout / "api" / f"{name}.py").exists()


def test_runtime_requirements_are_pinned_and_included_from_nowhere(checkout: Path) -> None:
    lines = (checkout / "requirements.txt").read_text().splitlines()
    for line in lines:
        if not line.startswith("#"):
            name, pin = line.split("==")
            assert name
            assert pin
    # what is offered for DATABASE_URL is what the tests had
    [offered] = [line[1:] for line in lines if line.startswith("#psycopg")]
    assert offered in (checkout / "infra" / "requirements.txt").read_text().splitlines()
