"""Commands, claims and recoveries at once: real connections, one of them held at the critical point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.sql.driver import Connection, add_session, call, scalar
from tests.sql.waiting import beside, wait_until_blocked
from tests.sql_servers import Database

SERVICE = {"service": True}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


@pytest.fixture
def held(sql_database: Database) -> Iterator[Connection]:
    """A connection whose transaction stays open until the test ends it."""
    connection = sql_database.connect(autocommit=False)
    yield connection
    connection.rollback()


@pytest.fixture
def late(sql_database: Database) -> Connection:
    return sql_database.connect()


@pytest.fixture
def game(db: Connection) -> str:
    return add_session(db, "game", "active", "0 s", guild_id="g", mode="m")


def command(db: Connection, game: str, number: int = 1, version: int = 1, fence: int | None = None) -> dict[str, Any]:
    sent = {"id": f"c-{number}", "hash": "00", "name": "n", "version": version, "fence": fence, "patch": {"n": number}}
    return call(db, "lull_apply_command", p_session=game, p_command=sent, p_max_state_bytes=65536)


def refusal_of(work: Any) -> str:
    """The problem type that a call was refused with."""
    with pytest.raises(psycopg.Error) as refused:
        work.result()
    assert str(refused.value.sqlstate).startswith("PT")
    return str(refused.value.diag.message_detail)


def claim(db: Connection, game: str, incarnation: int, **given: Any) -> dict[str, Any]:
    usual = {"p_force": False, "p_restarted": False, "p_restart_limit": 3, "p_restart_seconds": 5}
    return call(db, "lull_claim_game", p_session=game, p_incarnation=incarnation, **{**usual, **given})


def opened(db: Connection, name: str = "bot-1") -> int:
    return int(call(db, "lull_open_instance", p_instance=name, p_seconds=30)["incarnation"])


def renew(db: Connection, incarnation: int, name: str = "bot-1") -> dict[str, Any]:
    return call(db, "lull_renew_instance", p_instance=name, p_incarnation=incarnation, p_recovery_limit=3)


def recover(db: Connection, incarnation: int, name: str = "bot-2", limit: int = 500) -> dict[str, Any]:
    given = {"p_instance": name, "p_incarnation": incarnation, "p_limit": limit, "p_recovery_limit": 3}
    return call(db, "lull_recover_sessions", **given)


def expire(db: Connection, *incarnations: int) -> None:
    db.execute(
        "update lull.instances set lease_until = now() - interval '1 s' where incarnation = any (%s)",
        [list(incarnations)],
    )


def ids(answer: dict[str, Any]) -> list[str]:
    return [each["id"] for each in answer["sessions"]]


def test_the_same_command_twice_at_once_is_applied_once(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    assert command(held, game)["replayed"] is False
    with beside() as start:
        second = start(command, late, game)
        wait_until_blocked(db, late, held)
        held.commit()
        assert second.result() == {"version": 2, "fence": 0, "replayed": True}
    assert scalar(db, "select count(*) from lull.session_events where event = 'command_processed'") == 1


def test_a_command_whose_first_sending_failed_is_applied_by_the_second(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    command(held, game)
    with beside() as start:
        second = start(command, late, game)
        wait_until_blocked(db, late, held)
        held.rollback()
        assert second.result() == {"version": 2, "fence": 0, "replayed": False}


def test_of_two_commands_on_one_version_the_second_is_refused_and_leaves_nothing(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    command(held, game, 1)
    with beside() as start:
        second = start(command, late, game, 2)
        wait_until_blocked(db, late, held)
        held.commit()
        assert refusal_of(second) == "version-mismatch"
    assert scalar(db, "select array_agg(command_id) from lull.session_commands") == ["c-1"]
    assert scalar(db, "select state from lull.sessions") == {"n": 1}


@pytest.mark.parametrize("verb", ["pause", "end"])
def test_a_command_that_waits_for_a_transition_is_refused_and_leaves_nothing(
    db: Connection, held: Connection, late: Connection, game: str, verb: str
) -> None:
    call(held, f"lull_{verb}_session", p_session=game, p_caller=SERVICE)
    with beside() as start:
        second = start(command, late, game)
        wait_until_blocked(db, late, held)
        held.commit()
        assert refusal_of(second) == "wrong-status"
    assert scalar(db, "select count(*) from lull.session_commands") == 0


def test_a_pause_that_waits_for_a_command_comes_after_it(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    command(held, game)
    with beside() as start:
        paused = start(call, late, "lull_pause_session", p_session=game, p_caller=SERVICE)
        wait_until_blocked(db, late, held)
        held.commit()
        assert paused.result()["session"]["version"] == 3
    assert scalar(db, "select state from lull.sessions") == {"n": 1}


def test_a_command_that_waits_for_a_claim_by_force_is_refused_by_its_fence(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    old, new = opened(db, "bot-1"), opened(db, "bot-2")
    fence = claim(db, game, old)["fence"]
    assert claim(held, game, new, p_force=True)["fence"] == fence + 1
    with beside() as start:
        second = start(command, late, game, fence=fence)
        wait_until_blocked(db, late, held)
        held.commit()
        assert refusal_of(second) == "owner-displaced"


def test_a_command_of_the_old_owner_that_came_first_counts(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    old, new = opened(db, "bot-1"), opened(db, "bot-2")
    fence = claim(db, game, old)["fence"]
    command(held, game, fence=fence)
    with beside() as start:
        claimed = start(claim, late, game, new, p_force=True)
        wait_until_blocked(db, late, held)
        held.commit()
        assert claimed.result()["session"]["state"] == {"n": 1}


def test_a_renewal_that_waited_until_the_lease_was_over_is_refused(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    """Its transaction began in time: now() would let it pass, and two instances would own the game."""
    old, new = opened(db, "bot-1"), opened(db, "bot-2")
    claim(db, game, old)
    late.autocommit = False
    assert scalar(late, "select now() < lease_until from lull.instances where incarnation = %s", old)
    held.execute("update lull.instances set lease_until = clock_timestamp() where incarnation = %s", [old])
    with beside() as start:
        renewed = start(renew, late, old)
        wait_until_blocked(db, late, held)
        held.commit()
        assert refusal_of(renewed) == "instance-closed"
    late.rollback()
    assert ids(recover(db, new)) == [game]


def test_a_recovery_passes_over_an_instance_that_is_being_renewed(
    db: Connection, held: Connection, game: str
) -> None:
    """The renewal was in time, and commits after the end of the lease that others see."""
    old, new = opened(db, "bot-1"), opened(db, "bot-2")
    claim(db, game, old)
    expire(db, old)
    held.execute("update lull.instances set lease_until = now() + interval '30 s' where incarnation = %s", [old])
    assert recover(db, new) == {"sessions": [], "more": 1, "passed_over": 0}
    held.commit()
    assert recover(db, new) == {"sessions": [], "more": 0, "passed_over": 0}


def test_a_claim_waits_for_a_renewal_of_the_owner_and_is_refused(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    old, new = opened(db, "bot-1"), opened(db, "bot-2")
    claim(db, game, old)
    renew(held, old)
    with beside() as start:
        claimed = start(claim, late, game, new)
        wait_until_blocked(db, late, held)
        held.commit()
        assert refusal_of(claimed) == "already-owned"


def test_two_openings_of_one_name_at_once_leave_one_open(
    db: Connection, held: Connection, late: Connection
) -> None:
    first = opened(held)
    with beside() as start:
        second = start(opened, late)
        wait_until_blocked(db, late, held)
        held.commit()
        assert second.result() > first
    assert scalar(db, "select count(*) from lull.instances where closed_at is null") == 1


def test_a_thousand_orphans_go_to_one_owner_each_though_a_third_call_hangs(
    db: Connection, held: Connection, sql_database: Database
) -> None:
    """Two instances recover at once; a third one's transaction stays open with its games, then fails."""
    gone = opened(db, "gone")
    db.execute(
        "insert into lull.sessions (kind, status, guild_id, incarnation, instance_id, fence) "
        "select 'game', 'active', 'g', %s, 'gone', 1 from generate_series(1, 1000)",
        [gone],
    )
    expire(db, gone)
    third = ids(recover(held, opened(db, "bot-3"), "bot-3", limit=100))
    assert len(third) == 100

    def take_all(name: str) -> list[str]:
        connection = sql_database.connect()
        mine, incarnation = [], opened(connection, name)
        while page := ids(recover(connection, incarnation, name, limit=70)):
            mine += page
        return mine

    with beside() as start:
        takers = [start(take_all, name) for name in ("bot-1", "bot-2")]
        taken = [taker.result() for taker in takers]
    both = taken[0] + taken[1]
    assert len(both) == len(set(both)) == 900
    assert not set(both) & set(third)
    last = opened(db, "bot-4")
    assert recover(db, last, "bot-4") == {"sessions": [], "more": 100, "passed_over": 0}
    held.rollback()
    rest = recover(db, last, "bot-4")
    assert (sorted(ids(rest)), rest["more"]) == (sorted(third), 0)
    assert {each["fence"] for each in rest["sessions"]} == {2}
    owners = db.execute("select instance_id, count(*) as n from lull.sessions group by 1").fetchall()
    assert sum(row["n"] for row in owners) == 1000
    assert "gone" not in {row["instance_id"] for row in owners}


def test_three_restarts_at_once_and_a_fourth_end_the_game(
    db: Connection, sql_database: Database, game: str
) -> None:
    incarnation = opened(db)
    assert claim(db, game, incarnation)["fence"] == 1
    with beside() as start:
        at_once = [start(claim, sql_database.connect(), game, incarnation, p_restarted=True) for _ in range(3)]
        assert sorted(each.result()["fence"] for each in at_once) == [2, 3, 4]
    last = claim(db, game, incarnation, p_restarted=True)["session"]
    assert (last["status"], last["end_reason"]) == ("ended", "restart_limit")
    events = scalar(db, "select array_agg(event order by id) from lull.session_events")
    assert events == ["ended", "terminated"]


def test_a_command_that_waits_while_its_game_goes_is_refused(
    db: Connection, held: Connection, late: Connection, game: str
) -> None:
    held.execute("delete from lull.sessions where id = %s", [game])
    with beside() as start:
        second = start(command, late, game)
        wait_until_blocked(db, late, held)
        held.commit()
        assert refusal_of(second) == "not-found"
    assert scalar(db, "select count(*) from lull.session_commands") == 0
