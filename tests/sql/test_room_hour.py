"""An hour in many rooms: what heartbeats write, beside cleanups. `make bench` plays 2,000 people in 500 rooms."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.scale import SCALE, examples
from tests.sql.driver import Connection, add_session, call, line, run_cleanup, scalar
from tests.sql.room_calls import OWNER
from tests.sql.waiting import never_give_up
from tests.sql_servers import Database

INTERVAL_SECONDS = 30
MINUTES = 6 if SCALE == 1 else 60
ROOMS, PEOPLE_IN_EACH = examples(50), 4
CLIENTS = 4
FILL = """
with room as (
  insert into lull.sessions (kind, status, owner_id) select 'room', 'active', %s from generate_series(1, %s) returning id
)
insert into lull.session_participants (session_id, name, anonymous_id, tabs)
select id, 'p' || n, 'a' || n, '{t}' from room cross join generate_series(1, %s) n
"""
AGE = "update lull.session_participants set last_seen_at = last_seen_at - make_interval(secs => %s)"
# The rows of the rooms' sessions as they were written last: an update makes another ctid and xmin.
WRITTEN = "select md5(string_agg(id::text || ctid::text || xmin::text, ',' order by id)) from lull.sessions where kind = 'room'"


@pytest.mark.timeout(1800)
def test_people_who_beat_write_once_in_a_minute_and_no_session(sql_database: Database) -> None:
    db, beside = sql_database.connect(), sql_database.connect()
    db.execute(FILL, (OWNER, ROOMS, PEOPLE_IN_EACH))
    people = [(str(row["session_id"]), str(row["id"])) for row in db.execute("select session_id, id from lull.session_participants")]
    clients = [sql_database.connect() for _ in range(CLIENTS)]
    for each in (*clients, beside):
        never_give_up(each)
    sessions, writes, over = scalar(db, WRITTEN), 0, threading.Event()
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        cleaning = pool.submit(clean, beside, over)
        try:
            for _ in range(MINUTES * 60 // INTERVAL_SECONDS):
                db.execute(AGE, (INTERVAL_SECONDS,))
                began = scalar(db, "select clock_timestamp()")
                list(pool.map(beat, clients, [people[n::CLIENTS] for n in range(CLIENTS)]))
                writes += scalar(db, "select count(*) from lull.session_participants where last_seen_at >= %s", began)
        finally:
            over.set()
        assert cleaning.result() > 0
    assert 0.5 <= writes / len(people) / MINUTES <= 1.4
    assert scalar(db, WRITTEN) == sessions
    assert scalar(db, "select count(*) from lull.session_participants") == len(people)


def beat(connection: Connection, people: list[tuple[str, str]]) -> None:
    """One heartbeat of each, as fast as they are answered."""
    for room, participant in people:
        answer = call(connection, "lull_heartbeat", p_session=room, p_participant=participant, p_tab="t")
        assert answer["status"] == "active"


def clean(connection: Connection, over: threading.Event) -> int:
    """Clean up again and again, rooms that were left for two hours among them. Returns how many of them went."""
    deleted = 0
    while not over.is_set():
        add_session(connection, "room", "active", "2 hours")
        report = run_cleanup(connection)
        assert [each["error"] for each in report["policies"] if each["error"]] == []
        deleted += line(report, "empty-rooms")["did"]
    return deleted


def test_each_heartbeat_that_writes_is_heap_only(sql_database: Database) -> None:
    db = sql_database.connect()
    db.execute(FILL, (OWNER, 25, PEOPLE_IN_EACH))
    people = [(str(row["session_id"]), str(row["id"])) for row in db.execute("select session_id, id from lull.session_participants")]
    for _ in range(5):
        db.execute(AGE, (60,))
        db.execute("vacuum lull.session_participants")  # the room that this test's own update took
        before = updates(db)
        beat(db, people)
        updated, heap_only = (after - known for after, known in zip(updates(db), before, strict=True))
        assert (updated, heap_only) == (len(people), len(people))


def updates(db: Connection) -> list[int]:
    """How many rows of the participants' table were updated, and how many of them heap-only."""
    db.execute("select pg_stat_force_next_flush()")
    table = "from pg_stat_user_tables where relid = 'lull.session_participants'::regclass"
    counts: list[int] = scalar(db, f"select array[n_tup_upd, n_tup_hot_upd] {table}")
    return counts
