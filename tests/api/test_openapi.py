"""What the OpenAPI document promises holds for generated requests, valid and not, of every kind of caller.

`make test` generates a few for each route and three of the callers, `make release-check` twelve thousand (TEST_SCALE).
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
from tests.scale import SCALE

CONFIG = Path(__file__).with_name("schemathesis.toml")
IS_RELEASE = SCALE > 1
EXAMPLES = 40 if IS_RELEASE else 4  # of each operation, for each caller
PHASES = [] if IS_RELEASE else ["--phases", "examples,fuzzing"]
HOOKS = {"SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}
CALLERS = ("anonymous", "token holder", "user", "service", "admin")
# Without a receiver, delivering is a 503 whatever is sent: tests/events has one.
NOT_EXPLORED = "^/api/admin/deliver$"
# What a caller may not do is refused alike for any input: as it is documented, but not what a valid request gets.
_REFUSALS = "positive_data_acceptance,missing_required_header,ignored_auth"

Explore = Callable[..., int]


@pytest.fixture
def explore(api_server: str, stack: LocalSupabase, checkout: Path, tmp_path: Path) -> Explore:
    """Runs schemathesis with these headers over a part of the document; fails with its report. Counts requests."""

    def run(headers: dict[str, str], *choice: str) -> int:
        program = str(Path(sys.executable).with_name("schemathesis"))
        count = tmp_path / "count"
        command = [program, "--config-file", str(CONFIG), "run", f"{api_server}/api/openapi.json", "--no-color"]
        command += ["--max-examples", str(EXAMPLES)]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        environ = os.environ | HOOKS | {"PYTHONPATH": str(checkout), "SCHEMATHESIS_COUNT": str(count)}
        done = subprocess.run(
            [*command, *choice], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return count.stat().st_size

    return run


@pytest.fixture
def callers(live_api: httpx.Client, environment: dict[str, str], admin: dict[str, str]) -> dict[str, dict[str, str]]:
    """The headers of the five kinds of caller. The token holder and the user own a session."""
    _, holder = start(live_api, kind="game")
    ada = as_user(environment)
    start(live_api, ada, kind="game")
    return dict(
        zip(
            CALLERS, ({}, holder, ada | {"X-Session-Token": "not-a-token"}, as_service(environment), admin), strict=True
        )
    )


@pytest.mark.timeout(1200)
def test_what_any_caller_is_answered_is_as_documented_and_small(
    explore: Explore, callers: dict[str, dict[str, str]]
) -> None:
    choice = ["--exclude-path-regex", NOT_EXPLORED, "--exclude-checks", _REFUSALS]
    asked = CALLERS if IS_RELEASE else ("anonymous", "token holder", "user")  # the others are asked below, too
    requests = {caller: explore(callers[caller], *choice, *PHASES) for caller in asked}
    assert sum(requests.values()) >= (12_000 if IS_RELEASE else 500), requests


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("caller", "choice"),
    [
        ("admin", ("--include-path-regex", "^/api/admin/(?!deliver$)")),
        ("service", ("--exclude-path-regex", "^/api/admin|claim-ownership$")),
        ("user", ("--include-path-regex", "claim-ownership$")),
    ],
)
def test_what_a_caller_may_do_takes_every_valid_request(
    caller: str, choice: tuple[str, ...], explore: Explore, callers: dict[str, dict[str, str]]
) -> None:
    explore(callers[caller] | (callers["token holder"] if caller == "user" else {}), *choice, *PHASES)
