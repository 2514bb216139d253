"""Invites over HTTP: each has its own answer, tries are limited, a retry repeats."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import as_user, problem_of, start
from tests.calls import settings
from tests.in_process import client_of
from tests.rooms.people import an_invite, enter

Row = dict[str, object]


@pytest.fixture
def limited(environment: dict[str, str]) -> Iterator[httpx.Client]:
    """The API in this process with low limits."""
    limits = {"invite_failures_per_hour": 2, "anonymous_joins_per_hour": 2, "max_invites_per_session": 1}
    with client_of(create_app(settings(environment, **limits))) as client:
        yield client


def attempt(api: httpx.Client, address: str, token: str) -> httpx.Response:
    body = {"accessMethod": "invite", "invite": token, "tab": "t", "anonymousId": str(uuid4())}
    return api.post(f"{address}/join", json=body)


def test_each_invite_that_lets_nobody_in_has_its_own_answer(api: httpx.Client, sql: psycopg.Connection[Row]) -> None:
    address, owner = start(api, kind="room", status="active")
    elsewhere, other = start(api, kind="room", status="active")
    token = an_invite(api, address, owner, maxUses=1)
    foreign = an_invite(api, elsewhere, other)
    enter(api, address, invite=token)
    assert problem_of(attempt(api, address, token)) == (410, "invite-used-up")
    assert problem_of(attempt(api, address, foreign)) == (404, "invite-unknown")
    for bad in (token[:-1], token[:30] + "AAAAAAAAAAAAA", "A" * 43, token + "A", "no invite"):
        assert problem_of(attempt(api, address, bad)) == (422, "invite-malformed"), bad
    sql.execute("update lull.invites set expires_at = now()")
    assert problem_of(attempt(api, address, token)) == (410, "invite-expired")
    (listed,) = api.get(f"{address}/invites", headers=owner).json()["invites"]
    assert (listed["token"], listed["uses"], listed["open"]) == (token, 1, False)
    assert api.delete(f"{address}/invites/{listed['id']}", headers=owner).status_code == 204
    assert problem_of(attempt(api, address, token)) == (410, "invite-revoked")
    sql.execute("update lull.sessions set last_activity_at = now() - interval '61 min'")
    sql.execute("update lull.session_participants set last_seen_at = now() - interval '61 min'")
    answer = attempt(api, address, token)
    assert problem_of(answer) == (410, "session-expired")
    sentence = "This invitation link has expired. Sessions become inactive after 1 hour of no activity."
    assert answer.json()["detail"] == sentence


def test_tries_are_limited_and_counted_although_they_are_refused(limited: httpx.Client) -> None:
    address, owner = start(limited, kind="room", status="active")
    token = an_invite(limited, address, owner, maxUses=1)
    enter(limited, address, invite=token)
    assert problem_of(attempt(limited, address, "A" * 43)) == (422, "invite-malformed")
    assert problem_of(attempt(limited, address, token)) == (410, "invite-used-up")
    for bad in ("A" * 43, token):
        answer = attempt(limited, address, bad)
        assert problem_of(answer) == (429, "rate-limited")
        assert 0 < int(answer.headers["retry-after"]) <= 3600


def test_new_people_and_open_invites_are_limited(limited: httpx.Client, environment: dict[str, str]) -> None:
    user = as_user(environment)
    address, _ = start(limited, user, kind="room", status="active")
    token = an_invite(limited, address, user)
    for _ in range(2):
        enter(limited, address, invite=token)
    assert problem_of(attempt(limited, address, token)) == (429, "rate-limited")
    enter(limited, address, headers=user, anonymous=None)
    answer = limited.post(f"{address}/invites", headers=user)
    assert (problem_of(answer), answer.json()["limit"]) == ((429, "rate-limited"), "open-invites")


def test_a_retried_create_repeats_the_invite(api: httpx.Client, environment: dict[str, str]) -> None:
    user = as_user(environment)
    (address, _), (other, _) = start(api, user, kind="room"), start(api, user, kind="room")
    headers = user | {"Idempotency-Key": "the-first-invite"}
    first, again = (api.post(f"{address}/invites", headers=headers) for _ in range(2))
    assert (first.status_code, first.json()) == (201, again.json())
    assert len(api.get(f"{address}/invites", headers=user).json()["invites"]) == 1
    assert problem_of(api.post(f"{other}/invites", headers=headers)) == (422, "idempotency-key-reused")


@pytest.mark.parametrize("body", [{"expiresInHours": 721}, {"expiresInHours": 0}, {"maxUses": 0}, {"uses": 1}])
def test_a_bad_invite_is_422(body: dict[str, int], api: httpx.Client) -> None:
    address, owner = start(api, kind="room")
    assert problem_of(api.post(f"{address}/invites", json=body, headers=owner)) == (422, "invalid-request")
