"""Feedback in SQL: two at once, a session that goes meanwhile, a session in a team's table, an erased author."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.sql.driver import Connection, Run, add_session, call, scalar
from tests.sql.waiting import beside, wait_until_blocked
from tests.sql_servers import Database

SERVICE = {"service": True}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def give(db: Connection, session: str, caller: dict[str, Any], score: int = 3) -> dict[str, Any]:
    return call(db, "lull_give_feedback", p_session=session, p_caller=caller, p_score=score)


def test_two_of_one_author_at_once_are_one(sql_database: Database, db: Connection) -> None:
    ada = {"user_id": str(uuid4())}
    session = add_session(db, owner_id=ada["user_id"], status="active")
    holder, other = sql_database.connect(), sql_database.connect()
    holder.execute("begin")
    give(holder, session, ada, 1)
    with beside() as start:
        late = start(give, other, session, ada, 5)
        wait_until_blocked(db, other, holder)
        holder.execute("commit")
        assert late.result()["feedback"]["score"] == 5
    assert scalar(db, "select array_agg(score) from lull.session_feedback") == [5]


def test_feedback_under_way_keeps_the_session_from_a_run_and_a_run_that_was_first_answers_410(
    sql_database: Database, db: Connection
) -> None:
    owner = {"user_id": str(uuid4())}
    session = add_session(db, owner_id=owner["user_id"])
    run, user = Run.begin(sql_database.connect(), "abandoned-drafts"), sql_database.connect()
    run.open("abandoned-drafts")
    user.execute("begin")
    give(user, session, owner)
    assert run.batch("abandoned-drafts")["locked"] == 0
    user.execute("commit")
    run.finish()
    run = Run.begin(run.connection, "abandoned-drafts")
    run.open("abandoned-drafts")
    run.connection.execute("begin")
    assert run.batch("abandoned-drafts")["deleted"] == 1
    with beside() as start:
        late = start(give, user, session, owner, 5)
        wait_until_blocked(db, user, run.connection)
        run.connection.execute("commit")
        with pytest.raises(psycopg.Error) as refused:
            late.result()
    assert refused.value.diag.message_detail == "session-archived"
    assert scalar(db, "select score from lull.session_feedback") == 3


def test_a_session_in_a_teams_table_takes_feedback(db: Connection) -> None:
    ada, bob, row = str(uuid4()), str(uuid4()), str(uuid4())
    db.execute("""
        create table public.talks (id uuid primary key, user_id uuid, status text not null default 'active',
          updated_at timestamptz default now(), created_at timestamptz default now());
        create index on public.talks (updated_at, id);
        create index on public.talks (user_id);
    """)
    db.execute("select lull.adopt_sessions('public.talks', 'chat', p_owner => 'user_id', p_clock => 'updated_at')")
    db.execute("insert into public.talks (id, user_id) values (%s, %s)", [row, ada])
    give(db, row, {"user_id": ada}, 4)
    with pytest.raises(psycopg.Error) as refused:
        give(db, row, {"user_id": bob})
    assert refused.value.diag.message_detail == "not-found"
    found = db.execute("select target, kind, user_id::text from lull.session_feedback").fetchone()
    assert found == {"target": "public.talks", "kind": "chat", "user_id": ada}
    page = call(db, "lull_list_feedback", p_session=row, p_caller={"user_id": ada})
    assert [each["score"] for each in page["feedback"]] == [4]
    assert scalar(db, "select target from lull.session_events where event = 'feedback.given'") == "public.talks"


def test_an_erased_authors_feedback_is_gone_and_that_of_others_stays(db: Connection) -> None:
    ada, bob = str(uuid4()), str(uuid4())
    session = add_session(db, owner_id=bob, status="active")
    db.execute("insert into lull.session_participants (session_id, user_id) values (%s, %s)", [session, ada])
    call(db, "lull_give_feedback", p_session=session, p_caller={"user_id": ada}, p_score=1, p_most=5)
    give(db, session, {"user_id": bob}, 5)
    assert call(db, "lull_erase_owner", p_user=ada)["feedback"] == 1
    assert scalar(db, "select array_agg(score) from lull.session_feedback") == [5]
    assert scalar(db, "select count(*) from lull.rate_counters") == 0


def test_a_participant_is_one_author_by_the_row_and_by_the_user(db: Connection) -> None:
    ada = str(uuid4())
    room, other = add_session(db, "room", status="active"), add_session(db, "room", status="active")
    add = "insert into lull.session_participants (session_id, user_id) values (%s, %s) returning id::text"
    known, nameless = (scalar(db, add, room, user) for user in (ada, None))
    for caller, score in (({"participant": known}, 1), ({"user_id": ada}, 2), ({"participant": nameless}, 5)):
        give(db, room, caller, score)
    given = db.execute("select score, user_id::text from lull.session_feedback order by score").fetchall()
    assert given == [{"score": 2, "user_id": ada}, {"score": 5, "user_id": None}]
    with pytest.raises(psycopg.Error) as refused:
        give(db, other, {"participant": known})
    assert refused.value.diag.message_detail == "not-found"
