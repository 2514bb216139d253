"""A row with another user's id: whatever a stranger writes, deletes and waits for, the session stays its owner's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sql.driver import Connection, call, run_cleanup, scalar
from tests.sql.own_tables.team import ADA, BOB, adopt_sessions, create, refused, transition, user
from tests.sql_servers import Database

DAY = "interval '25 hours'"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """Chats with "own rows only", adopted with their owner's column."""
    connection = sql_database.connect()
    create(
        connection,
        """create table public.talks (id uuid primary key default gen_random_uuid(), user_id uuid not null,
          status text not null default 'draft', updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        """create table public.lines (id bigint generated always as identity primary key,
          talk uuid not null references public.talks on delete cascade, body text)""",
        "create index on public.lines (talk)",
        "alter table public.talks enable row level security",
        """create policy own on public.talks for all to authenticated
          using (user_id::text = current_setting('request.sub', true))
          with check (user_id::text = current_setting('request.sub', true))""",
        "grant select, insert, update, delete on public.talks to authenticated",
    )
    adopt_sessions(connection, "public.talks", p_owner="user_id")
    return connection


@pytest.fixture
def stranger(db: Connection, sql_database: Database) -> Connection:
    """Bob's connection, as PostgREST makes it."""
    connection = sql_database.connect()
    connection.execute("select set_config('request.sub', %s, false)", [BOB])
    connection.execute("set role authenticated")
    return connection


def api_session(db: Connection, status: str = "draft") -> str:
    """Create a session of Ada's through the API, without a table."""
    session = str(scalar(db, "select gen_random_uuid()"))
    call(
        db,
        "lull_create_session",
        p_session=session, p_kind="chat", p_status=status, p_title="Ada's", p_external_key=None, p_mode=None,
        p_metadata={}, p_owner=ADA, p_token_hash=None, p_idempotency=None,
    )  # fmt: skip
    return session


def attach_file(db: Connection, session: str) -> None:
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [session])


def state(db: Connection, session: str) -> Any:
    """Return the session as its owner reads it, and what hangs on it."""
    answer = transition(db, "get", session, user(ADA))["session"]
    return answer, scalar(db, "select count(*) from lull.session_files where session_id = %s", session)


def by_insert(stranger: Connection, session: str) -> None:
    stranger.execute("insert into public.talks (id, user_id, status) values (%s, %s, 'active')", [session, BOB])


def by_key_update(stranger: Connection, session: str) -> None:
    stranger.execute("insert into public.talks (user_id) values (%s)", [BOB])
    stranger.execute("update public.talks set id = %s", [session])


def by_upsert(stranger: Connection, session: str) -> None:
    stranger.execute(
        "insert into public.talks (id, user_id) values (%s, %s) on conflict (id) do update set status = 'active'",
        [session, BOB],
    )


WAYS = [by_insert, by_key_update, by_upsert]


@pytest.mark.parametrize("take", WAYS)
def test_a_strangers_row_with_the_id_of_a_session_changes_nothing_of_it(
    db: Connection, stranger: Connection, take: Any
) -> None:
    session = api_session(db, "active")
    attach_file(db, session)
    before = state(db, session)
    take(stranger, session)
    assert state(db, session) == before
    stranger.execute("update public.talks set status = 'ended'")
    run_cleanup(db)
    assert state(db, session) == before
    stranger.execute("delete from public.talks")
    run_cleanup(db)
    age_everything(db)
    run_cleanup(db)
    assert state(db, session)[0]["id"] == session
    assert state(db, session)[0]["status"] == before[0]["status"]
    assert state(db, session)[1] == before[1]


def age_everything(db: Connection) -> None:
    """Let a day pass for Lull's bookkeeping: rows are aged, time is not moved."""
    columns = db.execute(
        """select a.attname as name from pg_attribute a
        where a.attrelid = 'lull.sessions'::regclass and a.attnum > 0 and not a.attisdropped
          and a.attname in ('row_missing_since', 'row_seen_at')"""
    ).fetchall()
    for column in columns:
        db.execute(f"update lull.sessions set {column['name']} = {column['name']} - {DAY}")


