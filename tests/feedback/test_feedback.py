"""POST and GET /api/sessions/{id}/feedback: who may give it, who reads what, and how long it stays."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import Headers, as_service, as_user, events_of, problem_of, start
from tests.calls import CLEANUP, settings
from tests.in_process import client_of
from tests.rooms.people import an_invite, enter

Sql = psycopg.Connection[Any]


@pytest.fixture
def service(environment: dict[str, str]) -> Headers:
    return as_service(environment)


def give(api: httpx.Client, address: str, headers: Headers, score: int = 4, **more: Any) -> httpx.Response:
    return api.post(f"{address}/feedback", headers=headers, json={"score": score, **more})


def read(api: httpx.Client, address: str, headers: Headers, **query: Any) -> dict[str, Any]:
    answer = api.get(f"{address}/feedback", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def test_an_author_has_one_feedback_on_a_session_and_the_next_replaces_it(api: httpx.Client, service: Headers) -> None:
    chat, owner = start(api, status="active")
    first = give(api, chat, owner, 2, about="dm", comment="slow")
    assert (first.status_code, first.json()["replaced"]) == (200, False)
    second = give(api, chat, owner, 5)
    assert second.json()["replaced"] and second.json()["feedback"]["id"] == first.json()["feedback"]["id"]
    assert give(api, chat, owner, 5).json() == second.json(), "the same again writes nothing"
    page = read(api, chat, owner)
    assert (page["count"], page["average"], page["nextCursor"]) == (1, 5.0, None)
    assert page["feedback"] == [second.json()["feedback"]]
    assert (page["feedback"][0]["about"], page["feedback"][0]["comment"]) == (None, None)
    assert events_of(api, chat, owner) == ["created", "feedback.given", "feedback.given"]


def test_a_bot_passes_on_the_feedback_of_its_players_and_stores_no_name(
    api: httpx.Client, service: Headers, sql: Sql
) -> None:
    game, _ = start(api, service, kind="game", status="active", guildId="g", mode="dungeon")
    for author, score in (("discord:1", 1), ("discord:2", 4), ("discord:1", 2)):
        assert give(api, game, service, score, author=author).status_code == 200
    give(api, game, service, 5)
    page = read(api, game, service)
    assert ([each["score"] for each in page["feedback"]], page["average"]) == ([5, 2, 4], 3.67)
    first = read(api, game, service, limit=2)
    rest = read(api, game, service, limit=2, cursor=first["nextCursor"])
    assert (first["feedback"] + rest["feedback"], rest["nextCursor"]) == (page["feedback"], None)
    stored = sql.execute("select kind, mode, f::text as whole from lull.session_feedback f").fetchall()
    assert {(row["kind"], row["mode"]) for row in stored} == {("game", "dungeon")}
    assert "discord" not in "".join(row["whole"] for row in stored)


def test_present_and_past_participants_give_feedback_and_only_the_owner_reads_it(
    api: httpx.Client, service: Headers, environment: dict[str, str], sql: Sql
) -> None:
    ada, bob, eve = (str(uuid4()) for _ in range(3))
    room, owner = start(api, as_user(environment, ada), kind="room", status="active")
    sql.execute(
        "insert into lull.session_participants (session_id, user_id, is_active) select id, %s, false from lull.sessions",
        (bob,),
    )
    assert give(api, room, as_user(environment, bob), 3).status_code == 200
    assert give(api, room, owner, 5).status_code == 200
    for stranger in (as_user(environment, eve), {}, {"X-Session-Token": "x"}):
        assert problem_of(give(api, room, stranger)) == (404, "not-found")
        assert problem_of(api.get(f"{room}/feedback", headers=stranger)) == (404, "not-found")
    assert problem_of(api.get(f"{room}/feedback", headers=as_user(environment, bob))) == (404, "not-found")
    assert "userId" not in read(api, room, owner)["feedback"][0]
    assert [each["userId"] for each in read(api, room, service)["feedback"]] == [ada, bob]


def test_an_ended_session_takes_feedback_an_archived_one_answers_410_and_what_was_given_stays(
    api: httpx.Client, service: Headers, admin: Headers, sql: Sql
) -> None:
    ended, owner = start(api, status="active")
    api.post(f"{ended}/end", headers=owner)
    assert give(api, ended, owner, 1).status_code == 200
    game, player = start(api, kind="game", status="active")
    give(api, game, player, 2)
    sql.execute("update lull.sessions set last_activity_at = now() - interval '2 hours' where kind = 'game'")
    api.post(CLEANUP, headers=admin)
    assert problem_of(give(api, game, player, 3)) == (410, "session-archived")
    assert problem_of(api.get(f"{game}/feedback", headers=player)) == (410, "session-archived")
    assert [each["score"] for each in read(api, game, service)["feedback"]] == [2]
    sql.execute("update lull.session_feedback set at = at - interval '400 days 1 hour' where score = 2")
    api.post(CLEANUP, headers=admin)
    assert problem_of(api.get(f"{game}/feedback", headers=service)) == (410, "session-archived")
    assert read(api, ended, service)["count"] == 1


def test_a_person_without_an_account_gives_feedback_by_the_participants_token_after_leaving_too(
    api: httpx.Client, environment: dict[str, str]
) -> None:
    owner = as_user(environment)
    room, _ = start(api, owner, kind="room", status="active")
    other, _ = start(api, owner, kind="room", status="active")
    guest = enter(api, room, invite=an_invite(api, room, owner))
    assert give(api, room, guest.headers, 2).json()["replaced"] is False
    guest.leave()
    assert give(api, room, guest.headers, 5).json()["replaced"] is True
    assert problem_of(give(api, other, guest.headers)) == (404, "not-found")
    assert [each["score"] for each in read(api, room, owner)["feedback"]] == [5]


@pytest.mark.parametrize(
    "body",
    [{}, {"score": 0}, {"score": 6}, {"score": "3"}, {"score": 3.5}, {"score": 3, "about": "x" * 101},
     {"score": 3, "comment": "x" * 2001}, {"score": 3, "comment": ""}, {"score": 3, "author": "me"}, {"score": 3, "x": 1}],
)  # fmt: skip
def test_what_is_no_feedback_is_refused(body: dict[str, Any], api: httpx.Client) -> None:
    chat, owner = start(api, status="active")
    answer = api.post(f"{chat}/feedback", headers=owner, json=body)
    assert problem_of(answer) == (422, "invalid-request")
    assert read(api, chat, owner)["feedback"] == []


def test_an_authors_feedback_within_an_hour_is_limited(environment: dict[str, str], sql: Sql) -> None:
    with client_of(create_app(settings(environment, feedback_per_hour=2))) as api:
        user = as_user(environment)
        chats = [start(api, user, status="active")[0] for _ in range(3)]
        outcomes = [give(api, chat, user).status_code for chat in chats]
        assert outcomes == [200, 200, 429]
        refused = give(api, chats[2], user)
        assert (problem_of(refused), refused.json()["limit"]) == ((429, "rate-limited"), "feedback-writes-per-hour")
        assert give(api, chats[2], as_service(environment)).status_code == 200
