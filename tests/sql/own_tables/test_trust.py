"""The team's code runs as Lull's owner: whose code that may be, what it sees, and what a caller can smuggle in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.sql.blank import create_role
from tests.sql.driver import Connection, Run, call, line, run_cleanup, scalar
from tests.sql.own_tables.team import (
    SERVICE,
    adopt_sessions,
    create,
    did,
    dry_run,
    latest_run,
    lines_of,
    refusal,
    restore_run,
    transition,
)
from tests.sql_servers import Database, Server

KEY = "77777777-aaaa-4000-8000-000000000001"


@pytest.fixture
def db(sql_server: Server, sql_database: Database) -> Connection:
    """An adopted table with one stale draft, and a partner of the team's: a login with rights of its own."""
    create_role(sql_server, "team_partner")
    connection = sql_database.connect()
    create(
        connection,
        """create table public.talks (id uuid primary key default gen_random_uuid(), status text default 'draft',
          title text, updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        "create table public.ran (as_whom text, at timestamptz default clock_timestamp())",
        "grant insert on public.ran to public",
        "create schema partner authorization team_partner",
        "grant usage on schema partner to public",
    )
    connection.execute("insert into public.talks (id, updated_at) values (%s, now() - interval '3 days')", [KEY])
    return connection


@pytest.fixture
def partner(db: Connection, sql_database: Database) -> Iterator[Connection]:
    """The partner's own connection."""
    with psycopg.connect(
        sql_database.url,
        user="team_partner",
        password="secret",
        autocommit=True,
        row_factory=psycopg.rows.dict_row,
    ) as connection:
        yield connection


SPY = """create function partner.spy() returns trigger language plpgsql as $$
begin insert into public.ran values (current_user); return coalesce(new, old); end $$"""


def as_others(db: Connection) -> list[str]:
    """Return as whom code of the partner's ran, but for the partner."""
    rows = db.execute("select distinct as_whom from public.ran where as_whom <> 'team_partner'").fetchall()
    return [row["as_whom"] for row in rows]


def refuses_to_run(db: Connection, name: str = "team_partner") -> None:
    """The dry run and the run name the role, the row stays, other policies go on, and no foreign code ran."""
    (shown, *_) = (each for each in dry_run(db, "public.talks") if each["policy"].startswith("abandoned"))
    assert name in json.dumps(shown), shown
    report = run_cleanup(db)
    assert did(report, "public.talks") == 0
    assert name in json.dumps(lines_of(report, "public.talks"))
    assert line(report, "stale-user-sessions")["outcome"] == "completed"
    assert scalar(db, "select count(*) from public.talks") == 1
    assert as_others(db) == []


def test_a_table_below_of_an_untrusted_owner_is_refused_and_one_that_comes_later_fails_its_policy(
    db: Connection, partner: Connection
) -> None:
    adopt_sessions(db, "public.talks")
    db.execute("grant references, select on public.talks to team_partner")
    create(
        partner,
        SPY,
        "create table partner.mine (id int, talk uuid references public.talks on delete cascade)",
        "create index on partner.mine (talk)",
        "create trigger spy before delete on partner.mine for each row execute function partner.spy()",
    )
    partner.execute("insert into partner.mine values (1, %s)", [KEY])
    refuses_to_run(db)
    scalar(db, "select lull.release('public.talks')")
    said = refusal(db, "select lull.adopt_sessions('public.talks', 'chat')")
    assert "team_partner" in said


def test_a_trusted_role_is_named_in_the_adoption(db: Connection, partner: Connection) -> None:
    db.execute("grant references, select on public.talks to team_partner")
    create(
        partner,
        SPY,
        "create table partner.mine (id int primary key, talk uuid references public.talks on delete cascade)",
        "create index on partner.mine (talk)",
        "grant all on partner.mine to postgres",
    )
    partner.execute("insert into partner.mine values (1, %s)", [KEY])
    adopt_sessions(db, "public.talks", p_below={"partner.mine": "goes along"}, p_trust=["team_partner"])
    assert did(run_cleanup(db), "public.talks") == 1
    restore_run(db)
    assert scalar(db, "select count(*) from partner.mine") == 1


def test_the_doctor_names_roles_that_may_put_code_on_a_table_of_the_cascade(
    db: Connection, partner: Connection
) -> None:
    create(
        db,
        "create table public.parts (id int primary key, talk uuid references public.talks on delete cascade)",
        "create index on public.parts (talk)",
        "grant trigger on public.talks to team_partner",
        "grant references on public.parts to team_partner, public",
        "grant select, insert on public.talks to public",
    )
    adopt_sessions(db, "public.talks", p_below={"public.parts": "goes along"})
    grants = "select g -> 'grants' from jsonb_array_elements(lull.own_table_facts()) g"
    assert scalar(db, grants) == [
        {"table": "public.parts", "roles": ["public", "team_partner"]},
        {"table": "public.talks", "roles": ["team_partner"]},
    ]
    adopt_sessions(db, "public.talks", p_below={"public.parts": "goes along"}, p_trust=["team_partner"])
    assert scalar(db, grants) == [{"table": "public.parts", "roles": ["public"]}], "a trusted role is no stranger"


def test_a_trigger_by_a_role_with_the_trigger_right_fails_the_policy(db: Connection, partner: Connection) -> None:
    adopt_sessions(db, "public.talks")
    db.execute("grant trigger, select on public.talks to team_partner")
    create(
        partner,
        SPY,
        "create trigger spy before delete on public.talks for each row execute function partner.spy()",
    )
    refuses_to_run(db)


def test_a_trigger_function_of_another_owner_fails_the_policy(db: Connection, partner: Connection) -> None:
    adopt_sessions(db, "public.talks")
    create(partner, SPY)
    create(db, "create trigger spy after delete on public.talks for each row execute function partner.spy()")
    refuses_to_run(db)


@pytest.mark.parametrize("where", ["default", "check", "index", "domain", "generated"])
def test_a_function_of_another_owner_in_an_expression_fails_the_policy(
    db: Connection, partner: Connection, where: str
) -> None:
    adopt_sessions(db, "public.talks")
    create(
        partner,
        """create function partner.sees(text) returns text language plpgsql immutable as $$
        begin
          begin insert into public.ran values (current_user); exception when others then null; end;
          return $1;
        end $$""",
        "create domain partner.words as text check (partner.sees(value) is not null or value is null)",
    )
    create(
        db,
        {
            "default": "alter table public.talks alter title set default partner.sees('x')",
            "check": "alter table public.talks add check (partner.sees(title) is null or true)",
            "index": "create index on public.talks (partner.sees(title))",
            "domain": "alter table public.talks add words partner.words",
            "generated": "alter table public.talks add g text generated always as (partner.sees(title)) stored",
        }[where],
        "delete from public.ran",
    )
    refuses_to_run(db)


def test_a_trigger_of_the_teams_finds_its_own_names_and_no_temporary_ones(
    db: Connection, sql_database: Database
) -> None:
    """An unqualified name means what it means to the app; a caller's temporary table of that name is passed by."""
    create(
        db,
        "create table public.audit (what text)",
        """create function public.note() returns trigger language plpgsql as $$
        begin insert into audit values (tg_op); return null; end $$""",
        "create trigger note after insert or delete on public.talks for each row execute function public.note()",
    )
    adopt_sessions(db, "public.talks")
    caller = sql_database.connect()
    create(caller, "create temporary table audit (what text)", "set search_path = ''")
    assert did(run_cleanup(caller), "public.talks") == 1
    restore_run(caller, latest_run(db))
    assert scalar(caller, "select count(*) from pg_temp.audit") == 0
    assert scalar(db, "select array_agg(what order by what) from public.audit") == ["DELETE", "INSERT"]
    assert scalar(caller, "show search_path") == '""'


def test_the_search_path_of_the_database_is_the_one_that_triggers_see(db: Connection, sql_database: Database) -> None:
    create(
        db,
        "create schema app",
        "create table app.audit (what text)",
        """create function app.note() returns trigger language plpgsql as $$
        begin insert into audit values (tg_op); return null; end $$""",
        "create trigger note after delete on public.talks for each row execute function app.note()",
    )
    db.execute(sql.SQL("alter database {} set search_path = app, public").format(sql.Identifier(sql_database.name)))
    fresh = sql_database.connect()
    adopt_sessions(fresh, "public.talks")
    caller = sql_database.connect()
    caller.execute("set search_path = pg_catalog")
    assert did(run_cleanup(caller), "public.talks") == 1
    assert scalar(db, "select count(*) from app.audit") == 1


TYPES = ["text", "uuid", "jsonb", "json", "integer", "bigint", "boolean", "interval", "name", "regclass", "timestamptz", "oid", "xid8", "bytea", "numeric"]  # fmt: skip
ALIASES = {"integer": "int4", "bigint": "int8", "boolean": "bool"}


def with_temporary_types(caller: Connection) -> None:
    """Give a session types of its own with the names of built-in ones; their check says who runs it."""
    caller.execute(
        """create function pg_temp.seen() returns boolean language plpgsql as $$
        begin
          if current_user <> session_user and current_user <> 'service_role' then
            raise exception 'ran as %', current_user;
          end if;
          return true;
        end $$"""
    )
    for type_ in TYPES:
        for name in {type_, ALIASES.get(type_, type_)}:
            caller.execute(
                f'create domain pg_temp."{name}" as pg_catalog.{ALIASES.get(type_, type_)} check (pg_temp.seen())'
            )


@pytest.fixture
def smuggler(db: Connection, sql_database: Database, sql_server: Server) -> Iterator[Connection]:
    """A login that may become service_role, with temporary types."""
    create_role(sql_server, "team_smuggler")
    db.execute("grant service_role to team_smuggler")
    db.execute(sql.SQL("grant temporary on database {} to public").format(sql.Identifier(sql_database.name)))
    with psycopg.connect(
        sql_database.url,
        user="team_smuggler",
        password="secret",
        autocommit=True,
        row_factory=psycopg.rows.dict_row,
    ) as connection:
        connection.execute("set role service_role")
        with_temporary_types(connection)
        yield connection


def test_temporary_types_of_a_caller_never_run_as_lulls_owner(db: Connection, smuggler: Connection) -> None:
    create(
        db,
        """create table public.lines (id bigint generated always as identity primary key, body text,
          talk uuid not null references public.talks on delete cascade)""",
        "create index on public.lines (talk)",
    )
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    db.execute("insert into public.lines (talk, body) values (%s, 'x')", [KEY])
    assert did(run_cleanup(smuggler), "public.talks") == 1
    assert transition(smuggler, "activate", KEY, SERVICE)["restored"] is True
    assert transition(smuggler, "get", KEY, SERVICE)["session"]["status"] == "active"
    transition(smuggler, "end", KEY, SERVICE)
    db.execute("update public.talks set status = 'draft', updated_at = now() - interval '9 days'")
    db.execute("delete from lull.holds")
    db.execute("update lull.sessions set last_activity_at = now() - interval '9 days'")
    assert did(run_cleanup(smuggler), "public.talks") == 1
    restore_run(smuggler, latest_run(db))
    assert scalar(db, "select count(*) from public.lines") == 1


def test_temporary_types_of_a_writer_never_run_as_lulls_owner(
    db: Connection, sql_database: Database, partner: Connection
) -> None:
    adopt_sessions(db, "public.talks")
    create(db, "grant insert, select, update, delete on public.talks to team_partner")
    with_temporary_types(partner)
    partner.execute("insert into public.talks (title) values ('mine')")
    partner.execute("update public.talks set title = 'ours'")
    partner.execute("delete from public.talks")
    assert as_others(db) == []


@pytest.mark.parametrize("what", ["batch", "restore", "activation"])
def test_a_callers_pending_deferred_trigger_runs_as_the_caller_at_its_own_commit(
    db: Connection, smuggler: Connection, what: str
) -> None:
    create(
        db,
        """create table public.lines (id int primary key, talk uuid not null
          references public.talks on delete cascade deferrable initially deferred)""",
        "create index on public.lines (talk)",
        "create schema service authorization service_role",
    )
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    create(
        smuggler,
        "create table service.mine (id pg_catalog.int4)",
        """create function service.spy() returns trigger language plpgsql as $$
        begin insert into public.ran values (current_user); return null; end $$""",
        """create constraint trigger spy after insert on service.mine deferrable initially deferred
        for each row execute function service.spy()""",
    )
    if what != "batch":
        run_cleanup(db)
    run = Run.begin(smuggler) if what == "batch" else None
    policy = ""
    if run:
        policy = next(name for name in run.begun["policies"] if "talks" in name)
        run.open(policy)
    smuggler.execute("begin")
    smuggler.execute("insert into service.mine values (1)")
    if run:
        assert run.batch(policy)["deleted"] == 1
    elif what == "restore":
        restore_run(smuggler, latest_run(db))
    else:
        transition(smuggler, "activate", KEY, SERVICE)
    assert scalar(smuggler, "select count(*) from service.mine") == 1
    assert scalar(db, "select count(*) from public.ran") == 0
    smuggler.execute("commit")
    assert db.execute("select as_whom from public.ran").fetchall() == [{"as_whom": "service_role"}]


def test_every_operation_admits_only_the_service_and_lulls_owner(
    db: Connection, sql_server: Server, sql_database: Database
) -> None:
    """Grants can come back wrong from a dump: with execute granted to PUBLIC, a stranger is still refused."""
    db.execute("grant usage on schema lull to public")
    db.execute("grant execute on all functions in schema public to public")
    create_role(sql_server, "team_stranger")
    with psycopg.connect(
        sql_database.url,
        user="team_stranger",
        password="secret",
        autocommit=True,
        row_factory=psycopg.rows.dict_row,
    ) as stranger:
        calls: dict[str, dict[str, Any]] = {
            "lull_get_session": {"p_session": KEY, "p_caller": SERVICE},
            "lull_preview_cleanup": {"p_policies": []},
            "lull_begin_cleanup": {"p_policies": [], "p_caller": "x", "p_lease_seconds": 60},
            "lull_activate_session": {"p_session": KEY, "p_caller": SERVICE},
        }
        for function, arguments in calls.items():
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                call(stranger, function, **arguments)
