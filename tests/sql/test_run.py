"""The run in SQL: lease, breaker, poison rows, files, pause, order of policies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json

from tests.sql.driver import Connection, Policy, Run, add_session, call, line, policies, preview, run_cleanup, scalar
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def add_drafts(db: Connection, count: int, idle: str = "25 hours") -> None:
    db.execute(
        "insert into lull.sessions (kind, status, last_activity_at) "
        "select 'chat', 'draft', now() - %s::interval - n * interval '1 second' from generate_series(1, %s) n",
        [idle, count],
    )


def test_only_stale_rows_of_the_policies_go(db: Connection) -> None:
    stale = [
        add_session(db),
        add_session(db, "game", "active", "31 min"),
        add_session(db, "room", "active", "61 min"),
        add_session(db, "room", "draft", "25 hours"),
        add_session(db, "game", "draft", "25 hours"),
    ]
    kept = [
        add_session(db, idle="23 hours"), add_session(db, hold=True), add_session(db, status="active", idle="900 days"),
        add_session(db, "game", "active", "29 min"), add_session(db, "game", "paused", "9 days"),
        add_session(db, "room", "ended", "9 days"), add_session(db, "room", "active", "59 min"),
        add_session(db, "game", "draft", "23 hours"), add_session(db, "room", "active", "9 days", hold=True),
    ]  # fmt: skip
    report = run_cleanup(db)
    assert report["status"] == "completed"
    assert {str(row["id"]) for row in db.execute("select id from lull.sessions").fetchall()} == set(kept)
    assert {row["key"] for row in db.execute("select key from lull.archive_keys").fetchall()} == set(stale)


def test_a_second_run_deletes_nothing(db: Connection) -> None:
    add_drafts(db, 30)
    assert line(run_cleanup(db, size=7), DRAFTS)["did"] == 30
    assert line(run_cleanup(db), DRAFTS)["did"] == 0


def test_the_breaker_stops_a_policy_before_it_touches_anything_and_the_others_run(db: Connection) -> None:
    add_drafts(db, 11)
    add_session(db, "room", "active", "2 hours")
    report = run_cleanup(db, p_policies=policies(abandoned_drafts={"max_rows": 10}))
    assert report["status"] == "stopped"
    stopped = line(report, DRAFTS)
    assert (stopped["outcome"], stopped["would"], stopped["did"]) == ("stopped", 11, 0)
    assert stopped["stop_reason"] == "11 rows would go and the limit is 10"
    assert line(report, "empty-rooms")["did"] == 1
    assert scalar(db, "select count(*) from lull.sessions") == 11


def test_an_operator_lets_a_backlog_through_with_policy_and_limit(db: Connection) -> None:
    add_drafts(db, 11)
    small = policies(abandoned_drafts={"max_rows": 10})
    assert line(run_cleanup(db, DRAFTS, p_policies=small, p_max_rows=11), DRAFTS)["did"] == 11


def let_days_pass(db: Connection, days: int) -> None:
    """Age what the runs of before left."""
    db.execute("update lull.cleanup_run_policies set completed_at = completed_at - make_interval(days => %s)", [days])


@pytest.fixture
def careful(db: Connection) -> list[Policy]:
    """Policies with a low floor, after three days with two runs of five drafts each."""
    given = policies(abandoned_drafts={"growth_floor": 20})
    for run in range(6):
        add_drafts(db, 5)
        assert run_cleanup(db, DRAFTS, p_policies=given)["status"] == "completed"
        let_days_pass(db, run % 2)
    return given


def test_growth_beyond_five_times_the_median_of_a_day_is_stopped(db: Connection, careful: list[Policy]) -> None:
    add_drafts(db, 60)
    stopped = line(run_cleanup(db, DRAFTS, p_policies=careful), DRAFTS)
    assert stopped["outcome"] == "stopped"
    assert "its runs took 10 a day (median); the limit is now 5" in stopped["stop_reason"]
    assert line(run_cleanup(db, DRAFTS, p_policies=careful, p_max_rows=60), DRAFTS)["did"] == 60


def test_a_week_without_a_run_is_allowed_a_week_s_rows(db: Connection, careful: list[Policy]) -> None:
    let_days_pass(db, 6)
    add_drafts(db, 340)
    assert preview(db, DRAFTS, p_policies=careful)["stop"] is None
    add_drafts(db, 20)
    stopped = line(run_cleanup(db, DRAFTS, p_policies=careful), DRAFTS)
    assert (stopped["outcome"], stopped["did"]) == ("stopped", 0)
    assert "(median), the last one 7.0 days ago; the limit is now 35" in stopped["stop_reason"]


def test_what_is_left_of_an_allowed_backlog_says_what_the_next_run_will_do(db: Connection) -> None:
    def a_batch(p_policies: list[Policy], **arguments: Any) -> dict[str, Any]:
        run = Run.begin(db, DRAFTS, p_policies=p_policies, **arguments)
        run.open(DRAFTS)
        run.batch(DRAFTS, 20)
        return line(run.finish(), DRAFTS)

    add_drafts(db, 60)
    tight = policies(abandoned_drafts={"max_rows": 30})
    left = a_batch(tight, p_max_rows=60)
    assert (left["outcome"], left["has_more"]) == ("partial", True)
    said = "the next run will stop: 40 rows would go and the limit is 30; give policy and maxRows again"
    assert left["next_run"] == said
    assert line(run_cleanup(db, DRAFTS, p_policies=tight), DRAFTS)["outcome"] == "stopped"
    left = a_batch(policies())
    assert (left["did"], left["next_run"]) == (20, "the next run goes on")
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["did"] == 20


def test_too_many_rows_below_stop_a_policy(db: Connection) -> None:
    session = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) "
        "select %s, now() - interval '9 days' from generate_series(1, 6)",
        [session],
    )
    stopped = line(run_cleanup(db, DRAFTS, p_policies=policies(abandoned_drafts={"max_cascaded": 5})), DRAFTS)
    assert stopped["stop_reason"] == "6 rows below them would go along and the limit is 5"
    assert scalar(db, "select count(*) from lull.session_participants") == 6


def test_too_large_a_share_stops_a_policy(db: Connection) -> None:
    add_drafts(db, 6)
    add_drafts(db, 4, idle="1 hour")
    half = policies(abandoned_drafts={"max_percent": 50})
    assert (
        line(run_cleanup(db, DRAFTS, p_policies=half), DRAFTS)["stop_reason"]
        == "6 of 10 rows would go and the limit is 50 %"
    )
    share = policies(abandoned_drafts={"max_percent": 60})
    assert line(run_cleanup(db, DRAFTS, p_policies=share), DRAFTS)["did"] == 6


def test_a_run_takes_no_more_than_the_breaker_allowed_even_when_rows_arrive(db: Connection) -> None:
    add_drafts(db, 10)
    report = run_cleanup(
        db,
        DRAFTS,
        size=4,
        each=lambda _: add_drafts(db, 5),
        p_policies=policies(abandoned_drafts={"max_rows": 12}),
    )
    assert (line(report, DRAFTS)["did"], line(report, DRAFTS)["outcome"]) == (12, "stopped")
    assert scalar(db, "select count(*) from lull.sessions") == 3


def refuse_one(db: Connection, how: str) -> str:
    """Add a draft that the database will not let go, and return its id."""
    poison = add_session(db, idle="30 hours")
    if how == "restrict":
        db.execute("create table public.audit (session_id uuid references lull.sessions on delete restrict)")
        db.execute("insert into public.audit values (%s)", [poison])
        return poison
    body = "raise exception 'this one stays'" if how == "raise" else "return null"
    db.execute(f"""
        create function public.keep() returns trigger language plpgsql as $$
        begin if old.id = '{poison}' then {body}; end if; return old; end $$;
        create trigger keep before delete on lull.sessions for each row execute function public.keep();
    """)
    return poison


@pytest.mark.parametrize("how", ["raise", "silent"])
def test_a_poison_row_is_isolated_and_reported_and_the_rest_goes(db: Connection, how: str) -> None:
    add_drafts(db, 100)
    poison = refuse_one(db, how)
    report = line(run_cleanup(db, DRAFTS, size=64), DRAFTS)
    assert (report["did"], report["outcome"]) == (100, "failed")
    assert [row["key"] for row in report["skipped_rows"]] == [poison]
    assert report["error"] == "1 row could not be deleted and left as before; everything else was done"
    assert scalar(db, "select count(*) from lull.archive_keys where key = %s", poison) == 0
    assert scalar(db, "select id::text from lull.sessions") == poison


@pytest.mark.parametrize("action", ["restrict", "no action", "set null"])
def test_a_row_that_another_table_refers_to_is_kept_and_named_and_the_run_is_green(db: Connection, action: str) -> None:
    add_drafts(db, 10)
    kept = add_session(db)
    db.execute(f"create table public.audit (session_id uuid references lull.sessions on delete {action})")
    db.execute("insert into public.audit values (%s)", [kept])
    report = line(run_cleanup(db, DRAFTS, size=4), DRAFTS)
    assert (report["did"], report["outcome"], report["kept"]) == (10, "completed", 1)
    [named] = report["kept_rows"]
    assert named["key"] == kept
    assert named["reason"].startswith("a row of public.audit from outside refers to it")
    assert scalar(db, "select session_id::text from public.audit") == kept


@pytest.mark.parametrize("limit", [{"max_below_root": 5}, {"max_below_bytes": 100_000}], ids=["rows", "bytes"])
def test_a_root_with_too_much_below_it_is_kept_and_named_and_let_through_by_its_key(
    db: Connection, limit: dict[str, int]
) -> None:
    add_drafts(db, 10)
    large = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id, anonymous_id, is_active, last_seen_at) "
        "select %s, repeat('x', 100000), false, '2020-01-01' from generate_series(1, 6)",
        [large],
    )
    ours = policies(abandoned_drafts=limit)
    report = line(run_cleanup(db, DRAFTS, p_policies=ours), DRAFTS)
    assert (report["did"], report["outcome"], [row["key"] for row in report["kept_rows"]]) == (10, "completed", [large])
    assert "max_below" in report["kept_rows"][0]["reason"]
    through = line(run_cleanup(db, DRAFTS, p_policies=ours, p_max_rows=10, p_key=large), DRAFTS)
    assert (through["did"], through["cascaded"]) == (1, 6)
    assert scalar(db, "select lull.restore_key('lull.sessions', %s, '{\"service\": true}')", large)["restored"] == 7


def test_a_row_that_times_out_alone_can_be_stepped_over(db: Connection) -> None:
    oldest = add_session(db, idle="40 hours")
    add_session(db)
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    assert run.skip(DRAFTS, "it took too long")["skipped"] == {"key": oldest, "reason": "it took too long"}
    run.drain(DRAFTS)
    assert line(run.finish(), DRAFTS)["did"] == 1
    assert scalar(db, "select id::text from lull.sessions") == oldest


def test_a_busy_child_is_left_for_the_next_run_without_a_failure(sql_database: Database, db: Connection) -> None:
    session = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) values (%s, now() - interval '9 days')",
        [session],
    )
    other = sql_database.connect()
    other.execute("begin")
    other.execute("select 1 from lull.session_participants for update")
    report = line(run_cleanup(db, DRAFTS), DRAFTS)
    assert (report["did"], report["busy"], report["outcome"]) == (0, 1, "completed")
    other.execute("rollback")
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["did"] == 1


def test_rows_that_others_hold_are_counted_once_as_busy(sql_database: Database, db: Connection) -> None:
    add_drafts(db, 30)
    other = sql_database.connect()
    other.execute("begin")
    other.execute("select 1 from lull.sessions order by last_activity_at limit 3 for update")
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    for lane in (1, 2, 1, 2):
        run.lane(DRAFTS, lane, 15)
    report = line(run.finish(), DRAFTS)
    assert (report["did"], report["busy"], report["outcome"]) == (27, 3, "completed")
    other.execute("rollback")
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["busy"] == 0


def test_more_rows_with_one_clock_than_a_batch_holds_end_well(db: Connection) -> None:
    db.execute(
        "insert into lull.sessions (kind, last_activity_at) select 'chat', now() - interval '30 h' from generate_series(1, 57)"
    )
    poison = refuse_one(db, "raise")
    db.execute("update lull.sessions set last_activity_at = (select max(last_activity_at) from lull.sessions)")
    report = line(run_cleanup(db, DRAFTS, size=10), DRAFTS)
    assert report["did"] == 57
    assert [row["key"] for row in report["skipped_rows"]] == [poison]


def test_nothing_happens_without_the_lease(db: Connection) -> None:
    add_session(db)
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    db.execute("update lull.cleanup_runs set lease_until = now() - interval '1 second'")
    acts: list[Callable[[], object]] = [
        partial(run.batch, DRAFTS),
        partial(run.open, DRAFTS),
        partial(run.skip, DRAFTS, "x"),
        run.finish,
    ]
    for act in acts:
        with pytest.raises(psycopg.Error) as refused:
            act()
        assert (refused.value.sqlstate, refused.value.diag.message_detail) == ("PT409", "lease-lost")
    assert scalar(db, "select count(*) from lull.sessions") == 1
    assert Run.begin(db, DRAFTS).begun["started"]
    assert scalar(db, "select status from lull.cleanup_runs where id = %s", run.id) == "abandoned"


def test_a_killed_run_is_completed_by_the_next_one(sql_database: Database, db: Connection) -> None:
    add_drafts(db, 40)
    killed = sql_database.connect()
    run = Run.begin(killed, DRAFTS)
    run.open(DRAFTS)
    run.batch(DRAFTS, 15)
    killed.close()
    db.execute("update lull.cleanup_runs set lease_until = now() - interval '1 second'")
    assert line(run_cleanup(db, DRAFTS), DRAFTS)["did"] == 25
    assert scalar(db, "select count(*) from lull.archive_keys") == 40


def test_a_paused_cleanup_changes_nothing_and_says_since_when(db: Connection) -> None:
    db.execute("insert into lull.switches values ('cleanup', true, 'moving house', '2026-01-02T03:04:05Z')")
    answer = Run.begin(db).begun
    assert (answer["started"], answer["reason"]) == (False, "paused")
    assert answer["message"] == "Cleanup is paused since 2026-01-02T03:04:05Z: moving house. Nothing was changed."
    assert scalar(db, "select count(*) from lull.cleanup_runs") == 0


def test_the_policy_that_was_completed_longest_ago_comes_first(db: Connection) -> None:
    run_cleanup(db, "empty-rooms")
    run_cleanup(db, DRAFTS)
    order = Run.begin(db).begun["policies"]
    assert order[-2:] == ["empty-rooms", DRAFTS]
    assert order[0] == "orphaned-games"


def test_an_invalid_policy_fails_alone(db: Connection) -> None:
    add_session(db)
    broken = policies(empty_rooms={"nulls": ["no_such_column"]})
    report = run_cleanup(db, p_policies=broken)
    assert line(report, "empty-rooms")["error"] == "unknown column no_such_column in lull.sessions"
    assert (report["status"], line(report, DRAFTS)["did"]) == ("failed", 1)
    assert preview(db, "empty-rooms", p_policies=broken)["error"] == line(report, "empty-rooms")["error"]


def test_an_unknown_policy_or_a_limit_without_one_is_refused(db: Connection) -> None:
    for arguments in ({"only": "no-such"}, {"p_max_rows": 5}):
        with pytest.raises(psycopg.Error) as refused:
            Run.begin(db, **arguments)
        assert refused.value.sqlstate == "PT422"
    assert scalar(db, "select count(*) from lull.cleanup_runs") == 0


def add_file(db: Connection, session: str, path: str, expires: str = "-1 hour") -> None:
    db.execute(
        "insert into lull.session_files (session_id, bucket, path, upload_expires_at) values (%s, 'b', %s, now() + %s::interval)",
        [session, path, expires],
    )


def test_bytes_become_due_only_when_the_archive_row_is_purged(db: Connection) -> None:
    add_file(db, add_session(db, idle="30 hours"), "old")
    add_file(db, add_session(db), "still uploading", expires="1 hour")
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.file_removals") == 0
    db.execute("update lull.archive_pages set purge_after = now() - interval '1 second'")
    run = Run.begin(db, "purge")
    run.open("purge")
    run.drain("purge")
    claim = call(db, "lull_claim_file_removals", p_run=run.id, p_token=run.token, p_limit=10)
    assert [removal["path"] for removal in claim["removals"]] == ["old"]
    again = call(db, "lull_claim_file_removals", p_run=run.id, p_token=run.token, p_limit=10)
    assert again["removals"] == [], "once a run"
    assert scalar(db, "select count(*) from lull.tombstones") == 2


def test_a_removal_whose_path_is_live_again_is_dropped(db: Connection) -> None:
    db.execute("insert into lull.file_removals (bucket, path) values ('b', 'p')")
    add_file(db, add_session(db, idle="1 hour"), "p")
    run = Run.begin(db, "purge")
    claim = call(db, "lull_claim_file_removals", p_run=run.id, p_token=run.token, p_limit=10)
    assert claim == {"removals": [], "cancelled": 1}


def test_a_removal_is_a_dead_letter_after_ten_attempts(db: Connection) -> None:
    db.execute("insert into lull.file_removals (bucket, path) values ('b', 'p')")
    for attempt in range(1, 11):
        run = Run.begin(db, "purge")
        removals = call(db, "lull_claim_file_removals", p_run=run.id, p_token=run.token, p_limit=1000)["removals"]
        failed = [{"id": removal["id"], "error": "Storage said no"} for removal in removals]
        settled = db.execute(
            "select public.lull_settle_file_removals(%s, %s, '{}', %s::jsonb) as answer",
            [run.id, run.token, Json(failed)],
        ).fetchone()
        assert settled and settled["answer"] == {"removed": 0, "failed": 1, "dead": int(attempt == 10)}
        report = run.finish()
    assert (report["files"]["queued"], report["files"]["dead"]) == (0, 1)


def test_history_is_pruned_and_what_is_younger_stays(db: Connection) -> None:
    run_cleanup(db)
    db.execute("update lull.cleanup_runs set started_at = now() - interval '91 days'")
    db.execute(
        "insert into lull.session_events (session_id, kind, event, at) "
        "select gen_random_uuid(), 'chat', 'created', now() - n * interval '1 day' from unnest('{399,401}'::int[]) n"
    )
    report = run_cleanup(db)
    assert (line(report, "old-runs")["did"], line(report, "old-events")["did"]) == (1, 1)
    assert scalar(db, "select count(*) from lull.cleanup_runs") == 1


def test_an_archive_of_nothing_is_a_policy_too(db: Connection) -> None:
    session = add_session(db)
    add_file(db, session, "p")
    run_cleanup(db, DRAFTS, p_policies=policies(abandoned_drafts={"archive": False, "restore_days": 0}))
    assert scalar(db, "select count(*) from lull.archive_keys") == 0
    assert scalar(db, "select path from lull.file_removals") == "p"
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select lull_activate_session(%s, '{\"service\": true}')", [session])
    assert refused.value.sqlstate == "PT410"


def test_a_dry_run_writes_nothing_and_simulates_any_time(db: Connection) -> None:
    session = add_session(db, idle="1 hour")
    with db.transaction():
        db.execute("set transaction read only")
        assert preview(db, DRAFTS)["would"] == 0
        later = preview(db, DRAFTS, p_at="2999-01-01T00:00:00Z", p_sample=DRAFTS)
        assert preview(db, DRAFTS, p_at="0001-01-01T00:00:00Z")["would"] == 0
    assert (later["would"], later["sample"][0]["key"]) == (1, session)
