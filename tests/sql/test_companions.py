"""Companions: what hangs on a team's row, whose it is, and how long it stays."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.driver import call, run_cleanup, scalar
from tests.sql_servers import Connection, Database

ADA = "a0a0a0a0-0000-4000-8000-00000000000a"
BOB = "b0b0b0b0-0000-4000-8000-00000000000b"
TEAM = """
    create table public.talks (id uuid primary key default gen_random_uuid(), user_id uuid,
      status text not null default 'draft', updated_at timestamptz not null default now());
    create index on public.talks (updated_at);
    create index on public.talks (user_id);
    select lull.adopt_sessions('public.talks', 'chat', p_owner => 'user_id', p_existing => true);
"""


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """An adopted table with an owner column."""
    connection = sql_database.connect()
    connection.execute(TEAM)
    return connection


def user(user_id: str) -> dict[str, Any]:
    return {"user_id": user_id}


def new_id(db: Connection) -> str:
    return str(scalar(db, "select gen_random_uuid()"))


def create(db: Connection, owner: str | None = ADA, table: str | None = "public.talks", token: str | None = None) -> str:
    """Create a session as the API does; return its id."""
    session = new_id(db)
    named = {"p_limits": {"table": table}} if table else {}
    call(
        db, "lull_create_session", p_session=session, p_kind="chat", p_status="draft", p_title=None,
        p_external_key=None, p_mode=None, p_metadata={}, p_owner=owner, p_token_hash=token, p_idempotency=None, **named,
    )  # fmt: skip
    return session


def register(db: Connection, session: str, caller: dict[str, Any], **more: Any) -> str:
    """Register a file of a session; return its id."""
    file = new_id(db)
    call(
        db, "lull_register_file", p_session=session, p_caller=caller, p_file=file, p_name="a.txt",
        p_content_type="text/plain", p_size=1, p_bucket="b", p_path=f"p/{file}/a.txt",
        p_upload_expires_at="2020-01-01T00:00:00Z", p_most_files=5, **more,
    )  # fmt: skip
    return file


def refused(db: Connection, function: str, **arguments: Any) -> str:
    """Call a function that must be refused; return its SQLSTATE."""
    with pytest.raises(psycopg.Error) as error, db.transaction():
        call(db, function, **arguments)
    return str(error.value.sqlstate)


def test_a_session_created_for_a_table_is_the_rows_once_the_app_inserts_it(db: Connection) -> None:
    session = create(db)
    file = register(db, session, user(ADA))
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [session, ADA])
    read = call(db, "lull_get_session", p_session=session, p_caller=user(ADA))["session"]
    assert (read["table"], read["status"]) == ("public.talks", "draft")
    assert call(db, "lull_list_files", p_session=session, p_caller=user(ADA))["files"][0]["id"] == file
    listed = call(db, "lull_list_sessions", p_caller=user(ADA))["sessions"]
    assert [(each["id"], each["table"]) for each in listed] == [(session, "public.talks")]


def test_the_row_takes_its_companion_along_and_brings_it_back(db: Connection) -> None:
    session = create(db)
    register(db, session, user(ADA))
    db.execute(
        "insert into public.talks (id, user_id, updated_at) values (%s, %s, now() - interval '3 days')", [session, ADA]
    )
    run_cleanup(db)
    assert scalar(db, "select count(*) from public.talks") == 1, "the companion was used a moment ago"
    db.execute("update lull.sessions set last_activity_at = now() - interval '3 days'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from public.talks") == 0
    assert scalar(db, "select count(*) from lull.sessions") == 0
    answer = call(db, "lull_activate_session", p_session=session, p_caller=user(ADA))
    assert (answer["restored"], answer["missing"]) == (True, 0)
    assert len(call(db, "lull_list_files", p_session=session, p_caller=user(ADA))["files"]) == 1


def test_an_unseen_companion_is_a_draft_and_a_seen_one_is_passed_over(db: Connection) -> None:
    unseen, seen = create(db), create(db)
    db.execute("insert into public.talks (id, user_id, status) values (%s, %s, 'active')", [seen, ADA])
    db.execute("update lull.sessions set last_activity_at = now() - interval '3 days'")
    run_cleanup(db)
    assert scalar(db, "select array_agg(id::text) from lull.sessions") == [seen]
    answer = call(db, "lull_activate_session", p_session=unseen, p_caller=user(ADA))
    assert answer["restored"] is True


def test_a_companion_goes_a_day_after_its_row_was_first_seen_missing(db: Connection) -> None:
    session = create(db)
    db.execute("insert into public.talks (id, user_id, status) values (%s, %s, 'active')", [session, ADA])
    run_cleanup(db)
    db.execute("delete from public.talks")
    db.execute("update lull.sessions set last_activity_at = now() - interval '9 days'")
    run_cleanup(db)
    assert scalar(db, "select row_missing_since is not null from lull.sessions") is True
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.sessions") == 1
    db.execute("update lull.sessions set row_missing_since = now() - interval '25 hours'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.sessions") == 0


def test_a_companion_whose_row_comes_back_stays(db: Connection) -> None:
    session = create(db)
    insert = "insert into public.talks (id, user_id, status) values (%s, %s, 'active')"
    db.execute(insert, [session, ADA])
    run_cleanup(db)
    db.execute("delete from public.talks")
    run_cleanup(db)
    db.execute(insert, [session, ADA])
    db.execute("update lull.sessions set row_missing_since = now() - interval '25 hours'")
    run_cleanup(db)
    assert scalar(db, "select row_missing_since from lull.sessions") is None


def test_a_file_on_a_row_makes_a_companion_of_its_owner(db: Connection) -> None:
    session = str(scalar(db, "insert into public.talks (user_id) values (%s) returning id", ADA))
    assert refused(
        db, "lull_register_file", p_session=session, p_caller=user(BOB), p_file=new_id(db), p_name="a", p_content_type="a/b",
        p_size=1, p_bucket="b", p_path="p", p_upload_expires_at="2020-01-01T00:00:00Z", p_most_files=5,
    ) == "PT404"  # fmt: skip
    register(db, session, user(ADA))
    row = db.execute("select companion_of, owner_id::text as owner from lull.sessions").fetchone()
    assert row == {"companion_of": "public.talks", "owner": ADA}


def test_a_row_of_another_users_gets_nothing_of_a_companion_with_its_id(db: Connection) -> None:
    session = create(db)
    register(db, session, user(ADA))
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [session, BOB])
    assert call(db, "lull_list_files", p_session=session, p_caller=user(BOB))["files"] == []
    mine = call(db, "lull_get_session", p_session=session, p_caller=user(ADA))["session"]
    assert mine["table"] is None if "table" in mine else True
    assert len(call(db, "lull_list_files", p_session=session, p_caller=user(ADA))["files"]) == 1
    with pytest.raises(psycopg.Error) as error:
        register(db, session, user(BOB))
    assert error.value.diag.message_detail == "id-taken"


def test_an_id_in_two_tables_of_one_caller_must_name_the_table(db: Connection) -> None:
    session = create(db, table=None)
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [session, ADA])
    assert refused(db, "lull_get_session", p_session=session, p_caller=user(ADA)) == "PT409"
    tables = [
        call(db, "lull_get_session", p_session=session, p_caller={**user(ADA), "table": table})["session"].get("table")
        for table in ("public.talks", "talks", "lull.sessions")
    ]
    assert tables == ["public.talks", "public.talks", None]
    assert refused(db, "lull_get_session", p_session=session, p_caller={**user(ADA), "table": "public.nothing"}) == "PT404"


def test_an_anonymous_session_is_its_tokens_until_it_is_claimed(db: Connection) -> None:
    session = create(db, owner=None, token="0a")
    db.execute("insert into public.talks (id) values (%s)", [session])
    token = {"token_hash": "0a"}
    assert call(db, "lull_activate_session", p_session=session, p_caller=token)["session"]["status"] == "active"
    assert refused(db, "lull_get_session", p_session=session, p_caller=user(BOB)) == "PT404"
    claimed = call(db, "lull_claim_ownership", p_session=session, p_user=ADA, p_token_hash="0a")
    assert claimed["session"]["table"] == "public.talks"
    assert scalar(db, "select user_id::text from public.talks") == ADA
    assert refused(db, "lull_get_session", p_session=session, p_caller=token) == "PT404"


def test_a_version_that_a_caller_names_is_kept_by_a_companion(db: Connection) -> None:
    session = str(scalar(db, "insert into public.talks (user_id) values (%s) returning id", ADA))
    call(db, "lull_activate_session", p_session=session, p_caller=user(ADA))
    assert scalar(db, "select count(*) from lull.sessions") == 0
    paused = call(db, "lull_pause_session", p_session=session, p_caller=user(ADA), p_version=1)
    assert paused["session"]["version"] == 2
    assert refused(db, "lull_resume_session", p_session=session, p_caller=user(ADA), p_version=1) == "PT412"


def test_events_of_the_same_id_in_two_places_do_not_cross(db: Connection) -> None:
    session = create(db, table=None)
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [session, BOB])
    call(db, "lull_activate_session", p_session=session, p_caller=user(BOB))
    seen = {
        who: [e["event"] for e in call(db, "lull_session_events", p_session=session, p_caller=user(who))["events"]]
        for who in (ADA, BOB)
    }
    assert seen == {ADA: ["created"], BOB: ["activated"]}


def test_releasing_a_table_keeps_its_companions_from_every_policy(db: Connection) -> None:
    session = create(db)
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [session, ADA])
    assert "1 companions" in scalar(db, "select lull.release('public.talks')")
    db.execute("update lull.sessions set last_activity_at = now() - interval '9 days'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.sessions") == 1
    assert scalar(db, "select count(*) from public.talks") == 1


def test_an_erased_user_is_gone_from_sessions_archive_and_rooms_with_the_bytes(db: Connection) -> None:
    live, archived = create(db, table=None), create(db, table=None)
    others = create(db, owner=BOB, table=None)
    register(db, live, user(ADA))
    register(db, archived, user(ADA))
    register(db, others, user(BOB))
    db.execute("insert into lull.session_participants (session_id, user_id) values (%s, %s)", [others, ADA])
    stale = "update lull.sessions set last_activity_at = now() - interval '3 days' where id = any (%s::uuid[])"
    db.execute(stale, [[archived, others]])
    db.execute("update lull.session_participants set last_seen_at = now() - interval '3 days'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.archive_keys") == 2
    erased = call(db, "lull_erase_owner", p_user=ADA)
    assert (erased["sessions"], erased["archived"], erased["files"]) == (1, 1, 2)
    assert scalar(db, "select count(*) from lull.file_removals where path not like 'uploads/%%'") == 2
    pages = json.dumps([row["content"] for row in db.execute("select content from lull.archive_pages").fetchall()])
    assert ADA not in pages
    assert scalar(db, "select count(*) from lull.archive_keys where owner = %s", ADA) == 0
    assert refused(db, "lull_activate_session", p_session=archived, p_caller=user(ADA)) == "PT404"
    back = call(db, "lull_activate_session", p_session=others, p_caller=user(BOB))
    assert (back["restored"], back["missing"]) == (True, 0)
    assert len(call(db, "lull_list_files", p_session=others, p_caller=user(BOB))["files"]) == 1


def test_a_trigger_on_the_users_only_queues_and_the_next_run_erases(db: Connection) -> None:
    db.execute("""
        create table public.people (id uuid primary key);
        create trigger lull_erase after delete on public.people for each row execute function lull.queue_erasure();
    """)
    session = create(db, table=None)
    db.execute("insert into public.people values (%s)", [ADA])
    db.execute("delete from public.people")
    assert scalar(db, "select count(*) from lull.sessions") == 1
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.sessions where id = %s", session) == 0
    assert scalar(db, "select count(*) from lull.erasures") == 0
