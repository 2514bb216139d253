"""POST /api/admin/pause and /unpause: all policies or one, without a deploy, and runs say so."""

from typing import Any

import httpx
import psycopg

from tests.callers import problem_of
from tests.calls import CLEANUP, add_session, count_sessions
from tests.sql.driver import Run, line

Sql = psycopg.Connection[Any]
Headers = dict[str, str]
PAUSE, UNPAUSE = "/api/admin/pause", "/api/admin/unpause"
DRAFTS = "abandoned-drafts"


def pause(api: httpx.Client, admin: Headers, **body: Any) -> list[dict[str, Any]]:
    answer = api.post(PAUSE, headers=admin, json={"reason": "moving house", **body})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["pauses"]
    return found


def test_a_pause_of_all_stops_each_run_until_it_ends(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    add_session(sql)
    assert [(each["policy"], each["reason"]) for each in pause(api, admin)] == [(None, "moving house")]
    skipped = api.post(CLEANUP, headers=admin).json()
    assert (skipped["skipped"], skipped["reason"]) == (True, "paused")
    assert skipped["message"].endswith(": moving house. Nothing was changed.")
    assert api.get(CLEANUP, headers=admin).json()["wouldDelete"] == 1, "a dry run may be read"
    assert api.post(UNPAUSE, headers=admin).json() == {"pauses": []}
    assert api.post(CLEANUP, headers=admin).json()["deleted"] == 1


def test_a_pause_of_one_policy_leaves_the_others_and_the_report_says_so(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    add_session(sql)
    add_session(sql, "room", "active", age="3 h")
    pause(api, admin, policy=DRAFTS)
    report = api.post(CLEANUP, headers=admin).json()
    by_name = {each["name"]: each for each in report["policies"]}
    assert (by_name[DRAFTS]["outcome"], by_name[DRAFTS]["deleted"]) == ("paused", 0)
    assert "paused since" in by_name[DRAFTS]["stopReason"]
    assert by_name["empty-rooms"]["deleted"] == 1
    alone = api.post(CLEANUP, headers=admin, params={"policy": DRAFTS}).json()
    assert alone["message"].startswith(f"Cleanup of {DRAFTS} is paused since")
    assert api.post(UNPAUSE, headers=admin, json={"policy": DRAFTS}).json()["pauses"] == []
    assert api.post(CLEANUP, headers=admin).json()["deleted"] == 1


def test_a_pause_ends_by_itself_and_keeps_its_beginning_when_it_is_changed(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    add_session(sql)
    since = pause(api, admin)[0]["since"]
    changed = pause(api, admin, reason="longer", until="2999-01-01T00:00:00Z")[0]
    assert (changed["since"], changed["reason"], changed["until"]) == (since, "longer", "2999-01-01T00:00:00Z")
    assert api.get(PAUSE, headers=admin).json()["pauses"] == [changed]
    sql.execute("update lull.switches set until = now() - interval '1 s'")
    assert api.get(PAUSE, headers=admin).json()["pauses"] == []
    assert api.post(CLEANUP, headers=admin).json()["deleted"] == 1


def test_a_pause_stops_the_run_in_flight_at_its_next_batch(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    for _ in range(3):
        add_session(sql)
    run = Run.begin(sql)
    run.open(DRAFTS)
    run.batch(DRAFTS, 1)
    pause(api, admin, policy=DRAFTS)
    assert run.batch(DRAFTS, 1)["done"]
    assert count_sessions(sql) == 2
    report = run.finish()
    assert line(report, DRAFTS)["outcome"] == "paused"


def test_a_pause_that_cannot_be_is_refused_by_name(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    for body, named in (
        ({"reason": "x", "policy": "no-such"}, "policy: must be one of"),
        ({"reason": "x", "until": "2020-01-01T00:00:00Z"}, "until: must be in the future"),
        ({}, "reason"),
        ({"reason": "x", "until": "tomorrow"}, "until: must be a time"),
    ):
        answer = api.post(PAUSE, headers=admin, json=body)
        assert problem_of(answer) == (422, "invalid-request")
        assert named in answer.json()["detail"]
    assert api.post(PAUSE, json={"reason": "x"}).status_code == 401
