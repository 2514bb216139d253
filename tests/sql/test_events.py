"""Delivery of the event log by SQL functions: reading, claiming, settling, purging."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scale import examples
from tests.sql.driver import Connection, Run, add_session, call, line, preview, run_cleanup, scalar
from tests.sql.waiting import beside
from tests.sql_servers import Database

Event = dict[str, Any]


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def append(db: Connection, session: str, event: str = "happened", age: str = "0 s") -> int:
    """Append to the event log as the features do, `age` ago; return the event's id."""
    db.execute("select lull.append_event(%s, 'chat', %s)", [session, event])
    newest: int = scalar(
        db,
        "update lull.session_events set at = at - %s::interval where id = lastval() returning id",
        age,
    )
    return newest


def claim(db: Connection, limit: int = 100, seconds: int = 60) -> dict[str, Any]:
    return call(db, "lull_claim_deliveries", p_limit=limit, p_seconds=seconds)


def ids(claimed: dict[str, Any]) -> list[int]:
    return [event["id"] for event in claimed["events"]]


def settle(db: Connection, claimed: dict[str, Any], outcome: str = "delivered") -> dict[str, Any]:
    results = [{"id": event, "outcome": outcome, "error": "no luck"} for event in ids(claimed)]
    return call(db, "lull_settle_deliveries", p_claim=claimed["claim"], p_results=results)


def session(db: Connection) -> str:
    return str(scalar(db, "select gen_random_uuid()"))


def due_again(db: Connection) -> None:
    db.execute("update lull.deliveries set due_at = now() - interval '1 s' where state = 'queued'")


def deliver_everything(db: Connection) -> list[int]:
    order: list[int] = []
    while ids(claimed := claim(db)):
        order += ids(claimed)
        settle(db, claimed)
    return order


def test_a_claimed_event_has_the_fields_of_the_event_log(db: Connection) -> None:
    of = add_session(db)
    db.execute("select lull.append_event(%s, 'chat', 'activated', '{\"a\": [1]}')", [of])
    [event] = claim(db)["events"]
    assert {key: event[key] for key in event if key != "at"} == {
        "id": 1, "session_id": of, "kind": "chat", "event": "activated", "data": {"a": [1]},
    }  # fmt: skip
    assert event["at"].endswith("+00:00")


def test_only_the_first_in_line_of_each_session_is_handed_out(db: Connection) -> None:
    one, two = session(db), session(db)
    first, second, third = append(db, one), append(db, one), append(db, two)
    claimed = claim(db)
    assert ids(claimed) == [first, third]
    assert ids(claim(db)) == [], "the second waits for the first, which somebody is sending"
    settle(db, claimed)
    assert ids(claim(db)) == [second]


def test_two_deliverers_at_once_get_different_events(sql_database: Database, db: Connection) -> None:
    expected = [append(db, session(db)) for _ in range(200)]
    got: list[int] = []
    connections = [sql_database.connect() for _ in range(4)]

    def work(connection: Connection) -> list[int]:
        mine: list[int] = []
        while ids(claimed := claim(connection, limit=7)):
            mine += ids(claimed)
            settle(connection, claimed)
        return mine

    with beside() as start:
        for future in [start(work, connection) for connection in connections]:
            got += future.result()
    assert sorted([*got, *deliver_everything(db)]) == expected


def test_an_expired_claim_can_be_claimed_again_and_a_late_result_changes_nothing(db: Connection) -> None:
    append(db, session(db))
    lost = claim(db)
    db.execute("update lull.deliveries set claimed_until = now() - interval '1 s' where true")
    taken = claim(db)
    assert ids(taken) == ids(lost)
    assert settle(db, lost)["delivered"] == 0
    assert settle(db, taken) == {"delivered": 1, "failed": 0, "dead": 0, "pending": 0}
    assert settle(db, taken)["delivered"] == 0, "said twice"


