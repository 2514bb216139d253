"""Limits in SQL: exactly as many as allowed, whoever comes at once, and replays for nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.sql.driver import Connection, call, line, run_cleanup, scalar
from tests.sql.waiting import beside, wait_until_blocked
from tests.sql_servers import Database

ADA, BOB = str(uuid4()), str(uuid4())
HERE, THERE = "aa" * 32, "bb" * 32
HOURLY = {"open_drafts": None, "drafts_per_hour": 3, "open_games": None}
OPEN = {"open_drafts": 3, "drafts_per_hour": None, "open_games": 2}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def create(
    db: Connection,
    limits: dict[str, Any] | None,
    *,
    owner: str | None = ADA,
    client: str | None = HERE,
    key: str | None = None,
    kind: str = "chat",
    status: str = "draft",
) -> dict[str, Any]:
    key_argument = key and {"scope": "test", "key": key, "request_hash": "00"}
    return call(
        db, "lull_create_session", p_session=str(uuid4()), p_kind=kind, p_status=status, p_title=None,
        p_external_key=None, p_mode=None, p_metadata={}, p_owner=owner,
        p_token_hash=None if owner else "ff" * 32, p_idempotency=key_argument,
        p_limits=None if limits is None else limits | {"client_hash": client},
    )  # fmt: skip


def refused(db: Connection, *arguments: Any, **named: Any) -> dict[str, Any]:
    """The members of the 429 that this creation gets."""
    with pytest.raises(psycopg.Error) as error:
        create(db, *arguments, **named)
    assert (error.value.sqlstate, error.value.diag.message_detail) == ("PT429", "rate-limited")
    members: dict[str, Any] = json.loads(error.value.diag.message_hint or "")
    return members


def count(db: Connection) -> int:
    return int(scalar(db, "select count(*) from lull.sessions"))


@pytest.mark.parametrize("limits", [{**HOURLY, "drafts_per_hour": 20}, {**OPEN, "open_drafts": 20}])
def test_of_200_creations_at_once_exactly_the_limit_succeeds(
    sql_database: Database, db: Connection, limits: dict[str, Any]
) -> None:
    connections = [sql_database.connect() for _ in range(20)]

    def try_ten(connection: Connection) -> int:
        made = 0
        for _ in range(10):
            try:
                create(connection, limits)
                made += 1
            except psycopg.Error as error:
                assert error.sqlstate == "PT429", error
        return made

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(try_ten, connections)) == 20
    assert count(db) == 20
    assert scalar(db, "select count(*) from lull.session_events") == 20


@pytest.mark.parametrize("limits", [HOURLY, OPEN])
def test_a_replay_counts_as_nothing_and_is_answered_over_the_limit(
    db: Connection, limits: dict[str, Any]
) -> None:
    first = create(db, limits, key="first")
    for _ in range(5):
        assert create(db, limits, key="first")["replayed"]
    assert [create(db, limits)["limits"][0]["remaining"] for _ in range(2)] == [1, 0]
    refused(db, limits)
    again = create(db, limits, key="first")
    assert (again["replayed"], again["session"]["id"]) == (True, first["session"]["id"])
    assert "limits" not in again
    assert count(db) == 3


def test_a_refused_creation_leaves_its_key_unused(db: Connection) -> None:
    for _ in range(3):
        create(db, HOURLY)
    refused(db, HOURLY, key="later")
    db.execute("update lull.rate_counters set window_start = now() - interval '1 hour'")
    assert not create(db, HOURLY, key="later")["replayed"]


def test_a_user_and_an_address_each_have_their_hour(db: Connection) -> None:
    for _ in range(3):
        create(db, HOURLY, owner=ADA, client=HERE)
    assert refused(db, HOURLY, owner=ADA, client=THERE)["limit"] == "drafts-per-hour-by-user"
    assert refused(db, HOURLY, owner=BOB, client=HERE)["limit"] == "drafts-per-hour-by-client"
    create(db, HOURLY, owner=BOB, client=THERE)


def test_the_hour_begins_with_its_first_draft_and_then_anew(db: Connection) -> None:
    create(db, HOURLY)
    db.execute("update lull.rate_counters set window_start = now() - interval '50 minutes'")
    create(db, HOURLY)
    create(db, HOURLY)
    assert 540 < refused(db, HOURLY)["retryAfter"] <= 600
    db.execute("update lull.rate_counters set window_start = now() - interval '60 minutes'")
    assert create(db, HOURLY)["limits"][0] == {
        "name": "drafts-per-hour-by-client", "limit": 3, "window": 3600, "remaining": 2, "reset": 3600,
    }  # fmt: skip


def test_an_open_draft_makes_room_when_it_is_activated_ended_or_cleaned(db: Connection) -> None:
    drafts = [create(db, OPEN)["session"]["id"] for _ in range(3)]
    for number, leave in enumerate(("lull_activate_session", "lull_end_session", "the cleanup")):
        waits = refused(db, OPEN)["retryAfter"]
        assert 23 * 3600 < waits <= 24 * 3600, "then the cleanup takes the oldest"
        if leave == "the cleanup":
            db.execute(
                "update lull.sessions set last_activity_at = now() - interval '25 hours' where id = %s",
                [drafts[number]],
            )
            run_cleanup(db, "abandoned-drafts")
        else:
            call(db, leave, p_session=drafts[number], p_caller={"user_id": ADA})
        create(db, OPEN)


def test_without_an_account_open_drafts_are_those_of_the_address(db: Connection) -> None:
    for _ in range(3):
        create(db, OPEN, owner=None, client=HERE)
    assert refused(db, OPEN, owner=None, client=HERE)["limit"] == "open-drafts"
    create(db, OPEN, owner=None, client=THERE)
    create(db, OPEN, owner=ADA, client=HERE)


def test_open_games_are_limited_whatever_their_status(db: Connection) -> None:
    game = create(db, OPEN, kind="game", status="active")["session"]["id"]
    create(db, OPEN, kind="game")
    assert refused(db, OPEN, kind="game", status="active")["limit"] == "open-games"
    call(db, "lull_end_session", p_session=game, p_caller={"user_id": ADA})
    create(db, OPEN, kind="game", status="active")


def test_the_service_and_a_limit_of_null_are_not_limited(db: Connection) -> None:
    nothing = dict.fromkeys(OPEN)
    for _ in range(40):
        assert create(db, None)["limits"] == []
        assert create(db, nothing)["limits"] == []
    assert count(db) == 80


def test_owners_and_addresses_that_cross_do_not_deadlock(sql_database: Database) -> None:
    pairs = [(ADA, HERE), (BOB, THERE), (ADA, THERE), (BOB, HERE)] * 5
    limits = {**HOURLY, "drafts_per_hour": 1000}

    def create_many(pair: tuple[str, str]) -> None:
        connection = sql_database.connect()
        for _ in range(10):
            create(connection, limits, owner=pair[0], client=pair[1])

    with ThreadPoolExecutor(len(pairs)) as pool:
        list(pool.map(create_many, pairs))
    counted = sql_database.connect().execute("select count from lull.rate_counters").fetchall()
    assert [row["count"] for row in counted] == [100] * 4


def test_a_creation_waits_for_one_that_shares_its_address(sql_database: Database, db: Connection) -> None:
    first, second = sql_database.connect(), sql_database.connect()
    create(db, HOURLY)
    create(db, HOURLY)
    first.execute("begin")
    create(first, HOURLY, owner=ADA)
    with beside() as start:
        late = start(refused, second, HOURLY, owner=BOB)
        wait_until_blocked(db, second, first)
        first.execute("commit")
        assert late.result()["limit"] == "drafts-per-hour-by-client"
    assert count(db) == 3


def test_counters_of_hours_that_are_over_are_pruned(db: Connection) -> None:
    create(db, HOURLY, owner=ADA, client=HERE)
    db.execute(
        "update lull.rate_counters set window_start = now() - interval '61 minutes' where key like 'user:%'"
    )
    assert line(run_cleanup(db, "old-rate-counters"), "old-rate-counters")["did"] == 1
    assert scalar(db, "select key from lull.rate_counters") == f"client:{HERE}"


def test_claiming_a_session_forgets_the_address_it_came_from(db: Connection) -> None:
    session = create(db, OPEN, owner=None)["session"]["id"]
    hashes = "select client_hash is not null from lull.sessions"
    assert scalar(db, hashes)
    call(db, "lull_claim_session", p_session=session, p_user=ADA, p_token_hash="ff" * 32)
    assert not scalar(db, hashes)


@pytest.mark.parametrize("kind", ["chat", "room", "game"])
@pytest.mark.parametrize(
    ("stale_in", "waits"),
    [("-3 hours", 300), ("2 minutes", 300), ("8 minutes", 1200), ("23 hours", 83_100)],
)
def test_the_wait_ends_with_the_first_cleanup_that_takes_an_open_draft(
    kind: str, stale_in: str, waits: int, db: Connection
) -> None:
    limits = {**OPEN, "open_drafts": 2, "open_games": None, "interval_minutes": 15}
    run_cleanup(db)
    db.execute("update lull.cleanup_runs set started_at = now() - interval '10 minutes'")
    for _ in range(2):
        create(db, limits, kind=kind)
    db.execute(
        "update lull.sessions set last_activity_at = now() - interval '24 hours' + %s::interval "
        "where id = (select min(id::text)::uuid from lull.sessions)",
        [stale_in],
    )
    assert waits - 10 <= refused(db, limits, kind=kind)["retryAfter"] <= waits


def test_forgotten_drafts_of_rooms_and_games_lock_no_owner_out(db: Connection) -> None:
    for kind in ("room", "game"):
        create(db, {**OPEN, "open_drafts": 2}, kind=kind)
    db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    assert refused(db, {**OPEN, "open_drafts": 2})["retryAfter"] is not None
    run_cleanup(db)
    create(db, {**OPEN, "open_drafts": 2})
    assert scalar(db, "select string_agg(kind, '') from lull.sessions") == "chat"


def test_no_wait_is_named_when_no_cleanup_takes_the_drafts(db: Connection) -> None:
    for _ in range(3):
        create(db, OPEN)
    db.execute("update lull.sessions set hold = true")
    assert refused(db, OPEN)["retryAfter"] is None


def test_a_claim_waits_for_a_creation_of_the_same_user(sql_database: Database, db: Connection) -> None:
    first, second = sql_database.connect(), sql_database.connect()
    limits = {**OPEN, "open_drafts": 1}
    session = create(db, limits, owner=None)["session"]["id"]
    first.execute("begin")
    create(first, limits, owner=ADA)

    def claim() -> str | None:
        try:
            call(second, "lull_claim_session", p_session=session, p_user=ADA, p_token_hash="ff" * 32,
                p_limits=limits)  # fmt: skip
        except psycopg.Error as error:
            return error.sqlstate
        return None

    with beside() as start:
        late = start(claim)
        wait_until_blocked(db, second, first)
        first.execute("commit")
        assert late.result() == "PT429"
    assert scalar(db, "select owner_id is null from lull.sessions where id = %s", session)
