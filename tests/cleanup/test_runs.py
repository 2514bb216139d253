"""GET /api/admin/runs[/{id}]: what runs did, how far one in flight is, and what a shadow run would have done."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg

from tests.callers import problem_of
from tests.calls import CLEANUP, add_drafts, add_session
from tests.sql.driver import Run

Sql = psycopg.Connection[Any]
Headers = dict[str, str]
RUNS = "/api/admin/runs"
DRAFTS = "abandoned-drafts"


def test_runs_are_listed_newest_first_page_by_page(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    add_drafts(sql, 2)
    ids = [api.post(CLEANUP, headers=admin, params={"policy": DRAFTS}).json()["runId"] for _ in range(3)]
    listed: list[dict[str, Any]] = []
    cursor = None
    while not listed or cursor:
        page = api.get(RUNS, headers=admin, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        listed += page["runs"]
        cursor = page["nextCursor"]
    assert [run["id"] for run in listed] == ids[::-1]
    assert [run["deleted"] for run in listed] == [0, 0, 2]
    assert {run["status"] for run in listed} == {"completed"}
    assert api.get(RUNS, headers=admin, params={"status": "failed"}).json()["runs"] == []
    assert problem_of(api.get(RUNS, headers=admin, params={"status": "odd"})) == (422, "invalid-request")


def test_a_run_in_flight_shows_how_far_it_is(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    add_drafts(sql, 5)
    add_session(sql, "room", "active", age="3 h")
    run = Run.begin(sql)
    run.open(DRAFTS)
    run.batch(DRAFTS, 2)
    shown = api.get(f"{RUNS}/{run.id}", headers=admin).json()
    progress = shown["progress"]
    assert (progress["rowsDone"], progress["rowsExpected"], progress["policy"]) == (2, 5, DRAFTS)
    assert (progress["policiesDone"], progress["leaseExpired"]) == (0, False)
    by_name = {each["name"]: each for each in shown["lines"]}
    assert (by_name[DRAFTS]["outcome"], by_name["empty-rooms"]["outcome"]) == ("open", "pending")
    assert shown["run"]["status"] == "running"
    run.drain(DRAFTS)
    run.finish()
    shown = api.get(f"{RUNS}/{run.id}", headers=admin).json()
    assert (shown["progress"], shown["run"]["deleted"]) == (None, 5)
    assert problem_of(api.get(f"{RUNS}/{uuid4()}", headers=admin)) == (404, "not-found")
