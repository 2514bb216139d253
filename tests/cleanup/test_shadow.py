"""CLEANUP_MODE=shadow: a run is counted and stored, deletes nothing, and later shows what would have been a mistake."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import problem_of
from tests.calls import ADMIN, CLEANUP, add_session, count_sessions, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
DRAFTS = "abandoned-drafts"


@pytest.fixture
def api(environment: dict[str, str], sql: Sql) -> Iterator[httpx.Client]:
    with client_of(create_app(settings(environment, cleanup_mode="shadow"))) as client:
        yield client


def runs(api: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/api/admin/runs", headers=ADMIN).json()["runs"]
    return found


def test_a_shadow_run_deletes_nothing_and_shows_what_would_have_been_a_mistake(
    api: httpx.Client, sql: Sql, team_chats: str
) -> None:
    draft, _ = add_session(sql), add_session(sql)
    chat = sql.execute("insert into team_chats (updated_at) values (now() - interval '26 h') returning id").fetchone()
    assert chat
    sql.execute("insert into team_tags (chat_id) values (%s)", (chat["id"],))
    sql.execute("insert into lull.file_removals (bucket, path) values ('b', 'p')")
    report = api.post(CLEANUP, headers=ADMIN).json()
    assert (report["shadow"], report["deleted"], report["files"]["removed"]) == (True, 0, 0)
    lines = {(line["name"], line["table"]): line for line in report["policies"]}
    assert lines[DRAFTS, None]["wouldDelete"] == 2
    assert {line["outcome"] for line in report["policies"]} == {"shadow"}
    assert count_sessions(sql) == 2
    assert sql.execute("select claimed_by from lull.file_removals").fetchone() == {"claimed_by": None}
    first = runs(api)[0]
    assert (first["mode"], first["wouldDelete"], first["deleted"], first["returned"]) == ("shadow", 3, 0, 0)
    sql.execute("update lull.sessions set status = 'active', first_message_at = now(), last_activity_at = now() "
                "where id = %s", (draft,))  # fmt: skip
    sql.execute("update team_chats set updated_at = now()")
    api.post(CLEANUP, headers=ADMIN)
    newest, first = runs(api)
    assert (first["returned"], newest["wouldDelete"], newest["returned"]) == (2, 1, 0)
    shown = api.get(f"/api/admin/runs/{first['id']}", headers=ADMIN).json()
    by_table = {line["table"]: line for line in shown["lines"] if line["name"] == DRAFTS}
    assert by_table[team_chats]["wouldCascade"] == {"public.team_tags": 1}
    assert by_table[team_chats]["returned"] == by_table[None]["returned"] == 1


def test_in_shadow_mode_nothing_is_let_through(api: httpx.Client, sql: Sql) -> None:
    add_session(sql)
    answer = api.post(CLEANUP, headers=ADMIN, params={"policy": DRAFTS, "maxRows": "5"})
    assert problem_of(answer) == (422, "invalid-request")
    assert api.post(CLEANUP, headers=ADMIN, params={"policy": DRAFTS}).json()["shadow"] is True
    assert count_sessions(sql) == 1


def test_shadow_runs_are_no_history_for_the_breaker(api: httpx.Client, sql: Sql) -> None:
    api.post(CLEANUP, headers=ADMIN)
    row = sql.execute("select count(*) as n from lull.cleanup_run_policies where outcome = 'completed'").fetchone()
    assert row == {"n": 0}


def test_what_next_sundays_run_would_take_can_be_asked_and_is_not_stored(
    api: httpx.Client, sql: Sql
) -> None:
    draft = add_session(sql, age="2 h")
    sql.execute(
        "insert into lull.session_participants (session_id, anonymous_id, name, is_active, last_seen_at) "
        "values (%s, 'a', 'Ada', true, now() - interval '2 h')",
        (draft,),
    )
    asked = {"policy": DRAFTS, "thresholdHours": "12", "at": "2099-01-04T03:00:00Z"}
    report = api.get(CLEANUP, headers=ADMIN, params=asked).json()
    line = next(line for line in report["policies"] if line["name"] == DRAFTS)
    assert (report["wouldDelete"], report["at"], line["thresholdHours"]) == (1, "2099-01-04T03:00:00Z", 12)
    assert line["cascaded"] == {"lull.session_participants": 1}
    assert report["sessions"][0]["reason"].endswith("limit 12 h")
    assert runs(api) == []
