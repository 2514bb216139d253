"""Invites: what each one answers, in which order, and how tries are limited."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.sql.driver import Connection, call, line, run_cleanup, scalar
from tests.sql.room_calls import OWNER, SERVICE, age, age_room, invite_to, join, joined, open_room
from tests.sql.team_tables import snapshot

CLIENT = "ab" * 32


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


def answer(db: Connection, room: str, invite: str, who: str = "ada", **limits: Any) -> str:
    """The type of the refusal of a join by an invite, or `joined`."""
    return str(join(db, room, who, invite=invite, **limits).get("refused", {}).get("type", "joined"))


def test_each_invite_that_lets_nobody_in_says_why_in_this_order(db: Connection) -> None:
    room, other = open_room(db), open_room(db)
    invite, foreign = invite_to(db, room, max_uses=1), invite_to(db, other)
    assert answer(db, room, foreign) == answer(db, room, str(uuid4())) == "invite-unknown"
    assert answer(db, room, invite) == "joined"
    assert answer(db, room, invite, "bob") == "invite-used-up"
    assert answer(db, room, invite) == "joined", "who has a row needs no live invite"
    db.execute("update lull.invites set expires_at = now() where id = %s", (invite,))
    assert answer(db, room, invite, "bob") == "invite-expired"
    call(db, "lull_revoke_invite", p_session=room, p_invite=invite, p_caller=SERVICE)
    assert answer(db, room, invite, "bob") == "invite-revoked"
    db.execute("update lull.session_participants set last_seen_at = now() - interval '61 min'")
    age_room(db, room, "61 min")
    assert answer(db, room, invite, "bob") == "session-expired"
    assert answer(db, room, foreign, "bob") == "invite-unknown"
    assert scalar(db, "select sum(uses) from lull.invites") == 1


def test_an_invite_to_a_room_that_is_idle_archived_or_purged_says_the_seeds_sentence(db: Connection) -> None:
    room = open_room(db)
    invite = invite_to(db, room)
    age_room(db, room, "61 min")

    def sentence() -> Any:
        return join(db, room, "ada", invite=invite)["refused"]["message"]

    hour = "This invitation link has expired. Sessions become inactive after 1 hour of no activity."
    assert sentence() == hour
    db.execute("update lull.policies set age = '2.5 h' where name = 'empty-rooms'")
    age_room(db, room, "2 h")
    assert sentence() == hour.replace("1 hour", "2.5 hours")
    assert line(run_cleanup(db, "empty-rooms"), "empty-rooms")["did"] == 1
    assert sentence() == hour
    db.execute("update lull.archive_pages set purge_after = now() - interval '1 s'")
    run_cleanup(db, "purge")
    assert sentence() == hour


def test_a_participant_seen_within_the_timeout_keeps_the_link_alive(db: Connection) -> None:
    room = open_room(db)
    invite = invite_to(db, room)
    ada = joined(db, room, "ada")
    age_room(db, room, "5 h")
    age(db, ada, "59 min")
    assert answer(db, room, invite, "bob") == "joined"


def test_invites_go_along_and_come_back_uses_included(db: Connection) -> None:
    room = open_room(db)
    invite_to(db, room, max_uses=3)
    db.execute("update lull.invites set uses = 2")
    before = snapshot(db, "lull.invites")
    age_room(db, room, "2 h")
    run_cleanup(db, "empty-rooms")
    assert snapshot(db, "lull.invites") != before
    call(db, "lull_restore_run", p_run=scalar(db, "select id from lull.cleanup_runs"))
    assert snapshot(db, "lull.invites") == before


def test_refused_tries_are_counted_and_limited_and_a_join_with_a_row_is_not(db: Connection) -> None:
    room = open_room(db)
    invite = invite_to(db, room, max_uses=1)
    limits: dict[str, Any] = {"client_hash": CLIENT, "invite_failures_per_hour": 3}
    assert answer(db, room, invite, **limits) == "joined"
    assert [answer(db, room, invite, f"p{n}", **limits) for n in range(2)] == ["invite-used-up"] * 2
    call(db, "lull_count_invite_failure", p_client_hash=CLIENT, p_limit=3)
    for attempt in (
        lambda: answer(db, room, invite_to(db, room), "bob", **limits),
        lambda: call(db, "lull_count_invite_failure", p_client_hash=CLIENT, p_limit=3),
    ):
        with pytest.raises(psycopg.Error) as error, db.transaction():
            attempt()
        assert (error.value.sqlstate, error.value.diag.message_detail) == ("PT429", "rate-limited")
    assert answer(db, room, invite, **limits) == "joined"
    db.execute("update lull.rate_counters set window_start = window_start - interval '1 h'")
    assert answer(db, room, invite_to(db, room), "bob", **limits) == "joined"


def test_new_people_without_an_account_are_limited_by_address(db: Connection) -> None:
    room = open_room(db)
    invite = invite_to(db, room)
    limits: dict[str, Any] = {"client_hash": CLIENT, "anonymous_joins_per_hour": 2}
    for who in ("ada", "bob", "ada"):
        assert answer(db, room, invite, who, **limits) == "joined"
    with pytest.raises(psycopg.Error, match="2 people without an account joined"), db.transaction():
        answer(db, room, invite, "eve", **limits)
    assert join(db, room, user=OWNER, **limits)["participant"]["you"]


def test_open_invites_are_limited(db: Connection) -> None:
    room = open_room(db)
    arguments = {"p_session": room, "p_caller": SERVICE, "p_seconds": 60, "p_most": 1}
    first = call(db, "lull_create_invite", p_invite=str(uuid4()), **arguments)["invite"]
    with pytest.raises(psycopg.Error, match="1 invites of this session are open"), db.transaction():
        call(db, "lull_create_invite", p_invite=str(uuid4()), **arguments)
    call(db, "lull_revoke_invite", p_session=room, p_invite=first["id"], p_caller=SERVICE)
    call(db, "lull_create_invite", p_invite=str(uuid4()), **arguments)
    invites = call(db, "lull_list_invites", p_session=room, p_caller=SERVICE)["invites"]
    assert sorted(invite["open"] for invite in invites) == [False, True]


def test_a_full_room_costs_no_use(db: Connection) -> None:
    room = open_room(db)
    invite = invite_to(db, room, max_uses=1)
    joined(db, room, "ada")
    with pytest.raises(psycopg.Error, match="which is the limit"), db.transaction():
        answer(db, room, invite, "bob", max_participants=1)
    assert scalar(db, "select uses from lull.invites") == 0