@pytest.mark.parametrize("take", WAYS)
def test_each_caller_acts_on_what_is_theirs(db: Connection, stranger: Connection, take: Any) -> None:
    session = api_session(db)
    take(stranger, session)
    assert transition(db, "activate", session, user(ADA))["session"]["title"] == "Ada's"
    mine = transition(db, "get", session, user(ADA))["session"]
    theirs = transition(db, "get", session, user(BOB))["session"]
    assert (mine["title"], mine["status"]) == ("Ada's", "active")
    assert theirs.get("title") != "Ada's"
    transition(db, "end", session, user(BOB))
    assert transition(db, "get", session, user(ADA))["session"]["status"] == "active"
    assert scalar(db, "select status from public.talks") == "ended"


@pytest.mark.parametrize("take", WAYS)
def test_an_archived_draft_is_read_by_no_stranger_and_comes_back_to_its_owner(
    db: Connection, stranger: Connection, take: Any
) -> None:
    session = api_session(db)
    attach_file(db, session)
    db.execute("update lull.sessions set last_activity_at = now() - interval '3 days'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.sessions") == 0
    take(stranger, session)
    assert "Ada" not in json.dumps(transition(db, "get", session, user(BOB)))
    stranger.execute("delete from public.talks")
    run_cleanup(db)
    assert refused(db, "get", session, user(BOB)).sqlstate == "PT404"
    assert refused(db, "activate", session, user(BOB)).sqlstate == "PT404"
    answer = transition(db, "activate", session, user(ADA))
    assert (answer["restored"], answer["session"]["title"]) == (True, "Ada's")
    assert scalar(db, "select count(*) from lull.session_files") == 1


def test_an_archived_draft_comes_back_to_its_owner_while_a_stranger_has_the_id(
    db: Connection, stranger: Connection
) -> None:
    session = api_session(db)
    db.execute("update lull.sessions set last_activity_at = now() - interval '3 days'")
    run_cleanup(db)
    by_insert(stranger, session)
    answer = transition(db, "activate", session, user(ADA))
    assert (answer["restored"], answer["session"]["title"]) == (True, "Ada's")
    assert transition(db, "get", session, user(BOB))["session"].get("title") is None


def test_a_row_that_was_archived_for_one_user_is_not_given_to_the_next_owner_of_its_id(
    db: Connection, stranger: Connection
) -> None:
    """Ada's row goes; Bob inserts the id; each gets their own, also by a restore of the run."""
    session = str(scalar(db, "select gen_random_uuid()"))
    db.execute(
        "insert into public.talks (id, user_id, updated_at) values (%s, %s, now() - interval '3 days')",
        [session, ADA],
    )
    run_cleanup(db)
    by_insert(stranger, session)
    answer = transition(db, "get", session, user(BOB))["session"]
    assert answer["status"] == "active"
    error = refused(db, "activate", session, user(ADA))
    assert error.sqlstate in ("PT409", "PT410"), error  # its place is taken: nothing of Bob's is shown or changed
    assert scalar(db, "select user_id::text from public.talks where id = %s", session) == BOB
    stranger.execute("delete from public.talks")
    assert transition(db, "activate", session, user(ADA))["restored"] is True
    assert scalar(db, "select user_id::text from public.talks where id = %s", session) == ADA


def test_the_same_id_in_two_adopted_tables_is_two_sessions(db: Connection) -> None:
    create(
        db,
        """create table public.notes (id uuid primary key, user_id uuid, status text not null default 'draft',
          updated_at timestamptz not null default now())""",
        "create index on public.notes (updated_at)",
    )
    adopt_sessions(db, "public.notes", p_owner="user_id")
    session = str(scalar(db, "select gen_random_uuid()"))
    db.execute(
        "insert into public.talks (id, user_id, updated_at) values (%s, %s, now() - interval '3 days')",
        [session, ADA],
    )
    db.execute("insert into public.notes (id, user_id, status) values (%s, %s, 'active')", [session, ADA])
    assert refused(db, "get", session, user(ADA)).sqlstate == "PT409", "it says that a table must be named"
    run_cleanup(db)
    assert scalar(db, "select count(*) from public.talks") == 0
    assert scalar(db, "select count(*) from public.notes") == 1
    answer = call(db, "lull_activate_session", p_session=session, p_caller={**user(ADA), "table": "public.talks"})
    assert answer["restored"] is True
    assert scalar(db, "select status from public.notes") == "active"


def test_a_stranger_attaches_nothing_to_a_row_of_anothers(db: Connection) -> None:
    session = str(scalar(db, "select gen_random_uuid()"))
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [session, ADA])
    for verb in ("get", "activate", "pause", "resume", "end"):
        assert refused(db, verb, session, user(BOB)).sqlstate == "PT404", verb
    assert scalar(db, "select count(*) from lull.sessions") == 0
