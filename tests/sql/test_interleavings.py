"""The interleavings that broke simpler protocols, each with real connections and one of them held at the critical point.

A batch is held where it locks the level below: another connection has a row of that level locked.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.driver import Connection, Run, add_session, call, line, preview, run_cleanup, scalar
from tests.sql.waiting import beside, never_give_up, wait_until_blocked
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"


def add_participant(connection: Connection, session: str, name: str = "Ada") -> str:
    return str(
        scalar(
            connection,
            "insert into lull.session_participants (session_id, name) values (%s, %s) returning id",
            session,
            name,
        )
    )


def hold_row(holder: Connection, table: str, key: str) -> None:
    """Lock one row until the holder's transaction ends."""
    holder.execute("begin")
    holder.execute(f"select 1 from {table} where id = %s for update", [key])


@pytest.fixture
def db(sql_database: Database) -> Connection:
    connection = sql_database.connect()
    never_give_up(connection)
    return connection


def open_run(sql_database: Database) -> Run:
    run = Run.begin(sql_database.connect(), DRAFTS)
    assert run.open(DRAFTS)["outcome"] == "open"
    return run


def archived_names(db: Connection) -> list[str]:
    rows = db.execute(
        "select d ->> 'name' as name from lull.archive, jsonb_array_elements(children) c, jsonb_array_elements(c -> 'rows') d"
    ).fetchall()
    return sorted(row["name"] for row in rows)


