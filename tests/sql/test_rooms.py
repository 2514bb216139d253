"""Rooms: who is a participant, seats, presence, leaving, and what is told of it."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from tests.sql.driver import Connection, call, run_cleanup, scalar
from tests.sql.room_calls import (
    OWNER,
    SENDS,
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

USER = "00000000-0000-4000-8000-00000000000b"


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


def refused(db: Connection, function: Any, *arguments: Any, **named: Any) -> tuple[str, str]:
    """Make a call that must be refused; return its status and type."""
    with pytest.raises(psycopg.Error) as error, db.transaction():
        function(db, *arguments, **named)
    return str(error.value.sqlstate), str(error.value.diag.message_detail)


def test_tabs_and_devices_of_one_person_are_one_participant(db: Connection) -> None:
    room = open_room(db)
    assert joined(db, room, "ada", tab="t1") == joined(db, room, "ada", tab="t2")
    assert joined(db, room, user=OWNER, tab="t3") == joined(db, room, user=OWNER, tab="t4")
    assert (len(people(db, room)), told(db, room)) == (2, ["joined", "joined"])


def test_a_ninth_tab_replaces_the_oldest(db: Connection) -> None:
    room = open_room(db)
    for n in range(9):
        joined(db, room, "ada", tab=f"t{n}")
    tabs = scalar(db, "select tabs from lull.session_participants")
    assert tabs == [f"t{n}" for n in range(1, 9)]


def test_a_join_with_both_proofs_gives_the_row_to_the_user(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    assert joined(db, room, "ada", user=USER, token=ada) == ada
    assert joined(db, room, user=USER, tab="phone") == ada
    assert told(db, room) == ["joined"]


def test_two_rows_of_one_person_become_one(db: Connection) -> None:
    room = open_room(db)
    joined(db, room, "ada")
    mine = joined(db, room, user=OWNER)
    assert joined(db, room, "ada", user=OWNER) == mine
    assert [one["id"] for one in people(db, room)] == [mine]
    assert told(db, room) == ["joined", "joined", "left merged"]


def test_a_token_of_another_users_row_is_nobody_elses(db: Connection) -> None:
    room = open_room(db)
    owners = joined(db, room, user=OWNER)
    assert refused(db, joined, room, user=USER, token=owners) == ("PT404", "not-found")
    assert joined(db, room, token=owners, tab="t2") == owners, "presence outlives an access token"


def test_the_first_join_activates_a_rooms_draft_and_no_chats(db: Connection) -> None:
    room, chat = open_room(db, status="draft"), open_room(db, "chat", "draft")
    assert join(db, room, "ada")["status"] == "active"
    assert join(db, chat, "ada")["status"] == "draft"
    names = [row["event"] for row in db.execute("select event from lull.session_events order by id")]
    assert names == ["activated", "participant.joined", "participant.joined"]


def test_a_session_of_another_is_404_like_an_absent_one(db: Connection) -> None:
    room = open_room(db)
    assert refused(db, joined, room, user=USER) == ("PT404", "not-found")
    assert refused(db, joined, USER, user=USER) == ("PT404", "not-found")


def test_an_expired_session_is_expired_for_all_before_any_cleanup(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    age(db, ada, "61 min")
    age_room(db, room, "61 min")
    for attempt in (lambda: joined(db, room, user=OWNER), lambda: beat(db, room, ada), lambda: leave(db, room, ada),
        lambda: people(db, room), lambda: call(db, "lull_touch_session", p_session=room, p_caller=SERVICE)):  # fmt: skip
        with pytest.raises(psycopg.Error) as error, db.transaction():
            attempt()
        assert error.value.diag.message_detail == "session-expired"
    session = call(db, "lull_get_session", p_session=room, p_caller=SERVICE)["session"]
    assert session["expired"]
    assert scalar(db, "select check_session_expiry(%s)", room)


def test_every_clock_of_a_session_keeps_it(db: Connection) -> None:
    room = open_room(db)
    ada, bob = joined(db, room, "ada"), joined(db, room, "bob")
    age_room(db, room, "3 h")
    age(db, ada, "2 h")
    leave(db, room, bob, tab="t1")
    age_room(db, room, "3 h")
    db.execute("update lull.session_participants set is_active = false, left_at = now(), leaving_at = null where id = %s",
        (bob,))  # fmt: skip
    assert beat(db, room, ada)["status"] == "active", "a participant who left keeps it, too"
    assert written(db, ada) < 60
    age(db, ada, "2 h")
    age(db, bob, "2 h")
    db.execute("update lull.sessions set commanded_at = now() where id = %s", (room,))
    assert beat(db, room, ada)["status"] == "active"


def test_a_heartbeat_writes_only_after_one_and_a_half_intervals(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    age(db, ada, "44 s")
    answer = beat(db, room, ada)
    assert written(db, ada) >= 44
    assert answer["expires_at"] > answer["warn_at"]
    age(db, ada, "2 s")
    beat(db, room, ada)
    assert written(db, ada) < 10
    assert told(db, room) == ["joined"]


def test_heartbeats_are_heap_only_updates_and_no_index_has_their_clock(sql_server: Any, sql_database: Any) -> None:
    db = sql_database.connect()
    room = open_room(db)
    ada = [joined(db, room, f"ada{n}") for n in range(20)]
    for _ in range(5):
        for one in ada:
            age(db, one, "46 s")
            beat(db, room, one)
    db.execute("select pg_stat_force_next_flush()")
    row = db.execute("select n_tup_upd as all, n_tup_hot_upd as hot from pg_stat_user_tables "
        "where relid = 'lull.session_participants'::regclass").fetchone()  # fmt: skip
    assert (row["all"], row["hot"]) == (200, 200)
    indexes = [row["indexdef"] for row in db.execute(
        "select indexdef from pg_indexes where tablename = 'session_participants'")]  # fmt: skip
    assert indexes and not [each for each in indexes if re.search("last_seen_at", each.split(" USING ")[1])]


def test_a_silent_participant_is_told_away_once_by_anothers_heartbeat_and_back_by_its_own(db: Connection) -> None:
    room = open_room(db)
    ada, bob = joined(db, room, "ada"), joined(db, room, "bob")
    age(db, ada, "134 s")
    age(db, bob, "46 s")
    beat(db, room, bob)
    assert told(db, room) == ["joined", "joined"]
    age(db, ada, "2 s")
    for _ in range(2):
        age(db, bob, "46 s")
        beat(db, room, bob)
    assert told(db, room)[2:] == ["away"]
    assert {one["name"]: one["state"] for one in people(db, room)} == {"ada": "away", "bob": "here"}
    assert written(db, ada) > 135, "being told as away is no activity"
    beat(db, room, ada)
    beat(db, room, ada)
    assert told(db, room)[2:] == ["away", "back"]
    assert {one["state"] for one in people(db, room)} == {"here"}


def test_the_trigger_answers_a_teams_update_and_none_of_lulls_marks(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    for change in ("away_since = now()", "tabs = '{}'", "leaving_at = now()", "left_at = now()", "removed_at = now()"):
        age(db, ada, "10 min")
        db.execute(f"update lull.session_participants set {change} where id = %s", (ada,))
        assert written(db, ada) > 500, change
    db.execute("update lull.session_participants set name = 'Ada' where id = %s", (ada,))
    assert written(db, ada) < 60


def test_a_reload_tells_nothing(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    assert leave(db, room, ada, tab="t1") == "tab"
    assert joined(db, room, "ada", tab="t2") == ada
    age(db, ada, "46 s")
    beat(db, room, ada, "t2")
    assert told(db, room) == ["joined"]


def test_the_leave_of_the_last_tab_is_told_after_the_grace_and_that_of_another_never(db: Connection) -> None:
    room = open_room(db)
    ada, bob = joined(db, room, "ada"), joined(db, room, "bob")
    joined(db, room, "ada", tab="t2")
    leave(db, room, ada, tab="t1")
    leave(db, room, ada, tab="t2")
    age(db, bob, "46 s")
    beat(db, room, bob)
    assert told(db, room) == ["joined", "joined"]
    age(db, ada, "11 s")
    assert [one["name"] for one in people(db, room)] == ["bob"]
    age(db, bob, "46 s")
    beat(db, room, bob)
    assert told(db, room)[2:] == ["left left"]


def test_a_late_beat_does_not_undo_a_leave(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    leave(db, room, ada, tab="t1")
    age(db, ada, "60 s")
    assert refused(db, beat, room, ada) == ("PT409", "participant-left")
    assert told(db, room) == ["joined"]
    assert leave(db, room, ada) == "person"
    assert (told(db, room), people(db, room)) == (["joined", "left left"], [])
    assert leave(db, room, ada) == "nothing"
    assert joined(db, room, "ada") == ada
    assert told(db, room) == ["joined", "left left", "joined"]


def test_a_full_session_gives_away_the_seat_of_a_ghost_only(db: Connection) -> None:
    room = open_room(db)
    ada, bob = joined(db, room, "ada"), joined(db, room, "bob")
    assert refused(db, joined, room, "eve", max_participants=2) == ("PT409", "session-full")
    assert joined(db, room, "bob", max_participants=2) == bob
    age(db, ada, "299 s")
    assert refused(db, joined, room, "eve", max_participants=2) == ("PT409", "session-full")
    age(db, ada, "2 s")
    joined(db, room, "eve", max_participants=2)
    assert {one["name"] for one in people(db, room)} == {"bob", "eve"}
    assert told(db, room)[2:] == ["away", "left seat", "joined"]
    assert refused(db, beat, room, ada) == ("PT409", "participant-left")


def test_who_was_removed_joins_neither_by_token_nor_by_user(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    joined(db, room, "ada", user=USER, token=ada)
    removal = {"p_session": room, "p_participant": ada}
    assert refused(db, lambda db: call(db, "lull_remove_participant", p_caller={"user_id": USER}, **removal)) == (
        "PT404", "not-found")  # fmt: skip
    assert call(db, "lull_remove_participant", p_caller=SERVICE, **removal)["removed"]
    assert not call(db, "lull_remove_participant", p_caller=SERVICE, **removal)["removed"]
    invite = invite_to(db, room)
    for proof in ({"token": ada}, {"user": USER, "invite": invite}, {"who": "ada", "invite": invite}):
        assert refused(db, joined, room, **proof) == ("PT409", "participant-removed")
    assert refused(db, beat, room, ada) == ("PT409", "participant-removed")
    assert told(db, room) == ["joined", "removed"]


def test_only_those_who_are_here_see_who_is_here_and_no_user_ids(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    mine = {"user_id": None, "participant": ada}
    listed = call(db, "lull_list_participants", p_session=room, p_caller=mine)["participants"]
    assert [(one["name"], one["you"], "user_id" in one) for one in listed] == [("ada", True, False)]
    assert "user_id" in people(db, room)[0]
    leave(db, room, ada)
    for caller, refusal in ((mine, ("PT409", "participant-left")), ({"user_id": USER}, ("PT404", "not-found"))):
        assert refused(db, call, "lull_list_participants", p_session=room, p_caller=caller) == refusal


def test_a_participant_of_a_deleted_room_gets_410_and_a_stranger_404(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    db.execute("update lull.session_participants set last_seen_at = last_seen_at - interval '2 h'")
    age_room(db, room, "2 h")
    run_cleanup(db, "empty-rooms")
    assert scalar(db, "select count(*) from lull.sessions") == 0
    assert refused(db, beat, room, ada) == ("PT410", "session-expired")
    assert refused(db, leave, room, ada) == ("PT410", "session-expired")
    assert refused(db, joined, room, "ada", token=ada) == ("PT410", "session-expired")
    assert refused(db, joined, room, "ada", user=USER) == ("PT404", "not-found")
    expiry = {"p_session": room, "p_caller": {"user_id": None, "participant": ada}}
    assert call(db, "lull_session_expiry", **expiry)["reason"] == "cleaned"


def test_expiry_says_why(db: Connection) -> None:
    def reason(room: str) -> Any:
        answer = call(db, "lull_session_expiry", p_session=room, p_caller=SERVICE)
        return answer["reason"], answer["expired"], answer["expires_at"] is not None

    assert reason(open_room(db)) == ("active", False, True)
    assert reason(open_room(db, idle="61 min")) == ("idle", True, True)
    assert reason(open_room(db, status="draft")) == ("draft", False, False)
    assert reason(open_room(db, status="paused", idle="9 h")) == ("paused", False, False)
    assert reason(open_room(db, status="ended")) == ("ended", False, False)
    assert reason(open_room(db, "chat", "active", idle="9 days")) == ("never", False, False)
    soon = call(db, "lull_session_expiry", p_session=open_room(db, idle="50 min"), p_caller=SERVICE)
    assert 595 <= soon["seconds_left"] <= 600


def test_stay_moves_the_sessions_clock_and_seldom(db: Connection) -> None:
    room = open_room(db, idle="44 s")
    clock = "select extract(epoch from now() - last_activity_at)::float from lull.sessions where id = %s"
    call(db, "lull_touch_session", p_session=room, p_caller=SERVICE)
    assert scalar(db, clock, room) >= 44
    age_room(db, room, "2 s")
    call(db, "lull_touch_session", p_session=room, p_caller=SERVICE)
    assert scalar(db, clock, room) < 10
    assert refused(db, call, "lull_touch_session", p_session=room, p_caller={"user_id": USER}) == ("PT404", "not-found")


def test_an_ended_session_takes_no_beat_and_no_join(db: Connection) -> None:
    room = open_room(db)
    ada = joined(db, room, "ada")
    call(db, "lull_end_session", p_session=room, p_caller=SERVICE)
    age(db, ada, "46 s")
    assert refused(db, beat, room, ada) == ("PT409", "wrong-status")
    assert refused(db, joined, room, "bob") == ("PT409", "wrong-status")


def test_events_hold_ids_and_broadcasts_hold_names(db: Connection) -> None:
    db.execute(SENDS)
    room = open_room(db)
    ada = joined(db, room, "Ada")
    leave(db, room, ada)
    sent = db.execute("select * from realtime.sent order by n").fetchall()
    assert [(row["event"], row["topic"], row["private"], row["payload"]["data"]) for row in sent] == [
        ("participant.joined", f"session:{room}", True, {"participant": ada, "name": "Ada"}),
        ("participant.left", f"session:{room}", True, {"participant": ada, "name": "Ada", "reason": "left"}),
    ]
    assert scalar(db, "select count(*) from lull.session_events where data::text like '%%Ada%%'") == 0


def test_a_broadcast_that_fails_undoes_nothing(db: Connection) -> None:
    db.execute(SENDS)
    db.execute("alter table realtime.sent add check (event <> 'participant.joined')")
    room = open_room(db)
    joined(db, room, "Ada")
    assert (told(db, room), len(people(db, room))) == (["joined"], 1)
