"""Creating a session, and what an Idempotency-Key promises."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import freezegun
import httpx
import psycopg
import pytest

from api.composition import create_app
from api.http.idempotency import seconds_left
from tests.callers import SESSIONS, as_holder, as_service, as_user, problem_of
from tests.calls import count_sessions, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
Environment = dict[str, str]
GAME = {"kind": "game", "title": "Go", "metadata": {"size": 19}}
SERVICES_GAME = {**GAME, "guildId": "guild-1", "mode": "even"}


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid4())}


def test_a_session_begins_as_asked(api: httpx.Client, environment: Environment) -> None:
    for fields in ({"kind": "game"}, {"kind": "room", "status": "active"}, {**GAME, "mode": None}):
        answer = api.post(SESSIONS, json=fields, headers=as_user(environment))
        session = answer.json()["session"]
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{SESSIONS}/{session['id']}"
        assert (session["version"], answer.headers["etag"]) == (1, '"1"')
        assert {name: session[name] for name in fields} == fields
        assert session["status"] == fields.get("status", "draft")


@pytest.mark.parametrize("caller", ["anonymous", "user", "service"])
def test_a_key_gets_the_first_answer_again(caller: str, api: httpx.Client, environment: Environment, sql: Sql) -> None:
    headers = {"anonymous": {}, "user": as_user(environment), "service": as_service(environment)}[caller]
    headers |= keyed()
    game = SERVICES_GAME if caller == "service" else GAME
    first = api.post(SESSIONS, json=game, headers=headers)
    reordered = dict(reversed(game.items())) | {"status": "draft", "externalKey": None}
    again = api.post(SESSIONS, json=reordered, headers=headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.headers["location"], again.headers["etag"]) == (first.headers["location"], '"1"')
    assert count_sessions(sql) == 1
    owner = as_holder(first.json()["sessionToken"]) if caller == "anonymous" else headers
    assert api.get(again.headers["location"], headers=owner).status_code == 200


def test_the_first_answer_is_repeated_although_the_session_went_on(api: httpx.Client) -> None:
    headers = keyed()
    first = api.post(SESSIONS, json=GAME, headers=headers)
    api.post(first.headers["location"] + "/activate", headers=as_holder(first.json()["sessionToken"]))
    assert api.post(SESSIONS, json=GAME, headers=headers).content == first.content


@pytest.mark.parametrize(
    "other",
    [{"kind": "room"}, {**GAME, "title": "go"}, {**GAME, "status": "active"}, {**GAME, "metadata": {}}],
)
def test_a_key_for_another_request_is_refused_and_creates_nothing(
    other: dict[str, Any], api: httpx.Client, sql: Sql
) -> None:
    headers = keyed()
    api.post(SESSIONS, json=GAME, headers=headers)
    assert problem_of(api.post(SESSIONS, json=other, headers=headers)) == (422, "idempotency-key-reused")
    assert count_sessions(sql) == 1


def test_keys_of_different_callers_do_not_meet(api: httpx.Client, environment: Environment, sql: Sql) -> None:
    key = keyed()
    callers: list[dict[str, str]] = [{}, as_user(environment), as_user(environment), as_service(environment)]
    room = {**GAME, "kind": "room"}
    tokens = [api.post(SESSIONS, json=room, headers=caller | key).headers["location"] for caller in callers]
    assert len(set(tokens)) == count_sessions(sql) == 4


@pytest.mark.parametrize("key", ["order-1", "{1}", "1" * 31, " "])
def test_a_caller_without_an_account_needs_a_uuid_as_its_key(
    key: str, api: httpx.Client, environment: Environment, sql: Sql
) -> None:
    answer = api.post(SESSIONS, json=GAME, headers={"Idempotency-Key": key})
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert count_sessions(sql) == 0
    if key.strip():
        named = api.post(SESSIONS, json=SERVICES_GAME, headers=as_service(environment) | {"Idempotency-Key": key})
        assert named.status_code == 201


def test_the_key_of_a_caller_without_an_account_is_bound_to_its_client(environment: Environment, sql: Sql) -> None:
    """Another client that knows key and body gets a session of its own, and not the first one's token."""
    with client_of(create_app(settings(environment, vercel="1"))) as api:
        key = keyed()
        here, there = ({"x-vercel-forwarded-for": f"203.0.113.{n}"} for n in (1, 2))
        first = api.post(SESSIONS, json=GAME, headers=key | here)
        other = api.post(SESSIONS, json=GAME, headers=key | there)
        assert first.json()["sessionToken"] != other.json()["sessionToken"]
        assert api.post(SESSIONS, json=GAME, headers=key | here).content == first.content
        moved = as_holder(first.json()["sessionToken"])
        mine = [api.post(SESSIONS, json=GAME, headers=key | moved | each) for each in (here, there)]
        assert mine[0].content == mine[1].content, "a token that came along is the same client anywhere"
    stored = sql.execute("select key from lull.idempotency_keys").fetchall()
    assert key["Idempotency-Key"] not in {row["key"] for row in stored}


