"""Rooms in a team's own table, with participants on the companion or in a table of the team's."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.driver import Connection, call, run_cleanup, scalar
from tests.sql.room_calls import LIMITS, beat, leave, told

ADA, BOB = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
ROOM = "00000000-0000-4000-8000-000000000001"
TABLES = """
    create table public.tables (
      id uuid primary key, host uuid, status text not null default 'active', updated_at timestamptz not null default now());
    create index on public.tables (updated_at, id);
    create table public.seats (
      id uuid primary key default gen_random_uuid(), table_id uuid not null references public.tables on delete cascade,
      person uuid, nick text check (nick <> 'Mallory'), here boolean not null default true, seen_at timestamptz);
    create index on public.seats (table_id);
"""
ADOPT = """
    select lull.adopt_sessions('public.tables', 'room', p_owner => 'host', p_status => 'status', p_existing => true,
      p_below => '{"public.seats": {"clock": "seen_at"}}', p_participants => %s)
"""
SEATS = {"table": "public.seats", "user": "person", "name": "nick", "active": "here", "seen": "seen_at"}


@pytest.fixture
def db(undone: Connection) -> Connection:
    undone.execute(TABLES)
    undone.execute("insert into public.tables (id, host) values (%s, %s)", (ROOM, ADA))
    return undone


def adopt(db: Connection, participants: dict[str, str] | None = None) -> None:
    db.execute(ADOPT, (json.dumps(participants) if participants else None,))


def join(db: Connection, user: str, name: str, invite: str | None = None) -> dict[str, Any]:
    given = {"access_method": "invite" if invite else "direct", "invite": invite, "name": name, "tab": "t1"}
    caller = {"user_id": user, "token_hash": None}
    return call(db, "lull_join_session", p_session=ROOM, p_caller=caller, p_join=given, p_limits=LIMITS)


def seats(db: Connection) -> list[tuple[str, bool]]:
    return [(row["nick"], row["here"]) for row in db.execute("select nick, here from public.seats order by nick")]


def names(db: Connection) -> set[str]:
    listed = call(db, "lull_list_participants", p_session=ROOM, p_caller={"service": True})["participants"]
    return {one["name"] for one in listed}


def make_idle(db: Connection) -> None:
    db.execute("update public.tables set updated_at = now() - interval '2 h'")
    db.execute("update public.seats set seen_at = now() - interval '2 h'")
    db.execute("update lull.sessions set last_activity_at = now() - interval '2 h'")
    db.execute("update lull.session_participants set last_seen_at = now() - interval '2 h'")


def cleaned(db: Connection) -> int:
    """Run the policy of rooms; return how many of the team's went."""
    lines = run_cleanup(db, "empty-rooms")["policies"]
    return next(int(each["did"]) for each in lines if each["table"] == "public.tables")


@pytest.mark.parametrize("mapped", [False, True])
def test_a_teams_room_works_by_the_same_rules(db: Connection, mapped: bool) -> None:
    adopt(db, SEATS if mapped else None)
    assert join(db, ADA, "Ada")["status"] == "active", "the row's owner makes the companion"
    invite = call(db, "lull_create_invite", p_session=ROOM, p_caller={"user_id": ADA}, p_invite=BOB, p_seconds=60)["invite"]
    with pytest.raises(psycopg.Error, match="no such session"), db.transaction():
        join(db, BOB, "Bob")
    bob = join(db, BOB, "Bob", invite["id"])["participant"]["id"]
    assert names(db) == {"Ada", "Bob"}
    db.execute("update public.tables set updated_at = now() - interval '2 h'")
    db.execute("update lull.session_participants set last_seen_at = now() - interval '50 s'")
    db.execute("update lull.sessions set last_activity_at = now() - interval '2 h'")
    assert beat(db, ROOM, bob)["status"] == "active"
    assert cleaned(db) == 0
    leave(db, ROOM, bob)
    assert (names(db), told(db, ROOM)) == ({"Ada"}, ["joined", "joined", "left left"])
    assert scalar(db, "select updated_at = now() from public.tables"), "a leave moves the row's clock"
    make_idle(db)
    with pytest.raises(psycopg.Error, match="has expired"), db.transaction():
        beat(db, ROOM, scalar(db, "select id from lull.session_participants where is_active"))
    assert call(db, "lull_get_session", p_session=ROOM, p_caller={"user_id": ADA})["session"]["expired"]
    assert cleaned(db) == 1
    assert scalar(db, "select count(*) from lull.session_participants") == 0
    with pytest.raises(psycopg.Error, match="has expired"), db.transaction():
        beat(db, ROOM, bob)


def test_people_are_written_to_the_teams_table_under_the_same_ids(db: Connection) -> None:
    adopt(db, SEATS)
    ada = join(db, ADA, "Ada")["participant"]
    assert (ada["name"], seats(db)) == ("Ada", [("Ada", True)])
    assert scalar(db, "select p.name is null and p.id = s.id from lull.session_participants p, public.seats s")
    db.execute("update lull.session_participants set last_seen_at = now() - interval '50 s'")
    db.execute("update public.seats set seen_at = now() - interval '50 s'")
    beat(db, ROOM, ada["id"])
    assert scalar(db, "select seen_at = now() from public.seats")
    leave(db, ROOM, ada["id"])
    assert seats(db) == [("Ada", False)]
    assert join(db, ADA, "Ada L.")["participant"]["id"] == ada["id"]
    assert seats(db) == [("Ada L.", True)]
    call(db, "lull_remove_participant", p_session=ROOM, p_participant=ada["id"], p_caller={"service": True})
    assert seats(db) == [("Ada L.", False)]


def test_a_person_of_the_teams_own_sql_is_in_the_room_and_keeps_it(db: Connection) -> None:
    adopt(db, SEATS)
    db.execute("insert into public.seats (table_id, person, nick, seen_at) values (%s, %s, 'Bob', now())", (ROOM, BOB))
    db.execute("update public.tables set updated_at = now() - interval '2 h'")
    assert not call(db, "lull_get_session", p_session=ROOM, p_caller={"user_id": ADA})["session"]["expired"]
    assert join(db, BOB, "Bobby")["participant"]["name"] == "Bobby", "who has a row needs no invite, and makes the companion"
    assert (names(db), len(seats(db))) == ({"Bobby"}, 1)
    db.execute("update public.seats set here = false")
    join(db, ADA, "Ada")
    assert names(db) == {"Ada"}


def test_a_constraint_of_theirs_that_refuses_is_named(db: Connection) -> None:
    adopt(db, SEATS)
    with pytest.raises(psycopg.Error) as error, db.transaction():
        join(db, ADA, "Mallory")
    assert (error.value.sqlstate, error.value.diag.message_detail) == ("PT409", "refused-by-table")
    assert "seats_nick_check" in str(error.value)
    assert scalar(db, "select count(*) from lull.session_participants") == 0


def test_an_index_that_each_heartbeat_writes_is_named(db: Connection) -> None:
    adopt(db, SEATS)
    assert call(db, "lull_inspect")["own_tables"][0]["seen_indexes"] == []
    db.execute("create index late on public.seats (table_id) where seen_at > '2020-01-01'")
    db.execute("create index seen on public.seats (seen_at)")
    assert call(db, "lull_inspect")["own_tables"][0]["seen_indexes"] == ["public.late", "public.seen"]
