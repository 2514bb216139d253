"""FLAG_PROVIDER: any OpenFeature provider decides; whatever fails in it is off."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from openfeature import api as openfeature
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.no_op_provider import NoOpProvider

from api.auth.callers import Caller
from api.flags import Decision, create_flags
from api.settings import SettingsError
from tests.calls import settings

FRIEND = UUID("22222222-2222-4222-8222-222222222222")
HERE = "tests.api.test_flag_provider"
FLAGD = "openfeature.contrib.provider.flagd:FlagdProvider"


@pytest.fixture(autouse=True)
def no_provider_stays() -> Iterator[None]:
    yield
    openfeature.shutdown()


class Failing(NoOpProvider):
    """Breaks at every question."""

    def resolve_boolean_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[bool]:
        raise RuntimeError("the service says no")


class NeverReady(NoOpProvider):
    """Does not come up."""

    def initialize(self, *_: object) -> None:
        raise ConnectionError("nobody there")


class Mistyped(NoOpProvider):
    """Answers a boolean question with the word false."""

    def resolve_boolean_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[bool]:
        return FlagResolutionDetails(value="false", variant="on", reason="STATIC")  # type: ignore[arg-type]


class Unmakeable(NoOpProvider):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise KeyError("SDK_KEY")


def write_flags(file: Path, **flag: Any) -> None:
    standard = {"state": "ENABLED", "variants": {"yes": True, "no": False}, "defaultVariant": "no"}
    file.write_text(json.dumps({"flags": {"earlySessionCreation": standard | flag}}))


@pytest.fixture
def flagd_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that flagd's provider reads instead of asking a server."""
    file = tmp_path / "flags.json"
    monkeypatch.setenv("FLAGD_RESOLVER", "file")
    monkeypatch.setenv("FLAGD_OFFLINE_FLAG_SOURCE_PATH", str(file))
    return file


def test_flagds_file_decides_by_user(flagd_file: Path) -> None:
    friends = {"if": [{"in": [{"var": "targetingKey"}, [str(FRIEND)]]}, "yes", "no"]}
    write_flags(flagd_file, targeting=friends)
    decide = create_flags(settings(flag_provider=FLAGD))
    assert decide(Caller(user_id=FRIEND)) == Decision(True, "yes", "TARGETING_MATCH")
    assert decide(Caller(user_id=uuid4())) == Decision(False, "no", "TARGETING_MATCH")
    assert decide(Caller()) == Decision(False, "no", "TARGETING_MATCH")


def test_the_kill_switch_wins_over_a_provider_and_the_variables_do_not(flagd_file: Path) -> None:
    write_flags(flagd_file, defaultVariant="yes")
    changes: dict[str, Any] = {"flag_provider": FLAGD, "enable_early_session_creation": "false"}
    assert create_flags(settings(**changes))(Caller()) == Decision(True, "yes", "STATIC")
    killed = create_flags(settings(**changes, early_session_kill_switch=True))
    assert killed(Caller()) == Decision(False, "off", "DISABLED")


def test_a_flag_that_the_provider_does_not_know_is_off(flagd_file: Path) -> None:
    flagd_file.write_text('{"flags": {}}')
    assert create_flags(settings(flag_provider=FLAGD))(Caller()) == Decision(False, "off", "ERROR")


@pytest.mark.parametrize("name", ["Failing", "NeverReady", "Mistyped", "Unmakeable"])
def test_a_provider_that_fails_is_off_with_reason_error(name: str) -> None:
    decide = create_flags(settings(flag_provider=f"{HERE}:{name}"))
    for _ in range(2):
        decision = decide(Caller(user_id=FRIEND))
        assert (decision.value, decision.reason) == (False, "ERROR")


@pytest.mark.parametrize("provider", ["no_such_module:Provider", f"{HERE}:NoSuchClass"])
def test_a_provider_that_is_not_there_stops_the_start(provider: str) -> None:
    with pytest.raises(SettingsError, match=r"^FLAG_PROVIDER: "):
        create_flags(settings(flag_provider=provider))


def test_openfeature_is_not_needed_without_a_provider(checkout: Path) -> None:
    code = "import sys, api.index; print([name for name in sys.modules if 'openfeature' in name])"
    environ = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
