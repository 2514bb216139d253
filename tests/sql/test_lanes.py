"""Two batches of one policy in flight: each row goes once, the limit holds, and the last lane closes the policy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.sql.driver import Run, add_session, call, line, policies, scalar
from tests.sql.waiting import beside, wait_until_at
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"
REFUSE_PRECIOUS = """
    create function public.refuse_precious() returns trigger language plpgsql as $$
    begin
      if old.title = 'precious' then raise exception 'too precious'; end if;
      return old;
    end $$;
    create trigger refuse_precious before delete on lull.sessions for each row execute function public.refuse_precious();
"""


# A delete of such a row is at work, without waiting for a lock, for as long as somebody holds the advisory lock.
DELAY_SLOW = """
    create function public.delay_slow() returns trigger language plpgsql as $$
    begin
      while old.title = 'slow' and not pg_try_advisory_xact_lock(1) loop
        perform pg_sleep(0.005);
      end loop;
      return old;
    end $$;
    create trigger delay_slow before delete on lull.sessions for each row execute function public.delay_slow();
"""


def add_drafts(database: Database, count: int) -> None:
    database.connect().execute(
        "insert into lull.sessions (kind, last_activity_at) select 'chat', now() - interval '30 hours' - random() * interval '9 days' "
        "from generate_series(1, %s)",
        [count],
    )


def opened(database: Database, **arguments: Any) -> Run:
    run = Run.begin(database.connect(), DRAFTS, **arguments)
    assert run.open(DRAFTS)["outcome"] == "open"
    return run


def drain_in_lanes(database: Database, run: Run, size: int) -> list[int]:
    """Work the policy in two lanes at once, each halving what fails; return how many rows each deleted."""
    ready = Barrier(2)

    def work(lane: int) -> int:
        connection, deleted, now = database.connect(), 0, size
        ready.wait()
        while True:
            answer = run.lane(DRAFTS, lane, now, connection)
            deleted += int(answer["deleted"])
            if answer["done"]:
                return deleted
            now = max(1, now // 2) if answer["failed"] and not answer["skipped"] else size

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(work, (1, 2)))


def test_two_lanes_take_each_row_once_and_share_the_work(sql_database: Database) -> None:
    add_drafts(sql_database, 2000)
    run = opened(sql_database)
    shares = drain_in_lanes(sql_database, run, 50)
    assert sum(shares) == 2000
    assert min(shares) > 0
    report = line(run.finish(), DRAFTS)
    assert (report["outcome"], report["did"], report["would"]) == ("completed", 2000, 2000)
    assert report["pacing"]["lanes"] == 2
    assert scalar(run.connection, "select count(distinct key) from lull.archive_keys") == 2000
    assert scalar(run.connection, "select count(*) from lull.session_events where event = 'archived'") == 2000


def test_a_row_that_refuses_is_named_once_and_all_others_go(sql_database: Database) -> None:
    add_drafts(sql_database, 300)
    db = sql_database.connect()
    db.execute(REFUSE_PRECIOUS)
    precious = add_session(db, idle="100 hours", title="precious")
    run = opened(sql_database)
    assert sum(drain_in_lanes(sql_database, run, 40)) == 300
    report = line(run.finish(), DRAFTS)
    assert [row["key"] for row in report["skipped_rows"]] == [precious]
    assert (report["outcome"], report["did"]) == ("failed", 300)
    assert report["error"].startswith("1 row could not be deleted")


def test_both_lanes_together_take_no_more_than_the_breaker_allowed(sql_database: Database) -> None:
    add_drafts(sql_database, 100)
    run = opened(sql_database, p_policies=policies(abandoned_drafts={"max_rows": 100}))
    add_drafts(sql_database, 400)  # a clone of old data arrives after the preview
    assert sum(drain_in_lanes(sql_database, run, 30)) == 100
    assert line(run.finish(), DRAFTS)["outcome"] == "stopped"


def test_a_policy_is_open_until_its_last_lane_has_ended(sql_database: Database) -> None:
    add_drafts(sql_database, 20)
    run = opened(sql_database)
    run.lane(DRAFTS, 2, 5)
    assert run.lane(DRAFTS, 1, 100)["done"]
    assert scalar(run.connection, "select outcome from lull.cleanup_run_policies") == "open"
    assert run.lane(DRAFTS, 2, 0)["done"]
    assert scalar(run.connection, "select outcome from lull.cleanup_run_policies") == "completed"


def test_a_lane_passes_over_what_the_other_holds_and_does_not_wait(sql_database: Database) -> None:
    add_drafts(sql_database, 10)
    run = opened(sql_database)
    holding = sql_database.connect(autocommit=False)
    assert run.lane(DRAFTS, 2, 4, holding)["deleted"] == 4
    with sql_database.connect(autocommit=False) as other:
        assert len(other.execute("select id from lull.sessions for update skip locked").fetchall()) == 6
    holding.rollback()
    assert run.lane(DRAFTS, 1, 100)["deleted"] == 10


def test_slow_rows_keep_batches_short_from_the_second_one_on(sql_database: Database) -> None:
    """At 10 ms a row, no batch takes more than 25 rows: nothing that waits for one of them waits for seconds."""
    db = sql_database.connect()
    db.execute("""
        create function public.slow() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.01); return old; end $$;
        create trigger slow before delete on lull.sessions for each row execute function public.slow();
    """)
    add_drafts(sql_database, 60)
    run = opened(sql_database)
    lease = {"p_run": run.id, "p_token": run.token}
    taken: list[int] = []
    while not taken or taken[-1]:
        taken.append(call(db, "lull_cleanup_lane", **lease, p_policy=DRAFTS, p_size=None, p_lane=1)["locked"])
    assert sum(taken) == 60 and taken[:2] == [1, 2]
    assert max(taken) <= 25


def test_lanes_do_not_take_one_another_for_somebody_else(sql_database: Database) -> None:
    add_drafts(sql_database, 10)
    db, holder, second = (sql_database.connect() for _ in range(3))
    db.execute(DELAY_SLOW)
    for _ in range(2):
        add_session(db, idle="200 days")
    add_session(db, idle="100 days", title="slow")
    run = opened(sql_database)
    for _ in range(2):  # the second looks longer, asleep
        assert run.lane(DRAFTS, 1, 1)["deleted"] == 1
    with beside() as start:
        with holder.transaction():
            holder.execute("select pg_advisory_xact_lock(1)")
            slow = start(run.lane, DRAFTS, 2, 1, second)
            wait_until_at(db, second, "PgSleep")
            first = run.lane(DRAFTS, 1, 5)
        slow.result()  # who let it go on may still be at work when it ends
        assert first["others"] == 0


def test_a_batch_sees_who_came_while_it_was_at_work(sql_database: Database) -> None:
    db, holder, still, batch, other = (sql_database.connect() for _ in range(5))
    db.execute(DELAY_SLOW)
    add_session(db, idle="100 days", title="slow")
    run = opened(sql_database)
    elsewhere = make_conninfo(sql_database.url, dbname="postgres")  # an observer is a client at work, too
    with beside() as start, still.transaction(), psycopg.connect(elsewhere, autocommit=True) as observer:
        still.execute("select pg_advisory_xact_lock(2)")
        with holder.transaction():
            holder.execute("select pg_advisory_xact_lock(1)")
            slow = start(run.lane, DRAFTS, 1, 1, batch)
            wait_until_at(observer, batch, "PgSleep")
            start(other.execute, "select pg_advisory_lock(2)")
            wait_until_at(observer, other, "advisory")
        assert slow.result()["others"] >= 0.5, "nobody at its beginning, at least one at its end"


@pytest.mark.parametrize("row", ["the first", "a later one"])
def test_a_batch_sees_who_came_and_went_while_it_was_at_work(sql_database: Database, row: str) -> None:
    db, holder, batch, other = (sql_database.connect() for _ in range(4))
    db.execute(DELAY_SLOW)
    add_session(db, idle="100 days", title="slow")
    if row == "a later one":
        add_session(db, idle="200 days")
    run = opened(sql_database)
    if row == "a later one":
        assert run.lane(DRAFTS, 1, 1)["deleted"] == 1
    elsewhere = make_conninfo(sql_database.url, dbname="postgres")
    with beside() as start, psycopg.connect(elsewhere, autocommit=True) as observer:
        with holder.transaction():
            holder.execute("select pg_advisory_xact_lock(1)")
            slow = start(run.lane, DRAFTS, 1, 1, batch)
            wait_until_at(observer, batch, "PgSleep")
            other.execute("select 1")
        assert slow.result()["others"] >= 1, "the other one and the holder, both idle by then"


def test_a_draft_activated_beside_two_lanes_is_not_lost(sql_database: Database) -> None:
    add_drafts(sql_database, 1500)
    keys = [
        str(row["id"])
        for row in sql_database.connect().execute("select id from lull.sessions order by random()").fetchall()
    ]
    run = opened(sql_database)
    user = sql_database.connect()

    def activate() -> set[str]:
        done = set()
        for key in keys[:400]:
            answer = user.execute(
                "select public.lull_activate_session(p_session => %s, p_caller => '{\"service\": true}', p_version => null) as a",
                [key],
            ).fetchone()
            assert answer
            done.add(answer["a"]["session"]["id"])
        return done

    with ThreadPoolExecutor(1) as threads:
        activated = threads.submit(activate)
        drain_in_lanes(sql_database, run, 25)
        saved = activated.result()
    run.finish()
    alive = sql_database.connect().execute("select id from lull.sessions where status = 'active'").fetchall()
    assert {str(row["id"]) for row in alive} == saved
    assert len(saved) == 400


def test_a_batch_does_not_wait_for_its_wal_and_nothing_else_does_so(sql_database: Database) -> None:
    add_drafts(sql_database, 5)
    run = opened(sql_database)
    run.connection.execute("set synchronous_commit = on")
    run.connection.execute("set application_name = 'a caller'")
    with run.connection.transaction():
        run.lane(DRAFTS, 1, 2)
        assert scalar(run.connection, "show synchronous_commit") == "on", "the transaction is the caller's"
        assert scalar(run.connection, "show application_name") == "a caller"
    with run.connection.transaction():
        batch = {"p_policy": DRAFTS, "p_size": 2, "p_lane": 1, "p_own_transaction": True}
        call(run.connection, "lull_cleanup_lane", p_run=run.id, p_token=run.token, **batch)
        assert scalar(run.connection, "show synchronous_commit") == "off"
    with run.connection.transaction():
        run.finish()
        assert scalar(run.connection, "show synchronous_commit") == "on"
