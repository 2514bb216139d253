"""What the OpenAPI document promises holds for thousands of made-up requests, valid and not.

`make test` makes up some for each route, `make release-check` five times as many (OPENAPI_EXAMPLES).
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from infra.local.stack import LocalSupabase
from tests.callers import as_service, as_user, start

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = os.environ.get("OPENAPI_EXAMPLES", "40")
HOOKS = {"SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}

Explore = Callable[..., None]


@pytest.fixture
def explore(api_server: str, stack: LocalSupabase, checkout: Path, tmp_path: Path) -> Explore:
    """Runs schemathesis with these headers over a part of the document; fails with its report."""

    def run(headers: dict[str, str], *choice: str) -> None:
        program = str(Path(sys.executable).with_name("schemathesis"))
        command = [
            program,
            "--config-file",
            str(CONFIG),
            "run",
            f"{api_server}/api/openapi.json",
            "--no-color",
            "--max-examples",
            EXAMPLES,
        ]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        environ = os.environ | HOOKS | {"PYTHONPATH": str(checkout)}
        done = subprocess.run(
            [*command, *choice], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.timeout(600)
def test_what_the_admin_calls_is_as_documented(explore: Explore, admin: dict[str, str]) -> None:
    # Without a receiver, delivering is a 503 whatever is sent: tests/events has one.
    explore(admin, "--include-path-regex", "^/api/admin/(?!deliver$)")


@pytest.mark.timeout(600)
def test_what_the_service_and_anybody_call_is_as_documented(
    explore: Explore, environment: dict[str, str]
) -> None:
    explore(as_service(environment), "--exclude-path-regex", "^/api/admin|claim-ownership$")


@pytest.mark.timeout(600)
def test_what_a_user_claims_is_as_documented(
    explore: Explore, live_api: httpx.Client, environment: dict[str, str]
) -> None:
    _, holder = start(live_api, kind="game")
    explore(as_user(environment) | holder, "--include-path-regex", "claim-ownership$")
