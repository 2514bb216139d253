"""POST and GET /api/sessions/{id}/items: which versions of which items a session used."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg

from tests.callers import Headers, events_of, problem_of, start
from tests.library.items import GUILD, HERO, put, written

Sql = psycopg.Connection[Any]
USED = {"namespace": "guild:123", "key": "hero"}


def test_a_session_notes_what_it_used_once(api: httpx.Client, service: Headers, sql: Sql) -> None:
    written(api, service, 2)
    game, _ = start(api, service, kind="game", status="active", guildId="g", mode="quiz")
    sql.execute("update lull.sessions set last_activity_at = now() - interval '1 hour'")
    before = api.get(game, headers=service).json()["session"]["lastActivityAt"]
    first = api.post(f"{game}/items", headers=service, json=USED)
    assert (first.status_code, first.json()["noted"], first.json()["item"]["version"]) == (200, True, 2)
    again = api.post(f"{game}/items", headers=service, json={**USED, "version": 2}).json()
    assert again == {**first.json(), "noted": False}
    api.post(f"{game}/items", headers=service, json={**USED, "version": 1})
    noted = api.get(f"{game}/items", headers=service).json()["items"]
    assert [(each["key"], each["version"]) for each in noted] == [("hero", 2), ("hero", 1)]
    events = events_of(api, game, service)
    assert events == ["created", "initialized", "returned", "item.used", "item.used"]
    assert api.get(game, headers=service).json()["session"]["lastActivityAt"] > before
    put(api, service, {"level": 3}, version=2)
    assert len(api.get(f"{game}/items", headers=service).json()["items"]) == 2


def test_what_cannot_be_noted_is_refused(
    api: httpx.Client, service: Headers, ada: tuple[str, Headers], sql: Sql
) -> None:
    user, own = ada
    written(api, service, 22)
    mine = f"/api/library/user:{user}/hero"
    put(api, own, {}, at=mine)
    chat, _ = start(api, own, status="active")
    theirs = {"namespace": f"user:{user}", "key": "hero"}
    assert api.post(f"{chat}/items", headers=own, json=theirs).status_code == 200
    assert problem_of(api.post(f"{chat}/items", headers=own, json=USED)) == (404, "not-found")
    stranger = start(api, status="active")[1]
    assert problem_of(api.post(f"{chat}/items", headers=stranger, json=theirs)) == (404, "not-found")
    assert problem_of(api.get(f"{chat}/items", headers=stranger)) == (404, "not-found")
    for more, problem in (
        ({"version": 2}, (410, "version-pruned")),
        ({"version": 23}, (404, "not-found")),
        ({"key": "nobody"}, (404, "not-found")),
        ({"namespace": f"user:{uuid4()}"}, (404, "not-found")),
        ({"version": "1"}, (422, "invalid-request")),
    ):
        assert problem_of(api.post(f"{chat}/items", headers=service, json={**USED, **more})) == problem
    api.delete(HERO, headers=service)
    assert problem_of(api.post(f"{chat}/items", headers=service, json=USED)) == (410, "item-deleted")
    assert len(api.get(f"{chat}/items", headers=own).json()["items"]) == 1
    api.post(f"{chat}/end", headers=own)
    assert problem_of(api.post(f"{chat}/items", headers=own, json=theirs)) == (409, "wrong-status")
    event = sql.execute("select data from lull.session_events where event = 'item.used'").fetchone()
    assert event == {"data": {"namespace": "user", "version": 1}}, "the log outlives the user"


def test_a_session_notes_at_most_two_hundred(api: httpx.Client, service: Headers, sql: Sql) -> None:
    put(api, service, {}, at=f"{GUILD}/hero")
    game, _ = start(api, service, kind="game", status="active", guildId="g", mode="quiz")
    sql.execute(
        "insert into lull.session_items (session_id, namespace, key, version) "
        "select id, 'guild:123', 'k' || n, 1 from lull.sessions, generate_series(1, 200) n"
    )
    full = api.post(f"{game}/items", headers=service, json=USED)
    assert (problem_of(full), full.json()["limit"]) == ((409, "too-many-items"), 200)