def test_a_failed_event_waits_longer_each_time_and_holds_up_its_session_only(db: Connection) -> None:
    stuck, other = session(db), session(db)
    append(db, stuck)
    append(db, stuck)
    waits = []
    for _ in range(14):
        claimed = claim(db)
        assert ids(claimed) == [1]
        assert settle(db, claimed, "failed") == {"delivered": 0, "failed": 1, "dead": 0, "pending": 2}
        waits.append(
            scalar(
                db,
                "select extract(epoch from due_at - now())::float8 from lull.deliveries where event_id = 1",
            )
        )
        assert ids(claim(db)) == [], "it is not due"
        due_again(db)
    for attempt, waited in enumerate(waits):
        full = min(3600, 10 * 2**attempt)
        assert 0.45 * full < waited <= full
    third = append(db, other)
    claimed = claim(db)
    assert ids(claimed) == [1, third] or ids(claimed) == [third, 1]
    assert scalar(db, "select last_error from lull.deliveries where event_id = 1") == "no luck"


def test_after_24_hours_of_trying_an_event_is_dead_and_the_next_one_goes_on(db: Connection) -> None:
    of = session(db)
    first, second = append(db, of), append(db, of)
    settle(db, claim(db), "failed")
    due_again(db)
    db.execute(
        "update lull.deliveries set first_tried_at = first_tried_at - interval '23 h 59 min' where event_id = 1"
    )
    assert settle(db, claim(db), "failed")["failed"] == 1
    due_again(db)
    db.execute(
        "update lull.deliveries set first_tried_at = first_tried_at - interval '1 min' where event_id = 1"
    )
    claimed = claim(db)
    assert ids(claimed) == [first]
    assert settle(db, claimed, "failed") == {"delivered": 0, "failed": 0, "dead": 1, "pending": 1}
    assert ids(claim(db)) == [second]


def test_time_in_the_queue_is_no_time_of_trying(db: Connection) -> None:
    append(db, session(db))
    claim(db, seconds=1)
    db.execute(
        "update lull.deliveries set queued_at = now() - interval '9 d', first_tried_at = null, claimed_until = null where true"
    )
    assert settle(db, claim(db), "failed")["failed"] == 1


def test_an_event_whose_receiver_is_gone_is_dead_at_once(db: Connection) -> None:
    append(db, session(db))
    assert settle(db, claim(db), "gone") == {"delivered": 0, "failed": 0, "dead": 1, "pending": 0}


def test_nothing_is_skipped_when_an_early_number_commits_late(sql_database: Database, db: Connection) -> None:
    """The early transaction holds id 1 open while ids 2 and 3 commit and are read."""
    claim(db)
    early = sql_database.connect(autocommit=False)
    slow, quick = session(db), session(db)
    append(early, slow)
    append(db, quick)
    append(db, quick)
    assert ids(claim(db)) == [], "the transaction before them is not over"
    early.commit()
    assert sorted(deliver_everything(db)) == [1, 2, 3]


def test_nothing_is_skipped_when_a_later_number_has_the_earlier_transaction(
    sql_database: Database, db: Connection
) -> None:
    claim(db)
    early = sql_database.connect(autocommit=False)
    early.execute("select pg_current_xact_id()")
    first = append(db, session(db))
    second = append(early, session(db))
    assert ids(claim(db)) == []
    early.commit()
    assert sorted(deliver_everything(db)) == [first, second]


def test_a_session_keeps_its_order_when_its_transactions_have_theirs_the_other_way(
    sql_database: Database, db: Connection
) -> None:
    """`old` has a transaction number before it waits for the session, and so appends the later event with the
    earlier number; a third transaction between the two keeps the first event out of the reading rule."""
    claim(db)
    of = session(db)
    old, between = sql_database.connect(autocommit=False), sql_database.connect(autocommit=False)
    old.execute("select pg_current_xact_id()")
    between.execute("select pg_current_xact_id()")
    first = append(db, of, "first")
    second = append(old, of, "second")
    old.commit()
    newest = append(db, session(db))
    claimed = claim(db)
    assert ids(claimed) == [first], "the rule alone would hand out the second"
    settle(db, claimed)
    claimed = claim(db)
    assert ids(claimed) == [second]
    settle(db, claimed)
    assert ids(claim(db)) == []
    between.commit()
    assert deliver_everything(db) == [newest], "and the first is not delivered again"


