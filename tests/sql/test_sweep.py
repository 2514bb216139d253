"""The sweep: warnings once for each idle period, and people whom no heartbeat tells of."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.driver import Connection, add_session, call, scalar
from tests.sql.room_calls import SENDS, age, age_room, beat, joined, leave, open_room, told
from tests.sql_servers import Database


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


def sweep(db: Connection, limit: int = 1000) -> dict[str, int]:
    """Sweep until nothing is left; return the sums."""
    sums, after = {"warned": 0, "told": 0, "moved": 0}, None
    for _ in range(50):
        part = call(db, "lull_sweep", p_limit=limit, p_after=after)
        sums = {name: sums[name] + part[name] for name in sums}
        after = part["next"]
        if after is None:
            return sums
    raise AssertionError("the sweep does not end")


def warnings(db: Connection, room: str) -> list[Any]:
    rows = db.execute(
        "select data from lull.session_events where session_id = %s and event = 'session.expiring' order by id", (room,)
    )
    return [row["data"]["expiresAt"] for row in rows]


def test_a_room_is_warned_about_once_in_each_idle_period(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    for by in ("51 min", "5 min"):
        age(db, ada, by)
        age_room(db, room, by)
        assert sweep(db)["warned"] == (1 if by == "51 min" else 0)
    (expires,) = warnings(db, room)
    an_hour_after_the_last_beat = "select %s::timestamptz = last_seen_at + interval '65 min' from lull.session_participants"
    assert scalar(db, an_hour_after_the_last_beat, expires), "it was made older by 5 minutes since"
    beat(db, room, ada)
    assert sweep(db) == {"warned": 0, "told": 0, "moved": 1}
    db.execute("update lull.sessions set warned_at = warned_at - interval '1 h'")
    age(db, ada, "51 min")
    age_room(db, room, "51 min")
    assert sweep(db)["warned"] == 1
    assert len(warnings(db, room)) == 2


def test_no_warning_before_its_time_after_the_expiry_and_for_what_is_held_or_paused(db: Connection) -> None:
    add_session(db, "room", "active", "49 minutes")
    add_session(db, "room", "active", "61 minutes")
    add_session(db, "room", "active", "55 minutes", hold=True)
    add_session(db, "room", "paused", "55 minutes")
    add_session(db, "chat", "active", "55 minutes")
    game = add_session(db, "game", "active", "26 minutes")
    assert sweep(db) == {"warned": 1, "told": 0, "moved": 0}
    assert len(warnings(db, game)) == 1


def test_a_warning_of_more_than_half_the_age_is_one_of_half_the_age(db: Connection) -> None:
    db.execute("update lull.policies set age = '12 min' where name = 'empty-rooms'")
    add_session(db, "room", "active", "5 minutes")
    room = add_session(db, "room", "active", "7 minutes")
    assert sweep(db)["warned"] == len(warnings(db, room)) == 1


def test_a_command_keeps_a_game_from_its_warning(db: Connection) -> None:
    game = add_session(db, "game", "active", "26 minutes")
    db.execute("update lull.sessions set commanded_at = now() - interval '1 min'")
    assert sweep(db) == {"warned": 0, "told": 0, "moved": 1}
    assert warnings(db, game) == []
    assert scalar(db, "select last_activity_at = commanded_at from lull.sessions")


def test_many_sessions_are_swept_in_parts(db: Connection) -> None:
    for n in range(7):
        add_session(db, "room", "active", f"{51 + n} minutes")
        add_session(db, "game", "active", "26 minutes")
    assert call(db, "lull_preview_sweep") == {"would_tell": 0, "would_warn": 14, "last": None}
    assert sweep(db, limit=3)["warned"] == 14
    last = call(db, "lull_preview_sweep")
    assert (last["would_warn"], last["last"]["warned"], last["last"]["finished_at"] is None) == (0, 14, False)


def test_who_is_alone_is_told_away_and_left_by_the_sweep(db: Connection) -> None:
    db.execute(SENDS)
    room, other = open_room(db), open_room(db)
    ada, bob = joined(db, room, "ada"), joined(db, other, "bob")
    leave(db, other, bob, tab="t1")
    age(db, ada, "134 s")
    age(db, bob, "9 s")
    assert sweep(db)["told"] == 0
    age(db, ada, "2 s")
    age(db, bob, "2 s")
    assert call(db, "lull_preview_sweep")["would_tell"] == 2
    assert (sweep(db)["told"], sweep(db)["told"]) == (2, 0)
    assert (told(db, room), told(db, other)) == (["joined", "away"], ["joined", "left left"])
    events = [row["event"] for row in db.execute("select event from realtime.sent order by n")]
    assert sorted(events) == sorted(["participant.joined"] * 2 + ["participant.left", "participant.away"])


def test_a_sweep_waits_for_no_session(sql_database: Database) -> None:
    db, holder = sql_database.connect(), sql_database.connect()
    room = open_room(db)
    ada = joined(db, room, "ada")
    age(db, ada, "52 min")
    age_room(db, room, "52 min")
    holder.execute("begin")
    holder.execute("select from lull.sessions for update")
    db.execute("set lock_timeout = '1s'")
    assert sweep(db) == {"warned": 0, "told": 0, "moved": 0}
    holder.execute("commit")
    assert sweep(db) == {"warned": 1, "told": 1, "moved": 0}


def test_statistics_of_rooms(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    leave(db, room, joined(db, room, "bob"))
    age_room(db, room, "2 h")
    age(db, ada, "5 min")
    add_session(db, "room", "active", "2 hours")
    add_session(db, "room", "ended")
    report = call(db, "lull_report_rooms", p_limit=1)
    counts = {name: report[name] for name in ("total_sessions", "active_sessions", "inactive_sessions")}
    assert counts == {"total_sessions": 2, "active_sessions": 1, "inactive_sessions": 1}
    assert [(one["id"], one["participants"]) for one in report["rooms"]] == [(room, 1)]


def test_statistics_of_rooms_read_no_other_session(db: Connection) -> None:
    for place in range(60):
        add_session(db, *(("chat", "active") if place % 2 else ("room", "ended")))
    for held in (False, True):
        db.execute("update lull.sessions set hold = %s where id = %s", (held, open_room(db)))
    with db.transaction():
        assert call(db, "lull_report_rooms", p_limit=0)["total_sessions"] == 2
        read = scalar(
            db,
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'lull.sessions'::regclass",
        )
    assert read <= 4
