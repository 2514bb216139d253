"""`infra/supabase/pg_cron.sql`, as it is, on the real pg_cron: it fires, cleans, shows red, and leaves others alone.

pg_net and Vault are on hosted projects only. They are not run here: one test gives them a stand-in, which shows that
what Lull sends is what their documents ask for, and no more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from infra.local.postgres import LocalPostgres
from tests.database import migrated
from tests.release.pg_cron import (
    BINARIES,
    JOBS,
    SETTINGS,
    Sql,
    let_jobs_log_in,
    needs_pg_cron,
    outcomes,
    wait_until,
)
from tests.sql.blank import create_role
from tests.sql.driver import add_session, scalar

pytestmark = needs_pg_cron
OURS = {"lull-cleanup", "lull-sweep", "lull-cleanup-watch", "lull-cleanup-history", "lull-roll-up"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    """A project whose database belongs to a role that is no superuser, and where somebody has a job."""
    home = tmp_path_factory.mktemp("pg_cron")
    with LocalPostgres(home, "secret", environ=os.environ, binaries=BINARIES, settings=SETTINGS) as server:
        create_role(server, "operator")
        with psycopg.connect(server.url(), autocommit=True) as admin:
            let_jobs_log_in(home, admin)
            admin.execute("alter database postgres owner to operator")
            admin.execute("create extension pg_cron")
            admin.execute("grant usage on schema cron to operator")
        yield server


@pytest.fixture(scope="module")
def blank(server: LocalPostgres) -> Iterator[Sql]:
    """The role's connection, before Lull is there."""
    with psycopg.connect(
        make_conninfo(server.url(), user="operator", password="secret"), autocommit=True, row_factory=dict_row
    ) as connection:
        connection.execute("select cron.schedule('nightly-report', '0 5 * * *', 'select 1')")
        yield connection


@pytest.fixture(scope="module")
def sql(blank: Sql) -> Sql:
    """The same, with Lull and its jobs."""
    migrated(make_conninfo(blank.info.dsn, password="secret"))
    blank.execute(JOBS.encode())
    return blank


def jobs(sql: Sql) -> dict[str, int]:
    return {row["jobname"]: row["jobid"] for row in sql.execute("select jobname, jobid from cron.job")}


def run_command(sql: Sql, job: str) -> None:
    """Run what a job runs, here and now."""
    sql.execute(scalar(sql, "select command from cron.job where jobname = %s", job).encode())


def test_without_lull_it_says_what_to_do_and_schedules_nothing(blank: Sql) -> None:
    with pytest.raises(psycopg.Error, match="run `python -m infra migrate` first"):
        blank.execute(JOBS.encode())
    blank.execute("rollback")
    assert set(jobs(blank)) == {"nightly-report"}


def test_it_can_be_run_again_and_replaces_its_own_jobs_alone(sql: Sql) -> None:
    before = jobs(sql)
    assert set(before) == OURS | {"nightly-report"}
    sql.execute("select cron.schedule('lull-cleanup', '0 0 1 1 *', 'select 1')")
    sql.execute(JOBS.encode())
    assert jobs(sql) == before
    assert scalar(sql, "select schedule from cron.job where jobname = 'lull-cleanup'") == "* * * * *"