def test_a_page_that_ends_within_a_session_keeps_its_order(sql_database: Database, db: Connection) -> None:
    claim(db)
    of = session(db)
    old = sql_database.connect(autocommit=False)
    old.execute("select pg_current_xact_id()")
    first = append(db, of)
    second = append(old, of)
    old.commit()
    db.execute("select lull.read_event_log(1)")
    assert scalar(db, "select count(*) from lull.deliveries") == 2
    assert deliver_everything(db) == [first, second]


@pytest.mark.timeout(600)
@settings(max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["append", "commit", "pull", "send"])), max_size=30
    )
)
def test_whatever_commits_when_each_event_is_delivered_once_and_in_order(
    sql_database: Database, db: Connection, steps: list[tuple[int, str]]
) -> None:
    """Four writers, each its own session at a time (its lock is an advisory one), in any interleaving."""
    claim(db)
    deliver_everything(db)
    before = scalar(db, "select coalesce(max(id), 0) from lull.session_events")
    writers = [sql_database.connect(autocommit=False) for _ in range(4)]
    sessions, got = [session(db), session(db)], []
    for writer, step in steps:
        if step == "append":
            of = sessions[writer % 2]
            writers[writer].execute("select pg_current_xact_id()")
            if scalar(writers[writer], "select pg_try_advisory_xact_lock(hashtext(%s))", of):
                append(writers[writer], of)
        elif step == "commit":
            writers[writer].commit()
        elif step == "pull":
            db.execute("select lull.read_event_log(%s)", [1 + writer])
        else:
            claimed = claim(db, limit=1 + writer)
            got += ids(claimed)
            settle(db, claimed)
    for connection in writers:
        connection.commit()
        connection.close()
    got += deliver_everything(db)
    rows = db.execute(
        "select id, session_id from lull.session_events where id > %s order by id", [before]
    ).fetchall()
    assert sorted(got) == [row["id"] for row in rows]
    for of in sessions:
        mine = [row["id"] for row in rows if str(row["session_id"]) == of]
        assert [event for event in got if event in mine] == mine


def test_the_first_reading_begins_with_the_last_24_hours(db: Connection) -> None:
    append(db, session(db), age="25 h")
    recent = append(db, session(db), age="23 h")
    assert deliver_everything(db) == [recent]


def test_the_first_reading_skips_nothing_that_is_still_open(sql_database: Database, db: Connection) -> None:
    early = sql_database.connect(autocommit=False)
    append(early, session(db))
    append(db, session(db))
    assert ids(claim(db)) == []
    early.commit()
    assert sorted(deliver_everything(db)) == [1, 2]


def test_events_of_a_deleted_session_are_delivered(db: Connection) -> None:
    gone = add_session(db)
    claim(db)
    run_cleanup(db, "abandoned-drafts")
    assert scalar(db, "select count(*) from lull.sessions") == 0
    db.execute("update lull.archive_pages set purge_after = now() - interval '1 s' where true")
    run_cleanup(db, "purge")
    events = []
    while ids(claimed := claim(db)):
        events += [(event["session_id"], event["event"]) for event in claimed["events"]]
        settle(db, claimed)
    assert events == [(gone, "archived"), (gone, "purged")]


def purge(db: Connection) -> int:
    would = preview(db, "old-events")["would"]
    report = line(run_cleanup(db, "old-events"), "old-events")
    assert (report["outcome"], report["did"]) == ("completed", would)
    return int(report["did"])


def grow_old(db: Connection) -> None:
    db.execute("update lull.session_events set at = now() - interval '401 d' where true")


