"""The interleavings that broke simpler protocols, each with real connections and one of them held at the critical point.

A batch is held where it has locked and judged everything and is about to archive: another connection has locked the
archive against inserts. It never waits for a row: what another transaction has locked is left for the next run.
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
            "insert into lull.session_participants (session_id, name, last_seen_at) "
            "values (%s, %s, now() - interval '9 days') returning id",
            session,
            name,
        )
    )


def hold_archive(holder: Connection) -> None:
    """Let no batch archive until the holder's transaction ends."""
    holder.execute("begin")
    holder.execute("lock table lull.archive_pages in share mode")


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
        "select r.cells[array_position(r.columns, 'name')] as name from lull.archive_pages p, lull.page_rows(p.content) r "
        "where r.tab <> p.target"
    ).fetchall()
    return sorted(row["name"] for row in rows)


def test_a_child_inserted_between_lock_and_archive_is_refused(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    add_participant(db, session, "first")
    run, holder, writer = open_run(sql_database), sql_database.connect(), sql_database.connect()
    hold_archive(holder)
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


def test_a_grandchild_inserted_under_a_locked_child_is_refused(sql_database: Database, tree: Connection) -> None:
    run = Run.begin(sql_database.connect(), p_policies=[BOARDS])
    run.open("boards")
    holder, writer = sql_database.connect(), sql_database.connect()
    hold_archive(holder)
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


def test_a_heartbeat_in_flight_keeps_its_session(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    child = add_participant(db, session)
    run, writer = open_run(sql_database), sql_database.connect()
    writer.execute("begin")
    writer.execute("update lull.session_participants set last_seen_at = now() where id = %s", [child])
    assert run.batch(DRAFTS)["deleted"] == 0, "it does not wait"
    run.drain(DRAFTS)
    assert (line(run.finish(), DRAFTS)["did"], scalar(db, "select count(*) from lull.sessions")) == (0, 1)
    writer.execute("commit")
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["did"] == 0, "the heartbeat was saved, and so is the session"


def test_a_heartbeat_that_commits_after_the_judgement_of_the_selection_saves_the_session(
    sql_database: Database, db: Connection
) -> None:
    session = add_session(db)
    add_participant(db, session)
    run = open_run(sql_database)
    db.execute("update lull.session_participants set last_seen_at = now()")
    assert (run.batch(DRAFTS)["locked"], scalar(db, "select count(*) from lull.sessions")) == (1, 1)
    run.finish()
    moved = "select last_activity_at > now() - interval '1 minute' from lull.sessions"
    assert scalar(db, moved), "its own clock follows, so that the next run need not look again"


def test_a_child_that_moves_to_another_session_meanwhile_is_not_taken(sql_database: Database, db: Connection) -> None:
    stale, fresh = add_session(db), add_session(db, idle="1 minute")
    child = add_participant(db, stale, "mover")
    run, writer = open_run(sql_database), sql_database.connect()
    writer.execute("begin")
    writer.execute("update lull.session_participants set session_id = %s where id = %s", [fresh, child])
    assert run.batch(DRAFTS)["deleted"] == 0
    writer.execute("commit")
    run.drain(DRAFTS)
    assert line(run.finish(), DRAFTS)["cascaded"] == 0
    assert scalar(db, "select session_id::text from lull.session_participants") == fresh


def test_a_foreign_key_cannot_be_added_between_lock_and_delete(sql_database: Database, tree: Connection) -> None:
    run = Run.begin(sql_database.connect(), p_policies=[BOARDS])
    run.open("boards")
    tree.execute("create table public.pins (board int)")
    tree.execute("insert into public.pins values (1)")
    holder, ddl = sql_database.connect(), sql_database.connect()
    hold_archive(holder)
    add = "alter table public.pins add foreign key (board) references public.boards on delete cascade"
    with beside() as start:
        batch = start(run.batch, "boards")
        wait_until_blocked(tree, run.connection, holder)
        added = start(ddl.execute, add)
        wait_until_blocked(tree, ddl, run.connection)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            added.result()
    assert scalar(tree, "select count(*) from public.pins") == 1, "never taken unjudged"


def test_a_table_added_below_during_a_run_is_archived_with_its_root(sql_database: Database, tree: Connection) -> None:
    run = Run.begin(sql_database.connect(), p_policies=[BOARDS])
    run.open("boards")
    tree.execute("create table public.pins (board int references public.boards on delete cascade, name text)")
    tree.execute("create index on public.pins (board)")
    tree.execute("insert into public.pins values (1, 'pin')")
    assert run.batch("boards")["cascaded"] == 4
    assert archived_names(tree) == ["note 1", "note 2", "pin", "reply 1"]


def test_a_table_that_is_being_changed_leaves_its_policy_to_the_next_run(
    sql_database: Database, tree: Connection
) -> None:
    run, ddl = Run.begin(sql_database.connect(), p_policies=[BOARDS]), sql_database.connect()
    run.open("boards")
    ddl.execute("begin")
    ddl.execute("lock table public.notes in access exclusive mode")
    assert run.batch("boards")["done"]
    ddl.execute("rollback")
    assert line(run.finish(), "boards")["outcome"] == "partial"
    assert scalar(tree, "select count(*) from public.boards") == 1


def test_a_heartbeat_before_the_batch_saves_the_session(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    run, user = open_run(sql_database), sql_database.connect()
    user.execute("begin")
    user.execute("select lull.touch_session(%s)", [session])
    answer = run.batch(DRAFTS)
    assert (answer["locked"], answer["deleted"], answer["done"], answer["failed"]) == (0, 0, True, None)
    user.execute("commit")
    run.finish()
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["would"] == 0


@pytest.mark.parametrize("statement", ["lull.touch_session(%s)", "lull_activate_session(%s, '{\"service\": true}')"])
def test_a_request_that_waits_for_a_batch_gets_the_state_after_it(
    sql_database: Database, db: Connection, statement: str
) -> None:
    session = add_session(db)
    add_participant(db, session)
    run, holder, user = open_run(sql_database), sql_database.connect(), sql_database.connect()
    hold_archive(holder)
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


def test_a_hold_that_comes_after_the_batch_has_the_row_changes_nothing(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    add_participant(db, session)
    run, holder, operator = open_run(sql_database), sql_database.connect(), sql_database.connect()
    hold_archive(holder)
    with beside() as start:
        batch = start(run.batch, DRAFTS)
        wait_until_blocked(db, run.connection, holder)
        hold = start(operator.execute, "update lull.sessions set hold = true where id = %s", [session])
        wait_until_blocked(db, operator, run.connection)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        assert hold.result().rowcount == 0
    assert scalar(db, "select count(*) from lull.archive_keys") == 1


def test_a_run_that_lost_its_lease_in_mid_batch_commits_nothing(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    add_participant(db, session)
    old, holder = open_run(sql_database), sql_database.connect()
    hold_archive(holder)
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
    assert scalar(db, "select count(*) from lull.archive_keys") == 30


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
    assert scalar(db, "select count(*) from lull.archive_keys") == 0


@pytest.mark.parametrize("first", ["purge", "restore"])
def test_a_purge_and_a_restore_never_both_happen(sql_database: Database, db: Connection, first: str) -> None:
    session = add_session(db)
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [session])
    run_cleanup(db, DRAFTS)
    db.execute("update lull.archive_pages set purge_after = now() - interval '1 second'")
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
