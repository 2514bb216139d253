"""POST /api/admin/runs/{id}/restore and /api/admin/archive/restore: what a run took comes back, whole, and once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from api.cleanup.undo.restore import restore as bring_back
from api.database import Database
from tests.callers import problem_of
from tests.calls import CLEANUP, add_drafts, add_session, settings
from tests.scale import examples
from tests.sql.driver import Run

Sql = psycopg.Connection[Any]
Connect = Callable[..., Sql]
Headers = dict[str, str]

MANY = examples(500)  # 5,000 in `make release-check`
ROWS = {
    "lull.sessions": "to_jsonb(t) - 'last_activity_at'",
    "lull.session_participants": "to_jsonb(t)",
    "lull.session_files": "to_jsonb(t)",
    "public.team_chats": "to_jsonb(t)",
    "public.team_tags": "to_jsonb(t)",
    "public.team_marks": "to_jsonb(t)",
}


def restore(api: httpx.Client, admin: Headers, run: str, **body: Any) -> dict[str, Any]:
    answer = api.post(f"/api/admin/runs/{run}/restore", headers=admin, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def restore_all(api: httpx.Client, admin: Headers, run: str) -> int:
    """Call until nothing is left; return how many rows came back in all."""
    restored = 0
    while True:
        answer = restore(api, admin, run)
        restored += int(answer["restored"])
        if not answer["hasMore"]:
            return restored


def clean(api: httpx.Client, admin: Headers, policy: str | None = None) -> str:
    answer = api.post(CLEANUP, headers=admin, params={"policy": policy} if policy else {})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["runId"])


def snapshot(sql: Sql) -> dict[str, list[Any]]:
    return {
        table: [row["doc"] for row in sql.execute(f"select ({doc})::text as doc from {table} t order by 1")]
        for table, doc in ROWS.items()
    }


def fill(sql: Sql, sessions: int) -> None:
    """Stale drafts with a participant and a file each, and as many chats of the team's with two levels below."""
    add_drafts(sql, sessions)
    sql.execute(
        "insert into lull.session_participants (session_id, anonymous_id, name, is_active, last_seen_at) "
        "select id, 'a', 'Ada', true, now() - interval '30 h' from lull.sessions"
    )
    sql.execute(
        "insert into lull.session_files (session_id, bucket, path, name, size, content_type) "
        "select id, 'session-files', id || '/notes.txt', 'notes.txt', 5, 'text/plain' from lull.sessions"
    )
    sql.execute(
        "insert into team_chats (updated_at, notes) "
        "select now() - interval '26 h', '{\"a\": 1.50}' from generate_series(1, %s)",
        (sessions,),
    )
    sql.execute("insert into team_tags (label, weight, chat_id) select 'x', 1.10, id from team_chats")
    sql.execute("insert into team_marks (spots, tag_id) select '[2:3]={1,2}', id from team_tags, generate_series(1, 2)")


def test_a_run_is_restored_row_by_row_and_only_clocks_differ(
    api: httpx.Client, admin: Headers, sql: Sql, team_chats: str
) -> None:
    fill(sql, MANY)
    before = snapshot(sql)
    run = clean(api, admin)
    assert snapshot(sql) == {table: [] for table in ROWS}
    assert restore_all(api, admin, run) == 2 * MANY
    assert snapshot(sql) == before
    clocks = sql.execute("select min(last_activity_at) > now() - interval '1 minute' as new from lull.sessions")
    assert clocks.fetchone() == {"new": True}
    held = sql.execute("select count(*) as n from lull.holds where target = %s and until > now()", (team_chats,))
    assert held.fetchone() == {"n": MANY}
    again = restore(api, admin, run)
    assert (again["restored"], again["children"], again["remaining"], again["hasMore"]) == (0, 0, 0, False)
    assert snapshot(sql) == before
    shown = api.get(f"/api/admin/runs/{run}", headers=admin).json()
    assert (shown["run"]["deleted"], shown["run"]["restored"]) == (2 * MANY, 2 * MANY)


def test_a_restore_by_policy_or_ids_takes_only_those(
    api: httpx.Client, admin: Headers, sql: Sql, team_chats: str
) -> None:
    drafts = [add_session(sql) for _ in range(3)]
    add_session(sql, "room", "active", age="3 h")
    run = clean(api, admin)
    assert restore(api, admin, run, ids=drafts[:1])["restored"] == 1
    assert restore(api, admin, run, policy="empty-rooms")["restored"] == 1
    rows = sql.execute("select id::text, kind from lull.sessions").fetchall()
    assert sorted((row["kind"], row["id"]) for row in rows if row["kind"] == "chat") == [("chat", drafts[0])]
    assert restore(api, admin, run)["restored"] == 2


