"""Files of sessions in SQL: who may, how many, which events are logged, and when bytes are queued for removal."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import psycopg
import pytest

from tests.sql.driver import Connection, add_session, call, line, run_cleanup, scalar
from tests.sql.file_calls import MIB, SERVICE, complete, register
from tests.sql.waiting import beside
from tests.sql_servers import Database

STRANGER = {"user_id": str(uuid4()), "token_hash": None}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def refusal(error: pytest.ExceptionInfo[psycopg.Error]) -> tuple[str | None, str | None]:
    return error.value.sqlstate, error.value.diag.message_detail


def events(db: Connection) -> list[str]:
    return [
        row["event"] for row in db.execute("select event from lull.session_events where event <> 'returned' order by id").fetchall()
    ]


def test_a_file_goes_from_pending_to_uploaded_once(db: Connection) -> None:
    session = add_session(db)
    file = register(db, session)
    first, again = complete(db, session, file), complete(db, session, file)
    assert first == again
    assert first["file"]["state"] == "uploaded"
    assert events(db) == ["file-registered", "file-uploaded"]


@pytest.mark.parametrize(("size", "kind"), [(MIB + 1, "image/png"), (MIB, "text/html")])
def test_bytes_that_were_not_announced_are_not_accepted(db: Connection, size: int, kind: str) -> None:
    session = add_session(db)
    file = register(db, session)
    with pytest.raises(psycopg.Error) as refused:
        complete(db, session, file, size, kind)
    assert refusal(refused) == ("PT409", "file-mismatch")
    assert scalar(db, "select state from lull.session_files") == "pending"


def test_every_write_counts_as_activity(db: Connection) -> None:
    session = add_session(db)
    idle = "select last_activity_at > now() - interval '1 minute' from lull.sessions"
    file = register(db, session)
    assert scalar(db, idle)
    writes: list[Callable[[], object]] = [
        lambda: complete(db, session, file),
        lambda: call(db, "lull_delete_file", p_session=session, p_caller=SERVICE, p_file=file),
    ]
    for write in writes:
        db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
        write()
        assert scalar(db, idle)


def test_eight_registrations_at_once_keep_the_limit(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    connections = [sql_database.connect() for _ in range(8)]
    with beside() as start:
        calls = [start(register, each, session, most=5) for each in connections]
        failed = [each.exception() for each in calls]
    assert sum(error is None for error in failed) == 5
    assert {getattr(error, "sqlstate", None) for error in failed if error} == {"PT409"}
    assert scalar(db, "select count(*) from lull.session_files") == 5


def test_a_caller_that_is_not_the_owner_gets_the_404_of_an_absent_session(db: Connection) -> None:
    session, nobody = add_session(db, owner_id=str(uuid4())), str(uuid4())
    file = register(db, session)
    told = set()
    for which in (session, nobody):
        for function, more in (
            ("lull_get_file", {"p_file": file}),
            ("lull_list_files", {}),
            ("lull_delete_file", {"p_file": file}),
            ("lull_complete_file", {"p_file": file, "p_size": MIB, "p_content_type": "image/png"}),
        ):
            with pytest.raises(psycopg.Error) as refused:
                call(db, function, p_session=which, p_caller=STRANGER, **more)
            told.add((refused.value.sqlstate, str(refused.value.diag.message_primary)))
    assert told == {("PT404", "There is no such session.")}


def test_a_file_of_another_session_is_not_there(db: Connection) -> None:
    mine, other = add_session(db), add_session(db)
    file = register(db, other)
    for function in ("lull_get_file", "lull_delete_file"):
        with pytest.raises(psycopg.Error) as refused:
            call(db, function, p_session=mine, p_caller=SERVICE, p_file=file)
        assert refusal(refused) == ("PT404", "not-found")


def test_the_files_of_an_ended_session_are_read_and_not_changed(db: Connection) -> None:
    session = add_session(db)
    file = register(db, session)
    db.execute("update lull.sessions set status = 'ended', ended_at = now()")
    for write in (
        lambda: register(db, session),
        lambda: complete(db, session, file),
        lambda: call(db, "lull_delete_file", p_session=session, p_caller=SERVICE, p_file=file),
    ):
        with pytest.raises(psycopg.Error) as refused:
            write()
        assert refusal(refused) == ("PT409", "wrong-status")
    assert len(call(db, "lull_list_files", p_session=session, p_caller=SERVICE)["files"]) == 1


def test_an_archived_session_answers_410_to_every_write(db: Connection) -> None:
    session = add_session(db)
    file = register(db, session)
    db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    run_cleanup(db, "abandoned-drafts")
    for write in (lambda: register(db, session), lambda: complete(db, session, file)):
        with pytest.raises(psycopg.Error) as refused:
            write()
        assert refusal(refused) == ("PT410", "session-archived")


def test_a_deleted_file_keeps_its_bytes_until_no_upload_can_bring_more(db: Connection) -> None:
    session = add_session(db)
    file = register(db, session)
    call(db, "lull_delete_file", p_session=session, p_caller=SERVICE, p_file=file)
    removal = "select not_before >= now() + interval '119 minutes' from lull.file_removals where path like %s"
    assert scalar(db, removal, f"%{file}%")
    assert events(db)[-1] == "file-deleted"


def test_a_pending_file_goes_an_hour_after_its_upload_url(db: Connection) -> None:
    session = add_session(db, idle="1 minute")
    files = {age: register(db, session) for age in ("59 minutes", "61 minutes", "uploaded")}
    complete(db, session, files["uploaded"])
    for age, file in files.items():
        old = "2 days" if age == "uploaded" else age
        db.execute(
            "update lull.session_files set upload_expires_at = now() - %s::interval where id = %s",
            [old, file],
        )
    assert line(run_cleanup(db, "expired-uploads"), "expired-uploads")["did"] == 1
    left = {str(row["id"]) for row in db.execute("select id from lull.session_files").fetchall()}
    assert left == {files["59 minutes"], files["uploaded"]}
    assert scalar(db, "select path from lull.file_removals where not_before <= now()").count(
        files["61 minutes"]
    )


def test_a_path_that_does_not_hold_its_files_id_is_a_fault(db: Connection) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="does not hold the id"):
        register(db, add_session(db), p_path="sessions/1/Ada.png")
