"""The composition root, and what the platforms are told about it."""

import json
import os
import re
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


LOCKS = {"requirements.txt": "infra/requirements.in", "infra/requirements.txt": "infra/local.in"}


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_installed_is_pinned_with_hashes_and_names_no_host(lock: str, checkout: Path) -> None:
    text = (checkout / lock).read_text()
    entries = re.sub(r"#.*", "", text).replace("\\\n", " ").splitlines()
    for entry in filter(str.strip, entries):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( ;[^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+", entry), entry
    assert not re.search(r"://|^ *-", re.sub(r"--hash", "", text), re.MULTILINE)


@pytest.mark.parametrize(("lock", "source"), LOCKS.items())
def test_a_lock_is_of_its_source(lock: str, source: str, checkout: Path) -> None:
    locked = set(re.findall(r"^([a-z0-9-]+==[\w.+!]+)", (checkout / lock).read_text(), re.MULTILINE))
    lines = (checkout / source).read_text().splitlines()
    asked = {re.sub(r"\[.*\]|_", lambda found: "-" if found[0] == "_" else "", line).lower() for line in lines}
    assert {line for line in asked if not line.startswith("#")} <= locked, "run `make lock`"


def test_psycopg_is_offered_as_it_is_tested(checkout: Path) -> None:
    [offered] = re.findall(r"^#(psycopg.+)", (checkout / "infra/requirements.in").read_text(), re.MULTILINE)
    assert offered in (checkout / "infra/local.in").read_text().splitlines()