def test_what_cannot_come_back_is_named_and_comes_later(
    api: httpx.Client, admin: Headers, sql: Sql, team_chats: str
) -> None:
    sql.execute("insert into team_chats (updated_at) select now() - interval '26 h' from generate_series(1, 3)")
    sql.execute("insert into team_tags (label, chat_id) select 'x', id from team_chats")
    run = clean(api, admin)
    sql.execute("alter table team_tags add constraint no_x check (label <> 'x')")
    answer = restore(api, admin, run)
    assert (answer["restored"], answer["children"], answer["missingTotal"], answer["hasMore"]) == (3, 0, 3, False)
    assert {row["target"] for row in answer["missing"]} == {team_chats}
    assert all("no_x" in row["reason"] for row in answer["missing"])
    listed = api.get("/api/admin/archive", headers=admin, params={"target": team_chats}).json()["archived"]
    assert {(row["kind"], row["reason"]) for row in listed} == {("remainder", answer["missing"][0]["reason"])}
    sql.execute("alter table team_tags drop constraint no_x")
    answer = restore(api, admin, run)
    assert (answer["restored"], answer["children"], answer["missingTotal"]) == (0, 3, 0)


def test_two_restores_at_once_do_not_double(api: httpx.Client, admin: Headers, sql: Sql, team_chats: str) -> None:
    fill(sql, 100)
    before = snapshot(sql)
    run = clean(api, admin)
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda _: restore_all(api, admin, run), range(2)))
    assert sum(counts) == 200
    assert snapshot(sql) == before


def test_a_restore_beside_a_purge_is_whole_or_busy(
    api: httpx.Client, admin: Headers, sql: Sql, connect: Connect
) -> None:
    add_drafts(sql, 3)
    run = clean(api, admin)
    purge = connect(autocommit=False)
    purge.execute("select lull.purge_pages(array(select id from lull.archive_pages))")
    answer = restore(api, admin, run)
    assert (answer["restored"], answer["busy"], answer["hasMore"]) == (0, 3, True)
    purge.execute("delete from lull.archive_pages")
    purge.commit()
    sql.execute("update lull.cleanup_run_policies set completed_at = completed_at - interval '8 days'")
    answered = api.post(f"/api/admin/runs/{run}/restore", headers=admin)
    assert problem_of(answered) == (410, "archive-purged")


