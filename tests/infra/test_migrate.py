"""`python -m infra migrate`: once, again, two at once, beside a team's own names, and by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra import migrate
from infra.local.environment import ROOT
from infra.local.postgres import embedded_binaries
from tests.database import migrated
from tests.sql.blank import blank_database, create_role
from tests.sql.catalog import catalog
from tests.sql.driver import scalar
from tests.sql_servers import Connection, Database, Server

POLICIES = [policy.arguments() for policy in load_policies(Settings())]


@pytest.fixture
def blank(sql_server: Server) -> Iterator[Database]:
    """A database of a Supabase project without Lull."""
    with blank_database(sql_server) as database:
        yield database


@pytest.fixture
def db(blank: Database) -> Connection:
    return blank.connect()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A copy of sql/ that a test may edit."""
    return Path(shutil.copytree(ROOT / "sql", tmp_path / "sql"))


def apply(database: Database, sql: Path = migrate.SQL) -> list[str]:
    """Migrate and return what was said."""
    said: list[str] = []
    migrate.apply(database.url, POLICIES, sql=sql, say=said.append)
    return said


def refusal(database: Database, sql: Path = migrate.SQL) -> str:
    """Migrate in vain and return the sentence."""
    with pytest.raises(psycopg.Error) as caught:
        apply(database, sql)
    return migrate.sentence(caught.value)


