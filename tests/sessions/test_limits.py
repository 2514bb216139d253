"""Limits over HTTP: 429 with what a client needs to wait well, and who is counted as whom."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.index import create_app
from tests.callers import SESSIONS, as_service, as_user, problem_of
from tests.calls import count_sessions, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
Environment = dict[str, str]
ROOM = {"kind": "room"}


@pytest.fixture
def vercel(environment: Environment) -> Iterator[httpx.Client]:
    """The API as on Vercel, with small limits: the address is what its header says."""
    app = create_app(settings(environment, vercel="1", drafts_per_hour=3, max_open_drafts_per_owner=0))
    with client_of(app) as client:
        yield client


def coming_from(address: str) -> dict[str, str]:
    return {"x-vercel-forwarded-for": address}


def create(api: httpx.Client, *headers: dict[str, str], **fields: Any) -> httpx.Response:
    merged = {name: value for each in headers for name, value in each.items()}
    return api.post(SESSIONS, json=ROOM | fields, headers=merged)


def test_the_defaults_are_ten_open_drafts_and_thirty_an_hour(environment: Environment, sql: Sql) -> None:
    with client_of(create_app(settings(environment, vercel="1"))) as api:
        ada = as_user(environment) | coming_from("203.0.113.9")
        first = create(api, ada)
        assert first.headers["ratelimit-policy"] == (
            '"open-drafts";q=10, "drafts-per-hour-by-client";q=30;w=3600, "drafts-per-hour-by-user";q=30;w=3600'
        )
        assert first.headers["ratelimit"].startswith('"open-drafts";r=9, "drafts-per-hour-by-client";r=29;t=3600')
        statuses = [create(api, ada).status_code for _ in range(12)]
        assert statuses == [201] * 9 + [429] * 3
    assert count_sessions(sql) == 10


def test_a_refusal_says_how_long_to_wait(vercel: httpx.Client, sql: Sql) -> None:
    here = coming_from("203.0.113.9")
    for _ in range(3):
        create(vercel, here)
    refused = create(vercel, here)
    assert problem_of(refused) == (429, "rate-limited")
    assert refused.headers["ratelimit-policy"] == '"drafts-per-hour-by-client";q=3;w=3600'
    assert re.fullmatch(r'"drafts-per-hour-by-client";r=0;t=3[56]\d\d', refused.headers["ratelimit"])
    assert 3590 <= int(refused.headers["retry-after"]) <= 3600
    members = refused.json()
    assert members["limit"] == "drafts-per-hour-by-client"
    assert members["retryAfter"] == int(refused.headers["retry-after"])
    assert "limits" not in members
    assert create(vercel, here, status="active").status_code == 201, "only drafts are counted"


def test_200_requests_at_once_create_exactly_the_limit(environment: Environment, sql: Sql) -> None:
    app = create_app(settings(environment, drafts_per_hour=0, max_open_drafts_per_owner=25))
    with client_of(app) as api, ThreadPoolExecutor(20) as pool:
        ada = as_user(environment)
        answers = list(pool.map(lambda _: create(api, ada).status_code, range(200)))
    assert sorted(set(answers)) == [201, 429]
    assert answers.count(201) == count_sessions(sql) == 25


def test_a_replay_is_answered_over_the_limit(vercel: httpx.Client, environment: Environment) -> None:
    ada, key = as_user(environment), {"Idempotency-Key": str(uuid4())}
    first = create(vercel, ada, key)
    assert [create(vercel, ada).status_code for _ in range(3)] == [201, 201, 429]
    again = create(vercel, ada, key)
    assert (again.status_code, again.content) == (201, first.content)
    assert "ratelimit" not in again.headers


def test_the_service_is_not_limited(vercel: httpx.Client, environment: Environment) -> None:
    service, here = as_service(environment), coming_from("203.0.113.9")
    answers = [create(vercel, service, here) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {201}
    assert "ratelimit" not in answers[0].headers


@pytest.mark.parametrize(
    "spoofed",
    [
        {"x-forwarded-for": "198.51.100.1"},
        {"forwarded": "for=198.51.100.1"},
        {"x-real-ip": "198.51.100.1"},
        {"x-vercel-forwarded-for": "198.51.100.1, 203.0.113.9"},
    ],
)
def test_no_header_of_the_clients_own_makes_it_somebody_else(
    vercel: httpx.Client, spoofed: dict[str, str]
) -> None:
    for _ in range(3):
        create(vercel, coming_from("203.0.113.9"))
    assert create(vercel, coming_from("203.0.113.9"), spoofed).status_code == 429


def test_elsewhere_than_on_vercel_its_headers_mean_nothing(environment: Environment, sql: Sql) -> None:
    with client_of(create_app(settings(environment, drafts_per_hour=3))) as api:
        sent = [create(api, coming_from(f"203.0.113.{n}"), {"x-real-ip": f"203.0.113.{n}"}) for n in range(4)]
    # The peer is this machine: it could be a proxy, whose clients must not be limited as one.
    assert [answer.status_code for answer in sent] == [201] * 4
    assert "by-client" not in sent[0].headers["ratelimit-policy"]


def test_an_address_is_kept_as_a_keyed_hash_only(vercel: httpx.Client, sql: Sql) -> None:
    create(vercel, coming_from("203.0.113.9"))
    keys = sql.execute("select key, encode(client_hash, 'hex') as hash from lull.rate_counters, lull.sessions")
    row = keys.fetchone()
    assert row is not None
    assert row["key"] == f"client:{row['hash']}"
    assert re.fullmatch("[0-9a-f]{64}", row["hash"])


def test_metadata_is_at_most_as_large_as_the_setting(environment: Environment, sql: Sql) -> None:
    with client_of(create_app(settings(environment, max_state_bytes=20))) as api:
        assert create(api, metadata={"a": "x" * 12}).status_code == 201
        refused = create(api, metadata={"a": "x" * 13})
    assert problem_of(refused) == (422, "invalid-request")
    assert refused.json()["errors"][0]["field"] == "metadata"
