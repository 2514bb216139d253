"""Rooms beside others: each race with real connections, one of them held at the critical point."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.scale import SCALE
from tests.sql.driver import Connection, Run, call, line, run_cleanup, scalar
from tests.sql.room_calls import (
    SERVICE,
    age,
    age_room,
    beat,
    invite_to,
    join,
    joined,
    leave,
    open_room,
    people,
    told,
    written,
)
from tests.sql.waiting import beside, never_give_up, wait_until_blocked
from tests.sql_servers import Database

ROOMS = "empty-rooms"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    connection = sql_database.connect()
    never_give_up(connection)
    return connection


def refusal(attempt: Callable[[], Any]) -> str:
    """What a call was refused with; `done` when it was not."""
    try:
        answer = attempt()
    except psycopg.Error as error:
        return str(error.diag.message_detail or error)
    return str(answer.get("refused", {}).get("type", "done"))


def idle_room(db: Connection) -> tuple[str, str]:
    """A room whose clocks are all past the timeout, and its participant."""
    room = open_room(db)
    ada = joined(db, room, "ada")
    age(db, ada, "2 h")
    age_room(db, room, "2 h")
    return room, ada


def held_batch(sql_database: Database, db: Connection) -> tuple[Run, Connection]:
    """A run whose next batch will lock and judge its rows and then wait for the holder."""
    run, holder = Run.begin(sql_database.connect(), ROOMS), sql_database.connect()
    assert run.open(ROOMS)["outcome"] == "open"
    holder.execute("begin")
    holder.execute("lock table lull.archive_pages in share mode")
    return run, holder


def test_a_join_and_a_beat_behind_a_batch_are_told_that_the_room_expired(
    sql_database: Database, db: Connection
) -> None:
    room, ada = idle_room(db)
    invite = invite_to_idle(db, room)
    run, holder = held_batch(sql_database, db)
    one, two, three = (sql_database.connect() for _ in range(3))
    db.execute("update lull.policies set age = '3 h'")  # the clocks alone would let them in
    with beside() as start:
        batch = start(run.batch, ROOMS)
        wait_until_blocked(db, run.connection, holder)
        beats = start(refusal, lambda: beat(one, room, ada))
        wait_until_blocked(db, one, run.connection)
        tokens = start(refusal, lambda: join(two, room, "ada", token=ada, tab="t2"))
        wait_until_blocked(db, two, run.connection)
        invited = start(refusal, lambda: join(three, room, "bob", invite=invite))
        wait_until_blocked(db, three, two)
        holder.execute("commit")
        assert batch.result()["deleted"] == 1
        assert [each.result() for each in (beats, tokens, invited)] == ["session-expired"] * 3
    assert scalar(db, "select count(*) from lull.session_participants") == 0


def invite_to_idle(db: Connection, room: str) -> str:
    """An invite to a room that has expired already."""
    row = "insert into lull.invites (id, session_id, expires_at) values (gen_random_uuid(), %s, now() + '1 h') returning id"
    return str(scalar(db, row, room))


@pytest.mark.parametrize("first", ["beat", "join"])
def test_a_beat_and_a_join_before_a_batch_save_the_room(
    sql_database: Database, db: Connection, first: str
) -> None:
    room, ada = idle_room(db)
    run, writer = Run.begin(sql_database.connect(), ROOMS), sql_database.connect()
    assert run.open(ROOMS)["outcome"] == "open"
    db.execute("update lull.policies set age = '3 h'")
    writer.execute("begin")
    if first == "beat":
        beat(writer, room, ada)
    else:
        join(writer, room, "bob")
    assert run.batch(ROOMS)["deleted"] == 0, "it waits for nothing"
    writer.execute("commit")
    run.drain(ROOMS)
    assert (line(run.finish(), ROOMS)["did"], len(people(db, room))) == (0, 1 if first == "beat" else 2)


def test_a_beat_waits_for_no_session_and_a_later_one_tells(sql_database: Database, db: Connection) -> None:
    room = open_room(db)
    ada, bob = joined(db, room, "ada"), joined(db, room, "bob")
    age(db, ada, "136 s")
    age(db, bob, "46 s")
    holder = sql_database.connect()
    holder.execute("begin")
    holder.execute("select from lull.sessions for update")
    db.execute("set lock_timeout = '1s'")
    beat(db, room, bob)
    assert (told(db, room), written(db, bob) < 30) == (["joined", "joined"], True)
    holder.execute("commit")
    age(db, bob, "46 s")
    beat(db, room, bob)
    assert told(db, room)[2:] == ["away"]


def test_a_beat_behind_a_leave_in_flight_leaves_it_as_it_is(sql_database: Database, db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    age(db, ada, "60 s")
    leaver, beater = sql_database.connect(), sql_database.connect()
    leaver.execute("begin")
    leave(leaver, room, ada, tab="t1")
    with beside() as start:
        late = start(refusal, lambda: beat(beater, room, ada))
        wait_until_blocked(db, beater, leaver)
        leaver.execute("commit")
        assert late.result() == "participant-left"
    assert written(db, ada) > 50


@pytest.fixture
def eight(sql_database: Database) -> list[Connection]:
    return [sql_database.connect() for _ in range(8)]


def at_once(connections: list[Connection], attempt: Callable[[Connection, int], Any]) -> list[str]:
    """Make an attempt on each of these connections at the same moment."""
    start = threading.Barrier(len(connections))

    def one(n: int) -> str:
        start.wait()
        return refusal(lambda: attempt(connections[n], n))

    with ThreadPoolExecutor(len(connections)) as pool:
        return list(pool.map(one, range(len(connections))))


def test_eight_joins_at_once_for_four_seats(db: Connection, eight: list[Connection]) -> None:
    for _ in range(5):
        room = open_room(db)
        answers = at_once(eight, lambda c, n, room=room: join(c, room, f"p{n}", max_participants=4))  # type: ignore[misc]
        assert sorted(answers) == ["done"] * 4 + ["session-full"] * 4
        assert len(people(db, room)) == 4


def test_eight_tabs_of_one_person_at_once_with_a_single_use_invite(db: Connection, eight: list[Connection]) -> None:
    for _ in range(5):
        room = open_room(db)
        invite = invite_to(db, room, max_uses=1)
        answers = at_once(eight, lambda c, n, to=(room, invite): join(c, to[0], "ada", tab=f"t{n}", invite=to[1]))  # type: ignore[misc]
        assert answers == ["done"] * 8
        assert (len(people(db, room)), told(db, room)) == (1, ["joined"])
        assert scalar(db, "select uses from lull.invites where id = %s", invite) == 1


def test_eight_people_at_once_for_the_last_use(db: Connection, eight: list[Connection]) -> None:
    for _ in range(5):
        room = open_room(db)
        invite = invite_to(db, room, max_uses=1)
        answers = at_once(eight, lambda c, n, to=(room, invite): join(c, to[0], f"p{n}", invite=to[1]))  # type: ignore[misc]
        assert sorted(answers) == ["done"] + ["invite-used-up"] * 7


def test_after_the_answer_of_a_revoke_nobody_joins(sql_database: Database, db: Connection) -> None:
    room = open_room(db)
    invite = invite_to(db, room)
    joiner, revoker, late = (sql_database.connect() for _ in range(3))
    joiner.execute("begin")
    join(joiner, room, "ada", invite=invite)
    with beside() as start:
        revoke = start(call, revoker, "lull_revoke_invite", p_session=room, p_invite=invite, p_caller=SERVICE)
        wait_until_blocked(db, revoker, joiner)
        joiner.execute("commit")
        revoke.result()
    assert refusal(lambda: join(late, room, "bob", invite=invite)) == "invite-revoked"
    assert [one["name"] for one in people(db, room)] == ["ada"]


def test_beats_joins_leaves_sweeps_and_cleanups_beside_one_another(sql_database: Database, db: Connection) -> None:
    """No deadlock, and no room that was saved is deleted. `make release-check` runs it for 60 s on each server."""
    rooms = [open_room(db) for _ in range(24)]
    until = time.monotonic() + (2 if SCALE == 1 else 60)
    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(visitor, sql_database.connect(), rooms, n, until) for n in range(4)]
        workers.append(pool.submit(cleaner, sql_database.connect(), rooms, until))
        answers = set().union(*(each.result() for each in workers))
    assert answers >= {"done", "session-expired"}
    assert answers <= {"done", "session-expired", "session-archived", "participant-left"}
    gone = db.execute(SAVED_AND_DELETED).fetchone()
    assert gone is not None
    assert (gone["rooms"] > 0, gone["saved"]) == (True, 0)
    twice = "select count(*) from (select from lull.session_participants where is_active group by session_id, name having count(*) > 1) x"
    assert scalar(db, twice) == 0


def visitor(connection: Connection, rooms: list[str], n: int, until: float) -> set[str]:
    """Join, bring all clocks of the room to the timeout, and beat; leave now and then."""
    answers, turn = set(), 0
    while time.monotonic() < until:
        turn += 1
        room, who = rooms[(turn * 7 + n) % len(rooms)], f"p{n % 3}"
        came = refusal(lambda room=room, who=who: join(connection, room, who))  # type: ignore[misc]
        answers.add(came)
        row = connection.execute(ID_OF, (room, who)).fetchone()
        if row is None:
            continue
        if came == "done":
            connection.execute(TO_THE_TIMEOUT, {"room": room})
        answers.add(refusal(lambda room=room, one=str(row["id"]): beat(connection, room, one)))  # type: ignore[misc]
        if turn % 5 == 0:
            answers.add(refusal(lambda room=room, one=str(row["id"]): {"left": leave(connection, room, one)}))  # type: ignore[misc]
    return answers


def cleaner(connection: Connection, rooms: list[str], until: float) -> set[str]:
    """Sweep and clean up, and open a room for each that went."""
    while time.monotonic() < until:
        call(connection, "lull_sweep")
        report = line(run_cleanup(connection, ROOMS), ROOMS)
        assert report["error"] is None, report
        for n, room in enumerate(rooms):
            if scalar(connection, "select not exists (select from lull.sessions where id = %s)", room):
                rooms[n] = open_room(connection)
    return set()


ID_OF = "select id from lull.session_participants where session_id = %s and name = %s"
# The session's row last, and without waiting: this is a test's own writing, outside the order of locks.
TO_THE_TIMEOUT = """
    with old as (select clock_timestamp() - interval '1 h' + (random() - 0.2) * interval '60 ms' as at), p as (
      update lull.session_participants set last_seen_at = old.at from old
      where id in (select id from lull.session_participants where session_id = %(room)s for update skip locked))
    update lull.sessions set last_activity_at = old.at from old
    where id in (select id from lull.sessions where id = %(room)s for update skip locked)
"""
# A participant in the archive who was seen within the hour before the run that took the room was saved, and deleted.
SAVED_AND_DELETED = """
    select count(distinct p.id) as rooms, count(*) filter (where r.tab = 'lull.session_participants'
      and r.cells[array_position(r.columns, 'last_seen_at')]::timestamptz >= c.at - interval '1 h') as saved
    from lull.archive_pages p
    join lull.cleanup_runs c on c.id = p.run_id
    cross join lateral lull.page_rows(p.content) r
"""
