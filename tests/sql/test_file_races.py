"""A path is never both somebody's file and on its way out, whatever comes at once: purge, restore, claim, delete."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scale import examples
from tests.sql.driver import Connection, Run, add_session, call, run_cleanup, scalar
from tests.sql.file_calls import SERVICE, complete, register
from tests.sql.waiting import beside, wait_until_blocked
from tests.sql_servers import Database

BOTH = """
    with kept as (
      select bucket, path from lull.session_files
      union all
      select f.cells[array_position(f.columns, 'bucket')], f.cells[array_position(f.columns, 'path')]
      from lull.archive_pages a, lull.page_rows(a.content) f
      where f.tab = 'lull.session_files' and f.root in (select root from lull.archive_keys k where k.page = a.id)
    )
    select count(*) from kept join lull.file_removals using (bucket, path)
"""
DUE = "update lull.archive_pages set purge_after = now() - interval '1 second'"
STALE = "update lull.sessions set last_activity_at = now() - interval '25 hours'"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def activate(connection: Connection, session: str) -> bool:
    """Come back late; whether the session is there (again)."""
    try:
        call(connection, "lull_activate_session", p_session=session, p_caller=SERVICE)
    except psycopg.Error as error:
        assert error.sqlstate == "PT410", error
        return False
    return True


def archived_with_a_file(db: Connection) -> str:
    session = add_session(db)
    complete(db, session, register(db, session))
    db.execute("update lull.session_files set upload_expires_at = now() - interval '1 day'")
    db.execute(STALE)
    run_cleanup(db, "abandoned-drafts")
    return session


def claim(run: Run) -> dict[str, object]:
    return call(run.connection, "lull_claim_file_removals", p_run=run.id, p_token=run.token, p_limit=100)


def test_purges_against_returns_leave_each_session_whole_or_gone(sql_database: Database, db: Connection) -> None:
    sessions = [archived_with_a_file(db) for _ in range(30)]
    db.execute(DUE)
    run = Run.begin(sql_database.connect(), "purge")
    run.open("purge")
    users = [sql_database.connect() for _ in range(3)]

    def purge() -> list[str]:
        claimed = []
        while not run.batch("purge", 1)["done"]:
            claimed += [each["path"] for each in claim(run)["removals"]]  # type: ignore[attr-defined]
        return claimed + [each["path"] for each in claim(run)["removals"]]  # type: ignore[attr-defined]

    def come_back(number: int) -> list[str]:
        return [session for session in reversed(sessions[number::3]) if activate(users[number], session)]

    with ThreadPoolExecutor(4) as pool:
        removed = pool.submit(purge)
        back = [session for each in pool.map(come_back, range(3)) for session in each]
    run.finish()
    gone = set(sessions) - set(back)
    assert {path.split("/")[1] for path in removed.result()} == gone
    with_files = db.execute("select session_id::text from lull.session_files").fetchall()
    assert {row["session_id"] for row in with_files} == set(back)
    assert scalar(db, BOTH) == 0


def test_a_claim_beside_a_purge_that_is_not_committed_takes_nothing(sql_database: Database, db: Connection) -> None:
    session = archived_with_a_file(db)
    purger, user = sql_database.connect(), sql_database.connect()
    purger.execute("begin")
    purger.execute("select 1 from lull.archive_pages for update")
    purger.execute("select lull.purge_pages(array_agg(id)) from lull.archive_pages")
    purger.execute("delete from lull.archive_pages")
    run = Run.begin(sql_database.connect(), "purge")
    assert claim(run) == {"removals": [], "cancelled": 0}
    with beside() as start:
        late = start(activate, user, session)
        wait_until_blocked(db, user, purger)
        purger.execute("rollback")
        assert late.result()
    assert claim(run) == {"removals": [], "cancelled": 0}
    assert scalar(db, "select state from lull.session_files") == "uploaded"


def test_a_sweep_and_a_completion_of_one_file_come_one_after_the_other(sql_database: Database, db: Connection) -> None:
    session = add_session(db, idle="1 minute")
    file = register(db, session)
    db.execute("update lull.session_files set upload_expires_at = now() - interval '2 hours'")
    run, user = Run.begin(sql_database.connect(), "expired-uploads"), sql_database.connect()
    run.open("expired-uploads")
    run.connection.execute("begin")
    assert run.batch("expired-uploads")["deleted"] == 1
    with beside() as start:
        late = start(complete, user, session, file)
        wait_until_blocked(db, user, run.connection)
        run.connection.execute("commit")
        with pytest.raises(psycopg.Error) as refused:
            late.result()
    assert refused.value.sqlstate == "PT404"
    assert (scalar(db, BOTH), scalar(db, "select count(*) from lull.file_removals where file_id is null")) == (0, 1)


def test_a_completion_under_way_is_passed_over_by_the_sweep(sql_database: Database, db: Connection) -> None:
    session = add_session(db, idle="1 minute")
    file = register(db, session)
    db.execute("update lull.session_files set upload_expires_at = now() - interval '2 hours'")
    run, user = Run.begin(sql_database.connect(), "expired-uploads"), sql_database.connect()
    run.open("expired-uploads")
    user.execute("begin")
    complete(user, session, file)
    assert run.batch("expired-uploads")["locked"] == 0
    user.execute("commit")
    run.finish()
    assert scalar(db, "select state from lull.session_files") == "uploaded"


STEPS = ["register", "complete", "delete", "age", "archive", "return", "purge", "sweep", "claim"]


@pytest.mark.timeout(600)
@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), min_size=4, max_size=14))
def test_no_history_makes_a_kept_path_due(sql_database: Database, steps: list[str]) -> None:
    db = sql_database.connect()
    db.execute(
        "truncate lull.sessions, lull.archive_pages, lull.archive_keys, lull.file_removals, lull.cleanup_runs, "
        "lull.tombstones cascade"
    )
    session = add_session(db)
    files = [register(db, session)]
    for step in steps:
        try:
            if step == "register":
                files.append(register(db, session))
            elif step == "complete":
                complete(db, session, files[-1])
            elif step == "delete":
                call(db, "lull_delete_file", p_session=session, p_caller=SERVICE, p_file=files[0])
            elif step == "age":
                db.execute("update lull.session_files set upload_expires_at = now() - interval '2 hours'")
                db.execute(STALE)
            elif step == "archive":
                run_cleanup(db, "abandoned-drafts")
            elif step == "return":
                back = "select lull.restore_key('lull.sessions', %s, '{\"service\": true}')"
                db.execute(back, [session])
            elif step == "claim":
                run = Run.begin(db, "purge")
                assert claim(run)["cancelled"] == 0
                run.finish()
            else:
                db.execute(DUE if step == "purge" else "select 1")
                run_cleanup(db, "purge" if step == "purge" else "expired-uploads")
        except psycopg.Error as error:
            assert (error.sqlstate or "").startswith("PT4"), error
        assert scalar(db, BOTH) == 0, step
    db.close()
