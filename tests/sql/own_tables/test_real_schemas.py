"""Habits of real schemas: triggers that overrule an insert, keys shared by tenants, tables without a key, large rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sql.driver import Connection, run_cleanup, scalar
from tests.sql.own_tables.team import (
    ADA,
    SERVICE,
    adopt_sessions,
    archived,
    create,
    did,
    dry_run,
    keys_of,
    restore_key,
    restore_run,
    transition,
)
from tests.sql.team_tables import differences, snapshot
from tests.sql_servers import Database

KEY = "abababab-0000-4000-8000-000000000001"
OTHER = "abababab-0000-4000-8000-000000000002"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """A table of talks with an owner, and the function by which Supabase tells a trigger who calls."""
    connection = sql_database.connect()
    create(
        connection,
        """create table public.talks (id uuid primary key default gen_random_uuid(), user_id uuid,
          status text default 'draft', title text, updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        "create schema if not exists auth",
        """create or replace function auth.uid() returns uuid language sql stable as $$
        select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$""",
    )
    return connection


def add_stale(db: Connection, key: str = KEY, **columns: Any) -> None:
    columns = {"id": key, "user_id": ADA} | columns
    db.execute(
        f"insert into public.talks ({', '.join(columns)}, updated_at) "
        f"values ({', '.join(['%s'] * len(columns))}, now() - interval '3 days')",
        list(columns.values()),
    )


def there_and_back(db: Connection, *tables: str, rows: int = 1) -> dict[str, Any]:
    """Run and restore: everything goes and is as it was afterwards. Return the restore's answer."""
    before = snapshot(db, *tables)
    report = run_cleanup(db)
    assert did(report, "public.talks") == rows, report
    assert scalar(db, "select count(*) from public.talks") == len(before["public.talks"]) - rows
    answer = restore_run(db)
    assert differences(before, snapshot(db, *tables)) == [], answer
    assert archived(db, "public.talks") == 0
    return answer


@pytest.mark.parametrize("null", [True, False])
def test_a_trigger_that_makes_the_caller_the_owner_takes_no_row_from_its_owner(db: Connection, null: bool) -> None:
    """`new.user_id := auth.uid()`: at a restore no user is signed in, or another one is."""
    add_stale(db)
    create(
        db,
        """create function public.own() returns trigger language plpgsql as $$
        begin new.user_id := auth.uid(); return new; end $$""",
        "create trigger own before insert on public.talks for each row execute function public.own()",
    )
    if not null:
        db.execute("alter table public.talks alter user_id set not null")
    adopt_sessions(db, "public.talks", p_owner="user_id")
    before = snapshot(db, "public.talks")
    assert did(run_cleanup(db), "public.talks") == 1
    answer = restore_run(db)
    if differences(before, snapshot(db, "public.talks")):
        assert "user_id" in json.dumps(answer), answer
        assert scalar(db, "select count(*) from public.talks where user_id is null") == 0, "it has no owner any more"
        assert archived(db, "public.talks") == 1, "what could not come back is not kept"


