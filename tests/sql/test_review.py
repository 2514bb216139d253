"""What a review found: each of these lost something, or stopped the cleanup, before it was mended."""

from __future__ import annotations

import psycopg
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
    db.execute(
        "update lull.cleanup_runs set lease_until = clock_timestamp() - interval '1 s' where status = 'running'"
    )
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
        "stopped",
        "the cleanup was paused meanwhile",
    )


def test_a_limit_named_by_an_operator_lifts_the_cascade_limit_too(db: Connection) -> None:
    session = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id) select %s from generate_series(1, 6)", [session]
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
    with pytest.raises(psycopg.Error, match="leads back to it"):
        db.execute("select lull.adopt('public.tree', 'used_at')")


def test_a_table_above_adopted_sessions_is_refused(db: Connection) -> None:
    db.execute("""
        create table public.accounts (id int primary key, used_at timestamptz);
        create index on public.accounts (used_at, id);
        create table public.chats (id uuid primary key default gen_random_uuid(),
          account int references public.accounts on delete cascade, used_at timestamptz);
        create index on public.chats (account); create index on public.chats (used_at, id);
    """)
    db.execute("select lull.adopt('public.accounts', 'used_at')")
    db.execute("select lull.adopt_sessions('public.chats', 'chat')")
    error = preview(db, "mine", p_policies=[policy_on("public.accounts")])["error"]
    assert "it would take adopted sessions without their lull.sessions rows" in error
    with pytest.raises(psycopg.Error, match=r"without their lull.sessions rows"):
        db.execute("select lull.adopt('public.chats', 'used_at')")


def test_the_archive_is_not_archived(db: Connection) -> None:
    error = preview(db, "mine", p_policies=[policy_on("lull.archive", "purge_after")])["error"]
    assert "cannot be archived once more" in error


@pytest.mark.parametrize("kind", ["room", "game"])
def test_the_history_of_adopted_rooms_and_games_is_never_stale(db: Connection, kind: str) -> None:
    db.execute(
        "create table public.rooms (id uuid primary key default gen_random_uuid()); insert into public.rooms default values"
    )
    db.execute("select lull.adopt_sessions('public.rooms', %s)", [kind])
    db.execute("update lull.sessions set last_activity_at = now() - interval '400 days'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from public.rooms") == 1
    db.execute("insert into public.rooms default values")
    db.execute("update lull.sessions set last_activity_at = now() - interval '400 days'")
    run_cleanup(db)
    assert scalar(db, "select count(*) from public.rooms") == 1, "a new one is cleaned as usual"


def test_a_row_below_an_adopted_session_counts_as_activity(db: Connection) -> None:
    db.execute("""
        create table public.chats (id uuid primary key default gen_random_uuid(), status text not null default 'draft');
        create table public.messages (id serial primary key, chat uuid references public.chats on delete cascade, body text);
        create index on public.messages (chat);
    """)
    db.execute("select lull.adopt_sessions('public.chats', 'chat')")
    chat = scalar(db, "insert into public.chats default values returning id")
    db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    db.execute("insert into public.messages (chat, body) values (%s, 'hello')", [chat])
    assert line(run_cleanup(db), DRAFTS)["did"] == 0
    db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    db.execute("update public.messages set body = 'edited'")
    assert line(run_cleanup(db), DRAFTS)["did"] == 0


def test_a_row_that_the_app_made_again_gets_its_children_back(db: Connection) -> None:
    db.execute("""
        create table public.chats (id uuid primary key, status text not null default 'draft');
        create table public.messages (id serial primary key, chat uuid references public.chats on delete cascade, body text);
        create index on public.messages (chat);
    """)
    db.execute("select lull.adopt_sessions('public.chats', 'chat')")
    again = "insert into public.chats (id) values ('00000000-0000-4000-8000-000000000001') on conflict (id) do update set status = 'draft' returning id"
    chat = scalar(db, again)
    db.execute("insert into public.messages (chat, body) values (%s, 'unsent')", [chat])
    db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    assert line(run_cleanup(db), DRAFTS)["did"] == 1
    scalar(db, again)
    call(db, "lull_activate_session", p_session=str(chat), p_caller={"service": True})
    assert scalar(db, "select body from public.messages") == "unsent"
    assert scalar(db, "select count(*) from lull.archive") == 0


def test_a_child_that_a_trigger_keeps_isolates_its_parent(db: Connection) -> None:
    soft, plain = add_session(db), add_session(db)
    for session in (soft, plain):
        db.execute(
            "insert into lull.session_participants (session_id, name) values (%s, %s)", [session, session]
        )
    db.execute(f"""
        create function public.keep() returns trigger language plpgsql as $$
        begin if old.name = '{soft}' then return null; end if; return old; end $$;
        create trigger keep before delete on lull.session_participants for each row execute function public.keep();
    """)
    report = line(run_cleanup(db, DRAFTS), DRAFTS)
    assert (report["did"], [row["key"] for row in report["skipped_rows"]]) == (1, [soft])
    assert (
        scalar(
            db, "select count(*) from lull.sessions s join lull.session_participants p on p.session_id = s.id"
        )
        == 1
    )


def test_bytes_are_queued_when_somebody_deletes_a_session_by_hand(db: Connection) -> None:
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
