"""The dry run over HTTP: what it says, what it simulates, and that it is the run without the run."""

from typing import Any

import httpx
import psycopg
import pytest

from tests.calls import CLEANUP, add_drafts, add_session, count_sessions

Sql = psycopg.Connection[Any]


def lines(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in answer.json()["policies"]}


def test_it_says_what_would_go_and_deletes_nothing(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    draft = add_session(sql, age="25 h 3 min 20 s")
    seen = "insert into lull.session_participants (session_id, last_seen_at) values (%s, now() - interval '25 h')"
    sql.execute(seen, (draft,))
    sql.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", (draft,))
    add_session(sql, age="23 h 59 min")
    answer = api.get(CLEANUP, headers=admin)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    report = answer.json()
    assert list(report)[:5] == ["dryRun", "thresholdHours", "wouldDelete", "sessions", "policies"]
    assert (report["dryRun"], report["wouldDelete"]) == (True, 1)
    assert '"thresholdHours":24,' in answer.text
    [session] = report["sessions"]
    assert session.pop("lastActivityAt").endswith("Z")
    assert session == {
        "id": draft,
        "kind": "chat",
        "status": "draft",
        "age": "25 h 3 min",
        "files": 1,
        "reason": "draft without a message, last activity 25 h 3 min ago, limit 24 h",
    }
    line = lines(answer)["abandoned-drafts"]
    assert (line["wouldDelete"], line["files"], line["restoreDays"]) == (1, 1, 7)
    assert line["cascaded"] == {"lull.session_participants": 1, "lull.session_files": 1}
    assert count_sessions(sql) == 2
    assert not sql.execute("select from lull.cleanup_runs").fetchall()


def test_the_sample_is_the_oldest_and_20_unless_told(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_drafts(sql, 25, age="2 d")
    oldest = [add_session(sql, age=f"{days} d") for days in (9, 8, 7)]
    report = api.get(CLEANUP, headers=admin).json()
    assert [session["id"] for session in report["sessions"]][:3] == oldest
    assert (len(report["sessions"]), report["wouldDelete"]) == (20, 28)
    assert len(api.get(f"{CLEANUP}?limit=200", headers=admin).json()["sessions"]) == 28
    assert len(api.get(f"{CLEANUP}?limit=2", headers=admin).json()["sessions"]) == 2


def test_the_first_fields_are_about_the_policy_asked_for(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    game = add_session(sql, "game", "active", age="45 min")
    add_session(sql)
    answer = api.get(f"{CLEANUP}?policy=orphaned-games", headers=admin)
    report = answer.json()
    assert (report["thresholdHours"], report["wouldDelete"]) == (0.5, 1)
    assert [session["id"] for session in report["sessions"]] == [game]
    assert lines(answer)["abandoned-drafts"]["wouldDelete"] == 1


def test_a_session_of_composite_key_is_sampled_too(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    sql.execute(
        "insert into lull.user_sessions (namespace, user_id, version, updated_at) "
        "values ('web', 'u1', '1', now() - interval '3 d')"
    )
    [session] = api.get(f"{CLEANUP}?policy=stale-user-sessions", headers=admin).json()["sessions"]
    assert (session["kind"], session["status"], session["age"]) == (None, None, "3 d 0 h")


def test_threshold_hours_simulates_one_policy_only(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_session(sql, age="2 h")
    add_session(sql, "game", "active", age="2 h")
    answer = api.get(f"{CLEANUP}?thresholdHours=1.5", headers=admin)
    assert (answer.json()["thresholdHours"], answer.json()["wouldDelete"]) == (1.5, 1)
    assert answer.json()["sessions"][0]["reason"].endswith("limit 1 h 30 min")
    assert lines(answer)["orphaned-games"]["thresholdHours"] == 0.5
    assert api.get(CLEANUP, headers=admin).json()["wouldDelete"] == 0


def test_at_simulates_another_time(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql, age="1 h")
    later = sql.execute(
        "select to_char(now() + interval '1 d', 'YYYY-MM-DD\"T\"HH24:MI:SS') as at"
    ).fetchone()
    assert later is not None
    assert api.get(CLEANUP, headers=admin).json()["wouldDelete"] == 0
    zone = sql.execute("show timezone").fetchone()
    assert zone is not None
    report = api.get(CLEANUP, params={"at": later["at"] + "Z"}, headers=admin).json()
    assert report["wouldDelete"] == 1
    assert report["sessions"][0]["age"].startswith(("24 h", "25 h"))


@pytest.mark.parametrize("clock", ["-infinity", "0001-01-01 00:00:00+00 BC"])
def test_a_clock_beyond_the_calendar_is_no_fault(
    clock: str, api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    sql.execute("insert into lull.sessions (kind, last_activity_at) values ('chat', %s)", (clock,))
    answer = api.get(CLEANUP, headers=admin)
    assert answer.status_code == 200
    assert answer.json()["sessions"][0]["age"] == "an age beyond the calendar"


def test_what_is_held_active_paused_ended_or_fresh_is_not_shown(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_session(sql, age="9 d", hold=True)
    add_session(sql, "chat", "active", age="9 d", first_message_at="2026-01-01Z")
    add_session(sql, "game", "paused", age="9 d", paused_at="2026-01-01Z")
    add_session(sql, "room", "ended", age="9 d", ended_at="2026-01-01Z")
    add_session(sql, age="1 min")
    answer = api.get(CLEANUP, headers=admin)
    assert not any(line["wouldDelete"] for line in answer.json()["policies"])


@pytest.mark.parametrize(
    ("method", "query", "headers", "dry"),
    [
        ("GET", "", {}, True),
        ("POST", "", {}, False),
        ("POST", "?dryRun=true", {}, True),
        ("GET", "?dryRun=false", {}, False),
        ("GET", "", {"user-agent": "vercel-cron/1.0"}, False),
        ("GET", "", {"x-vercel-cron-schedule": "0 2 * * *"}, False),
        ("GET", "?dryRun=true", {"user-agent": "vercel-cron/1.0"}, True),
        ("GET", "", {"user-agent": "not-vercel-cron/1.0"}, True),
        ("POST", "?dryRun=true", {"x-vercel-cron-schedule": "0 2 * * *"}, True),
    ],
)
def test_what_executes_and_what_only_shows(
    method: str,
    query: str,
    headers: dict[str, str],
    dry: bool,
    api: httpx.Client,
    admin: dict[str, str],
    sql: Sql,
) -> None:
    add_session(sql)
    answer = api.request(method, CLEANUP + query, headers={**admin, **headers})
    assert answer.status_code == 200
    assert answer.json()["dryRun"] is dry
    assert count_sessions(sql) == int(dry)


def test_the_scheduler_needs_the_secret_too(api: httpx.Client, sql: Sql) -> None:
    add_session(sql)
    assert api.get(CLEANUP, headers={"user-agent": "vercel-cron/1.0"}).status_code == 401
    assert count_sessions(sql) == 1
