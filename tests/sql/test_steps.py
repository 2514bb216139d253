"""A run by steps, as pg_cron works it: what one does, what the next remembers, and what undoes neither."""

from __future__ import annotations

import random
import threading

import psycopg
import pytest

from tests.sql.driver import Connection, Run, add_session, call, line, policies, run_cleanup, scalar
from tests.sql.waiting import beside, never_give_up, wait_until_blocked
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"
CLIENTS = 3


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def step(db: Connection, rows: int = 2000) -> dict[str, object]:
    """One tick."""
    return call(db, "lull_cleanup_step", p_rows=rows)


def ticks(db: Connection, rows: int = 2000, most: int = 60) -> list[str]:
    """Tick until the run is finished, as pg_cron does whatever becomes of a tick; return what each one did."""
    did: list[str] = []
    while "finished" not in did:
        assert len(did) < most, did
        try:
            did.append(str(step(db, rows)["did"]))
        except psycopg.errors.QueryCanceled:
            did.append("undone")
    return did


def report(db: Connection) -> dict[str, object]:
    """What the last run says of itself."""
    found = scalar(db, "select lull.run_report(id) from lull.cleanup_runs order by started_at desc limit 1")
    assert isinstance(found, dict)
    return found


def add_drafts(db: Connection, count: int) -> None:
    db.execute(
        "insert into lull.sessions (kind, last_activity_at) "
        "select 'chat', now() - interval '25 hours' - n * interval '1 second' from generate_series(1, %s) n",
        [count],
    )


def let_time_pass(db: Connection) -> None:
    """Age the runs so far, so that another one is due."""
    db.execute("update lull.cleanup_runs set started_at = started_at - interval '1 hour'")


def test_a_step_does_a_usual_run_from_its_begin_to_its_end_and_the_next_one_nothing(db: Connection) -> None:
    stale = {add_session(db), add_session(db, "game", "active", "31 min")}
    kept = {add_session(db, hold=True), add_session(db, idle="23 hours"), add_session(db, status="active")}
    done = step(db)
    assert (done["did"], done["status"], done["rows"]) == ("finished", "completed", 2)
    assert {row["key"] for row in db.execute("select key from lull.archive_keys")} == stale
    assert {str(row["id"]) for row in db.execute("select id from lull.sessions")} == kept
    assert report(db)["caller"] == "pg_cron"
    again = step(db)
    assert (again["did"], again["run_id"]) == ("nothing", None)
    assert str(again["message"]).startswith("The next run is due in 00:1")


def test_a_long_run_goes_on_from_step_to_step_under_one_lease(sql_database: Database, db: Connection) -> None:
    add_drafts(db, 35)
    first = step(db, 10)
    assert (first["did"], first["rows"]) == ("worked", 10)
    other = Run.begin(db).begun
    assert (other["started"], other["run_id"]) == (False, first["run_id"])
    assert scalar(db, "select lease_until > now() + interval '2 minutes' from lull.cleanup_runs")
    for _ in range(2):
        assert step(sql_database.connect(), 10)["run_id"] == first["run_id"]
    assert ticks(db, 10) == ["finished"]
    assert (report(db)["status"], line(report(db), DRAFTS)["did"]) == ("completed", 35)
    assert scalar(db, "select count(*) from lull.archive_keys") == 35


def test_the_run_of_somebody_else_is_left_alone(db: Connection) -> None:
    add_session(db)
    run = Run.begin(db, p_caller="vercel-cron")
    told = step(db)
    assert (told["did"], told["run_id"]) == ("nothing", run.id)
    assert "of vercel-cron is in progress since" in str(told["message"])
    assert scalar(db, "select count(*) from lull.sessions") == 1


def test_a_run_is_due_an_interval_after_the_last_one_of_any_caller_but_not_after_an_errand(
    db: Connection,
) -> None:
    run_cleanup(db, DRAFTS)
    assert call(db, "lull_cleanup_due", p_interval_minutes=15) == {"due_in_seconds": 0}
    run_cleanup(db)
    assert 890 < call(db, "lull_cleanup_due", p_interval_minutes=15)["due_in_seconds"] <= 900
    assert step(db)["did"] == "nothing"
    db.execute("update lull.cleanup_runs set started_at = now() - interval '14 minutes 40 seconds'")
    assert step(db)["did"] == "finished", "a tick that comes a little early"
    db.execute("update lull.cleanup_runs set status = 'abandoned'")
    assert step(db)["did"] == "finished"


def test_a_pause_is_respected_and_nobody_is_alarmed(db: Connection) -> None:
    add_drafts(db, 30)
    step(db, 10)
    db.execute("insert into lull.switches (name, is_on, reason) values ('cleanup', true, 'moving house')")
    assert ticks(db) == ["finished"]
    assert (report(db)["status"], scalar(db, "select count(*) from lull.sessions")) == ("partial", 20)
    assert call(db, "lull_watch_cleanup") == {"status": "paused"}
    let_time_pass(db)
    assert "paused since" in str(step(db)["message"])


