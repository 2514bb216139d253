"""What a database says about itself: faults that are planted are in it, and nothing where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sql.driver import call, policies, run_cleanup, scalar
from tests.sql_servers import Connection


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


def grant_faults(db: Connection) -> set[tuple[str, str, str]]:
    faults = call(db, "lull_inspect")["grant_faults"]
    return {(fault["object"], fault["role"], fault["fault"]) for fault in faults}


def test_a_fresh_database_has_no_fault(db: Connection) -> None:
    found = call(db, "lull_inspect")
    assert found["grant_faults"] == []
    assert all(found["indexes"].values())
    assert all(trigger["enabled"] for trigger in found["triggers"])
    assert (found["autovacuum"], found["cron_jobs"], found["callers"]) == (True, None, [])
    assert {table["name"] for table in found["tables"]} >= {"lull.sessions", "lull.archive_pages"}


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        (
            "grant execute on function public.lull_stats to anon",
            {("public.lull_stats(integer)", "anon", "may be executed")},
        ),
        (
            "grant execute on function public.lull_stats to public",
            {("public.lull_stats(integer)", "PUBLIC", "may be executed")},
        ),
        (
            "grant execute on function public.check_session_expiry to authenticated",
            {("public.check_session_expiry(uuid)", "authenticated", "may be executed")},
        ),
        (
            "grant execute on function lull.effective_policies to service_role",
            {("lull.effective_policies()", "service_role", "may be executed")},
        ),
        (
            "revoke execute on function public.lull_stats from service_role",
            {("public.lull_stats(integer)", "service_role", "cannot be executed")},
        ),
        (
            "alter function public.lull_stats security invoker",
            {
                (
                    "public.lull_stats(integer)",
                    "any caller",
                    "does not run with its owner's rights and the search path pg_catalog, pg_temp",
                )
            },
        ),
        ("grant select on lull.archive_pages to anon", {("lull.archive_pages", "anon", "may be read or written")}),
        (
            "grant select (title) on lull.sessions to authenticated",
            {("lull.sessions", "authenticated", "may be read or written")},
        ),
        (
            "grant usage on sequence lull.archive_id_seq to anon",
            {("lull.archive_id_seq", "anon", "may be read or written")},
        ),
        (
            "grant select on public.fe_chat_sessions to anon",
            {("public.fe_chat_sessions", "anon", "may be read or written")},
        ),
        ("grant usage on schema lull to authenticated", {("schema lull", "authenticated", "may be used")}),
    ],
)
def test_a_right_that_should_not_be_is_named(
    statement: str, faults: set[tuple[str, str, str]], db: Connection
) -> None:
    db.execute(statement.encode())
    assert grant_faults(db) == faults


def test_a_role_that_reads_for_the_team_is_no_fault(db: Connection) -> None:
    db.execute("create role analyst; grant usage on schema lull to analyst")
    db.execute("grant select on lull.sessions to analyst")
    assert grant_faults(db) == set()


def test_it_is_read_only(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("set transaction read only")
        assert call(db, "lull_cleanup_health", p_interval_minutes=15)
        assert call(db, "lull_check_policies", p_policies=policies()) is not None
        assert call(db, "lull_inspect")["tables"]
        assert scalar(db, "select pg_current_xact_id_if_assigned()") is None, "nothing was written"


def test_options_of_a_table_decide_when_it_is_vacuumed(db: Connection) -> None:
    db.execute(
        "alter table lull.sessions set (autovacuum_enabled = off, autovacuum_vacuum_threshold = 7, "
        "autovacuum_vacuum_scale_factor = 0)"
    )
    tables = {table["name"]: table for table in call(db, "lull_inspect")["tables"]}
    assert (tables["lull.sessions"]["enabled"], tables["lull.sessions"]["limit"]) == (False, 7)
    assert (tables["lull.archive_pages"]["enabled"], tables["lull.archive_pages"]["limit"]) == (True, 50)


def test_runs_are_counted_by_caller_and_each_policy_says_when_it_was_attended(db: Connection) -> None:
    run_cleanup(db, p_caller="pg_cron")
    run_cleanup(db, "empty-rooms", p_caller="admin")
    found = call(db, "lull_inspect")
    assert {caller["caller"]: caller["runs"] for caller in found["callers"]} == {"pg_cron": 1, "admin": 1}
    assert all(found["attended"].values())


def checks(db: Connection, given: list[dict[str, Any]]) -> dict[str, Any]:
    return call(db, "lull_check_policies", p_policies=given)


def test_policies_as_they_are_stored_have_no_difference(db: Connection) -> None:
    found = checks(db, policies(empty_rooms={"growth_factor": 5.0}))
    assert found["others"] == []
    assert [line for line in found["policies"] if line["differences"] or line["error"]] == []
    moved = [*policies()[1:], policies()[0]]
    assert [line["differences"] for line in checks(db, moved)["policies"] if line["differences"]] == []


def test_a_difference_is_named_from_both_sides(db: Connection) -> None:
    given = policies(empty_rooms={"age_seconds": 7200, "max_rows": 5})[1:]
    given.append({**policies()[0], "name": "new-one"})
    found = checks(db, given)
    lines = {line["policy"]: line for line in found["policies"]}
    assert lines["empty-rooms"]["differences"] == [
        {"field": "age", "stored": "01:00:00", "given": "02:00:00"},
        {"field": "max_rows", "stored": "50000", "given": "5"},
    ]
    assert (lines["new-one"]["stored"], lines["new-one"]["differences"]) == (False, [])
    assert found["others"] == ["abandoned-drafts"]
    assert scalar(db, "select max_rows from lull.policies where name = 'empty-rooms'") == 50_000


def test_a_missing_index_comes_with_the_statement_that_makes_it(db: Connection) -> None:
    db.execute("drop index lull.sessions_abandoned_drafts")
    db.execute("drop index lull.user_sessions_updated_at")
    lines = {line["policy"]: line for line in checks(db, policies())["policies"]}
    assert "no index of lull.sessions serves" in lines["abandoned-drafts"]["error"]
    for name in ("abandoned-drafts", "stale-user-sessions"):
        db.execute(lines[name]["index"].encode())
    assert [line["policy"] for line in checks(db, policies())["policies"] if line["error"]] == []


def test_a_policy_that_cannot_run_has_a_reason_and_no_statement(db: Connection) -> None:
    [line] = checks(db, [{**policies()[0], "clock": "nothing"}])["policies"]
    assert "its clock column nothing does not exist" in line["error"]
    assert line["index"] is None


def test_pg_cron_s_commands_are_judged_and_not_shown(db: Connection) -> None:
    db.execute("create schema cron")
    db.execute("create table cron.job (jobid int, jobname text, schedule text, command text, active bool)")
    db.execute("create table cron.job_run_details (jobid int, runid int, status text)")
    jobs = [
        (
            1,
            "get",
            "select net.http_get('https://x/api/admin/cleanup-sessions', headers => '{\"a\": \"hush\"}')",
        ),
        (2, None, "select public.lull_cleanup_step(2000, 15)"),
        (3, "post", "select net.http_post(url := 'https://x' || '/api/admin/cleanup-sessions')"),
        (4, "other", "vacuum"),
    ]
    for number, name, command in jobs:
        db.execute("insert into cron.job values (%s, %s, '* * * * *', %s, true)", (number, name, command))
    db.execute(
        "insert into cron.job_run_details values (2, 1, 'failed'), (2, 2, 'succeeded'), (3, 3, 'failed')"
    )
    found = call(db, "lull_inspect")["cron_jobs"]
    assert [(job["name"], job["does"], job["last_status"]) for job in found] == [
        ("get", "dry-run", None),
        ("job 2", "sql", "succeeded"),
        ("post", "request", "failed"),
    ]
    assert "hush" not in json.dumps(found)
