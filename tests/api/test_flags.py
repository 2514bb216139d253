"""The flag of early sessions: by variables, by share, by lists, by a kill switch."""

import os
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.auth.callers import Caller
from api.composition import create_app
from api.flags import Decision, decide
from api.settings import Settings, SettingsError
from tests.callers import SESSIONS, as_holder, as_user
from tests.calls import settings
from tests.in_process import client_of

ON: dict[str, Any] = {"enable_early_session_creation": "true"}
USER = Caller(user_id=UUID("11111111-1111-4111-8111-111111111111"))
SOMEBODY = "6f1f4c1e-0b0d-4a57-9a3c-0d8c3b1f5a77"


def decision(caller: Caller = USER, **changes: Any) -> Decision:
    return decide(settings(**{**ON, **changes}), caller)


@pytest.mark.parametrize(
    ("server", "browser", "value", "reason"),
    [
        (None, None, False, "DEFAULT"),
        ("true", None, True, "STATIC"),
        (None, "true", True, "STATIC"),
        ("true", "true", True, "STATIC"),
        ("true", "false", False, "STATIC"),
        ("false", "true", False, "STATIC"),
        *(
            (word, None, False, "STATIC")
            for word in ("True", "TRUE", "1", "yes", "on", '"true"', " true", "false")
        ),
        *((None, word, False, "STATIC") for word in ("True", "1", "true ", "0")),
    ],
)
def test_it_is_on_only_when_every_variable_that_is_set_is_exactly_true(
    server: str | None, browser: str | None, value: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"ENABLE_EARLY_SESSION_CREATION": server, "NEXT_PUBLIC_ENABLE_EARLY_SESSION_CREATION": browser}
    for name, text in given.items():
        monkeypatch.setenv(name, text or "")
    assert decide(Settings.from_environ(os.environ), USER) == Decision(value, "on" if value else "off", reason)


def test_shares_are_right_to_one_point_and_raising_one_removes_no_caller() -> None:
    # Of a seed: ten thousand callers of chance are off by more than a point once in twenty times.
    chance = Random(1)
    callers = [Caller(user_id=UUID(int=chance.getrandbits(128))) for _ in range(5000)]
    callers += [Caller(token_hash=chance.randbytes(32).hex()) for _ in range(5000)]
    inside = {
        percent: {caller for caller in callers if decide(at, caller).value}
        for percent in ("0", "0.5", "10", "50", "99.99", "100")
        for at in [settings(**ON, early_session_rollout_percent=percent)]
    }
    for percent, chosen in inside.items():
        assert abs(len(chosen) / 100 - float(percent)) <= 1
    assert (inside["0"], inside["100"]) == (set(), set(callers))
    assert inside["0.5"] < inside["10"] < inside["50"] < inside["99.99"] <= inside["100"]


def test_a_caller_is_always_on_the_same_side() -> None:
    # Fixed: a release that moved people between the sides would be noticed here.
    users = [Caller(user_id=UUID(int=number)) for number in range(20)]
    inside = [
        number for number in range(20) if decision(users[number], early_session_rollout_percent="50").value
    ]
    assert inside == [0, 1, 2, 3, 4, 7, 9, 10, 14, 16, 19]
    assert decision(USER, early_session_rollout_percent="50").reason == "SPLIT"


def test_a_caller_without_a_key_is_off_below_100_percent() -> None:
    for nobody in (Caller(), Caller(service=True)):
        assert decision(nobody, early_session_rollout_percent="99.99") == Decision(False, "off", "SPLIT")
        assert decision(nobody, early_session_rollout_percent="100") == Decision(True, "on", "STATIC")


def test_the_lists_name_users_and_deny_wins() -> None:
    user = str(USER.user_id)
    allowed: dict[str, Any] = {"early_session_allow": user.upper(), "early_session_rollout_percent": "0"}
    assert decision(**allowed) == Decision(True, "on", "TARGETING_MATCH")
    assert decision(Caller(), **allowed).value is False
    assert decision(**allowed, early_session_deny=f"{uuid4()}, {user} ,") == Decision(
        False, "off", "TARGETING_MATCH"
    )
    assert decision(**allowed, enable_early_session_creation="false").value is False


def test_the_kill_switch_wins_over_all() -> None:
    user = str(USER.user_id)
    killed = decision(early_session_kill_switch="true", early_session_allow=user)
    assert killed == Decision(False, "off", "DISABLED")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EARLY_SESSION_ROLLOUT_PERCENT", "100.01"),
        ("EARLY_SESSION_ROLLOUT_PERCENT", "-1"),
        ("EARLY_SESSION_ROLLOUT_PERCENT", "10.123"),
        ("EARLY_SESSION_ROLLOUT_PERCENT", "10%"),
        ("EARLY_SESSION_ROLLOUT_PERCENT", "nan"),
        ("EARLY_SESSION_ALLOW", "me"),
        ("EARLY_SESSION_DENY", f"{SOMEBODY} {SOMEBODY}"),
        ("EARLY_SESSION_KILL_SWITCH", "kill"),
        ("FLAG_PROVIDER", "package.module.Class"),
    ],
)
def test_a_setting_that_means_nothing_stops_the_start(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        Settings.from_environ(os.environ)


def test_two_decimals_count() -> None:
    assert settings(early_session_rollout_percent="12.34").early_session_rollout_percent == Decimal("12.34")


def test_a_front_end_asks_instead_of_baking_it_in(environment: dict[str, str]) -> None:
    user = str(uuid4())
    changes = {**ON, "early_session_deny": user, "early_session_rollout_percent": "50"}
    with client_of(create_app(settings(environment, **changes))) as api:
        answer = api.get("/api/flags", headers=as_user(environment, user))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json() == {
            "flags": {"earlySessionCreation": {"value": False, "variant": "off", "reason": "TARGETING_MATCH"}}
        }
        answers = {api.get("/api/flags", headers=as_holder(f"t{number}")).text for number in range(20)}
        assert len(answers) == 2


def test_the_flag_route_and_creation_agree(environment: dict[str, str]) -> None:
    changes = {**ON, "early_session_rollout_percent": "50"}
    with client_of(create_app(settings(environment, **changes))) as api:
        callers: list[dict[str, str]] = [as_user(environment) for _ in range(12)]
        callers += [as_holder(f"t{number}") for number in range(12)]
        told = [
            api.get("/api/flags", headers=caller).json()["flags"]["earlySessionCreation"]
            for caller in callers
        ]
        made = [api.post(SESSIONS, json={"kind": "chat"}, headers=caller).status_code for caller in callers]
    assert [flag["value"] for flag in told] == [status == 201 for status in made]
    assert set(made) == {201, 403}
