"""`python -m infra uninstall`, and the same as SQL: what Lull made goes, and nothing else."""

from __future__ import annotations

import psycopg
import pytest

from infra import uninstall
from tests.sql.catalog import catalog
from tests.sql.driver import add_session, run_cleanup, scalar
from tests.sql_servers import Database

MINE = """
    create table public.chats (id uuid primary key, status text, updated_at timestamptz);
    create index on public.chats (updated_at);
    create function public.lullaby() returns text language sql as $$ select 'mine' $$;
    insert into public.chats values ('11111111-1111-4111-8111-111111111111', 'draft', now());
"""


def outside(database: Database) -> list[str]:
    """The catalog without Lull's schema and public functions."""
    rows = database.connect().execute("""
        select p.oid::regprocedure::text as name from pg_proc p where p.pronamespace = 'public'::regnamespace
        union all select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'i')
        order by 1
    """)
    return [row["name"] for row in rows.fetchall()]


def test_what_lull_made_goes_and_what_it_did_not_make_stays(
    sql_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    db = sql_database.connect()
    db.execute(MINE)
    db.execute("select lull.adopt_sessions('public.chats', 'chat')")
    assert uninstall.main(["--database-url", sql_database.url], {}) == 0
    assert "Lull is gone" in capsys.readouterr().out
    assert scalar(db, "select to_regnamespace('lull') is null") is True
    assert outside(sql_database) == ["chats", "chats_pkey", "chats_updated_at_idx", "lullaby()"]
    assert scalar(db, "select count(*) from public.chats") == 1
    assert uninstall.main(["--database-url", sql_database.url], {}) == 1
    assert "There is no Lull" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mine", "named", "remedy"),
    [
        (
            "create table public.notes (session uuid references lull.sessions on delete cascade)",
            "the foreign key notes_session_fkey of public.notes",
            "alter table public.notes drop constraint notes_session_fkey",
        ),
        (
            "create table public.people (id uuid); create trigger erase after delete on public.people "
            "for each row execute function lull.queue_erasure()",
            "the trigger erase of public.people",
            "drop trigger erase on public.people",
        ),
        (
            "create view public.counts as select count(*) from lull.sessions",
            "the view public.counts",
            "drop view public.counts",
        ),
        (
            "create view public.chatty as select * from public.fe_chat_sessions",
            "the view public.chatty",
            "drop view public.chatty",
        ),
    ],
    ids=["foreign key", "trigger", "view", "view on a view"],
)
def test_what_refers_to_it_from_outside_is_named_and_nothing_is_changed(
    sql_database: Database, mine: str, named: str, remedy: str
) -> None:
    db = sql_database.connect()
    db.execute(mine)
    before = catalog(db)
    with pytest.raises(psycopg.errors.RaiseException) as refused:
        uninstall.apply(sql_database.url)
    assert f"{named}: {remedy};" in str(refused.value)
    assert catalog(db) == before
    db.execute(remedy)
    uninstall.apply(sql_database.url)


def test_rows_that_can_be_restored_are_let_go_only_when_that_is_said(sql_database: Database) -> None:
    db = sql_database.connect()
    add_session(db)
    run_cleanup(db)
    with pytest.raises(psycopg.errors.RaiseException, match="1 rows that can still be restored"):
        uninstall.apply(sql_database.url)
    assert scalar(db, "select to_regnamespace('lull') is null") is False
    uninstall.apply(sql_database.url, discard_archive=True)
    assert scalar(db, "select to_regnamespace('lull') is null") is True


def test_a_name_that_was_taken_again_is_left_alone(sql_database: Database) -> None:
    db = sql_database.connect()
    db.execute("drop view public.fe_chat_sessions; create view public.fe_chat_sessions as select 1 as mine")
    said: list[str] = []
    uninstall.apply(sql_database.url, say=said.append)
    assert any("public.fe_chat_sessions was left alone" in line for line in said)
    assert scalar(db, "select mine from public.fe_chat_sessions") == 1


def test_the_script_is_printed_for_the_sql_editor(
    sql_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert uninstall.main(["--print"], {}) == 0
    db = sql_database.connect()
    db.execute(capsys.readouterr().out.encode())
    assert scalar(db, "select to_regnamespace('lull') is null") is True
