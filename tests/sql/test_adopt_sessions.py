"""A team's own session table, created before Lull: tied in, cleaned with all below it, restored whole, and left to work."""

from __future__ import annotations

import psycopg
import pytest

from tests.database import migrated
from tests.sql.driver import Connection, line, preview, run_cleanup, scalar
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"
TEAM = """
    create table public.fe_chats (
      id uuid primary key default gen_random_uuid(), user_id uuid not null default gen_random_uuid(), title text,
      created_at timestamptz not null default now());
    create table public.messages (
      id bigint generated always as identity primary key,
      chat_id uuid not null references public.fe_chats on delete cascade, body text, meta jsonb);
    create index on public.messages (chat_id);
    create table public.attachments (
      id uuid primary key default gen_random_uuid(),
      message_id bigint not null references public.messages on delete cascade, path text);
    create index on public.attachments (message_id);
"""
SERVICE = '{"service": true}'


@pytest.fixture
def team(sql_database: Database) -> Connection:
    """A table with 10,000 old rows, messages and attachments below it, adopted."""
    db = sql_database.connect()
    db.execute(TEAM)
    db.execute("""
        insert into public.fe_chats (title, created_at)
        select 'chat ' || n, now() - interval '400 days' + n * interval '10 minutes' from generate_series(1, 10000) n;
        insert into public.messages (chat_id, body) select id, 'hello' from public.fe_chats;
        insert into public.attachments (message_id, path) select id, 'p' || id from public.messages where id % 10 = 0;
    """)
    said = scalar(db, "select lull.adopt_sessions('public.fe_chats', 'chat')")
    assert (
        said
        == "public.fe_chats is adopted as chat sessions; its 10000 rows are active and will not be stale."
    )
    return db


def add_draft(db: Connection, idle: str = "25 hours") -> str:
    """Insert a draft as the app does, with a message and an attachment below it, then age its session."""
    chat = str(
        scalar(db, "insert into public.fe_chats (title, status) values ('draft', 'draft') returning id")
    )
    message = scalar(
        db,
        "insert into public.messages (chat_id, body, meta) values (%s, 'unsent', 'null') returning id",
        chat,
    )
    db.execute("insert into public.attachments (message_id, path) values (%s, 'a.pdf')", [message])
    db.execute("update lull.sessions set last_activity_at = now() - %s::interval where id = %s", [idle, chat])
    return chat


def everything(db: Connection) -> list[str]:
    rows = db.execute("""
        select 'c' || c::text as row from public.fe_chats c
        union all select 'm' || m::text from public.messages m union all select 'a' || a::text from public.attachments a
    """).fetchall()
    return sorted(row["row"] for row in rows)


def test_nothing_historic_is_stale_now_or_ever(team: Connection) -> None:
    before = everything(team)
    assert all(
        preview(team, name, p_at="2999-01-01T00:00:00Z")["would"] == 0 for name in (DRAFTS, "empty-rooms")
    )
    run_cleanup(team)
    assert everything(team) == before
    assert (
        scalar(
            team,
            "select count(*) from lull.sessions where first_message_at = created_at and status = 'active'",
        )
        == 10000
    )


def test_a_new_draft_is_cleaned_with_its_messages_and_comes_back_whole_by_late_activation(
    team: Connection,
) -> None:
    chat = add_draft(team)
    before = everything(team)
    report = line(run_cleanup(team), DRAFTS)
    assert (report["did"], report["cascaded"]) == (1, 3)
    assert scalar(team, "select count(*) from public.messages where body = 'unsent'") == 0
    answer = scalar(team, "select lull_activate_session(%s, %s)", chat, SERVICE)
    assert (answer["restored"], answer["session"]["status"]) == (True, "active")
    after = everything(team)
    assert [row for row in after if row[0] != "c"] == [row for row in before if row[0] != "c"]
    row = team.execute(
        "select title, status, first_message_at is not null as had from public.fe_chats where id = %s", [chat]
    ).fetchone()
    assert row == {"title": "draft", "status": "active", "had": True}


def test_the_apps_own_inserts_updates_and_deletes_go_on_and_the_session_follows(team: Connection) -> None:
    plain = str(scalar(team, "insert into public.fe_chats (title) values ('as ever') returning id"))
    draft = add_draft(team)
    team.execute(
        "update public.fe_chats set status = 'active', first_message_at = now() where id = %s", [draft]
    )
    statuses = {
        str(row["id"]): row["status"]
        for row in team.execute("select id, status from lull.sessions where id in (%s, %s)", [plain, draft])
    }
    assert statuses == {plain: "active", draft: "active"}
    assert line(run_cleanup(team), DRAFTS)["did"] == 0
    team.execute("delete from public.fe_chats where id = %s", [draft])
    assert scalar(team, "select count(*) from lull.sessions where id = %s", draft) == 0
    events = team.execute(
        "select event from lull.session_events where session_id = %s order by id", [draft]
    ).fetchall()
    assert [row["event"] for row in events] == ["created", "activated", "deleted"]


