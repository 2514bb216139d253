"""What a review found: each of these lost something, or stopped the cleanup, before it was fixed."""

from __future__ import annotations

import pytest

from tests.sql.driver import Connection, Run, add_session, call, line, policies, preview, run_cleanup, scalar
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def policy_on(table: str, clock: str = "used_at", **changes: object) -> dict[str, object]:
    plain = {"name": "mine", "target": table, "clock": clock, "equals": {}, "nulls": []}
    return policies()[0] | plain | changes


def test_a_policy_that_never_gets_to_its_end_does_not_stay_first(db: Connection) -> None:
    run_cleanup(db)
    run = Run.begin(db)
    run.open(DRAFTS)
    db.execute("update lull.cleanup_runs set lease_until = clock_timestamp() - interval '1 s' where status = 'running'")
    assert Run.begin(db).begun["policies"][-1] == DRAFTS


def test_the_lease_can_be_renewed_by_itself_and_by_settling(db: Connection) -> None:
    run = Run.begin(db, DRAFTS)
    for renew in (
        lambda: call(db, "lull_renew_lease", p_run=run.id, p_token=run.token),
        lambda: db.execute("select lull_settle_file_removals(%s, %s, '{}', '[]')", [run.id, run.token]),
    ):
        db.execute("update lull.cleanup_runs set lease_until = clock_timestamp() + interval '5 s'")
        renew()
        assert scalar(db, "select lease_until > clock_timestamp() + interval '50 s' from lull.cleanup_runs")


def test_pausing_stops_a_run_in_progress(db: Connection) -> None:
    for _ in range(6):
        add_session(db)
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    run.batch(DRAFTS, 2)
    db.execute("insert into lull.switches values ('cleanup', true)")
    assert run.batch(DRAFTS, 2)["done"]
    report = line(run.finish(), DRAFTS)
    assert (report["did"], report["outcome"], report["stop_reason"]) == (
        2,
        "paused",
        "it was paused meanwhile; what was deleted before stays deleted",
    )


def test_a_limit_named_by_an_operator_lifts_the_cascade_limit_too(db: Connection) -> None:
    session = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) "
        "select %s, now() - interval '9 days' from generate_series(1, 6)",
        [session],
    )
    strict = policies(abandoned_drafts={"max_cascaded": 5})
    assert preview(db, DRAFTS, p_policies=strict)["stop"] == "max_cascaded"
    assert line(run_cleanup(db, DRAFTS, p_policies=strict, p_max_rows=1), DRAFTS)["did"] == 1


def test_a_begin_beside_a_run_in_one_transaction_is_told_so(sql_database: Database, db: Connection) -> None:
    other = sql_database.connect()
    other.execute("begin")
    other.execute("select cleanup_inactive_sessions()")
    answer = Run.begin(db).begun
    assert (answer["started"], answer["reason"]) == (False, "running")
    other.execute("rollback")
    assert Run.begin(db).begun["started"]


def test_a_locked_table_fails_its_policy_alone(sql_database: Database, db: Connection) -> None:
    db.execute(
        "create table public.things (id int primary key, used_at timestamptz); create index on public.things (used_at, id)"
    )
    db.execute("select lull.adopt('public.things', 'used_at')")
    add_session(db)
    other = sql_database.connect()
    other.execute("begin")
    other.execute("lock table public.things")
    report = run_cleanup(db, p_policies=[policy_on("public.things"), policies()[0]])
    assert (line(report, "mine")["outcome"], line(report, DRAFTS)["did"]) == ("failed", 1)


def test_a_table_whose_rows_go_along_with_one_another_is_refused(db: Connection) -> None:
    db.execute("""
        create table public.tree (id int primary key, parent int references public.tree on delete cascade, used_at timestamptz);
        create index on public.tree (used_at, id); create index on public.tree (parent);
    """)
    db.execute("select lull.adopt('public.tree', 'used_at')")
    error = preview(db, "mine", p_policies=[policy_on("public.tree", "used_at")])["error"]
    assert "leads back to it" in error


def test_the_archive_is_not_archived(db: Connection) -> None:
    error = preview(db, "mine", p_policies=[policy_on("lull.archive_pages", "purge_after")])["error"]
    assert "cannot be archived once more" in error


def test_a_child_that_a_trigger_keeps_isolates_its_parent(db: Connection) -> None:
    soft, plain = add_session(db), add_session(db)
    for session in (soft, plain):
        db.execute(
            "insert into lull.session_participants (session_id, name, last_seen_at) values (%s, %s, '2020-01-01')",
            [session, session],
        )
    db.execute(f"""
        create function public.keep() returns trigger language plpgsql as $$
        begin if old.name = '{soft}' then return null; end if; return old; end $$;
        create trigger keep before delete on lull.session_participants for each row execute function public.keep();
    """)
    report = line(run_cleanup(db, DRAFTS), DRAFTS)
    assert (report["did"], [row["key"] for row in report["skipped_rows"]]) == (1, [soft])
    assert (
        scalar(db, "select count(*) from lull.sessions s join lull.session_participants p on p.session_id = s.id") == 1
    )


def test_bytes_are_queued_when_a_session_is_deleted_by_hand(db: Connection) -> None:
    by_hand, by_cleanup = add_session(db, idle="1 hour"), add_session(db)
    for session in (by_hand, by_cleanup):
        db.execute(
            "insert into lull.session_files (session_id, bucket, path) values (%s, 'b', %s)",
            [session, session],
        )
    run_cleanup(db)
    assert scalar(db, "select count(*) from lull.file_removals") == 0, "archived: the bytes wait"
    db.execute("delete from lull.sessions where id = %s", [by_hand])
    assert scalar(db, "select path from lull.file_removals") == by_hand
