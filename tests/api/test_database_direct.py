"""What only direct calls have: connections of their own, a login of their own, and no need of a Supabase."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.composition import create_app
from api.database import Database, pool, watch
from api.errors import DatabaseUnavailable, Problem
from api.settings import Settings
from infra.local import ports
from infra.local.postgres import UNSAFE, LocalPostgres
from tests.callers import SESSIONS, problem_of, start
from tests.calls import ADMIN, CLEANUP, settings
from tests.database import migrated
from tests.in_process import client_of
from tests.sessions.file_calls import announce
from tests.transports import call, running

MakeSettings = Callable[..., Settings]
Sql = psycopg.Connection[Any]

# what a Postgres has that never was a Supabase
NO_SUPABASE = """
    drop owned by anon, authenticated, service_role, authenticator;
    drop role anon, authenticated, service_role, authenticator;
"""


@pytest.fixture
def transport() -> str:
    """One way only."""
    return "direct"


@pytest.fixture
def plain_postgres(tmp_path: Path) -> Iterator[LocalPostgres]:
    """A Postgres of the test's own, migrated, without the roles of a Supabase."""
    server = LocalPostgres(tmp_path / "plain", "for-one-test", environ=os.environ, settings=UNSAFE)
    with server:
        with psycopg.connect(server.url(), autocommit=True) as sql:
            sql.execute(NO_SUPABASE)
        migrated(server.url())
        yield server


def server_processes(sql: Sql) -> list[int]:
    """The processes that serve Lull's connections."""
    rows = sql.execute("select pid from pg_stat_activity where application_name = 'lull' order by 1").fetchall()
    return [int(row["pid"]) for row in rows]


def test_a_connection_is_kept_and_few_are_opened(settings_for: MakeSettings, shared_connection: Sql) -> None:
    before = set(server_processes(shared_connection))

    def work() -> set[int]:
        database = Database(settings_for("direct", database_max_connections=2))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: call(database, "probe_wait", p_seconds=0.02), range(16)))
        return set(server_processes(shared_connection)) - before

    kept = work()
    assert 1 <= len(kept) <= 2
    deadline = time.monotonic() + 10
    while set(server_processes(shared_connection)) & kept:
        assert time.monotonic() < deadline, "the connections outlive the door"


def test_who_gets_no_connection_in_time_is_told_so(
    settings_for: MakeSettings, shared_connection: Sql
) -> None:
    database = Database(settings_for("direct", database_max_connections=1))
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(call, database, "probe_wait", p_seconds=1)
        while not running(shared_connection, "probe_wait"):
            time.sleep(0.01)
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            call(database, "probe_read", timeout_seconds=0.3)
        assert time.monotonic() - started < 0.9
        assert slow.result() == {"slept": True}
    assert call(database, "probe_read") == {"read only": "on"}


def test_a_server_that_falls_silent_is_given_up_after_the_time_out(
    database: Database, shared_connection: Sql
) -> None:
    before = set(server_processes(shared_connection))
    call(database, "probe_read")
    [process] = set(server_processes(shared_connection)) - before
    os.kill(process, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            call(database, "probe_read", timeout_seconds=0.5)
        assert time.monotonic() - started < 2
        assert call(database, "probe_read") == {"read only": "on"}
    finally:
        os.kill(process, signal.SIGCONT)


def test_the_watch_over_deadlines_ends_after_the_calls_and_begins_again_with_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.01)

    def watching() -> bool:
        return any(thread.name == "database deadlines" for thread in threading.enumerate())

    deadline = time.monotonic() + 10
    for _ in range(2):
        while watching():
            assert time.monotonic() < deadline, "the watch outlives the calls"
            time.sleep(0.01)
        call(database, "probe_wait", p_seconds=0.3)
        assert watching()


def test_a_process_without_threads_left_loses_no_connection(
    settings_for: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    database = Database(settings_for("direct", database_max_connections=1))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError):
            call(database, "probe_read")
    for _ in range(2):
        assert call(database, "probe_read", timeout_seconds=2) == {"read only": "on"}
    assert any(thread.name == "database deadlines" for thread in threading.enumerate())