def test_a_tick_really_cleans_and_a_bad_end_is_red(sql: Sql) -> None:
    sql.execute(
        "insert into lull.sessions (kind, last_activity_at) "
        "select 'chat', now() - interval '25 hours' - n * interval '1 second' from generate_series(1, 300) n"
    )
    poison, fresh = add_session(sql, idle="30 hours"), add_session(sql, idle="23 hours")
    sql.execute(f"""
        create function public.refuse() returns trigger language plpgsql as $$
        begin if old.id = '{poison}' then raise 'not this one'; end if; return old; end $$;
        create trigger refuse before delete on lull.sessions for each row execute function public.refuse();
    """)
    # An earlier run had a bad end too, so that the watch is red whichever of this tick's jobs is first.
    sql.execute(
        "insert into lull.cleanup_runs (status, caller, at, started_at, lease_seconds, lease_until, finished_at) "
        "select 'abandoned', 'test', at, at, 45, at, at from (select now() - interval '1 day') x (at)"
    )
    sql.execute(
        "insert into lull.cleanup_run_policies (run_id, policy, position, definition) "
        "select r.id, p.name, p.position, '{}' from lull.cleanup_runs r, lull.policies p"
    )
    sql.execute(
        "select cron.schedule('lull-cleanup-watch', '* * * * *', 'select public.lull_watch_cleanup()')"
    )
    wait_until(lambda: bool(outcomes(sql, "lull-cleanup") and outcomes(sql, "lull-cleanup-watch")))

    assert outcomes(sql, "lull-cleanup")[0][0] == "succeeded"
    assert {str(row["id"]) for row in sql.execute("select id from lull.sessions")} == {poison, fresh}
    assert scalar(sql, "select count(*) from lull.archive_keys") == 300
    last = "select status from lull.cleanup_runs where caller = 'pg_cron'"
    assert scalar(sql, last) == "failed"
    status, message = outcomes(sql, "lull-cleanup-watch")[0]
    assert (status, message.startswith("ERROR:  Run ")) == ("failed", True)
    with pytest.raises(psycopg.Error, match="abandoned-drafts: 1 row could not be deleted"):
        run_command(sql, "lull-cleanup-watch")

    run_command(sql, "lull-cleanup")
    assert scalar(sql, "select count(*) from lull.cleanup_runs where caller = 'pg_cron'") == 1, "not due"
    assert scalar(sql, "show statement_timeout") == "30s", "in force for the step that follows it"
    sql.execute("reset statement_timeout")


def test_only_its_own_history_is_forgotten_after_a_week(sql: Sql, server: LocalPostgres) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(
            "insert into cron.job_run_details (jobid, runid, username, start_time) "
            "select jobid, 1000 + 2 * jobid + n, username, now() - n * interval '5 days' "
            "from cron.job, generate_series(1, 2) n"
        )
    run_command(sql, "lull-roll-up")
    run_command(sql, "lull-cleanup-history")
    kept = sql.execute(
        "select j.jobname, count(*) as n from cron.job_run_details d join cron.job j using (jobid) "
        "where d.runid > 1000 group by 1"
    )
    assert {row["jobname"]: row["n"] for row in kept} == dict.fromkeys(OURS, 1) | {"nightly-report": 2}


def test_with_pg_net_and_vault_the_api_is_called_with_the_secret(sql: Sql) -> None:
    sql.execute("""
        create schema vault;
        create table vault.decrypted_secrets (name text, decrypted_secret text);
        create schema net;
        create table net.sent (url text, headers jsonb, body jsonb, timeout integer);
        create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
          headers jsonb default '{}', timeout_milliseconds integer default 5000)
        returns bigint language sql as $$
          insert into net.sent values (url, headers, body, timeout_milliseconds); select 1::bigint $$;
    """)
    sql.execute(JOBS.encode())
    assert "lull-cleanup-files" not in jobs(sql), "not without an address and a secret"
    sql.execute(
        "insert into vault.decrypted_secrets values ('lull_api_url', 'https://lull.example/'), "
        "('lull_cron_secret', 'the secret of Vault')"
    )
    sql.execute(JOBS.encode())
    run_command(sql, "lull-cleanup-files")
    assert sql.execute("select * from net.sent").fetchall() == [
        {
            "url": "https://lull.example/api/admin/cleanup-sessions",
            "headers": {"Content-Type": "application/json", "Authorization": "Bearer the secret of Vault"},
            "body": {},
            "timeout": 60000,
        }
    ]


def test_its_way_to_stop_takes_its_own_jobs_away(sql: Sql) -> None:
    found = re.search(r"^-- To stop: +(.+;)$", JOBS, re.MULTILINE)
    assert found
    sql.execute(found[1].encode())
    assert set(jobs(sql)) == {"nightly-report"}


def test_the_queries_of_its_opening_comment_run(sql: Sql) -> None:
    shown = re.findall(r"^--.*(select .+ limit 10;|select public\..+;)$", JOBS, re.MULTILINE)
    assert len(shown) == 3
    for query in shown:
        sql.execute(query.encode())
