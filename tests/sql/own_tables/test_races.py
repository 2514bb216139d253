"""Interleavings on a team's table, each with real connections and one of them held at the critical point.

A connection is held in code of the team's that waits for an advisory lock which the test has: a cast, where a row is
judged, or a BEFORE DELETE trigger, where it goes.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.driver import Connection, Run, line, policies, run_cleanup, scalar
from tests.sql.own_tables.team import (
    ADA,
    BOB,
    SERVICE,
    adopt_sessions,
    archived,
    create,
    did,
    keys_of,
    latest_run,
    refused,
    restore_key,
    restore_run,
    transition,
    user,
)
from tests.sql.waiting import beside, never_give_up, wait_until_at, wait_until_blocked
from tests.sql_servers import Database

GATE = 4711


def key(number: int) -> str:
    return f"eeeeeeee-0000-4000-8000-{number:012d}"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """A table with messages, which keep, and visitors, whose clock does; three stale drafts of Ada's."""
    connection = sql_database.connect()
    never_give_up(connection)
    create(
        connection,
        """create table public.talks (id uuid primary key default gen_random_uuid(), author uuid,
          status text not null default 'draft', updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        """create table public.lines (id bigint generated always as identity primary key, body text,
          talk uuid not null references public.talks on delete cascade)""",
        "create index on public.lines (talk)",
        """create table public.visitors (id int primary key, seen timestamptz,
          talk uuid not null references public.talks on delete cascade)""",
        "create index on public.visitors (talk)",
    )
    for number in (1, 2, 3):
        connection.execute(
            "insert into public.talks (id, author, updated_at) values (%s, %s, now() - interval '3 days')",
            [key(number), ADA],
        )
        connection.execute(
            "insert into public.visitors values (%s, now() - interval '3 days', %s)", [number, key(number)]
        )
    return connection


def adopt(db: Connection) -> None:
    adopt_sessions(
        db,
        "public.talks",
        p_owner="author",
        p_below={"public.lines": "keeps", "public.visitors": {"clock": "seen"}},
    )


def hold_deletes(db: Connection, table: str = "public.talks") -> None:
    """Make every delete of a row of the table wait for the gate."""
    create(
        db,
        f"""create function public.wait_at_gate() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock_shared({GATE}); return old; end $$""",
        f"create trigger wait_at_gate before delete on {table} for each row execute function public.wait_at_gate()",
    )


def hold_judging(db: Connection, call: int) -> None:
    """Give the status a type of the team's whose cast to text waits for the gate when it is called the n-th time."""
    create(
        db,
        "create type public.stage as (word text)",
        "create sequence public.looks",
        f"""create function public.word_of(public.stage) returns text language plpgsql as $$
        begin
          if nextval('public.looks') = {call} then
            perform pg_advisory_lock_shared({GATE});
            perform pg_advisory_unlock_shared({GATE});
          end if;
          return $1.word;
        end $$""",
        "create cast (public.stage as text) with function public.word_of(public.stage)",
        "alter table public.talks alter status drop default",
        "alter table public.talks alter status type public.stage using row(status)::public.stage",
    )


def close_gate(database: Database) -> Connection:
    """Take the gate's lock on a connection of its own; closing or unlocking opens it."""
    holder = database.connect()
    holder.execute(f"select pg_advisory_lock({GATE})")
    return holder


def open_gate(holder: Connection) -> None:
    holder.execute(f"select pg_advisory_unlock({GATE})")


def open_run(database: Database, **arguments: Any) -> tuple[Run, str]:
    """Begin a run and open the line of the table; return both."""
    run = Run.begin(database.connect(), "abandoned-drafts", **arguments)
    (ours,) = (name for name in run.begun["policies"] if "talks" in name)
    assert run.open(ours)["outcome"] == "open"
    return run, ours


@pytest.mark.parametrize("look", [1, 2, 3])
def test_a_heartbeat_while_a_row_is_judged_saves_it(db: Connection, sql_database: Database, look: int) -> None:
    """The batch has read the old heartbeat, or has not; under its locks it reads the new one."""
    adopt(db)
    run, ours = open_run(sql_database)
    scalar(db, "select lull.release('public.talks')")
    run.finish()
    hold_judging(db, look)
    adopt(db)
    run, ours = open_run(sql_database)
    holder = close_gate(sql_database)
    db.execute("select setval('public.looks', 1, false)")
    with beside() as start:
        batch = start(run.batch, ours, 1000)
        wait_until_at(db, run.connection, "advisory")
        db.execute("set lock_timeout = '5s'")
        db.execute("update public.visitors set seen = now() where id = 1")
        open_gate(holder)
        batch.result(timeout=30)
    run.drain(ours)
    run.finish()
    assert key(1) in keys_of(db, "public.talks"), "a row with a heartbeat of now went"
    assert scalar(db, "select count(*) from public.visitors where id = 1") == 1


def test_a_heartbeat_that_is_not_committed_yet_saves_the_row(db: Connection, sql_database: Database) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    visitor = sql_database.connect()
    visitor.execute("begin")
    visitor.execute("update public.visitors set seen = now() where id = 2")
    run.drain(ours)
    visitor.execute("commit")
    report = run.finish()
    assert did(report, "public.talks") == 2
    assert keys_of(db, "public.talks") == [key(2)]
    assert did(run_cleanup(db), "public.talks") == 0


def test_a_foreign_key_that_is_added_between_lock_and_delete_waits_for_the_batch(
    db: Connection, sql_database: Database
) -> None:
    adopt(db)
    hold_deletes(db)
    create(db, "create table public.notes (id int primary key, talk uuid)", "create index on public.notes (talk)")
    db.execute("insert into public.notes values (1, %s)", [key(3)])
    run, ours = open_run(sql_database)
    holder, migration = close_gate(sql_database), sql_database.connect()
    with beside() as start:
        batch = start(run.batch, ours, 1)
        wait_until_at(db, run.connection, "advisory")
        added = start(
            migration.execute,
            "alter table public.notes add foreign key (talk) references public.talks on delete cascade",
        )
        wait_until_blocked(db, migration, run.connection)
        open_gate(holder)
        assert batch.result()["deleted"] == 1
        added.result()
    run.drain(ours)
    run.finish()
    assert keys_of(db, "public.talks") == [key(3)]
    assert scalar(db, "select count(*) from public.notes") == 1


def test_a_migration_that_waits_makes_no_batch_wait_behind_it(db: Connection, sql_database: Database) -> None:
    """A reader holds up ALTER TABLE, which would hold up a batch, which would hold up the app: the batch gives way."""
    adopt(db)
    run, ours = open_run(sql_database)
    reader, migration = sql_database.connect(), sql_database.connect()
    reader.execute("begin")
    reader.execute("select count(*) from public.talks")
    with beside() as start:
        added = start(migration.execute, "alter table public.talks add mood text")
        wait_until_blocked(db, migration, reader)
        answer = start(run.batch, ours, 1000).result(timeout=30)
        assert answer["deleted"] == 0
        reader.execute("commit")
        added.result()
    run.drain(ours)
    went = did(run.finish(), "public.talks")
    assert went + did(run_cleanup(db), "public.talks") == 3


def test_a_message_into_a_row_that_is_going_is_refused_and_into_another_does_not_wait(
    db: Connection, sql_database: Database
) -> None:
    adopt(db)
    hold_deletes(db)
    run, ours = open_run(sql_database)
    holder, writer, other = close_gate(sql_database), sql_database.connect(), sql_database.connect()
    db.execute("insert into public.talks (id, author, status) values (%s, %s, 'active')", [key(9), ADA])
    insert = "insert into public.lines (body, talk) values ('hello', %s)"
    with beside() as start:
        batch = start(run.batch, ours, 1)
        wait_until_at(db, run.connection, "advisory")
        other.execute("set lock_timeout = '2s'")
        other.execute(insert, [key(9)])
        late = start(writer.execute, insert, [key(1)])
        wait_until_blocked(db, writer, run.connection)
        open_gate(holder)
        assert batch.result()["deleted"] == 1
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            late.result()
    assert transition(db, "activate", key(1), user(ADA))["restored"] is True


def test_a_message_that_is_not_committed_yet_keeps_its_row(db: Connection, sql_database: Database) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    writer = sql_database.connect()
    writer.execute("begin")
    writer.execute("insert into public.lines (body, talk) values ('hello', %s)", [key(1)])
    run.drain(ours)
    writer.execute("commit")
    assert did(run.finish(), "public.talks") == 2
    assert did(run_cleanup(db), "public.talks") == 0
    assert keys_of(db, "public.talks") == [key(1)]


@pytest.mark.parametrize("first", ["purge", "restore"])
@pytest.mark.parametrize("by", ["activation", "key", "run"])
def test_a_purge_and_a_restore_of_a_row_never_both_happen(
    db: Connection, sql_database: Database, first: str, by: str
) -> None:
    adopt(db)
    run_cleanup(db)
    run_id = latest_run(db)
    db.execute("update lull.archive_pages set purge_after = now() - interval '1 second'")
    caller = sql_database.connect()

    def restore() -> Any:
        if by == "activation":
            return transition(caller, "activate", key(1), user(ADA))
        return restore_key(caller, "public.talks", key(1)) if by == "key" else restore_run(caller, run_id)

    purger = Run.begin(sql_database.connect(), "purge")
    purger.open("purge")
    if first == "restore":
        caller.execute("begin")
        restore()
        with beside() as start:
            purge = start(purger.drain, "purge")
            purge.result(timeout=30)  # a page that is being read is passed over
        caller.execute("commit")
        assert key(1) in keys_of(db, "public.talks")
        assert transition(db, "get", key(1), user(ADA))["session"]["id"] == key(1)
        return
    purger.connection.execute("begin")
    purger.drain("purge")
    with beside() as start:
        late = start(restore)
        wait_until_blocked(db, caller, purger.connection)
        purger.connection.execute("commit")
        if by == "activation":
            with pytest.raises(psycopg.Error) as gone:
                late.result()
            assert gone.value.sqlstate == "PT410"
        elif by == "key":
            assert late.result() is None
        else:
            assert late.result()["restored"] == 0
    assert keys_of(db, "public.talks") == []


def archive_twice(db: Connection, second_owner: str) -> None:
    """Archive row 1 of Ada's, let the app make it again for the second owner, and archive that."""
    adopt(db)
    db.execute("delete from public.talks where id <> %s", [key(1)])
    run_cleanup(db)
    db.execute(
        "insert into public.talks (id, author, updated_at) values (%s, %s, now() - interval '2 days')",
        [key(1), second_owner],
    )
    db.execute("insert into public.visitors values (7, now() - interval '2 days', %s)", [key(1)])
    run_cleanup(db)
    assert archived(db, "public.talks") == 2


def test_an_id_that_was_archived_twice_comes_back_oldest_first_to_its_owner(db: Connection) -> None:
    """The second row finds its place taken by the first: it stays in the archive until that is gone."""
    archive_twice(db, ADA)
    oldest = scalar(db, "select now() - interval '60 hours'")
    assert restore_key(db, "public.talks", key(1), user(ADA)) is not None
    assert scalar(db, "select updated_at from public.talks") < oldest
    assert 1 in scalar(db, "select array_agg(id) from public.visitors")
    assert archived(db, "public.talks") == 1
    db.execute("delete from public.talks")
    assert transition(db, "activate", key(1), user(ADA))["restored"] is True
    assert keys_of(db, "public.talks") == [key(1)]
    assert archived(db, "public.talks") == 0


def test_an_id_that_was_archived_for_two_owners_comes_back_to_each_their_own(db: Connection) -> None:
    archive_twice(db, BOB)
    assert refused(db, "get", key(1), user(key(8))).sqlstate == "PT404"
    assert transition(db, "activate", key(1), user(BOB))["restored"] is True
    assert scalar(db, "select author::text from public.talks") == BOB
    db.execute("delete from public.talks")
    assert transition(db, "activate", key(1), user(ADA))["restored"] is True
    assert scalar(db, "select author::text from public.talks") == ADA


def test_ten_restores_at_once_of_an_id_that_was_archived_twice_lose_neither(
    db: Connection, sql_database: Database
) -> None:
    archive_twice(db, ADA)
    connections = [sql_database.connect() for _ in range(10)]
    with beside() as start:
        calls = [start(restore_key, each, "public.talks", key(1)) for each in connections]
        for each in calls:
            each.result(timeout=30)
    assert 1 in scalar(db, "select array_agg(id) from public.visitors")
    assert archived(db, "public.talks") == 1
    db.execute("delete from public.talks")
    restore_key(db, "public.talks", key(1))
    assert keys_of(db, "public.talks") == [key(1)]
    assert archived(db, "public.talks") == 0


def test_twenty_late_activations_restore_one_draft_once(db: Connection, sql_database: Database) -> None:
    adopt(db)
    run_cleanup(db)
    connections = [sql_database.connect() for _ in range(20)]
    with beside() as start:
        calls = [start(transition, each, "activate", key(1), user(ADA)) for each in connections]
        answers = [each.result(timeout=30) for each in calls]
    assert sum(bool(answer["restored"]) for answer in answers) == 1
    assert sum(bool(answer["activated"]) for answer in answers) == 1
    assert scalar(db, "select count(*) from public.visitors") == 1
    assert archived(db, "public.talks") == 2


def test_an_adoption_while_a_run_is_open_waits_for_nothing_and_takes_nothing_now(
    db: Connection, sql_database: Database
) -> None:
    run = Run.begin(sql_database.connect())
    run.connection.execute("begin")
    run.open("abandoned-drafts")
    db.execute("set lock_timeout = '3s'")
    adopt(db)
    run.connection.execute("commit")
    for policy in run.begun["policies"]:
        if policy == "abandoned-drafts" or run.open(policy)["outcome"] == "open":
            run.drain(policy)
    report = run.finish()
    assert all(each["outcome"] != "failed" for each in report["policies"]), report
    assert len(keys_of(db, "public.talks")) == 3
    assert did(run_cleanup(db), "public.talks") == 3


def test_a_table_that_is_released_in_the_middle_of_a_run_loses_nothing_more(
    db: Connection, sql_database: Database
) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    assert run.batch(ours, 1)["deleted"] == 1
    scalar(db, "select lull.release('public.talks')")
    run.drain(ours)
    report = run.finish()
    assert len(keys_of(db, "public.talks")) == 2
    assert scalar(db, "select count(*) from lull.cleanup_runs where status = 'running'") == 0
    assert line(report, "abandoned-drafts") is not None
    restore_run(db, run.id)
    assert len(keys_of(db, "public.talks")) == 3, "what went before the release comes back after it"


def test_an_adoption_that_says_more_in_the_middle_of_a_run_counts_from_the_next_batch(
    db: Connection, sql_database: Database
) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    assert run.batch(ours, 1)["deleted"] == 1
    adopt_sessions(db, "public.talks", p_owner="author", p_below={"public.lines": "keeps", "public.visitors": "keeps"})
    run.drain(ours)
    run.finish()
    assert len(keys_of(db, "public.talks")) == 2


def test_a_hold_that_is_set_while_a_row_is_judged_keeps_it_or_comes_too_late(
    db: Connection, sql_database: Database
) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    assert run.batch(ours, 1)["deleted"] == 1
    (left, *_) = keys_of(db, "public.talks")
    db.execute("insert into lull.holds (target, key, reason) values ('public.talks', %s, 'a court asks')", [left])
    run.drain(ours)
    assert did(run.finish(), "public.talks") == 2
    assert keys_of(db, "public.talks") == [left]


def test_a_status_change_that_is_not_committed_yet_keeps_its_row(db: Connection, sql_database: Database) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    writer = sql_database.connect()
    writer.execute("begin")
    writer.execute("update public.talks set status = 'active' where id = %s", [key(1)])
    run.drain(ours)
    writer.execute("commit")
    assert did(run.finish(), "public.talks") == 2
    assert keys_of(db, "public.talks") == [key(1)]


def test_a_row_that_is_deleted_while_it_is_judged_is_not_archived(db: Connection, sql_database: Database) -> None:
    adopt(db)
    run, ours = open_run(sql_database)
    writer = sql_database.connect()
    writer.execute("begin")
    writer.execute("delete from public.talks where id = %s", [key(1)])
    run.drain(ours)
    writer.execute("commit")
    run.finish()
    run_cleanup(db)
    assert archived(db, "public.talks") == 2
    assert restore_key(db, "public.talks", key(1)) is None


@pytest.mark.parametrize("committed", [True, False])
def test_a_reference_that_is_checked_at_commit_never_outlives_its_row(
    db: Connection, sql_database: Database, committed: bool
) -> None:
    """The bill takes no lock before its commit: it waits there for the batch that stands at its delete."""
    create(
        db,
        "create table public.bills (id int primary key, talk uuid not null "
        "references public.talks deferrable initially deferred)",
        "create index on public.bills (talk)",
    )
    adopt(db)
    hold_deletes(db)
    run, ours = open_run(sql_database)
    holder, writer = close_gate(sql_database), sql_database.connect()
    writer.execute("begin")
    writer.execute("insert into public.bills values (1, %s)", [key(1)])
    if committed:
        writer.execute("commit")
        open_gate(holder)
        run.drain(ours)
        run.finish()
        assert keys_of(db, "public.talks") == [key(1)]
        return
    with beside() as start:
        batch = start(run.drain, ours)
        wait_until_at(db, run.connection, "advisory")
        commit = start(writer.execute, "commit")
        wait_until_blocked(db, writer, run.connection)
        open_gate(holder)
        batch.result(timeout=30)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            commit.result()
    run.finish()
    assert keys_of(db, "public.talks") == []
    assert scalar(db, "select count(*) from public.bills") == 0


def test_two_lanes_share_a_table_and_every_row_goes_once(db: Connection, sql_database: Database) -> None:
    adopt(db)
    db.execute("insert into public.talks (updated_at) select now() - interval '3 days' from generate_series(1, 60)")
    run = Run.begin(sql_database.connect(), p_policies=policies(), p_only="abandoned-drafts")
    (ours,) = (name for name in run.begun["policies"] if "talks" in name)
    run.open(ours)
    other = sql_database.connect()

    def work(lane: int, connection: Connection) -> int:
        taken = 0
        while True:
            answer = run.lane(ours, lane, 7, connection)
            taken += int(answer["deleted"])
            if answer["done"]:
                return taken

    with beside() as start:
        lanes = [start(work, 1, run.connection), start(work, 2, other)]
        assert sum(each.result(timeout=60) for each in lanes) == 63
    assert did(run.finish(), "public.talks") == 63
    assert archived(db, "public.talks") == 63


def test_a_draft_that_its_owner_uses_again_is_the_owners_though_the_run_is_restored_too(
    db: Connection, sql_database: Database
) -> None:
    """An operator restores the run while the owner comes back late: one of them restores, neither fails."""
    adopt(db)
    run_cleanup(db)
    operator, owner = sql_database.connect(), sql_database.connect()
    operator.execute("begin")
    restore_run(operator)
    with beside() as start:
        late = start(transition, owner, "activate", key(1), user(ADA))
        wait_until_blocked(db, owner, operator)
        operator.execute("commit")
        answer = late.result(timeout=30)
    assert answer["session"]["status"] == "active"
    assert len(keys_of(db, "public.talks")) == 3
    assert scalar(db, "select count(*) from public.visitors") == 3
    assert transition(db, "get", key(1), SERVICE)["session"]["status"] == "active"