def test_a_restore_beside_a_run_in_flight_brings_back_what_it_has_taken(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    add_drafts(sql, 4)
    run = Run.begin(sql)
    run.open("abandoned-drafts")
    run.batch("abandoned-drafts", 2)
    assert restore(api, admin, run.id)["restored"] == 2
    run.drain("abandoned-drafts")
    run.finish()
    assert restore(api, admin, run.id)["restored"] == 2, "a restored session is as new as its restore: it stays"
    assert sql.execute("select count(*) as n from lull.sessions").fetchone() == {"n": 4}


def test_an_owner_is_found_by_id_or_email_and_gets_everything_back(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    ada, bob = str(uuid4()), str(uuid4())
    sql.execute("delete from auth.users where email = 'ada@example.com'")
    sql.execute("insert into auth.users (id, email) values (%s, 'ada@example.com')", (ada,))
    for owner in (ada, ada, bob):
        add_session(sql, owner_id=owner)
    clean(api, admin)
    found = api.get("/api/admin/archive", headers=admin, params={"owner": "Ada@example.com"}).json()
    assert [row["owner"] for row in found["archived"]] == [ada, ada]
    assert found["nextCursor"] is None
    answer = api.post("/api/admin/archive/restore", headers=admin, json={"owner": "ada@example.com"})
    assert (answer.json()["restored"], answer.json()["remaining"]) == (2, 0)
    assert sql.execute("select count(*) as n from lull.sessions where owner_id = %s", (ada,)).fetchone() == {"n": 2}
    again = api.post("/api/admin/archive/restore", headers=admin, json={"owner": ada})
    assert (again.status_code, again.json()["restored"]) == (200, 0)
    for body in ({"owner": "nobody@example.com"}, {"owner": str(uuid4())}):
        assert problem_of(api.post("/api/admin/archive/restore", headers=admin, json=body)) == (404, "not-found")


def test_rows_come_back_by_target_and_ids_and_those_that_cannot_are_named(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    draft, purged, unknown = add_session(sql), str(uuid4()), str(uuid4())
    sql.execute("insert into lull.tombstones (session_id) values (%s)", (purged,))
    clean(api, admin)

    def ask(*ids: str, target: str = "lull.sessions") -> httpx.Response:
        return api.post("/api/admin/archive/restore", headers=admin, json={"target": target, "ids": ids})

    answer = ask(draft.upper(), purged, unknown).json()
    assert (answer["restored"], answer["missingTotal"]) == (1, 2)
    reasons = {row["key"]: row["reason"] for row in answer["missing"]}
    assert reasons == {purged: "purged: it is gone for good", unknown: "the archive does not hold it"}
    assert ask(draft).json()["restored"] == 0
    assert problem_of(ask(purged)) == (410, "archive-purged")
    assert problem_of(ask(unknown)) == (404, "not-found")
    assert problem_of(ask(draft, target="public.nothing")) == (422, "invalid-request")


def test_restores_that_cannot_be_understood_are_refused(api: httpx.Client, admin: Headers, sql: Sql) -> None:
    assert problem_of(api.post(f"/api/admin/runs/{uuid4()}/restore", headers=admin)) == (404, "not-found")
    run = clean(api, admin)
    refused: list[tuple[dict[str, Any], tuple[int, str]]] = [
        ({"policy": "no-such"}, (404, "not-found")),
        ({"ids": []}, (422, "invalid-request")),
        ({"ids": ["x"] * 1001}, (422, "invalid-request")),
        ({"owner": str(uuid4())}, (422, "invalid-request")),
    ]
    for body, problem in refused:
        answer = api.post(f"/api/admin/runs/{run}/restore", headers=admin, json=body)
        assert problem_of(answer) == problem, body
    for body in ({"owner": str(uuid4()), "ids": ["x"]}, {"target": "lull.sessions"}, {}):
        answer = api.post("/api/admin/archive/restore", headers=admin, json=body)
        assert problem_of(answer) == (422, "invalid-request"), body
    assert api.post(f"/api/admin/runs/{run}/restore").status_code == 401


def test_a_call_ends_with_its_time_and_the_next_one_goes_on(environment: dict[str, str], sql: Sql) -> None:
    add_drafts(sql, 40)
    run = Run.begin(sql)
    run.open("abandoned-drafts")
    for _ in range(4):
        run.batch("abandoned-drafts", 10)
    run.finish()
    database = Database(settings(environment))
    answers = [bring_back(database, {"run": run.id}, budget_seconds=0) for _ in range(4)]
    assert [answer.restored for answer in answers] == [10] * 4, "a batch at least"
    assert [answer.remaining for answer in answers] == [30, 20, 10, 0]
    assert [answer.has_more for answer in answers] == [True, True, True, False]


def test_a_text_is_looked_for_page_by_page_and_says_how_far_it_has_read(
    api: httpx.Client, admin: Headers, sql: Sql
) -> None:
    wanted = add_session(sql, title="Tax return 50%")
    clean(api, admin, "abandoned-drafts")
    for _ in range(3):
        add_session(sql, title="another")
        clean(api, admin, "abandoned-drafts")

    def ask(**params: Any) -> dict[str, Any]:
        answer = api.get("/api/admin/archive", headers=admin, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert [row["key"] for row in ask(text="RETURN 50%")["archived"]] == [wanted]
    assert ask(text=wanted)["archived"][0]["row"]["title"] == "Tax return 50%"
    row = sql.execute("select public.lull_search_archive(p_text => 'tax return', p_seconds => 0) as found").fetchone()
    assert row and row["found"]["archived"] == []
    assert row["found"]["scanned_back"] is not None
    pages: list[str] = []
    cursor = None
    while not pages or cursor:
        page = ask(limit=1, **({"cursor": cursor} if cursor else {}))
        pages += [row["key"] for row in page["archived"]]
        cursor = page["nextCursor"]
    assert len(pages) == len(set(pages)) == 4
    assert problem_of(api.get("/api/admin/archive?cursor=e30x", headers=admin)) == (422, "invalid-request")