def names(sql: Path = migrate.SQL) -> list[str]:
    return sorted(path.name for path in (sql / "migrations").glob("*.sql"))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m infra migrate` as an operator does."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "infra", "migrate", *arguments]
    return subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True)


def test_the_first_run_applies_every_migration_and_a_second_one_none(blank: Database, db: Connection) -> None:
    assert apply(blank) == [f"applied {name}" for name in names()]
    before, applied = catalog(db), db.execute("select * from lull.migrations").fetchall()
    assert apply(blank) == []
    assert catalog(db) == before
    assert db.execute("select * from lull.migrations").fetchall() == applied


def test_each_migration_is_recorded_with_the_checksum_of_its_text(blank: Database, db: Connection) -> None:
    apply(blank)
    recorded = {
        row["name"]: row["checksum"] for row in db.execute("select name, checksum from lull.migrations")
    }
    assert recorded == {
        name: migrate.checksum((migrate.SQL / "migrations" / name).read_text()) for name in names()
    }


def test_a_second_run_keeps_every_row(blank: Database, db: Connection) -> None:
    apply(blank)
    db.execute("insert into lull.sessions (kind) values ('chat')")
    db.execute("insert into lull.switches (name, is_on) values ('cleanup', true)")
    apply(blank)
    assert scalar(db, "select count(*) from lull.sessions, lull.switches where is_on") == 1


def test_a_new_migration_is_applied_once_to_a_database_that_has_the_others(
    blank: Database, db: Connection, files: Path
) -> None:
    apply(blank)
    (files / "migrations" / "9000_more.sql").write_text(
        "create table lull.more (id int); insert into lull.more values (1);"
    )
    assert apply(blank, files) == ["applied 9000_more.sql"]
    assert apply(blank, files) == []
    assert scalar(db, "select count(*) from lull.more") == 1


def test_an_earlier_release_says_that_the_database_was_at_a_later_one(
    blank: Database, db: Connection, files: Path
) -> None:
    (files / "migrations" / "9000_more.sql").write_text("create table lull.more as select 1 as id;")
    apply(blank, files)
    for _ in range(2):
        assert apply(blank) == [
            "This database was at a later release (9000_more.sql). "
            "Its tables stay as they are, its functions are now those of this one."
        ]
    assert scalar(db, "select count(*) from lull.more") == 1
    assert apply(blank, files) == []


def test_an_edited_old_migration_is_refused_and_nothing_is_changed(
    blank: Database, db: Connection, files: Path
) -> None:
    apply(blank)
    before = catalog(db)
    edited = files / "migrations" / names()[0]
    edited.write_text(edited.read_text() + "\n-- one more word\n")
    (files / "functions" / "core" / "refusals.sql").write_text(
        "create function lull.new() returns int language sql as 'select 1';"
    )
    assert refusal(blank, files) == (
        f"Migration {names()[0]} was edited after it had been applied. Nothing was changed. "
        "Restore the file, and put the change into a new migration."
    )
    assert catalog(db) == before


def test_other_line_endings_are_no_edit(blank: Database, files: Path) -> None:
    apply(blank)
    for path in files.rglob("*.sql"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert apply(blank, files) == []


def test_a_failing_migration_changes_nothing(blank: Database, db: Connection, files: Path) -> None:
    (files / "migrations" / "9000_broken.sql").write_text("create table lull.more (id int); select 1 / 0;")
    assert refusal(blank, files) == "division by zero"
    assert scalar(db, "select to_regnamespace('lull') is null")


def test_an_invalid_policy_is_refused_by_name_and_nothing_is_changed(blank: Database, db: Connection) -> None:
    apply(blank)
    before = catalog(db)
    with pytest.raises(psycopg.Error) as caught:
        migrate.apply(blank.url, [*POLICIES, POLICIES[0] | {"name": "wrong", "clock": "seen"}])
    assert migrate.sentence(caught.value) == (
        'Policy "wrong" is invalid: its clock column seen does not exist in lull.sessions.'
    )
    assert catalog(db) == before


def test_two_at_once_both_succeed_and_apply_each_migration_once(blank: Database, db: Connection) -> None:
    gate = blank.connect()
    gate.execute("select pg_advisory_lock(%s)", (migrate.LOCK,))
    with ThreadPoolExecutor(2) as pool:
        deploys = [pool.submit(apply, blank) for _ in range(2)]
        wait_for_two(db)
        gate.execute("select pg_advisory_unlock(%s)", (migrate.LOCK,))
        said = [line for deploy in deploys for line in deploy.result(timeout=60)]
    assert sorted(said) == [f"applied {name}" for name in names()]


def wait_for_two(observer: Connection) -> None:
    """Return once two migrations of this database wait for the lock."""
    waiting = """select count(*) from pg_stat_activity where datname = current_database()
                 and application_name = 'lull migrate' and wait_event = 'advisory'"""
    while scalar(observer, waiting) < 2:
        pass


def test_two_processes_at_once_both_succeed(blank: Database, db: Connection) -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: run(DATABASE_URL=blank.url), range(2)))
    assert [(process.returncode, process.stderr) for process in ended] == [(0, ""), (0, "")]
    assert scalar(db, "select count(*) from lull.migrations") == len(names())


TEAM = """
    create table public.fe_chat_sessions (id int primary key, note text);
    insert into public.fe_chat_sessions values (1, 'ours');
    grant select on public.fe_chat_sessions to anon, service_role;
    create function public.cleanup_inactive_sessions() returns text language sql as $$ select 'ours' $$;
    grant execute on function public.cleanup_inactive_sessions() to anon;
    create view public.reading_sessions as select 1 as id;
"""
TAKEN = ["public.fe_chat_sessions", "public.reading_sessions", "public.cleanup_inactive_sessions()"]


def test_names_that_exist_already_are_left_alone_with_a_notice(blank: Database, db: Connection) -> None:
    db.execute(TEAM)
    state = """select oid, relacl::text from pg_class where relname in ('fe_chat_sessions', 'reading_sessions')
                      union all select oid, proacl::text from pg_proc where proname = 'cleanup_inactive_sessions'"""
    before = db.execute(state).fetchall()
    for _ in range(2):
        said = [line for line in apply(blank) if "was left alone" in line]
        assert [line.split(" exists")[0] for line in said] == TAKEN
        assert "rename yours and migrate again" in said[0]
    assert db.execute(state).fetchall() == before
    assert scalar(db, "select note || cleanup_inactive_sessions() from fe_chat_sessions") == "oursours"
    assert scalar(db, "select check_session_expiry(gen_random_uuid()) is null")


VIEWS = ["fe_chat_sessions", "reading_sessions", "session_participants"]


def views(db: Connection) -> list[str]:
    found = db.execute("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'")
    return sorted(row["relname"] for row in found)


def test_the_views_with_well_known_names_can_be_left_out_and_stay_so(blank: Database, db: Connection) -> None:
    apply(blank)
    assert views(db) == VIEWS
    without = run("--without-seed-views", DATABASE_URL=blank.url)
    assert "dropped the view public.fe_chat_sessions, which was Lull's" in without.stdout
    assert views(db) == []
    db.execute("create table if not exists public.fe_chat_sessions (id int primary key)")
    assert apply(blank) == []
    assert (views(db), scalar(db, "select count(*) from public.fe_chat_sessions")) == ([], 0)
    again = run("--with-seed-views", DATABASE_URL=blank.url)
    assert "public.fe_chat_sessions exists and was left alone" in again.stdout
    assert views(db) == VIEWS[1:]


def test_a_view_of_the_teams_is_not_dropped_with_lulls(blank: Database, db: Connection) -> None:
    db.execute("create view public.reading_sessions as select 1 as id")
    migrate.apply(blank.url, POLICIES, seed_views=False)
    assert views(db) == ["reading_sessions"]


def test_a_name_that_becomes_free_is_taken(blank: Database, db: Connection) -> None:
    db.execute(TEAM)
    apply(blank)
    db.execute("alter table fe_chat_sessions rename to our_sessions")
    assert len(apply(blank)) == 2
    assert scalar(db, "select count(*) from fe_chat_sessions") == 0
    assert scalar(db, "select count(*) from our_sessions") == 1


def test_a_name_of_ours_that_the_team_took_since_is_left_alone(blank: Database, db: Connection) -> None:
    apply(blank)
    db.execute("drop view public.fe_chat_sessions")
    db.execute("create table public.fe_chat_sessions (id int primary key)")
    db.execute("grant select on public.fe_chat_sessions to anon")
    assert apply(blank)[0].startswith("public.fe_chat_sessions exists and was left alone.")
    assert scalar(db, "select has_table_privilege('anon', 'public.fe_chat_sessions', 'select')")


def test_a_foreign_schema_lull_is_refused_and_untouched(blank: Database, db: Connection) -> None:
    db.execute("create schema lull")
    db.execute("create table lull.ours (id int)")
    assert refusal(blank) == (
        'There is a schema "lull" that Lull did not create. Nothing was changed. Rename it, then migrate again.'
    )
    assert scalar(db, "select count(*) from pg_class where relnamespace = 'lull'::regnamespace") == 1


def test_a_foreign_function_by_our_prefix_is_refused_and_untouched(blank: Database, db: Connection) -> None:
    db.execute("create function public.lull_x(int) returns int language sql as 'select 7'")
    assert refusal(blank) == (
        "Lull did not create public.lull_x(integer), and would have to replace it. Nothing was changed. "
        "Rename it, then migrate again."
    )
    assert scalar(db, "select public.lull_x(1)") == 7
    assert scalar(db, "select to_regnamespace('lull') is null")


def test_an_operation_of_the_previous_release_stays_for_its_callers(
    blank: Database, db: Connection, files: Path
) -> None:
    old = "create or replace function public.lull_old(p int) returns int language sql set search_path = '' as 'select 7';"
    (files / "functions" / "core" / "old.sql").write_text(old)
    apply(blank, files)
    apply(blank)
    db.execute("set role service_role")
    assert scalar(db, "select public.lull_old(1)") == 7


def test_default_privileges_of_older_projects_open_nothing(blank: Database, db: Connection) -> None:
    for kind in ("tables", "functions", "sequences"):
        for scope in ("in schema public ", ""):
            db.execute(
                f"alter default privileges {scope}grant all on {kind} to anon, authenticated, service_role"
            )
    apply(blank)
    opened = """select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'lull'::regnamespace
                  and c.relkind in ('r', 'v') and has_table_privilege('anon', c.oid, 'select')
                union select c.oid::regclass::text from pg_class c where c.relnamespace = 'public'::regnamespace
                  and c.relkind in ('r', 'v') and has_table_privilege('service_role', c.oid, 'select')
                union select p.oid::regprocedure::text from pg_proc p
                where p.pronamespace in ('public'::regnamespace, 'lull'::regnamespace)
                  and has_function_privilege('anon', p.oid, 'execute')"""
    assert db.execute(opened).fetchall() == []


def test_it_ends_with_the_reload_of_the_schema(blank: Database, db: Connection) -> None:
    db.execute("listen pgrst")
    apply(blank)
    (told,) = list(db.notifies(timeout=10, stop_after=1))
    assert (told.channel, told.payload) == ("pgrst", "reload schema")


def test_the_printed_file_pasted_twice_gives_the_same_schema(
    blank: Database, db: Connection, sql_server: Server, tmp_path: Path
) -> None:
    apply(blank)
    printed = run("--print")
    assert (printed.returncode, printed.stderr) == (0, "")
    (tmp_path / "lull.sql").write_text(printed.stdout)
    psql = [
        str(embedded_binaries() / "psql"),
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        str(tmp_path / "lull.sql"),
    ]
    with blank_database(sql_server) as other:
        for _ in range(2):
            pasted = subprocess.run([*psql, other.url], capture_output=True, text=True)
            assert pasted.returncode == 0, pasted.stderr
        assert catalog(other.connect()) == catalog(db)


def test_a_database_that_was_migrated_by_hand_can_be_migrated(blank: Database, db: Connection) -> None:
    db.execute(migrate.script(POLICIES).encode())
    before = catalog(db)
    assert apply(blank) == []
    assert catalog(db) == before


def test_an_owner_that_is_no_superuser_can_migrate(sql_server: Server) -> None:
    create_role(sql_server, "lull_owner")
    with blank_database(sql_server, owner="lull_owner") as database:
        owner = make_conninfo(database.url, user="lull_owner", password="secret")
        for _ in range(2):
            migrated(owner)
        assert scalar(database.connect(), "select count(*) from lull.policies") == len(POLICIES)


@pytest.mark.parametrize("arguments", [[], ["--database-url", ""]])
def test_without_a_database_it_says_what_to_do(arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "Set DATABASE_URL" in ended.stderr
    assert "python -m infra migrate --print > lull.sql" in ended.stderr


def test_the_command_says_what_it_did_and_why_it_did_not(blank: Database, db: Connection) -> None:
    first = run(DATABASE_URL=blank.url)
    assert first.stdout.splitlines() == [
        *(f"  applied {name}" for name in names()),
        f"The database is at this release; {len(POLICIES)} policies are stored.",
    ]
    db.execute("create function public.lull_x() returns int language sql as 'select 7'")
    second = run("--database-url", blank.url)
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith("Nothing was changed. Lull did not create public.lull_x()")


def test_an_unreachable_database_is_a_sentence() -> None:
    ended = run(DATABASE_URL="postgresql://postgres:secret@127.0.0.1:1/postgres")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Nothing was changed. ")
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr
