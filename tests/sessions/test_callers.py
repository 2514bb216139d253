"""Whose session it is: owners get in, everybody else sees the same as if there were nothing."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.composition import create_app
from tests.callers import SESSIONS, as_holder, as_service, as_user, events_of, problem_of, start
from tests.calls import settings
from tests.in_process import client_of

Environment = dict[str, str]

CALLS = [
    ("GET", ""),
    ("GET", "/events"),
    *(("POST", f"/{verb}") for verb in ("activate", "pause", "resume", "end")),
]


def seen(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """All of an answer that its receiver can see, but for the request's own id."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_foreign_session_answers_404_like_an_absent_one(
    method: str, path: str, api: httpx.Client, environment: Environment
) -> None:
    users, _ = start(api, as_user(environment), kind="game")
    anonymous, _ = start(api, kind="game")
    services, _ = start(api, as_service(environment), kind="game", guildId="g", mode="m")
    absent = f"{SESSIONS}/{uuid4()}"
    stranger = as_user(environment)
    _, other = start(api, kind="game")
    answers = [
        api.request(method, address + path, headers=headers)
        for address in (users, anonymous, services, absent)
        for headers in ({}, stranger, other, as_holder("nonsense"), stranger | other)
    ]
    assert problem_of(answers[0]) == (404, "not-found")
    assert all(seen(answer) == seen(answers[0]) for answer in answers)


@pytest.mark.parametrize(("method", "path"), CALLS[:2])
def test_owner_and_service_get_in(
    method: str, path: str, api: httpx.Client, environment: Environment
) -> None:
    user = as_user(environment)
    for headers in (user, None):
        address, owner = start(api, headers, kind="game")
        for allowed in (owner, user | owner, as_service(environment)):
            assert api.request(method, address + path, headers=allowed).status_code == 200


def test_only_an_anonymous_caller_gets_a_token(api: httpx.Client, environment: Environment) -> None:
    for headers in (as_user(environment), as_service(environment)):
        answer = api.post(SESSIONS, json={"kind": "room"}, headers=headers)
        assert list(answer.json()) == ["session"]
    tokens = {api.post(SESSIONS, json={"kind": "game"}).json()["sessionToken"] for _ in range(5)}
    assert len(tokens) == 5


def test_only_the_hash_of_a_token_is_stored(api: httpx.Client, sql: Any) -> None:
    token = api.post(SESSIONS, json={"kind": "game"}, headers={"Idempotency-Key": str(uuid4())}).json()[
        "sessionToken"
    ]
    for table in ("sessions", "session_events", "idempotency_keys"):
        rows = sql.execute(f"select t::text as text from lull.{table} t").fetchall()
        assert rows
        assert not any(token in row["text"] for row in rows)


def test_a_list_needs_an_authenticated_caller(api: httpx.Client) -> None:
    answer = api.get(SESSIONS)
    assert problem_of(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_bad_authorization_is_401_even_beside_a_good_token(api: httpx.Client) -> None:
    address, owner = start(api, kind="game")
    for value in ("", "Bearer", "Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer a.b.c"):
        answer = api.get(address, headers=owner | {"Authorization": value})
        assert problem_of(answer) == (401, "unauthorized")
        assert problem_of(api.post(SESSIONS, json={"kind": "game"}, headers={"Authorization": value})) == (
            401,
            "unauthorized",
        )


def test_a_user_claims_what_they_hold_the_token_of_and_the_token_is_void(
    api: httpx.Client, environment: Environment
) -> None:
    address, holder = start(api, kind="game")
    user = as_user(environment)
    claimed = api.post(f"{address}/claim-ownership", headers=user | holder)
    assert (claimed.status_code, claimed.headers["etag"]) == (200, '"2"')
    assert api.get(address, headers=user).json() == claimed.json()
    assert api.get(address, headers=holder).status_code == 404
    for again in (user | holder, user):
        assert api.post(f"{address}/claim-ownership", headers=again).json() == claimed.json()
    assert events_of(api, address, user) == ["created", "claimed"]
    assert [each["id"] for each in api.get(SESSIONS, headers=user).json()["sessions"]] == [
        address.rsplit("/")[-1]
    ]


def test_claiming_needs_the_token_and_an_account(
    api: httpx.Client, environment: Environment
) -> None:
    address, holder = start(api, kind="game")
    users, _ = start(api, as_user(environment), kind="game")
    _, other = start(api, kind="game")
    user = as_user(environment)
    absent = api.post(f"{SESSIONS}/{uuid4()}/claim-ownership", headers=user)
    for target, headers in [(address, user), (address, user | other), (users, user | holder), (users, user)]:
        assert seen(api.post(f"{target}/claim-ownership", headers=headers)) == seen(absent)
    for headers in ({}, holder, as_service(environment)):
        answer = api.post(f"{address}/claim-ownership", headers=headers)
        assert problem_of(answer) == (401, "unauthorized")


def test_a_short_service_secret_opens_nothing(environment: Environment) -> None:
    for secret in ("", "short", " " * 40, "fifteen-chars-x"):
        with client_of(create_app(settings(environment, service_secret=secret or None))) as api:
            for given in (secret, "undefined"):
                answer = api.get(SESSIONS, headers={"Authorization": f"Bearer {given}"})
                assert problem_of(answer) == (401, "unauthorized")
