"""The ledger of a session: what its owner reads of it, and what is broadcast where Supabase Realtime is there."""

import json
from typing import Any

import pytest

from tests.sql.driver import Connection, add_session, call, run_cleanup
from tests.sql_servers import Database

SERVICE = {"service": True}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


@pytest.fixture
def sent(db: Connection) -> Connection:
    """A realtime.send as hosted projects have it, which notes what it was given."""
    db.execute("""
        create schema realtime;
        create table realtime.sent (n serial, payload jsonb, event text, topic text, private boolean);
        create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
        returns void language sql as $$ insert into realtime.sent (payload, event, topic, private)
          values (payload, event, topic, private) $$;
    """)
    return db


def act(db: Connection, session: str, *functions: str) -> None:
    for function in functions:
        call(db, function, p_session=session, p_caller=SERVICE)


def topics(db: Connection) -> list[tuple[Any, ...]]:
    rows = db.execute("select event, topic, private from realtime.sent order by n").fetchall()
    return [(row["event"], row["topic"], row["private"]) for row in rows]


def test_every_transition_is_broadcast_privately_to_the_session(sent: Connection) -> None:
    session = add_session(sent)
    act(
        sent,
        session,
        "lull_activate_session",
        "lull_pause_session",
        "lull_resume_session",
        "lull_end_session",
    )
    assert topics(sent) == [
        (event, f"session:{session}", True) for event in ("activated", "paused", "resumed", "ended")
    ]


def test_a_game_is_broadcast_under_its_own_name_too(sent: Connection) -> None:
    game = add_session(sent, "game")
    act(sent, game, "lull_activate_session")
    assert [topic for _, topic, _ in topics(sent)] == [f"session:{game}", f"game:{game}"]


def test_a_broadcast_that_fails_undoes_nothing(sent: Connection) -> None:
    sent.execute("drop table realtime.sent")
    session = add_session(sent)
    assert (
        call(sent, "lull_activate_session", p_session=session, p_caller=SERVICE)["session"]["status"]
        == "active"
    )
    events = sent.execute("select event from lull.session_events").fetchall()
    assert [row["event"] for row in events] == ["activated"]


def test_neither_the_owner_nor_a_broadcast_learns_which_run_it_was(sent: Connection) -> None:
    session = add_session(sent)
    run = run_cleanup(sent, "abandoned-drafts")["run_id"]
    act(sent, session, "lull_activate_session")
    shown = call(sent, "lull_session_events", p_session=session, p_caller=SERVICE)
    broadcast = sent.execute("select payload from realtime.sent").fetchall()
    assert [event["event"] for event in shown["events"]] == ["archived", "restored", "activated"]
    assert len(broadcast) == 3
    assert run not in json.dumps(shown) + json.dumps([row["payload"] for row in broadcast])
