"""A database that was dumped and restored into a fresh cluster: what Lull knows of itself, who may call it, its log."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra import migrate
from infra.local.postgres import LocalPostgres
from tests.database import migrated
from tests.sql.blank import blank_database
from tests.sql.catalog import catalog
from tests.sql.driver import Connection, add_session, call, line, policies, run_cleanup, scalar
from tests.sql_servers import Database, Server, database_on, local_postgres

SERVICE = {"service": True}
Dump = Callable[..., Path]
CLASSIC = """
    alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
    alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
"""


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LocalPostgres]]:
    """A second server of each version, on which few transactions have run."""
    started: dict[str, LocalPostgres] = {}
    with ExitStack() as running:

        def fresh(version: str) -> LocalPostgres:
            major = version.split(".")[0]
            if major not in started:
                home = tmp_path_factory.mktemp(f"fresh{major}")
                started[major] = running.enter_context(local_postgres(int(major), home))
            return started[major]

        yield fresh


@pytest.fixture
def server(sql_server: Server) -> LocalPostgres:
    if not isinstance(sql_server, LocalPostgres):
        pytest.skip("pg_dump of the given server's version is not known")
    return sql_server


@pytest.fixture
def other(server: LocalPostgres, clusters: Callable[[str], LocalPostgres]) -> Iterator[Database]:
    """A database with the roles of a project and nothing else, on the second server."""
    with blank_database(clusters(server.version)) as database:
        yield database


@contextmanager
def moved(server: LocalPostgres, source: Database, other: Database, *options: str) -> Iterator[Connection]:
    """Dump a database with these options, and restore it into another one."""
    dump = [str(server.binaries / "pg_dump"), "-Fc", *options, source.url]
    restore = [str(server.binaries / "pg_restore"), "--exit-on-error", "-n", "lull", "-n", "public", "-d", other.url]
    made = subprocess.run(dump, capture_output=True, check=True)
    # schema public is there already, and `-n` restores what is in a schema, not the schema
    with other.connect() as owner:
        owner.execute("create schema if not exists lull")
    done = subprocess.run(restore, input=made.stdout, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    yield other.connect()


def many_transactions(db: Connection) -> None:
    """Use up transaction ids, so that the stored ones lie ahead of a fresh cluster's."""
    db.execute("do $$ begin for i in 1..5000 loop perform pg_current_xact_id(); commit; end loop; end $$")


def claim(db: Connection) -> list[str]:
    """Take what is due, say that it was delivered, and return `event` by `event`."""
    claimed = call(db, "lull_claim_deliveries", p_limit=100, p_seconds=60)
    results = [{"id": event["id"], "outcome": "delivered"} for event in claimed["events"]]
    call(db, "lull_settle_deliveries", p_claim=claimed["claim"], p_results=results)
    return [event["event"] for event in claimed["events"]]


def append(db: Connection, session: str, event: str) -> None:
    db.execute("select lull.append_event(%s, 'chat', %s)", (session, event))


def apply(database: Database) -> list[str]:
    said: list[str] = []
    migrate.apply(database.url, policies(), say=said.append)
    return said


@pytest.fixture
def logged(sql_database: Database) -> Database:
    """A database whose webhook has delivered one event, with one more waiting and a third that was not read."""
    db = sql_database.connect()
    many_transactions(db)
    session = add_session(db)
    append(db, session, "delivered-before")
    assert claim(db) == ["delivered-before"]
    append(db, session, "read")
    db.execute("select lull.read_event_log(10)")
    append(db, session, "unread")
    return sql_database


def test_a_restored_log_is_delivered_once_and_to_the_end(server: LocalPostgres, logged: Database, other: Database) -> None:
    with moved(server, logged, other) as db:
        assert call(db, "lull_inspect")["deliveries"]["restored"] is True
        append(db, scalar(db, "select id from lull.sessions"), "new-in-this-cluster")
        delivered = [event for _ in range(5) for event in claim(db)]
        assert delivered == ["read", "unread", "new-in-this-cluster"]
        assert call(db, "lull_inspect")["deliveries"]["restored"] is False
        many_transactions(db)
        assert claim(db) == []


def test_a_migration_adapts_a_restored_log_and_says_so(server: LocalPostgres, logged: Database, other: Database) -> None:
    with moved(server, logged, other) as db:
        (said,) = [told for told in apply(other) if "event log" in told]
        assert "from a dump of another cluster" in said
        assert call(db, "lull_inspect")["deliveries"]["restored"] is False
        assert apply(other) == []
        assert [event for _ in range(5) for event in claim(db)] == ["read", "unread"]