def test_the_breaker_stops_its_policy_alone_and_the_watch_says_so_until_a_run_is_good(db: Connection) -> None:
    add_drafts(db, 11)
    room = add_session(db, "room", "active", "2 hours")
    db.execute("update lull.policies set max_rows = 10 where name = %s", [DRAFTS])
    assert call(db, "lull_watch_cleanup") == {"status": "none"}
    assert step(db)["status"] == "stopped"
    assert scalar(db, "select array_agg(key) from lull.archive_keys") == [room]
    with pytest.raises(psycopg.Error, match="was stopped: abandoned-drafts: 11 rows would go and") as raised:
        call(db, "lull_watch_cleanup")
    assert raised.value.sqlstate == "PT409"
    run_cleanup(db, DRAFTS, p_policies=policies(abandoned_drafts={"max_rows": 10}), p_max_rows=11)
    let_time_pass(db)
    assert step(db)["status"] == "completed"
    assert call(db, "lull_watch_cleanup") == {"status": "completed"}


def test_a_poison_row_is_halved_down_to_across_steps_and_everything_else_goes(db: Connection) -> None:
    add_drafts(db, 60)
    poison = scalar(db, "select id::text from lull.sessions order by last_activity_at offset 33 limit 1")
    db.execute(f"""
        create function public.keep() returns trigger language plpgsql as $$
        begin if old.id = '{poison}' then raise exception 'this one stays'; end if; return old; end $$;
        create trigger keep before delete on lull.sessions for each row execute function public.keep();
    """)
    room = add_session(db, "room", "active", "2 hours")
    ticks(db, 13)
    drafts = line(report(db), DRAFTS)
    assert (drafts["outcome"], drafts["did"]) == ("failed", 59)
    assert [row["key"] for row in drafts["skipped_rows"]] == [poison]
    assert scalar(db, "select count(*) from lull.archive_keys where key = %s", room) == 1
    with pytest.raises(psycopg.Error, match="failed: abandoned-drafts: 1 row could not be deleted") as raised:
        call(db, "lull_watch_cleanup")
    assert raised.value.sqlstate == "PT500"


def test_a_row_that_takes_for_ever_is_closed_in_on_and_stepped_over(db: Connection) -> None:
    add_drafts(db, 60)
    endless = scalar(db, "select id::text from lull.sessions order by last_activity_at offset 40 limit 1")
    db.execute(f"""
        create function public.wait() returns trigger language plpgsql as $$
        begin if old.id = '{endless}' then perform pg_sleep(60); end if; return old; end $$;
        create trigger wait before delete on lull.sessions for each row execute function public.wait();
    """)
    db.execute("set statement_timeout = '600ms'")  # a second would be as good: a busy machine needs some
    did = ticks(db)
    assert did.count("undone") <= 12, did
    drafts = line(report(db), DRAFTS)
    assert (drafts["did"], drafts["outcome"]) == (59, "failed")
    assert drafts["skipped_rows"] == [{"key": endless, "reason": "it took longer than a step may take"}]
    assert scalar(db, "select id::text from lull.sessions") == endless


def test_a_policy_that_cannot_be_counted_in_time_fails_alone(db: Connection) -> None:
    add_session(db)
    room = add_session(db, "room", "active", "2 hours")
    db.execute(
        "update lull.targets set unless = $$t.kind = 'room' and pg_sleep(60)::text is null$$ "
        "where name = 'lull.sessions'"
    )
    db.execute("set statement_timeout = '1200ms'")
    assert ticks(db) == ["undone", "began", "undone", "worked", "undone", "noted", "finished"]
    assert str(line(report(db), "empty-rooms")["error"]).startswith("reading its rows took longer than a step")
    assert line(report(db), DRAFTS)["did"] == 1
    assert scalar(db, "select id::text from lull.sessions") == room


def test_an_error_in_one_policy_does_not_stop_the_others(db: Connection) -> None:
    add_session(db)
    room = add_session(db, "room", "active", "2 hours")
    db.execute(
        "update lull.targets set unless = $$t.kind = 'room' and 1 / (t.version - 1) = 1$$ where name = 'lull.sessions'"
    )
    assert step(db)["status"] == "failed"
    assert line(report(db), "empty-rooms")["error"] == "division by zero"
    assert line(report(db), DRAFTS)["did"] == 1
    assert scalar(db, "select id::text from lull.sessions") == room


def test_bytes_are_left_to_a_run_over_http(db: Connection) -> None:
    session = add_session(db)
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [session])
    step(db)
    db.execute("update lull.archive_pages set purge_after = now() - interval '1 second'")
    let_time_pass(db)
    assert step(db)["status"] == "completed"
    assert scalar(db, "select path from lull.file_removals") == "p"
    assert report(db)["files"] == {"queued": 1, "dead": 0}


