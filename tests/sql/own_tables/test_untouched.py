"""An adopted table is read and never touched: its writers do what they did before, and wait for nothing of Lull's."""

from __future__ import annotations

import pytest

from tests.sql.driver import Connection, run_cleanup, scalar
from tests.sql.own_tables.team import adopt_sessions, create, would
from tests.sql_servers import Database

OURS = """
select 'trigger' as what, tgname::text as name from pg_trigger where tgrelid = %(table)s::regclass
union all select 'constraint', pg_get_constraintdef(oid) from pg_constraint
  where %(table)s::regclass in (conrelid, confrelid)
union all select 'column', attname::text from pg_attribute where attrelid = %(table)s::regclass
union all select 'index', indexrelid::regclass::text from pg_index where indrelid = %(table)s::regclass
union all select 'rule', rulename::text from pg_rewrite where ev_class = %(table)s::regclass
union all select 'policy', polname::text from pg_policy where polrelid = %(table)s::regclass
union all select 'rights', relacl::text from pg_class where oid = %(table)s::regclass
order by 1, 2
"""


@pytest.fixture
def db(sql_database: Database) -> Connection:
    connection = sql_database.connect()
    create(
        connection,
        """create table public.talks (
          id uuid primary key default gen_random_uuid(), name text unique, status text not null default 'active',
          updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        """create table public.lines (id bigint generated always as identity primary key,
          talk uuid not null references public.talks on delete cascade, body text)""",
        "create index on public.lines (talk)",
    )
    return connection


def of_lull(db: Connection) -> tuple[int, int]:
    """Count the sessions and events that Lull holds."""
    row = db.execute(
        "select (select count(*) from lull.sessions) as s, (select count(*) from lull.session_events) as e"
    )
    found = row.fetchone()
    assert found
    return found["s"], found["e"]


def test_adopting_running_and_releasing_change_nothing_of_the_table(db: Connection) -> None:
    before = db.execute(OURS, {"table": "public.talks"}).fetchall()
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    assert db.execute(OURS, {"table": "public.talks"}).fetchall() == before
    db.execute("insert into public.talks (status, updated_at) values ('draft', now() - interval '9 days')")
    run_cleanup(db)
    assert db.execute(OURS, {"table": "public.talks"}).fetchall() == before
    scalar(db, "select lull.release('public.talks')")
    assert db.execute(OURS, {"table": "public.talks"}).fetchall() == before


def test_a_run_writes_nothing_in_a_row_that_stays(db: Connection) -> None:
    adopt_sessions(db, "public.talks")
    db.execute("insert into public.talks (status, updated_at) values ('draft', now() - interval '9 days')")
    db.execute("insert into public.talks (status, updated_at) values ('draft', now())")
    db.execute("insert into public.lines (talk, body) select id, 'hello' from public.talks")
    versions = "select array_agg(xmin::text || ctid::text || t::text order by id) from public.talks t"
    before = scalar(db, versions)
    run_cleanup(db)
    assert scalar(db, versions) == before


def test_inserts_whose_id_a_trigger_makes_go_on(db: Connection) -> None:
    create(
        db,
        "create table public.notes (id uuid primary key, status text not null default 'draft', at timestamptz default now())",
        "create index on public.notes (at)",
        """create function public.give_id() returns trigger language plpgsql as $$
        begin new.id := coalesce(new.id, gen_random_uuid()); return new; end $$""",
        "create trigger give_id before insert on public.notes for each row execute function public.give_id()",
    )
    adopt_sessions(db, "public.notes", p_clock="at")
    db.execute("insert into public.notes default values")
    assert scalar(db, "select count(*) from public.notes") == 1


def test_upserts_leave_one_row_and_nothing_of_lulls(db: Connection) -> None:
    adopt_sessions(db, "public.talks")
    before = of_lull(db)
    for _ in range(2):
        db.execute("insert into public.talks (name) values ('a') on conflict (name) do nothing")
    db.execute("insert into public.talks (name) values ('a') on conflict (name) do update set updated_at = now()")
    db.execute(
        "merge into public.talks t using (values ('a'), ('b')) v (name) on t.name = v.name "
        "when matched then update set updated_at = now() when not matched then insert (name) values (v.name)"
    )
    assert scalar(db, "select count(*) from public.talks") == 2
    assert of_lull(db) == before == (0, 0)


def test_bulk_loads_truncate_and_renames_need_no_care(db: Connection) -> None:
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    with db.cursor().copy("copy public.talks (name, status, updated_at) from stdin") as copy:
        for number in range(50):
            copy.write_row((f"name {number}", "draft", "2020-01-01"))
    assert would(db, "public.talks") == 50
    db.execute("truncate public.talks cascade")
    assert would(db, "public.talks") == 0
    assert of_lull(db) == (0, 0)
    db.execute("alter table public.talks rename to talks_of_old")
    assert all(line["outcome"] != "failed" for line in run_cleanup(db)["policies"] if not line.get("table"))
    db.execute("alter table public.talks_of_old rename to talks")
    assert would(db, "public.talks") == 0


def test_writers_that_meet_in_opposite_orders_wait_for_nothing(db: Connection, sql_database: Database) -> None:
    """Neither has committed when the other writes: a lock of Lull's on the session would make them wait, or deadlock."""
    adopt_sessions(db, "public.talks")
    first = "aaaaaaaa-1111-4000-8000-000000000001"
    second = "bbbbbbbb-1111-4000-8000-000000000001"
    db.execute("insert into public.talks (id) values (%s), (%s)", [first, second])
    one, other = sql_database.connect(autocommit=False), sql_database.connect(autocommit=False)
    for connection in (one, other):
        connection.execute("set lock_timeout = '5s'")
    insert = "insert into public.lines (talk, body) values (%s, 'x')"
    one.execute(insert, [first])
    other.execute(insert, [second])
    one.execute(insert, [second])
    other.execute(insert, [first])
    run_cleanup(db)
    one.commit()
    other.commit()
    assert scalar(db, "select count(*) from public.lines") == 4