def test_what_was_never_delivered_is_not_purged_after_a_restore(
    server: LocalPostgres, logged: Database, other: Database
) -> None:
    with moved(server, logged, other) as db:
        db.execute("update lull.session_events set at = now() - interval '500 days'")
        append(db, scalar(db, "select id from lull.sessions"), "new-in-this-cluster")
        assert line(run_cleanup(db, "old-events"), "old-events")["did"] == 0
        assert [event for _ in range(5) for event in claim(db)] == ["read", "unread", "new-in-this-cluster"]


def test_without_a_webhook_a_restored_log_is_read_from_the_last_day_on(
    server: LocalPostgres, sql_database: Database, other: Database
) -> None:
    source = sql_database.connect()
    many_transactions(source)
    session = add_session(source)
    for event in ("old", "recent"):
        append(source, session, event)
    source.execute("update lull.session_events set at = now() - interval '2 days' where event = 'old'")
    with moved(server, sql_database, other) as db:
        apply(other)
        append(db, session, "new")
        assert [event for _ in range(5) for event in claim(db)] == ["recent", "new"]


def test_a_log_of_this_cluster_is_never_taken_for_a_restored_one(sql_database: Database) -> None:
    db, writer = sql_database.connect(), sql_database.connect(autocommit=False)
    session = add_session(db)
    append(writer, session, "in-flight")  # its transaction is open, and later ones commit before it
    many_transactions(db)
    append(db, session, "after")
    assert scalar(db, "select lull.rebase_event_log()") == 0
    with db.transaction():
        append(db, session, "own")
        assert scalar(db, "select lull.rebase_event_log()") == 0
    writer.commit()
    writer.close()
    assert [event for _ in range(5) for event in claim(db)] == ["in-flight", "after", "own"]


def test_default_privileges_of_the_restore_open_nothing_and_a_migration_closes_them(
    server: LocalPostgres, sql_database: Database, other: Database
) -> None:
    with other.connect() as owner:
        owner.execute(CLASSIC)
    with moved(server, sql_database, other) as db:
        faults = call(db, "lull_inspect")["grant_faults"]
        assert {fault["role"] for fault in faults} >= {"anon", "authenticated"}
        for role in ("anon", "authenticated"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"role {role} may not call"):
                db.execute(f"set role {role}; select public.lull_inspect()")
            db.execute("reset role")
        apply(other)
        assert call(db, "lull_inspect")["grant_faults"] == []


@pytest.mark.parametrize("options", [["--schema-only"], ["--schema-only", "--no-comments"]], ids=" ".join)
def test_a_dump_without_rows_can_be_migrated(
    server: LocalPostgres, sql_database: Database, other: Database, options: list[str]
) -> None:
    with moved(server, sql_database, other, *options) as db:
        said = apply(other)
        assert any("dump without rows" in told for told in said)
        assert [told for told in said if "left alone" in told or "applied" in told] == []
        assert apply(other) == []
        assert catalog(db) == catalog(sql_database.connect())
        rows: dict[str, Any] = {}
        for name, database in {"source": sql_database.connect(), "restored": db}.items():
            columns = "name, key_columns, builtin, unless"
            rows[name] = database.execute(f"select {columns} from lull.targets order by name").fetchall()
        assert rows["source"] == rows["restored"]
        session = add_session(db)
        assert call(db, "lull_get_session", p_session=session, p_caller=SERVICE)["session"]["id"] == session


def test_a_dump_without_rows_of_an_earlier_release_says_what_to_do(
    server: LocalPostgres, sql_database: Database, other: Database
) -> None:
    sql_database.connect().execute("drop function lull.kept_state()")
    with moved(server, sql_database, other, "--schema-only") as db:
        with pytest.raises(psycopg.Error, match="from a dump without rows"):
            apply(other)
        assert scalar(db, "select count(*) from lull.migrations") == 0


def test_a_dump_without_comments_keeps_what_is_ours_ours(
    server: LocalPostgres, sql_database: Database, other: Database
) -> None:
    with moved(server, sql_database, other, "--no-comments") as db:
        assert call(db, "lull_inspect")["unmarked"] != []
        assert apply(other) == []
        assert call(db, "lull_inspect")["unmarked"] == []
        assert catalog(db) == catalog(sql_database.connect())


def test_without_comments_a_view_that_the_team_made_since_is_left_alone(
    server: LocalPostgres, sql_database: Database, other: Database
) -> None:
    source = sql_database.connect()
    source.execute("drop view public.fe_chat_sessions; create view public.fe_chat_sessions as select 1 as id")
    source.execute("comment on view public.reading_sessions is 'ours now'")
    with moved(server, sql_database, other, "--no-comments"):
        assert [told.split(" exists")[0] for told in apply(other)] == ["public.fe_chat_sessions"]
    with database_on(server) as blank:
        migrated(blank.url)
        blank.connect().execute("comment on view public.reading_sessions is 'ours now'")
        assert [told.split(" exists")[0] for told in apply(blank)] == ["public.reading_sessions"]
