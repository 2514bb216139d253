"""The events of a session: what its owner can read, and what is broadcast where Supabase Realtime is installed."""

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
    assert [(event, topic) for event, topic, _ in topics(sent)] == [
        ("activated", f"session:{game}"),
        ("activated", f"game:{game}"),
        ("initialized", f"game:{game}"),
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_the_events_of_a_command_are_broadcast_once_each_without_its_state(sent: Connection, fails: bool) -> None:
    """A broadcast that fails undoes nothing."""
    game = add_session(sent, "game", "active")
    if fails:
        sent.execute("alter table realtime.sent add check (topic is null)")
    command = {"id": "c-1", "hash": "00", "name": "guess", "version": 1, "patch": {"secret": "tea"}}
    command["events"] = [{"event": "guessed", "data": {"by": "ada"}}]
    call(sent, "lull_apply_command", p_session=game, p_command=command, p_max_state_bytes=1000)
    told = [] if fails else [(name, f"game:{game}", True) for name in ("command_processed", "guessed")]
    assert topics(sent) == told
    payloads = sent.execute("select payload::text as payload from realtime.sent").fetchall()
    assert "tea" not in str(payloads)
    logged = sent.execute("select event from lull.session_events where event <> 'returned' order by id").fetchall()
    assert [row["event"] for row in logged] == ["command_processed", "guessed"]


def test_a_broadcast_that_fails_undoes_nothing(sent: Connection) -> None:
    sent.execute("drop table realtime.sent")
    session = add_session(sent)
    assert (
        call(sent, "lull_activate_session", p_session=session, p_caller=SERVICE)["session"]["status"]
        == "active"
    )
    events = sent.execute("select event from lull.session_events where event <> 'returned'").fetchall()
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
