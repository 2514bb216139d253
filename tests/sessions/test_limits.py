"""Limits over HTTP: 429 with what a client needs to wait well, and who is counted as whom."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import SESSIONS, as_holder, as_service, as_user, problem_of
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
            '"open-drafts";q=10, "bytes-per-hour-by-user";q=2097152;qu="content-bytes";w=3600, '
            '"drafts-per-hour-by-client";q=30;w=3600, "drafts-per-hour-by-user";q=30;w=3600'
        )
        assert first.headers["ratelimit"].startswith('"open-drafts";r=9, "bytes-per-hour-by-user";r=2097150;t=3600')
        statuses = [create(api, ada).status_code for _ in range(12)]
        assert statuses == [201] * 9 + [429] * 3
    assert count_sessions(sql) == 10


def test_a_refusal_says_how_long_to_wait(vercel: httpx.Client, sql: Sql) -> None:
    here = coming_from("203.0.113.9")
    for _ in range(3):
        create(vercel, here)
    refused = create(vercel, here)
    assert problem_of(refused) == (429, "rate-limited")
    assert refused.headers["ratelimit-policy"].endswith('"drafts-per-hour-by-client";q=3;w=3600')
    assert re.search(r'"drafts-per-hour-by-client";r=0;t=3[56]\d\d$', refused.headers["ratelimit"])
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
def test_no_header_that_a_client_sets_changes_its_address(vercel: httpx.Client, spoofed: dict[str, str]) -> None:
    for _ in range(3):
        create(vercel, coming_from("203.0.113.9"))
    assert create(vercel, coming_from("203.0.113.9"), spoofed).status_code == 429


def test_elsewhere_than_on_vercel_its_headers_mean_nothing(environment: Environment, sql: Sql) -> None:
    with client_of(create_app(settings(environment, drafts_per_hour=3))) as api:
        sent = [create(api, coming_from(f"203.0.113.{n}"), {"x-real-ip": f"203.0.113.{n}"}) for n in range(4)]
    # The peer is this machine, as it is behind a proxy on the same host: its clients are limited as one.
    assert [answer.status_code for answer in sent] == [201] * 3 + [429]


def test_behind_a_trusted_proxy_each_client_has_its_own_limit(environment: Environment, sql: Sql) -> None:
    behind = settings(environment, drafts_per_hour=3, trusted_proxies="127.0.0.1")
    with client_of(create_app(behind)) as api:
        sent = [create(api, {"x-forwarded-for": f"203.0.113.{n}"}) for n in range(4)]
        again = [create(api, {"x-forwarded-for": f"198.51.100.{n}, 203.0.113.1"}) for n in range(3)]
    assert [answer.status_code for answer in sent + again] == [201] * 6 + [429]


def test_an_address_is_kept_as_a_keyed_hash_only(vercel: httpx.Client, sql: Sql) -> None:
    create(vercel, coming_from("203.0.113.9"))
    keys = sql.execute("select key, encode(client_hash, 'hex') as hash from lull.rate_counters, lull.sessions")
    rows = keys.fetchall()
    assert sorted(row["key"] for row in rows) == [f"{what}:{rows[0]['hash']}" for what in ("bytes-client", "client")]
    assert re.fullmatch("[0-9a-f]{64}", rows[0]["hash"])


def test_metadata_is_at_most_as_large_as_the_setting(environment: Environment, sql: Sql) -> None:
    with client_of(create_app(settings(environment, max_state_bytes=20))) as api:
        assert create(api, metadata={"a": "x" * 11}).status_code == 201
        refused = create(api, metadata={"a": "x" * 12})
        assert problem_of(refused) == (422, "invalid-request")
        assert refused.json()["errors"][0]["field"] == "metadata"
        service = as_service(environment)
        assert create(api, service, metadata={"a": "x" * 12}).status_code == 422


@pytest.mark.parametrize("numbers", [[1e308] * 60, [5e-324] * 60])
def test_a_number_counts_as_postgres_writes_it(numbers: list[float], api: httpx.Client, sql: Sql) -> None:
    """1e308 takes 5 bytes of a request and 309 of every answer."""
    refused = create(api, metadata={"a": numbers})
    assert problem_of(refused) == (422, "invalid-request")
    assert [error["field"] for error in refused.json()["errors"]] == ["metadata"]
    assert count_sessions(sql) == 0
    assert create(api, metadata={"a": numbers[:45]}).status_code == 201


def test_sessions_that_begin_active_are_counted_without_an_account(environment: Environment, sql: Sql) -> None:
    app = create_app(settings(environment, vercel="1", active_per_hour=3))
    with client_of(app) as api:
        here = coming_from("203.0.113.9")
        sent = [create(api, here, kind=kind, status="active") for kind in ("chat", "room", "chat", "chat")]
        assert [answer.status_code for answer in sent] == [201] * 3 + [429]
        assert sent[3].json()["limit"] == "active-per-hour-by-client"
        assert create(api, coming_from("203.0.113.8"), status="active").status_code == 201
        assert create(api, here, as_user(environment), status="active").status_code == 201
        assert create(api, here, as_service(environment), status="active").status_code == 201


@pytest.mark.parametrize("status", ["draft", "active"])
def test_bytes_of_metadata_are_counted_per_hour(status: str, environment: Environment, sql: Sql) -> None:
    app = create_app(settings(environment, vercel="1", metadata_bytes_per_hour=1000))
    with client_of(app) as api:
        here = coming_from("203.0.113.9")
        sizes = (391, 391, 391, 90)  # and 9 bytes around them
        sent = [create(api, here, status=status, metadata={"a": "x" * size}) for size in sizes]
        assert [answer.status_code for answer in sent] == [201, 201, 429, 201]
        assert sent[2].json()["limit"] == "bytes-per-hour-by-client"
        assert '"bytes-per-hour-by-client";r=101;t=3600' in sent[3].headers["ratelimit"]
        ada = as_user(environment)
        assert create(api, here, ada, status=status, metadata={"a": "x" * 900}).status_code == 201
        refused = create(api, coming_from("203.0.113.8"), ada, status=status, metadata={"a": "x" * 100})
        assert refused.json()["limit"] == "bytes-per-hour-by-user"


@pytest.mark.parametrize(
    ("fields", "changes", "limit"),
    [
        ({"kind": "chat"}, {"max_open_drafts_per_owner": 2}, "open-drafts"),
        ({"kind": "game", "status": "active"}, {"max_open_games_per_owner": 2}, "open-games"),
    ],
)
def test_claiming_lifts_no_user_over_a_limit(
    fields: dict[str, Any], changes: dict[str, int], limit: str, environment: Environment, sql: Sql
) -> None:
    on = {"enable_early_session_creation": "true", "drafts_per_hour": 0}
    with client_of(create_app(settings(environment, vercel="1", **on, **changes))) as api:
        ada = as_user(environment)
        made = [create(api, coming_from(f"198.51.100.{n}"), **fields).json() for n in range(4)]
        holders = [as_holder(each["sessionToken"]) for each in made]
        addresses = [each["session"]["id"] for each in made]
        with ThreadPoolExecutor(4) as pool:
            claims = list(pool.map(
                lambda pair: api.post(f"{SESSIONS}/{pair[0]}/claim-ownership", headers=ada | pair[1]),
                zip(addresses, holders, strict=True),
            ))  # fmt: skip
        assert sorted(claim.status_code for claim in claims) == [200, 200, 429, 429]
        refused = next(claim for claim in claims if claim.status_code == 429)
        assert (refused.json()["limit"], "retry-after" in refused.headers) == (limit, True)
        kept = claims.index(refused)
        assert api.get(f"{SESSIONS}/{addresses[kept]}", headers=holders[kept]).status_code == 200
        api.post(f"{SESSIONS}/{addresses[next(n for n in range(4) if claims[n].status_code == 200)]}/end", headers=ada)
        again = api.post(f"{SESSIONS}/{addresses[kept]}/claim-ownership", headers=ada | holders[kept])
        assert again.status_code == 200
