"""GET, POST and DELETE /api/admin/holds: a row that no policy takes, whenever the hold is set."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.callers import problem_of
from tests.calls import CLEANUP, add_session
from tests.sql.driver import Run
from tests.sql.waiting import beside, wait_until_blocked

Sql = psycopg.Connection[Any]
Connect = Callable[..., Sql]
Headers = dict[str, str]
HOLDS = "/api/admin/holds"
DRAFTS = "abandoned-drafts"


def hold(api: httpx.Client, admin: Headers, key: str, target: str = "lull.sessions", **more: Any) -> httpx.Response:
    return api.post(HOLDS, headers=admin, json={"target": target, "key": key, "reason": "a lawsuit", **more})


def test_a_held_row_is_taken_by_no_policy_until_it_is_released(
    api: httpx.Client, admin: Headers, sql: Sql, team_chats: str
) -> None:
    mine = add_session(sql)
    row = sql.execute(
        "insert into team_chats (updated_at) values (now() - interval '26 h') returning id::text"
    ).fetchone()
    assert row
    assert hold(api, admin, mine).json()["hold"]["reason"] == "a lawsuit"
    assert hold(api, admin, row["id"].upper(), team_chats, until="2999-01-01T00:00:00Z").status_code == 201
    listed = api.get(HOLDS, headers=admin).json()
    assert [(each["target"], each["key"]) for each in listed["holds"]] == [("lull.sessions", mine), (team_chats, row["id"])]
    first = api.get(HOLDS, headers=admin, params={"limit": 1}).json()
    rest = api.get(HOLDS, headers=admin, params={"limit": 1, "cursor": first["nextCursor"]}).json()
    assert (first["holds"] + rest["holds"], rest["nextCursor"]) == (listed["holds"], None)
    report = api.get(CLEANUP, headers=admin, params={"policy": DRAFTS}).json()
    assert report["wouldDelete"] == 0
    for target, key in (("lull.sessions", mine), (team_chats, row["id"])):
        assert api.delete(HOLDS, headers=admin, params={"target": target, "key": key}).status_code == 200
        gone = api.delete(HOLDS, headers=admin, params={"target": target, "key": key})
        assert problem_of(gone) == (404, "not-found")
    assert api.get(CLEANUP, headers=admin, params={"policy": DRAFTS}).json()["wouldDelete"] == 2


def test_a_hold_that_is_over_holds_nothing_and_makes_room(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    draft = add_session(sql)
    assert hold(api, admin, draft, until="2999-01-01T00:00:00Z").status_code == 201
    sql.execute("update lull.holds set until = now() - interval '1 s'")
    assert api.get(HOLDS, headers=admin).json()["holds"] == []
    assert api.get(CLEANUP, headers=admin).json()["wouldDelete"] == 1
    assert hold(api, admin, draft).status_code == 201


@pytest.mark.parametrize(
    ("change", "problem", "named"),
    [
        ({"until": "2020-01-01T00:00:00Z"}, (422, "invalid-request"), "until: must be in the future"),
        ({"target": "lull.cleanup_runs"}, (422, "invalid-request"), "target: must be one of lull.sessions"),
        ({"target": "public.nothing"}, (422, "invalid-request"), "target: must be one of lull.sessions"),
        ({"key": "no-uuid"}, (404, "not-found"), "no-uuid"),
        ({"key": str(uuid4())}, (404, "not-found"), "lull.sessions has no row"),
        ({"reason": " "}, (422, "invalid-request"), "reason"),
        ({"target": "lull.user_sessions", "key": "[1"}, (404, "not-found"), "[1"),
        ({"key": "line\r\nbreak\x0b"}, (404, "not-found"), "line  break "),
    ],
)
def test_a_hold_that_cannot_be_is_refused_by_name(
    change: dict[str, Any], problem: tuple[int, str], named: str, api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    answer = hold(api, admin, **{"key": add_session(sql), **change})
    assert problem_of(answer) == problem
    assert named in answer.json()["detail"]
    assert sql.execute("select count(*) as n from lull.holds").fetchone() == {"n": 0}


def test_a_doubled_hold_names_the_one_that_is_there(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    draft = add_session(sql)
    hold(api, admin, draft)
    answer = hold(api, admin, draft)
    assert problem_of(answer) == (422, "invalid-request")
    assert "is held already since" in answer.json()["detail"]
    assert "a lawsuit" in answer.json()["detail"]


def test_a_row_that_went_before_is_a_409_with_its_page_and_a_purged_one_without(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    draft = add_session(sql)
    api.post(CLEANUP, headers=admin)
    answer = hold(api, admin, draft)
    assert problem_of(answer) == (409, "row-gone")
    page = sql.execute("select id from lull.archive_pages").fetchone()
    assert page and answer.json()["page"] == page["id"]
    sql.execute("select lull.purge_pages(array(select id from lull.archive_pages))")
    sql.execute("delete from lull.archive_pages")
    answer = hold(api, admin, draft)
    assert (problem_of(answer), answer.json()["page"]) == ((409, "row-gone"), None)


def test_a_hold_beside_a_batch_that_has_the_row_waits_and_says_that_it_is_gone(
    api: httpx.Client, admin: Headers, sql: Sql, connect: Connect
) -> None:
    draft = add_session(sql)
    batching, holding = connect(autocommit=False), connect()
    run = Run.begin(sql)
    run.open(DRAFTS)
    run.batch(DRAFTS, 10, batching)
    with beside() as start:
        setting = start(
            holding.execute,
            "select public.lull_hold_row('lull.sessions', %s, 'late')",
            (draft,),
        )
        wait_until_blocked(sql, holding, batching)
        batching.commit()
        with pytest.raises(psycopg.Error) as refused:
            setting.result(20)
    assert (refused.value.sqlstate, refused.value.diag.message_detail) == ("PT409", "row-gone")
    assert sql.execute("select count(*) as n from lull.holds").fetchone() == {"n": 0}
    run.finish()


def test_a_hold_that_has_the_row_first_is_in_time(
    api: httpx.Client, admin: Headers, sql: Sql, connect: Connect
) -> None:
    draft = add_session(sql)
    holding = connect(autocommit=False)
    run = Run.begin(sql)
    run.open(DRAFTS)
    holding.execute("select public.lull_hold_row('lull.sessions', %s, 'in time')", (draft,))
    assert run.batch(DRAFTS, 10)["deleted"] == 0, "the row is locked: passed over"
    holding.commit()
    run.drain(DRAFTS)
    run.finish()
    assert sql.execute("select count(*) as n from lull.sessions").fetchone() == {"n": 1}