def test_the_watch_survives_a_server_that_is_gone_at_the_deadline(database_url: str) -> None:
    with pool.PooledConnection.connect(database_url, autocommit=True) as connection:
        with pytest.raises(psycopg.Error):
            connection.ask(b"select pg_terminate_backend(pg_backend_pid())")
        connection.hang_up()


def test_a_connection_that_was_silent_for_long_is_not_trusted(
    database: Database, shared_connection: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(server_processes(shared_connection))
    call(database, "probe_read")
    monkeypatch.setattr(pool, "_LONGEST_IDLE_SECONDS", -1.0)
    [first] = set(server_processes(shared_connection)) - before
    call(database, "probe_read")
    assert first not in server_processes(shared_connection)


def test_a_function_that_is_dropped_and_made_anew_needs_no_restart(
    database: Database, shared_connection: Sql
) -> None:
    made = "create function public.probe_made(p_a {} default null) returns jsonb language sql return jsonb_build_object('a', p_a)"
    shared_connection.execute(made.format("integer"))
    try:
        assert call(database, "probe_made", p_a="1") == {"a": 1}
        shared_connection.execute("drop function public.probe_made")
        with pytest.raises(Problem, match="infra migrate"):
            call(database, "probe_made", p_a="1")
        shared_connection.execute(made.format("text"))
        assert call(database, "probe_made", p_a="1") == {"a": "1"}
    finally:
        shared_connection.execute("drop function public.probe_made")


def test_a_restart_of_the_server_costs_at_most_the_calls_that_were_under_way(
    plain_postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(settings(database_url=plain_postgres.url()))
    assert call(database, "lull_list_sessions", p_caller={"service": True})["sessions"] == []
    plain_postgres.stop()
    with pytest.raises(DatabaseUnavailable):
        call(database, "lull_list_sessions", p_caller={"service": True})
    monkeypatch.setattr(ports, "find_free", lambda: plain_postgres.port)
    plain_postgres.start()
    assert call(database, "lull_list_sessions", p_caller={"service": True})["sessions"] == []


def test_a_login_of_the_name_lull_api_may_call_the_operations_and_nothing_else(
    plain_postgres: LocalPostgres,
) -> None:
    with psycopg.connect(plain_postgres.url(), autocommit=True) as sql:
        sql.execute("create role lull_api login password 'for-one-test'")
    migrated(plain_postgres.url())
    url = plain_postgres.url(user="lull_api")
    with client_of(create_app(settings(database_url=url, session_token_secret="x" * 16))) as api:
        address, owner = start(api, kind="game")
        assert api.post(f"{address}/activate", headers=owner).status_code == 200
        assert api.post(CLEANUP, headers=ADMIN).status_code == 200
    with psycopg.connect(url, autocommit=True) as sql:
        for statement in ("select from lull.sessions", "delete from lull.sessions", "select lull.effective_policies()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sql.execute(statement)


def test_a_postgres_without_supabase_serves_everything_but_files_and_users(plain_postgres: LocalPostgres) -> None:
    told = settings(database_url=plain_postgres.url(), session_token_secret="x" * 16)
    with client_of(create_app(told)) as api, psycopg.connect(plain_postgres.url(), autocommit=True) as sql:
        address, owner = start(api, kind="game")
        assert api.post(f"{address}/activate", headers=owner).json()["session"]["status"] == "active"
        for answer in (
            api.post(f"{address}/files", json=announce(), headers=owner),
            api.get(SESSIONS, headers={"Authorization": "Bearer a.b.c"}),
        ):
            assert problem_of(answer) == (503, "not-configured")
            assert answer.json()["detail"] == "SUPABASE_URL is not set."
        sql.execute("update lull.sessions set last_activity_at = now() - interval '1 day'")
        done = api.post(CLEANUP, headers=ADMIN)
        assert (done.status_code, api.get(address, headers=owner).status_code) == (200, 410), done.text
        assert api.get("/api/health/cleanup").status_code == 200
        checks = {check["check"]: check for check in api.get("/api/admin/doctor", headers=ADMIN).json()["checks"]}
        assert checks["database"]["status"] == checks["grants"]["status"] == "ok", checks
