"""Tables that the previous release adopted by triggers: what the migration takes away, keeps and says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg.types.json
import pytest

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra import migrate
from tests.release.releases import Release, previous_release
from tests.sql.blank import blank_database
from tests.sql.driver import run_cleanup, scalar
from tests.sql_servers import Connection, Database, Server

OWNER = "11111111-1111-4111-8111-111111111111"
TEAM = """
    create table public.chats (id uuid primary key default gen_random_uuid(), user_id uuid, title text,
      created_at timestamptz not null default now(), updated_at timestamptz not null default now());
    create index on public.chats (updated_at);
    create table public.messages (id bigint generated always as identity primary key,
      chat uuid not null references public.chats on delete cascade, body text);
    create index on public.messages (chat);
    create table public.parties (id uuid primary key default gen_random_uuid(), seen timestamptz);
    insert into public.chats (title) select 'old ' || n from generate_series(1, 3) n;
    insert into public.parties select gen_random_uuid();
    select lull.adopt_sessions('public.chats', 'chat');
    select lull.adopt_sessions('public.parties', 'room');
"""
SERVICE = '{"service": true}'


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return previous_release(tmp_path_factory.mktemp("before") / "tree")


@pytest.fixture
def database(sql_server: Server, previous: Release) -> Iterator[Database]:
    """A database of the previous release, with two adopted tables."""
    with blank_database(sql_server) as database:
        done = previous.migrate(database.url)
        assert done.returncode == 0, done.stderr
        database.connect().execute(TEAM)
        yield database


def migrated(database: Database) -> list[str]:
    """Migrate to this release; return what was said."""
    said: list[str] = []
    policies = [policy.arguments() for policy in load_policies(Settings())]
    migrate.apply(database.url, policies, say=said.append)
    return said


def of_lull(db: Connection) -> list[Any]:
    """Triggers and constraints of Lull's on tables outside its schema, and on lull.sessions for them."""
    return db.execute("""
        select t.tgname from pg_trigger t join pg_proc p on p.oid = t.tgfoid
        join pg_class c on c.oid = t.tgrelid
        where p.pronamespace = 'lull'::regnamespace and not t.tgisinternal
          and (c.relnamespace <> 'lull'::regnamespace or p.proname = 'write_back')
        union all
        select conname from pg_constraint where conname = 'lull_session'
    """).fetchall()


def test_triggers_key_and_mirror_rows_go_and_the_rows_and_columns_stay(database: Database) -> None:
    db = database.connect()
    before = db.execute("select * from public.chats order by id").fetchall()
    adopted = scalar(db, "select adopted_at from lull.session_tables where name = 'public.chats'")
    assert len(of_lull(db)) > 5
    said = migrated(database)
    assert of_lull(db) == []
    assert db.execute("select * from public.chats order by id").fetchall() == before
    assert {"status", "first_message_at"} <= before[0].keys()
    assert scalar(db, "select count(*) from lull.sessions") == 0
    target = db.execute("select * from lull.targets where name = 'public.chats'").fetchone()
    assert target is not None
    assert (target["kind"], target["clock_column"], target["adopted_at"]) == ("chat", "updated_at", adopted)
    assert (target["below"], target["existing"]) == ({"public.messages": "keeps"}, False)
    assert any("public.chats is judged by its own rows now: 3 mirror rows were removed" in line for line in said)
    assert any("lull.adopt_sessions('public.chats', 'chat'" in line for line in said)


def test_holds_files_and_tokens_stay(database: Database) -> None:
    db = database.connect()
    held, filed, owned = (row["id"] for row in db.execute("select id from public.chats order by id").fetchall())
    db.execute("update lull.sessions set hold = true where id = %s", [held])
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [filed])
    db.execute("update lull.sessions set owner_token_hash = '\\x01' where id = %s", [owned])
    migrated(database)
    companions = db.execute("select id, companion_of from lull.sessions order by id").fetchall()
    assert companions == [{"id": id_, "companion_of": "public.chats"} for id_ in sorted([filed, owned])]
    assert scalar(db, "select count(*) from lull.session_files") == 1
    holds = db.execute("select target, key from lull.holds where target = 'public.chats'").fetchall()
    assert holds == [{"target": "public.chats", "key": str(held)}]
    # an adopted room was on hold, so that nothing historic went
    assert scalar(db, "select count(*) from lull.holds where target = 'public.parties'") == 1
    read = scalar(db, "select lull_get_session(%s, '{\"token_hash\": \"01\"}')", owned)
    assert (read["session"]["table"], read["session"]["status"]) == ("public.chats", "active")


def test_a_draft_that_was_archived_before_comes_back_with_what_was_below_it(database: Database) -> None:
    db = database.connect()
    draft = scalar(db, "insert into public.chats (title, status) values ('draft', 'draft') returning id")
    db.execute("insert into public.messages (chat, body) values (%s, 'unsent')", [draft])
    db.execute("update lull.sessions set last_activity_at = now() - interval '3 days' where id = %s", [draft])
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [draft])
    old_run(db)
    assert scalar(db, "select count(*) from public.chats where id = %s", draft) == 0
    migrated(database)
    answer = scalar(db, "select lull_activate_session(%s, %s)", draft, SERVICE)
    assert (answer["restored"], answer["missing"], answer["session"]["status"]) == (True, 0, "active")
    assert scalar(db, "select status from public.chats where id = %s", draft) == "active"
    assert scalar(db, "select body from public.messages where chat = %s", draft) == "unsent"
    assert scalar(db, "select count(*) from lull.session_files where session_id = %s", draft) == 1


def old_run(db: Connection) -> None:
    """Take what is stale, by the functions of the previous release."""
    policies = scalar(db, "select lull.effective_policies()")
    begun = scalar(db, "select lull_begin_cleanup(%s, 'test', 60)", psycopg.types.json.Jsonb(policies))
    for policy in begun["policies"]:
        opened = scalar(db, "select lull_open_policy(%s, %s, %s)", begun["run_id"], begun["token"], policy)
        while opened["outcome"] == "open" and not scalar(
            db, "select lull_cleanup_batch(%s, %s, %s, 100)", begun["run_id"], begun["token"], policy
        )["done"]:
            pass
    scalar(db, "select lull_finish_cleanup(%s, %s, '{}', '{}')", begun["run_id"], begun["token"])


def test_what_is_old_stays_and_a_new_draft_goes(database: Database) -> None:
    db = database.connect()
    db.execute("update public.chats set status = 'draft', first_message_at = null, updated_at = now() - interval '9 days'")
    migrated(database)
    db.execute("update lull.targets set adopted_at = now() - interval '5 days' where kind is not null")
    draft = scalar(
        db,
        "insert into public.chats (status, updated_at) values ('draft', now() - interval '2 days') returning id",
    )
    kept = scalar(
        db,
        "insert into public.chats (status, updated_at) values ('draft', now() - interval '2 days') returning id",
    )
    db.execute("insert into public.messages (chat, body) values (%s, 'a message')", [kept])
    run_cleanup(db)
    left = {row["id"] for row in db.execute("select id from public.chats").fetchall()}
    assert len(left) == 4 and kept in left and draft not in left


def test_a_table_that_is_gone_is_forgotten_and_the_migration_goes_on(database: Database) -> None:
    db = database.connect()
    db.execute("drop table public.parties")
    said = migrated(database)
    assert any("public.parties was adopted as room sessions and does not exist any more" in line for line in said)
    assert scalar(db, "select count(*) from lull.targets where kind is not null") == 1