@pytest.fixture
def held(sql_database: Database, db: Connection) -> tuple[Connection, str]:
    """A run that steps began, and a stale draft at which its next step is held: no batch can archive."""
    never_give_up(db)
    add_drafts(db, 1)
    session = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id, name, last_seen_at) values (%s, 'Ada', now() - interval '9 days')",
        [session],
    )
    assert step(db, 1)["did"] == "worked"
    holder = sql_database.connect()
    holder.execute("begin")
    holder.execute("lock table lull.archive_pages in share mode")
    return holder, session


def test_a_second_step_at_the_same_time_does_nothing(
    sql_database: Database, db: Connection, held: tuple[Connection, str]
) -> None:
    stepping = sql_database.connect()
    with beside() as start:
        first = start(step, stepping)
        wait_until_blocked(db, stepping, held[0])
        assert step(db)["message"] == "Another step is under way."
        held[0].execute("commit")
        assert first.result()["did"] == "finished"


def test_a_step_whose_run_was_taken_over_meanwhile_changes_nothing(
    sql_database: Database, db: Connection, held: tuple[Connection, str]
) -> None:
    stepping = sql_database.connect()
    with beside() as start:
        late = start(step, stepping)
        wait_until_blocked(db, stepping, held[0])
        db.execute("update lull.cleanup_runs set lease_until = clock_timestamp()")
        other = Run.begin(db, p_caller="admin")
        assert other.begun["started"]
        held[0].execute("commit")
        with pytest.raises(psycopg.Error) as lost:
            late.result()
    assert lost.value.sqlstate == "PT409"
    assert scalar(db, "select count(*) from lull.sessions where id = %s", held[1]) == 1
    assert step(db)["run_id"] == other.id
    other.finish()
    db.execute("update lull.cleanup_runs set started_at = now() - interval '1 hour'")
    assert ticks(db) == ["began", "finished"], "what the undone step was at is not known of this run"
    assert scalar(db, "select count(*) from lull.sessions") == 0


def test_a_draft_activated_while_a_step_holds_it_comes_back_whole(
    sql_database: Database, db: Connection, held: tuple[Connection, str]
) -> None:
    stepping, user = sql_database.connect(), sql_database.connect()
    with beside() as start:
        last = start(step, stepping)
        wait_until_blocked(db, stepping, held[0])
        activation = start(call, user, "lull_activate_session", p_session=held[1], p_caller={"service": True})
        wait_until_blocked(db, user, stepping)
        held[0].execute("commit")
        assert last.result()["did"] == "finished"
        assert activation.result()["session"]["status"] == "active"
    assert scalar(db, "select name from lull.session_participants where session_id = %s", held[1]) == "Ada"


def test_every_activation_that_was_told_success_exists_after_a_run_of_many_steps(
    sql_database: Database, db: Connection
) -> None:
    add_drafts(db, 900)
    drafts = [str(row["id"]) for row in db.execute("select id from lull.sessions order by last_activity_at desc")]
    random.Random(7).shuffle(drafts)
    chosen = [drafts[client:600:CLIENTS] for client in range(CLIENTS)]
    go = threading.Barrier(CLIENTS + 1)

    def activate(connection: Connection, share: list[str]) -> None:
        go.wait()
        for draft in share:
            answer = call(connection, "lull_activate_session", p_session=draft, p_caller={"service": True})
            assert answer["session"]["status"] == "active"

    def work(connection: Connection) -> list[str]:
        go.wait()
        return ticks(connection, 40)

    with beside() as start:
        users = [start(activate, sql_database.connect(), share) for share in chosen]
        steps = start(work, sql_database.connect())
        for user in users:
            user.result()
        assert len(steps.result()) > 7
    active = {str(row["id"]) for row in db.execute("select id from lull.sessions where status = 'active'")}
    assert active == set(drafts[:600])
    restored = scalar(db, "select count(*) from lull.session_events where event = 'restored'")
    assert line(report(db), DRAFTS)["did"] == scalar(db, "select count(*) from lull.archive_keys") + restored


def test_a_run_that_pg_cron_left_behind_holds_nobody_up_when_its_lease_is_over(db: Connection) -> None:
    add_drafts(db, 20)
    left = step(db, 5)["run_id"]
    db.execute("update lull.cleanup_runs set lease_until = now() - interval '1 second'")
    assert line(run_cleanup(db, p_policies=policies()), DRAFTS)["did"] == 15
    assert scalar(db, "select status from lull.cleanup_runs where id = %s", left) == "abandoned"


@pytest.mark.parametrize("rows", [0, 100_001, None])
def test_an_impossible_number_of_rows_is_refused(db: Connection, rows: int | None) -> None:
    with pytest.raises(psycopg.Error) as refused:
        call(db, "lull_cleanup_step", p_rows=rows)
    assert refused.value.sqlstate == "PT422"