def test_a_child_inserted_between_lock_and_archive_is_refused(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    child = add_participant(db, session, "first")
    run, holder, writer = open_run(sql_database), sql_database.connect(), sql_database.connect()
    hold_row(holder, "lull.session_participants", child)
    with beside() as start:
        batch = start(run.batch, DRAFTS)
        wait_until_blocked(db, run.connection, holder)
        insert = start(add_participant, writer, session, "late")
        wait_until_blocked(db, writer, run.connection)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            insert.result()
    assert archived_names(db) == ["first"]


def test_a_child_inserted_just_before_the_lock_goes_along_into_the_archive(
    sql_database: Database, db: Connection
) -> None:
    session = add_session(db)
    run, writer = open_run(sql_database), sql_database.connect()
    writer.execute("begin")
    add_participant(writer, session, "early")
    assert run.batch(DRAFTS)["locked"] == 0, "a session that somebody writes to is passed over"
    writer.execute("commit")
    run.finish()
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["cascaded"] == 1
    assert archived_names(db) == ["early"]


@pytest.fixture
def tree(db: Connection) -> Connection:
    """A team's table with two levels below it, on the allow-list, and one stale row."""
    db.execute("""
        create table public.boards (id int primary key, used_at timestamptz);
        create index on public.boards (used_at, id);
        create table public.notes (
          id int primary key, board_id int not null references public.boards on delete cascade, name text);
        create index on public.notes (board_id);
        create table public.replies (
          id int primary key, note_id int not null references public.notes on delete cascade, name text);
        create index on public.replies (note_id);
        insert into public.boards values (1, now() - interval '2 days');
        insert into public.notes values (1, 1, 'note 1'), (2, 1, 'note 2');
        insert into public.replies values (1, 1, 'reply 1');
    """)
    db.execute("select lull.adopt('public.boards', 'used_at')")
    return db


BOARDS = {
    "name": "boards", "target": "public.boards", "clock": "used_at", "equals": {}, "nulls": [], "age_seconds": 3600,
    "archive": True, "restore_days": 7, "max_rows": 100, "growth_factor": None, "growth_floor": 1000,
    "max_percent": None, "max_cascaded": 100, "warn_seconds": None, "reason": "board that nobody uses",
}  # fmt: skip


def test_a_grandchild_inserted_under_a_locked_child_is_refused(
    sql_database: Database, tree: Connection
) -> None:
    run = Run.begin(sql_database.connect(), p_policies=[BOARDS])
    run.open("boards")
    holder, writer = sql_database.connect(), sql_database.connect()
    hold_row(holder, "public.replies", "1")
    with beside() as start:
        batch = start(run.batch, "boards")
        wait_until_blocked(tree, run.connection, holder)
        insert = start(writer.execute, "insert into public.replies values (2, 2, 'late')")
        wait_until_blocked(tree, writer, run.connection)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            insert.result()
    assert archived_names(tree) == ["note 1", "note 2", "reply 1"]


def test_a_grandchild_inserted_before_its_parent_is_locked_goes_along(
    sql_database: Database, tree: Connection
) -> None:
    run = Run.begin(sql_database.connect(), p_policies=[BOARDS])
    run.open("boards")
    holder = sql_database.connect()
    hold_row(holder, "public.notes", "1")
    with beside() as start:
        batch = start(run.batch, "boards")
        wait_until_blocked(tree, run.connection, holder)
        tree.execute("insert into public.replies values (2, 2, 'just in time')")
        holder.execute("commit")
        assert batch.result()["cascaded"] == 4
    assert archived_names(tree) == ["just in time", "note 1", "note 2", "reply 1"]


def test_an_update_of_a_child_before_its_lock_is_in_the_archive(
    sql_database: Database, db: Connection
) -> None:
    session = add_session(db)
    child = add_participant(db, session, "before")
    run, writer = open_run(sql_database), sql_database.connect()
    writer.execute("begin")
    writer.execute("update lull.session_participants set name = 'after' where id = %s", [child])
    with beside() as start:
        batch = start(run.batch, DRAFTS)
        wait_until_blocked(db, run.connection, writer)
        writer.execute("commit")
        assert batch.result()["deleted"] == 1
    assert archived_names(db) == ["after"]


def test_a_child_that_moves_to_another_session_meanwhile_is_not_taken(
    sql_database: Database, db: Connection
) -> None:
    stale, fresh = add_session(db), add_session(db, idle="1 minute")
    child = add_participant(db, stale, "mover")
    run, writer = open_run(sql_database), sql_database.connect()
    writer.execute("begin")
    writer.execute("update lull.session_participants set session_id = %s where id = %s", [fresh, child])
    with beside() as start:
        batch = start(run.batch, DRAFTS)
        wait_until_blocked(db, run.connection, writer)
        writer.execute("commit")
        assert batch.result()["cascaded"] == 0
    assert scalar(db, "select session_id::text from lull.session_participants") == fresh


def test_a_heartbeat_before_the_batch_saves_the_session(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    run, user = open_run(sql_database), sql_database.connect()
    user.execute("begin")
    user.execute("select lull.touch_session(%s)", [session])
    assert run.batch(DRAFTS) | {"ms": 0, "others": 0, "wal": 0} == {
        "locked": 0, "deleted": 0, "cascaded": 0, "files": 0, "done": True, "failed": None, "skipped": None, "ms": 0,
        "others": 0, "wal": 0,
    }  # fmt: skip
    user.execute("commit")
    run.finish()
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["would"] == 0


@pytest.mark.parametrize(
    "statement", ["lull.touch_session(%s)", "lull_activate_session(%s, '{\"service\": true}')"]
)
def test_whoever_comes_while_the_batch_has_the_row_is_told_the_truth(
    sql_database: Database, db: Connection, statement: str
) -> None:
    session = add_session(db)
    child = add_participant(db, session)
    run, holder, user = open_run(sql_database), sql_database.connect(), sql_database.connect()
    hold_row(holder, "lull.session_participants", child)
    with beside() as start:
        batch = start(run.batch, DRAFTS)
        wait_until_blocked(db, run.connection, holder)
        answer = start(user.execute, f"select {statement}", [session])
        wait_until_blocked(db, user, run.connection)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        if "touch" in statement:
            with pytest.raises(psycopg.Error) as refused:
                answer.result()
            assert refused.value.sqlstate == "PT410"
        else:
            answer.result()
            assert scalar(db, "select status from lull.sessions where id = %s", session) == "active"
            assert scalar(db, "select count(*) from lull.session_participants") == 1


def test_a_hold_set_before_the_batch_saves_the_session(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    run, operator = open_run(sql_database), sql_database.connect()
    operator.execute("begin")
    operator.execute("update lull.sessions set hold = true where id = %s", [session])
    assert run.batch(DRAFTS)["locked"] == 0
    operator.execute("commit")
    run.finish()
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["did"] == 0
    assert scalar(db, "select count(*) from lull.sessions") == 1


def test_a_hold_that_comes_after_the_batch_has_the_row_changes_nothing(
    sql_database: Database, db: Connection
) -> None:
    session = add_session(db)
    child = add_participant(db, session)
    run, holder, operator = open_run(sql_database), sql_database.connect(), sql_database.connect()
    hold_row(holder, "lull.session_participants", child)
    with beside() as start:
        batch = start(run.batch, DRAFTS)
        wait_until_blocked(db, run.connection, holder)
        hold = start(operator.execute, "update lull.sessions set hold = true where id = %s", [session])
        wait_until_blocked(db, operator, run.connection)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        assert hold.result().rowcount == 0
    assert scalar(db, "select count(*) from lull.archive") == 1


def test_a_run_that_lost_its_lease_in_mid_batch_commits_nothing(
    sql_database: Database, db: Connection
) -> None:
    session = add_session(db)
    child = add_participant(db, session)
    old, holder = open_run(sql_database), sql_database.connect()
    hold_row(holder, "lull.session_participants", child)
    with beside() as start:
        batch = start(old.batch, DRAFTS)
        wait_until_blocked(db, old.connection, holder)
        db.execute("update lull.cleanup_runs set lease_until = clock_timestamp() - interval '1 second'")
        new = open_run(sql_database)
        holder.execute("commit")
        with pytest.raises(psycopg.Error) as refused:
            batch.result()
    assert (refused.value.sqlstate, refused.value.diag.message_detail) == ("PT409", "lease-lost")
    new.drain(DRAFTS)
    assert line(new.finish(), DRAFTS)["did"] == 1
    counts = db.execute(
        "select status, did from lull.cleanup_runs join lull.cleanup_run_policies on run_id = id"
    ).fetchall()
    assert sorted((row["status"], row["did"]) for row in counts) == [("abandoned", 0), ("completed", 1)]


def test_two_begins_at_once_start_one_run(sql_database: Database, db: Connection) -> None:
    with beside() as start:
        starts = [start(Run.begin, sql_database.connect()) for _ in range(8)]
        begun = [each.result().begun for each in starts]
    assert sorted(answer["started"] for answer in begun) == [False] * 7 + [True]
    winner = next(answer for answer in begun if answer["started"])
    assert {answer["run_id"] for answer in begun} == {winner["run_id"]}
    assert all("already running since" in answer["message"] for answer in begun if not answer["started"])


def test_one_batch_sent_twice_at_once_deletes_every_row_once(sql_database: Database, db: Connection) -> None:
    for _ in range(30):
        add_session(db)
    run = open_run(sql_database)
    with beside() as start:
        answers = [start(run.batch, DRAFTS, 20, sql_database.connect()) for _ in range(2)]
        assert sum(each.result()["deleted"] for each in answers) == 30
    assert line(run.finish(), DRAFTS)["did"] == 30
    assert scalar(db, "select count(*) from lull.archive") == 30


def test_twenty_late_activations_restore_one_draft_once(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    add_participant(db, session)
    run_cleanup(db, DRAFTS)
    connections = [sql_database.connect() for _ in range(20)]
    with beside() as start:
        calls = [
            start(scalar, each, "select lull_activate_session(%s, '{\"service\": true}')", session)
            for each in connections
        ]
        answers = [each.result() for each in calls]
    assert len({answer["session"]["first_message_at"] for answer in answers}) == 1
    assert [sum(answer[what] for answer in answers) for what in ("activated", "restored")] == [1, 1]
    events = db.execute("select event from lull.session_events order by id").fetchall()
    assert [row["event"] for row in events] == ["archived", "restored", "activated"]
    assert scalar(db, "select count(*) from lull.archive") == 0


@pytest.mark.parametrize("first", ["purge", "restore"])
def test_a_purge_and_a_restore_never_both_happen(sql_database: Database, db: Connection, first: str) -> None:
    session = add_session(db)
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [session])
    run_cleanup(db, DRAFTS)
    db.execute("update lull.archive set purge_after = now() - interval '1 second'")
    purger, user = Run.begin(sql_database.connect(), "purge"), sql_database.connect()
    purger.open("purge")
    if first == "restore":
        user.execute("begin")
        user.execute("select lull_activate_session(%s, '{\"service\": true}')", [session])
        assert purger.batch("purge")["locked"] == 0
        user.execute("commit")
        assert scalar(db, "select count(*) from lull.session_files") == 1
        assert scalar(db, "select count(*) from lull.file_removals") == 0
        return
    purger.connection.execute("begin")
    assert purger.batch("purge")["deleted"] == 1
    with beside() as start:
        late = start(user.execute, "select lull_activate_session(%s, '{\"service\": true}')", [session])
        wait_until_blocked(db, user, purger.connection)
        purger.connection.execute("commit")
        with pytest.raises(psycopg.Error) as refused:
            late.result()
    assert refused.value.sqlstate == "PT410"
    assert scalar(db, "select count(*) from lull.file_removals") == 1


def test_a_dry_run_beside_a_run_waits_for_nothing(sql_database: Database, db: Connection) -> None:
    add_session(db)
    run = open_run(sql_database)
    run.connection.execute("begin")
    assert run.batch(DRAFTS)["deleted"] == 1
    assert preview(db, DRAFTS)["would"] == 1, "not committed yet, so it would still go"
    assert call(db, "lull_preview_cleanup", p_policies=[])["policies"] == []
    run.connection.execute("commit")
    assert preview(db, DRAFTS)["would"] == 0
