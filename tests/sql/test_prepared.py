"""Small batches run prepared statements: planned once a session, and right whatever became of session and schema."""

from __future__ import annotations

import pytest

from tests.sql.driver import Connection, Run, add_session, scalar
from tests.sql.own_tables.team import adopt_sessions, create, restore_run
from tests.sql.team_tables import differences, snapshot
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def test_a_statement_is_planned_once_a_session_and_prepared_again_where_it_is_gone(
    db: Connection, sql_database: Database
) -> None:
    for number in range(8):
        session = add_session(db, idle=f"{50 - number} hours")
        db.execute("insert into lull.session_participants (session_id, name, last_seen_at) "
                   "values (%s, 'guest', now() - interval '3 days')", [session])  # fmt: skip
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    plans = (
        "select string_agg(right(name, 5), ' ' order by name) as names, max(custom_plans) as custom, "
        "max(generic_plans) as generic from pg_prepared_statements where name like 'lull%'"
    )
    for _ in range(3):
        assert run.batch(DRAFTS, 1)["cascaded"] == 1
    assert db.execute(plans).fetchone() == {"names": "first evel1 _next _page", "custom": 0, "generic": 3}
    db.execute("deallocate all")
    assert run.batch(DRAFTS, 1)["cascaded"] == 1, "the session forgot its statements"
    assert run.batch(DRAFTS, 1, sql_database.connect())["cascaded"] == 1, "another session never had them"
    assert run.batch(DRAFTS, 200)["cascaded"] == 3, "a large batch is planned for its size"


@pytest.mark.parametrize(
    "change",
    [
        "alter table public.talks alter column title type varchar(80)",
        "alter table public.talks alter column title type integer using title::integer",
        "alter table public.talks add column lang text not null default 'en'",
        "alter table public.lines alter column id type bigint",
        "alter index public.talks_updated_at_idx rename to other; create index on public.talks (updated_at, id)",
    ],
)
def test_a_statement_that_was_prepared_before_a_change_archives_the_row_as_it_is(db: Connection, change: str) -> None:
    create(
        db,
        "create table public.talks (id uuid primary key default gen_random_uuid(), status text not null default 'draft', "
        "title text, updated_at timestamptz not null default now())",
        "create index on public.talks (updated_at)",
        "create table public.lines (id int primary key, talk uuid not null references public.talks on delete cascade)",
        "create index on public.lines (talk)",
    )
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    db.execute("insert into public.talks (title, updated_at) "
               "select n, now() - interval '3 days' from generate_series(1, 4) n")  # fmt: skip
    db.execute("insert into public.lines select row_number() over (), id from public.talks")
    run = Run.begin(db)
    (ours,) = (name for name in run.begun["policies"] if name == f"{DRAFTS}:public.talks")
    run.open(ours)
    assert run.batch(ours, 1)["cascaded"] == 1
    create(db, *change.split("; "))
    before = snapshot(db, "public.talks", "public.lines")
    run.drain(ours, 1)
    run.finish()
    assert scalar(db, "select count(*) from public.talks") == 0
    restore_run(db)
    after = snapshot(db, "public.talks", "public.lines")
    assert len(after["public.talks"]) == 4 and len(after["public.lines"]) == 4
    for table, rows in before.items():
        assert [row for row in rows if row not in after[table]] == [], differences(before, after)