def test_an_event_is_purged_only_when_it_is_delivered_or_dead(db: Connection) -> None:
    sent, failing, dead = append(db, session(db)), append(db, session(db)), append(db, session(db))
    claimed = claim(db)
    outcomes = {sent: "delivered", failing: "failed", dead: "gone"}
    results = [{"id": event, "outcome": outcome} for event, outcome in outcomes.items()]
    unread = append(db, session(db))
    grow_old(db)
    assert purge(db) == 0
    call(db, "lull_settle_deliveries", p_claim=claimed["claim"], p_results=results)
    assert purge(db) == 2
    left = [row["id"] for row in db.execute("select id from lull.session_events order by id")]
    assert left == [failing, unread]
    due_again(db)
    assert sorted(deliver_everything(db)) == [failing, unread]
    assert purge(db) == 2


def test_without_webhooks_old_events_are_purged(db: Connection) -> None:
    append(db, session(db))
    grow_old(db)
    assert purge(db) == 1


def test_a_reader_that_was_turned_off_holds_nothing_up_after_30_days(db: Connection) -> None:
    append(db, session(db))
    claim(db, seconds=1)
    append(db, session(db))
    grow_old(db)
    db.execute("update lull.event_readers set read_at = now() - interval '29 d' where true")
    assert purge(db) == 0
    db.execute("update lull.event_readers set read_at = now() - interval '31 d' where true")
    assert purge(db) == 2
    db.execute("update lull.deliveries set claimed_until = null where true")
    assert ids(claim(db)) == [], "it was deleted from the log meanwhile"
    assert scalar(db, "select state from lull.deliveries") == "dead"


def test_an_event_queued_while_the_purge_looks_at_it_stays(sql_database: Database, db: Connection) -> None:
    """The purge sees the reader either before it read, or with what it queued."""
    append(db, session(db))
    claim(db)
    event = append(db, session(db))
    grow_old(db)
    run = Run.begin(db, "old-events")
    run.open("old-events")
    reading = sql_database.connect(autocommit=False)
    reading.execute("select lull.read_event_log(100)")
    assert run.batch("old-events")["deleted"] == 0
    reading.commit()
    assert run.batch("old-events")["deleted"] == 0
    assert event in [row["id"] for row in db.execute("select id from lull.session_events")]


def test_deliveries_are_pruned_a_month_after_they_were_settled(db: Connection) -> None:
    for _ in range(3):
        append(db, session(db))
    claimed = claim(db)
    results = [{"id": 1, "outcome": "delivered"}, {"id": 2, "outcome": "delivered"}]
    call(db, "lull_settle_deliveries", p_claim=claimed["claim"], p_results=results)
    db.execute("update lull.deliveries set settled_at = settled_at - interval '31 d' where event_id = 1")
    db.execute("update lull.deliveries set queued_at = queued_at - interval '99 d' where true")
    assert line(run_cleanup(db, "old-deliveries"), "old-deliveries")["did"] == 1
    assert [row["event_id"] for row in db.execute("select event_id from lull.deliveries order by 1")] == [
        2,
        3,
    ]


def test_a_claim_of_nothing_is_refused(db: Connection) -> None:
    for limit, seconds in ((0, 1), (1, 0), (None, 1)):
        with pytest.raises(Exception, match="at least 1") as refused:
            db.execute("select public.lull_claim_deliveries(%s, %s)", [limit, seconds])
        assert getattr(refused.value, "sqlstate", "") == "PT422"


def test_a_claim_stays_quick_when_much_is_unread_and_queued(db: Connection) -> None:
    """Fresh tables have no statistics: the planner would compare every event with every other, for minutes."""
    db.execute("set statement_timeout = '2s'")
    claim(db)
    db.execute(
        "insert into lull.session_events (session_id, kind, event) "
        "select gen_random_uuid(), 'chat', 'created' from generate_series(1, 40000)"
    )
    assert len(ids(claim(db))) == 100
    db.execute(
        "insert into lull.deliveries (event_id, session_id) select id, session_id from lull.session_events on conflict do nothing"
    )
    assert len(ids(claim(db))) == 100
    stuck = session(db)
    db.execute("update lull.deliveries set session_id = %s where state = 'queued'", [stuck])
    assert ids(claim(db)) == []