@pytest.mark.parametrize(
    "key",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-0123456789ab",
        "11111111-1111-4111-8111-111111111111",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "5df41881-3aed-3515-88a7-2f4a814cf09e",
        "12121212-1212-4121-8121-212121212121",
    ],
)
def test_a_key_that_is_not_random_is_refused(key: str, api: httpx.Client, sql: Sql) -> None:
    answer = api.post(SESSIONS, json=GAME, headers=keyed(key))
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert count_sessions(sql) == 0


def test_random_keys_of_both_versions_are_taken(api: httpx.Client) -> None:
    for key in ("919108f7-52d1-4320-9bac-f847db4148a8", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F"):
        assert api.post(SESSIONS, json=GAME, headers=keyed(key)).status_code == 201


def test_a_replay_is_answered_as_the_first_time_although_the_flag_is_off_by_now(
    environment: Environment, sql: Sql
) -> None:
    key, chat = keyed(), {"kind": "chat"}
    with client_of(create_app(settings(environment, enable_early_session_creation="true"))) as api:
        first = api.post(SESSIONS, json=chat, headers=key)
    with client_of(create_app(settings(environment))) as api:
        again = api.post(SESSIONS, json=chat, headers=key)
        assert (again.status_code, again.content) == (201, first.content)
        refused = api.post(SESSIONS, json=chat, headers=keyed())
        assert problem_of(refused) == (403, "early-sessions-off")
        assert refused.json()["reason"]
    assert count_sessions(sql) == 1
    assert len(sql.execute("select from lull.idempotency_keys").fetchall()) == 1


@pytest.mark.parametrize("key", ["x" * 256, "", "tab\tbed", "é".encode()])
def test_a_key_is_1_to_255_printable_characters(key: str | bytes, api: httpx.Client, environment: Environment) -> None:
    headers: list[tuple[str, str | bytes]] = [*as_service(environment).items(), ("Idempotency-Key", key)]
    answer = api.post(SESSIONS, json=GAME, headers=headers)  # type: ignore[arg-type]
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


def test_50_concurrent_creations_with_one_key_make_one_session_with_one_token(live_api: httpx.Client, sql: Sql) -> None:
    headers = keyed()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: live_api.post(SESSIONS, json=GAME, headers=headers), range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert count_sessions(sql) == 1
    assert len(sql.execute("select from lull.session_events").fetchall()) == 1


def test_a_key_is_free_again_after_24_hours(api: httpx.Client, sql: Sql) -> None:
    headers = keyed()
    first = api.post(SESSIONS, json=GAME, headers=headers)
    sql.execute("update lull.idempotency_keys set created_at = created_at - interval '24 hours'")
    second = api.post(SESSIONS, json={"kind": "room"}, headers=headers)
    assert second.status_code == 201
    assert second.headers["location"] != first.headers["location"]
    assert count_sessions(sql) == 2


def test_the_client_is_told_for_how_long_a_key_is_remembered(api: httpx.Client) -> None:
    headers = keyed()
    first = api.post(SESSIONS, json=GAME, headers=headers)
    assert 86_390 <= int(first.headers["idempotency-expires-in"]) <= 86_400
    created = datetime.fromisoformat(first.json()["session"]["createdAt"])
    for hours, left in [(1, 82_800), (23.5, 1_800), (24, 0), (100, 0), (-1, 86_400)]:
        with freezegun.freeze_time(created + timedelta(hours=hours), real_asyncio=True):
            again = api.post(SESSIONS, json=GAME, headers=headers)
        assert again.headers["idempotency-expires-in"] == str(left)
    assert "idempotency-expires-in" not in api.post(SESSIONS, json=GAME).headers


@freezegun.freeze_time("2026-11-20T12:00:00Z")
def test_what_is_left_of_24_hours_is_never_more_and_never_less_than_nothing() -> None:
    assert seconds_left("2026-11-20T12:00:00+00:00") == 86_400
    assert seconds_left("2026-11-20T12:00:05+00:00") == 86_400  # the database's clock is ahead of ours
    assert seconds_left("2026-11-19T14:00:01+02:00") == 1
    assert seconds_left("2026-11-19T11:59:59+00:00") == 0