def test_a_trigger_that_gives_every_row_a_new_id_does_not_cut_it_off_from_what_hangs_below(
    db: Connection,
) -> None:
    add_stale(db)
    create(
        db,
        """create table public.lines (id int primary key, talk uuid not null references public.talks on delete cascade)""",
        "create index on public.lines (talk)",
        """create function public.new_id() returns trigger language plpgsql as $$
        begin new.id := gen_random_uuid(); return new; end $$""",
        "create trigger new_id before insert on public.talks for each row execute function public.new_id()",
    )
    db.execute("insert into public.lines values (1, %s)", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    assert did(run_cleanup(db), "public.talks") == 1
    answer = restore_run(db)
    if keys_of(db, "public.talks") == [KEY]:
        assert scalar(db, "select count(*) from public.lines where talk = %s", KEY) == 1
    else:
        assert archived(db, "public.talks") == 1, answer
        assert json.dumps(answer).count("public."), answer
    db.execute("drop trigger new_id on public.talks")
    db.execute("update public.talks set id = %s", [KEY])
    restore_key(db, "public.talks", KEY)
    assert keys_of(db, "public.talks") == [KEY]
    assert scalar(db, "select count(*) from public.lines") == 1


def test_a_trigger_that_makes_a_first_member_loses_no_member_that_was_archived(db: Connection) -> None:
    """AFTER INSERT on the talk inserts its owner as a member: on a restore the archived member finds its place taken."""
    add_stale(db)
    create(
        db,
        """create table public.members (talk uuid not null references public.talks on delete cascade, user_id uuid,
          name text, primary key (talk, user_id))""",
        """create function public.join_owner() returns trigger language plpgsql as $$
        begin insert into members values (new.id, new.user_id, 'new'); return null; end $$""",
        "create trigger join_owner after insert on public.talks for each row execute function public.join_owner()",
    )
    db.execute("insert into public.members values (%s, %s, 'Ada'), (%s, %s, 'Bob')", [KEY, ADA, KEY, OTHER])
    adopt_sessions(db, "public.talks", p_below={"public.members": "goes along"})
    assert did(run_cleanup(db), "public.talks") == 1
    answer = restore_run(db)
    names = scalar(db, "select array_agg(name order by name) from public.members")
    if names != ["Ada", "Bob"]:
        assert names == ["Bob", "new"]
        assert answer["missing"] == 1 and answer["reasons"], answer
        assert archived(db, "public.talks") == 1, "Ada is lost"


def test_a_trigger_that_logs_a_system_message_into_the_talk_duplicates_nothing_unsaid(db: Connection) -> None:
    add_stale(db)
    create(
        db,
        """create table public.lines (id bigint generated always as identity primary key, body text,
          talk uuid not null references public.talks on delete cascade)""",
        "create index on public.lines (talk)",
        """create function public.greet() returns trigger language plpgsql as $$
        begin insert into lines (talk, body) values (new.id, 'welcome'); return null; end $$""",
        "create trigger greet after insert on public.talks for each row execute function public.greet()",
    )
    db.execute("insert into public.lines (talk, body) values (%s, 'welcome'), (%s, 'hello')", [KEY, KEY])
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    before = snapshot(db, "public.lines")
    assert did(run_cleanup(db), "public.talks") == 1
    answer = restore_run(db)
    after = snapshot(db, "public.lines")
    archived_rows = [row["the row"] for row in before["public.lines"]]
    assert all(row in [each["the row"] for each in after["public.lines"]] for row in archived_rows), answer
    if len(after["public.lines"]) > 2:
        assert "public.lines" in json.dumps(answer), f"a third line is there, and nothing says so: {answer}"


def test_a_counter_in_a_row_that_stays_is_the_teams_own(db: Connection) -> None:
    """A trigger counts talks by user, in a row that a key of the talk refers to: that is no link that is lost."""
    create(
        db,
        "create table public.users (id uuid primary key, talks int not null default 0)",
        "alter table public.talks add foreign key (user_id) references public.users on delete cascade",
        """create function public.count_talks() returns trigger language plpgsql as $$
        begin
          update users set talks = talks + case tg_op when 'INSERT' then 1 else -1 end where id = coalesce(new.user_id, old.user_id);
          return null;
        end $$""",
        "create trigger count_talks after insert or delete on public.talks for each row execute function public.count_talks()",
    )
    db.execute("insert into public.users (id) values (%s)", [ADA])
    add_stale(db)
    add_stale(db, OTHER)
    adopt_sessions(db, "public.talks", p_owner="user_id")
    there_and_back(db, "public.talks", "public.users", rows=2)


def test_one_to_one_tables_and_join_tables_go_and_come_back(db: Connection) -> None:
    create(
        db,
        """create table public.settings (talk uuid primary key references public.talks on delete cascade, theme text)""",
        """create table public.members (talk uuid references public.talks on delete cascade, who int,
          primary key (talk, who))""",
        """create table public.reads (talk uuid, who int, line int,
          foreign key (talk, who) references public.members on delete cascade, primary key (talk, who, line))""",
    )
    add_stale(db)
    db.execute("insert into public.settings values (%s, 'dark')", [KEY])
    db.execute("insert into public.members select %s, n from generate_series(1, 3) n", [KEY])
    db.execute("insert into public.reads select talk, who, n from public.members, generate_series(1, 2) n")
    below = dict.fromkeys(("public.settings", "public.members"), "goes along")
    adopt_sessions(db, "public.talks", p_below=below)
    (shown,) = (line for line in dry_run(db, "public.talks") if line["would"])
    assert (shown["would"], shown["cascaded_total"]) == (1, 10)
    there_and_back(db, "public.talks", "public.settings", "public.members", "public.reads")


def test_keys_that_share_a_tenants_column_go_and_come_back(db: Connection) -> None:
    """Each key is (tenant, id), each reference has the tenant in it; a reply loses its link alone, not its tenant."""
    create(
        db,
        "alter table public.talks add tenant int not null default 7, add unique (tenant, id)",
        """create table public.lines (tenant int, id int, talk uuid not null, reply_to int, primary key (tenant, id),
          foreign key (tenant, talk) references public.talks (tenant, id) on delete cascade,
          foreign key (tenant, reply_to) references public.lines (tenant, id) on delete set null (reply_to))""",
        "create index on public.lines (tenant, talk)",
        "create index on public.lines (tenant, reply_to)",
        """create table public.marks (tenant int, line int, mark text,
          foreign key (tenant, line) references public.lines on delete cascade)""",
        "create index on public.marks (tenant, line)",
    )
    add_stale(db)
    add_stale(db, OTHER, tenant=8)
    for tenant, talk in ((7, KEY), (8, OTHER)):
        db.execute("insert into public.lines values (%s, 1, %s, null), (%s, 2, %s, 1)", [tenant, talk, tenant, talk])
        db.execute("insert into public.marks values (%s, 1, 'a'), (%s, 2, 'b'), (%s, 2, 'b')", [tenant] * 3)
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    there_and_back(db, "public.talks", "public.lines", "public.marks", rows=2)


def test_rows_that_are_equal_in_a_table_without_a_key_are_as_many_as_before(db: Connection) -> None:
    create(
        db,
        "create table public.clicks (talk uuid references public.talks on delete cascade, x int)",
        "create index on public.clicks (talk)",
    )
    add_stale(db)
    db.execute("insert into public.clicks select %s, 1 from generate_series(1, 5)", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.clicks": "goes along"})
    there_and_back(db, "public.talks", "public.clicks")


def test_an_exclusion_constraint_that_is_checked_at_commit_does_not_stop_a_restore(db: Connection) -> None:
    create(
        db,
        """create table public.slots (id int primary key, talk uuid references public.talks on delete cascade,
          during tstzrange, exclude using gist (during with &&) deferrable initially deferred)""",
        "create index on public.slots (talk)",
    )
    add_stale(db)
    db.execute(
        "insert into public.slots values (1, %s, '[2026-01-01, 2026-01-02)'), (2, %s, '[2026-01-02, infinity)')",
        [KEY, KEY],
    )
    adopt_sessions(db, "public.talks", p_below={"public.slots": "goes along"})
    there_and_back(db, "public.talks", "public.slots")


def test_a_slot_that_is_taken_is_a_reason_and_not_a_failure_at_commit(db: Connection) -> None:
    create(
        db,
        """create table public.slots (id int primary key, talk uuid references public.talks on delete cascade,
          during tstzrange, exclude using gist (during with &&) deferrable initially deferred)""",
        "create index on public.slots (talk)",
    )
    add_stale(db)
    db.execute("insert into public.slots values (1, %s, '[2026-01-01, 2026-01-02)')", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.slots": "goes along"})
    run_cleanup(db)
    db.execute("insert into public.slots values (2, null, '[2026-01-01, 2026-03-01)')")
    answer = restore_key(db, "public.talks", KEY)
    assert answer and answer["missing"] == 1, answer
    assert keys_of(db, "public.talks") == [KEY]
    db.execute("delete from public.slots where id = 2")
    restore_key(db, "public.talks", KEY)
    assert scalar(db, "select count(*) from public.slots where id = 1") == 1


def test_a_published_table_without_a_replica_identity_is_named_and_stops_no_other(db: Connection) -> None:
    """Postgres refuses every delete there, the app's own too, and that of a talk without any row there."""
    create(
        db,
        "create table public.clicks (talk uuid references public.talks on delete cascade, x int)",
        "create index on public.clicks (talk)",
        "create publication realtime for table public.clicks",
    )
    add_stale(db)
    add_stale(db, OTHER)
    db.execute("insert into public.clicks values (%s, 1)", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.clicks": "goes along"})
    report = run_cleanup(db)
    assert keys_of(db, "public.talks") == [KEY, OTHER]
    assert "clicks" in json.dumps(report)
    assert [line["outcome"] for line in report["policies"] if line["policy"] == "stale-user-sessions"] == ["completed"]


def test_a_trigger_that_hides_a_row_instead_of_deleting_it_keeps_it(db: Connection) -> None:
    create(
        db,
        "alter table public.talks add deleted_at timestamptz",
        """create function public.hide() returns trigger language plpgsql as $$
        begin update public.talks set deleted_at = now() where id = old.id; return null; end $$""",
        "create trigger hide before delete on public.talks for each row execute function public.hide()",
    )
    add_stale(db)
    adopt_sessions(db, "public.talks")
    report = run_cleanup(db)
    assert did(report, "public.talks") == 0
    assert KEY in json.dumps(report)
    assert scalar(db, "select count(*) from public.talks where deleted_at is null") == 1, (
        "it was hidden, and not archived"
    )
    assert archived(db, "public.talks") == 0


def test_a_trigger_that_inserts_a_deleted_row_again_keeps_it(db: Connection) -> None:
    create(
        db,
        """create function public.stay() returns trigger language plpgsql as $$
        begin insert into public.talks select (old).*; return null; end $$""",
        "create trigger stay after delete on public.talks for each row execute function public.stay()",
    )
    add_stale(db)
    adopt_sessions(db, "public.talks")
    run_cleanup(db)
    there = keys_of(db, "public.talks")
    assert there == [KEY] or archived(db, "public.talks") == 1
    assert len(there) + archived(db, "public.talks") >= 1


def test_a_rule_that_turns_a_delete_into_nothing_keeps_the_root_and_is_isolated(db: Connection) -> None:
    create(
        db,
        "create table public.lines (id int primary key, talk uuid references public.talks on delete cascade)",
        "create index on public.lines (talk)",
        "create rule keep as on delete to public.lines do instead nothing",
    )
    add_stale(db)
    add_stale(db, OTHER)
    db.execute("insert into public.lines values (1, %s)", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    run_cleanup(db)
    assert (
        scalar(
            db,
            "select count(*) from public.lines l where not exists (select from public.talks t where t.id = l.talk)",
        )
        == 0
    )
    assert KEY in keys_of(db, "public.talks")


@pytest.mark.parametrize("action", ["cascade", "set null", "no action"])
def test_a_fork_of_a_talk_keeps_the_talk_that_it_was_forked_from(db: Connection, action: str) -> None:
    create(
        db,
        f"alter table public.talks add forked_from uuid references public.talks on delete {action}",
        "create index on public.talks (forked_from)",
    )
    add_stale(db)
    db.execute("insert into public.talks (id, status, forked_from) values (%s, 'active', %s)", [OTHER, KEY])
    adopt_sessions(db, "public.talks")
    report = run_cleanup(db)
    assert did(report, "public.talks") == 0
    assert scalar(db, "select forked_from::text from public.talks where id = %s", OTHER) == KEY


@pytest.mark.parametrize("action", ["cascade", "set null", "no action"])
def test_a_chain_of_stale_forks_goes_and_comes_back_with_its_links(db: Connection, action: str) -> None:
    create(
        db,
        f"alter table public.talks add forked_from uuid references public.talks on delete {action}",
        "create index on public.talks (forked_from)",
    )
    add_stale(db)
    add_stale(db, OTHER, forked_from=KEY)
    adopt_sessions(db, "public.talks")
    before = snapshot(db, "public.talks")
    runs = []
    for _ in range(3):
        report = run_cleanup(db)
        runs.append(report["run_id"])
    assert keys_of(db, "public.talks") == []
    for run in reversed(runs):
        restore_run(db, run)
    for key in (KEY, OTHER):
        restore_key(db, "public.talks", key)
    assert differences(before, snapshot(db, "public.talks")) == []
    assert archived(db, "public.talks") == 0


@pytest.mark.parametrize("order", [(KEY, OTHER), (OTHER, KEY)])
def test_a_link_between_two_archived_rows_comes_back_with_the_second(db: Connection, order: tuple[str, str]) -> None:
    create(
        db,
        "alter table public.talks add forked_from uuid references public.talks on delete set null",
        "create index on public.talks (forked_from)",
    )
    add_stale(db)
    add_stale(db, OTHER, forked_from=KEY)
    adopt_sessions(db, "public.talks")
    before = snapshot(db, "public.talks")
    for _ in range(3):
        run_cleanup(db)
    assert keys_of(db, "public.talks") == []
    for key in order:
        restore_key(db, "public.talks", key)
    for key in order:
        restore_key(db, "public.talks", key)
    assert differences(before, snapshot(db, "public.talks")) == []


def test_a_reference_that_was_never_validated_leaves_its_strays_alone(db: Connection) -> None:
    create(
        db,
        "create table public.lines (id int primary key, talk uuid, body text)",
        "insert into public.lines values (1, gen_random_uuid(), 'stray')",
        "alter table public.lines add foreign key (talk) references public.talks on delete cascade not valid",
        "create index on public.lines (talk)",
    )
    add_stale(db)
    db.execute("insert into public.lines values (2, %s, 'mine')", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.lines": "goes along"})
    there_and_back(db, "public.talks", "public.lines")


def test_a_user_that_was_deleted_meanwhile_is_a_reason_and_not_a_failure(db: Connection) -> None:
    create(
        db,
        "create table if not exists auth.users (id uuid primary key)",
        "alter table public.talks add foreign key (user_id) references auth.users on delete cascade",
    )
    db.execute("insert into auth.users (id) values (%s)", [ADA])
    add_stale(db)
    adopt_sessions(db, "public.talks", p_owner="user_id")
    assert did(run_cleanup(db), "public.talks") == 1
    db.execute("delete from auth.users")
    answer = restore_run(db)
    assert keys_of(db, "public.talks") == []
    assert answer["restored"] == 0
    assert "users" in json.dumps(answer) or "user_id" in json.dumps(answer), answer


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_rows_larger_than_a_page_go_and_come_back_byte_for_byte(db: Connection, size: int) -> None:
    create(
        db,
        """create table public.blobs (id int primary key, talk uuid references public.talks on delete cascade,
          data bytea, note text)""",
        "create index on public.blobs (talk)",
    )
    add_stale(db)
    add_stale(db, OTHER)
    for number, key in enumerate((KEY, KEY, OTHER), 1):
        db.execute(
            """insert into public.blobs select %s, %s,
              (select string_agg(decode(md5(n::text), 'hex'), '') from generate_series(1, %s) n), repeat('ü', 100)""",
            [number, key, size // 16],
        )
    adopt_sessions(db, "public.talks", p_below={"public.blobs": "goes along"})
    there_and_back(db, "public.talks", "public.blobs", rows=2)


def test_embeddings_come_back_bit_for_bit(db: Connection) -> None:
    if not db.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone():
        pytest.skip("this Postgres has no extension vector (pgvector)")
    create(
        db,
        "create schema if not exists extensions",
        "create extension vector schema extensions",
        """create table public.memories (id int primary key, talk uuid references public.talks on delete cascade,
          embedding extensions.vector(3))""",
        "create index on public.memories (talk)",
    )
    add_stale(db)
    db.execute("insert into public.memories values (1, %s, '[0.1, 1e-37, 3.4028235e38]')", [KEY])
    adopt_sessions(db, "public.talks", p_below={"public.memories": "goes along"})
    there_and_back(db, "public.talks", "public.memories")


def test_names_that_need_quotes_everywhere_go_and_come_back(db: Connection) -> None:
    table, child = '"My ""App"".1"."100% chats"', '"My ""App"".1"."it\'s; --"'
    create(
        db,
        'create schema "My ""App"".1"',
        f"""create table {table} ("Id" uuid primary key, "When?" timestamptz, "it's" text default 'draft', "select" uuid)""",
        f'create index on {table} ("When?")',
        f"""create table {child} ("%I" int primary key, "to" uuid references {table} on delete cascade, "$1" text)""",
        f'create index on {child} ("to")',
        f"insert into {table} values ('{KEY}', now() - interval '3 days', 'draft', '{ADA}')",
        f"insert into {child} values (1, '{KEY}', '%s %%')",
    )
    adopt_sessions(db, table, p_clock="When?", p_status="it's", p_owner="select", p_below={child: "goes along"})
    before = snapshot(db, table, child)
    assert did(run_cleanup(db), table) == 1
    assert transition(db, "activate", KEY, {"user_id": ADA})["restored"] is True
    db.execute(f"update {table} set \"it's\" = 'draft', \"When?\" = now() - interval '3 days'")
    assert [row["$1"] for row in snapshot(db, child)[child]] == [row["$1"] for row in before[child]]
    db.execute("delete from lull.holds")
    db.execute("update lull.sessions set last_activity_at = now() - interval '9 days'")
    assert did(run_cleanup(db), table) == 1
    answer = restore_key(db, table, KEY, SERVICE)
    assert answer and answer["missing"] == 0


def test_a_key_that_is_an_array_is_counted_taken_and_brought_back(db: Connection) -> None:
    create(
        db,
        "create table public.boards (id uuid primary key default gen_random_uuid(), place int[] not null unique, "
        "status text not null default 'draft', updated_at timestamptz not null default now())",
        "create index on public.boards (updated_at)",
        "create table public.pins (id int primary key, place int[] not null references public.boards (place) on delete cascade)",
        "create index on public.pins (place)",
    )
    adopt_sessions(db, "public.boards", p_below={"public.pins": "goes along"})
    db.execute("insert into public.boards (place, updated_at) values ('{1,2}', now() - interval '3 days')")
    db.execute("insert into public.pins values (1, '{1,2}'), (2, '{1,2}')")
    before = snapshot(db, "public.boards", "public.pins")
    assert [line["cascaded"] for line in dry_run(db, "public.boards") if line["would"]] == [{"public.pins": 2}]
    assert did(run_cleanup(db), "public.boards") == 1
    restore_run(db)
    assert differences(before, snapshot(db, *before)) == []
