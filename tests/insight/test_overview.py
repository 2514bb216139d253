"""GET /api/admin/overview: what the dashboard shows, in one snapshot that does not grow with the tables."""

from typing import Any

import httpx
import psycopg

from tests.callers import problem_of
from tests.calls import CLEANUP, add_session

OVERVIEW = "/api/admin/overview"
Sql = psycopg.Connection[Any]


def test_it_shows_sessions_runs_backlog_and_pauses(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    for _ in range(3):
        add_session(sql)
    empty = api.get(OVERVIEW, headers=admin).json()
    assert empty["runs"] == empty["backlog"] == empty["pauses"] == []
    assert empty["nextRunAt"] is None
    assert {(each["kind"], each["status"]): each["n"] for each in empty["sessions"] if each["n"]} == {
        ("chat", "draft"): 3
    }
    run = api.post(CLEANUP, headers=admin).json()
    api.post("/api/admin/pause", json={"policy": "abandoned-drafts", "reason": "asked"}, headers=admin)
    found = api.get(OVERVIEW, headers=admin).json()
    assert [(each["id"], each["deleted"], each["whole"]) for each in found["runs"]] == [(run["runId"], 3, True)]
    assert found["nextRunAt"] > found["runs"][0]["startedAt"]
    drafts = next(line for line in found["backlog"] if line["policy"] == "abandoned-drafts")
    assert (drafts["rows"], drafts["table"], drafts["outcome"]) == (0, None, "completed")
    assert [(each["policy"], each["reason"]) for each in found["pauses"]] == [("abandoned-drafts", "asked")]
    assert found["flag"].keys() == {"value", "variant", "reason"}
    assert found["running"] is None and found["alerts"] == []


def test_an_unchanged_one_is_a_304(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    first = api.get(OVERVIEW, headers=admin)
    same = api.get(OVERVIEW, headers={**admin, "If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content, same.headers["cache-control"]) == (304, b"", "no-store")
    add_session(sql)
    changed = api.get(OVERVIEW, headers={**admin, "If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.headers["etag"] != first.headers["etag"]) == (200, True)


def test_above_ten_thousand_sessions_it_shows_what_a_run_counted(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    sql.execute(
        "insert into lull.sessions (kind, status, first_message_at) "
        "select 'chat', 'active', now() from generate_series(1, 12000)"
    )
    api.post(CLEANUP, headers=admin)
    sql.execute("insert into lull.sessions (kind, status) select 'chat', 'draft' from generate_series(1, 5)")
    counts = {(each["kind"], each["status"]): each for each in api.get(OVERVIEW, headers=admin).json()["sessions"]}
    assert counts["chat", "active"]["n"] == 12000
    assert counts["chat", "draft"] == {"kind": "chat", "status": "draft", "n": 0,
                                       "countedAt": counts["chat", "active"]["countedAt"]}
    assert counts["chat", "active"]["countedAt"] is not None


def test_it_is_for_the_admin(api: httpx.Client) -> None:
    assert problem_of(api.get(OVERVIEW)) == (401, "unauthorized")