def test_any_update_of_a_draft_by_the_app_is_activity(team: Connection) -> None:
    draft = add_draft(team)
    team.execute("update public.fe_chats set title = 'still typing' where id = %s", [draft])
    assert line(run_cleanup(team), DRAFTS)["did"] == 0


def test_a_first_message_alone_makes_the_draft_active(team: Connection) -> None:
    draft = add_draft(team)
    team.execute("update public.fe_chats set first_message_at = now() where id = %s", [draft])
    assert scalar(team, "select status from lull.sessions where id = %s", draft) == "active"
    assert scalar(team, "select status from public.fe_chats where id = %s", draft) == "active"


def test_transitions_are_written_back_once_and_without_a_loop(team: Connection) -> None:
    draft = add_draft(team, "1 minute")
    for function in (
        "lull_activate_session",
        "lull_pause_session",
        "lull_resume_session",
        "lull_end_session",
    ):
        answer = scalar(team, f"select {function}(%s, %s)", draft, SERVICE)
        assert (
            scalar(team, "select status from public.fe_chats where id = %s", draft)
            == answer["session"]["status"]
        )
    events = team.execute(
        "select event from lull.session_events where session_id = %s order by id", [draft]
    ).fetchall()
    assert [row["event"] for row in events] == ["created", "activated", "paused", "resumed", "ended"]
    assert answer["session"]["version"] == 5


def test_a_status_that_the_table_refuses_does_not_stop_the_transition(team: Connection) -> None:
    team.execute("alter table public.fe_chats add check (status in ('draft', 'active'))")
    draft = add_draft(team, "1 minute")
    scalar(team, "select lull_activate_session(%s, %s)", draft, SERVICE)
    answer = scalar(team, "select lull_pause_session(%s, %s)", draft, SERVICE)
    assert answer["session"]["status"] == "paused"
    assert scalar(team, "select status from public.fe_chats where id = %s", draft) == "active"


def test_adopting_twice_changes_nothing(team: Connection) -> None:
    draft = add_draft(team, "1 minute")
    before = everything(team)
    assert "was adopted before" in scalar(team, "select lull.adopt_sessions('public.fe_chats', 'chat')")
    assert everything(team) == before
    assert scalar(team, "select status from lull.sessions where id = %s", draft) == "draft"


def test_row_security_of_the_teams_table_goes_on_to_be_respected(team: Connection) -> None:
    team.execute("""
        alter table public.fe_chats enable row level security;
        create policy own on public.fe_chats for all to authenticated
          using (user_id::text = current_setting('request.sub', true))
          with check (user_id::text = current_setting('request.sub', true));
        grant select, insert, update, delete on public.fe_chats to authenticated;
    """)
    me = "00000000-0000-4000-8000-000000000001"
    team.execute("select set_config('request.sub', %s, false)", [me])
    team.execute("set role authenticated")
    mine = scalar(team, "insert into public.fe_chats (user_id, status) values (%s, 'draft') returning id", me)
    assert scalar(team, "select count(*) from public.fe_chats") == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        team.execute("insert into public.fe_chats (status) values ('draft')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        team.execute("select * from lull.sessions")
    team.execute("update public.fe_chats set title = 'mine' where id = %s", [mine])
    team.execute("reset role")
    assert scalar(team, "select status from lull.sessions where id = %s", mine) == "draft"


@pytest.mark.parametrize(
    ("ddl", "reason"),
    [
        ("create table public.bad (id bigint primary key)", "its primary key is not one uuid column"),
        ("create table public.bad (id uuid)", "its primary key is not one uuid column"),
        (
            "create table public.bad (id uuid primary key); create table public.notes (bad uuid references public.bad)",
            "is not on delete cascade",
        ),
        ("create table public.bad (id uuid primary key, first_message_at text)", "it must be timestamptz"),
    ],
)
def test_a_table_that_cannot_hold_sessions_is_refused_and_left_alone(
    sql_database: Database, ddl: str, reason: str
) -> None:
    db = sql_database.connect()
    db.execute(ddl)
    with pytest.raises(psycopg.Error, match=reason) as refused:
        db.execute("select lull.adopt_sessions('public.bad', 'chat')")
    assert refused.value.sqlstate == "PT422"
    assert (
        scalar(
            db,
            "select count(*) from pg_trigger where tgrelid = 'public.bad'::regclass and tgname like 'lull%%'",
        )
        == 0
    )


def test_a_migration_after_an_adoption_keeps_the_triggers(team: Connection) -> None:
    migrated(_url(team))
    assert add_draft(team)
    assert line(run_cleanup(team), DRAFTS)["did"] == 1


def _url(connection: Connection) -> str:
    info = connection.info
    return f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
