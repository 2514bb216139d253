"""The SQL that operators know from the seeds, in its own words, runs and answers right."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from infra.local.environment import ROOT
from tests.docs.blocks import blocks_of
from tests.sql.driver import Run, add_session, call, line, policies, run_cleanup, scalar
from tests.sql.team_tables import snapshot
from tests.sql_servers import Connection, Database

# Seed 003, step 1: verify the migration.
VERIFY = """
SELECT column_name, data_type
FROM information_schema.columns
WHERE table_name = 'fe_chat_sessions'
  AND column_name IN ('first_message_at', 'status');
"""

# Seed 003, monitoring checklist.
DRAFTS_TODAY = """
SELECT COUNT(*) as draft_sessions_today
FROM fe_chat_sessions
WHERE status = 'draft'
  AND DATE(created_at) = CURRENT_DATE;
"""
CONVERSION = """
SELECT
  COUNT(*) as total_drafts,
  COUNT(CASE WHEN first_message_at IS NOT NULL THEN 1 END) as activated,
  ROUND(100.0 * COUNT(CASE WHEN first_message_at IS NOT NULL THEN 1 END) / COUNT(*), 2) as conversion_rate_percent
FROM fe_chat_sessions
WHERE created_at > NOW() - INTERVAL '7 days'
  AND (status = 'draft' OR status = 'active');
"""

# Seed 002, database queries for monitoring.
ACTIVE = """
-- Active sessions count
SELECT COUNT(*) FROM reading_sessions WHERE is_active = true;
"""
BY_ACTIVITY = """
-- Sessions by activity
SELECT 
  COUNT(*) as total_sessions,
  COUNT(CASE WHEN updated_at > NOW() - INTERVAL '1 hour' THEN 1 END) as recent_activity,
  COUNT(CASE WHEN updated_at <= NOW() - INTERVAL '1 hour' THEN 1 END) as old_sessions
FROM reading_sessions WHERE is_active = true;
"""  # noqa: W291
PARTICIPANTS = """
-- Participant activity
SELECT 
  session_id,
  COUNT(*) as participant_count,
  MAX(last_seen_at) as last_activity
FROM session_participants 
WHERE is_active = true 
GROUP BY session_id;
"""  # noqa: W291

# Seed 002, automated testing.
CLEANUP = """
-- Test cleanup function
SELECT cleanup_inactive_sessions();
"""
EXPIRY = """
-- Check session expiry
SELECT check_session_expiry('session-id-here');
"""
INDEXES = """
-- Verify indexes
EXPLAIN ANALYZE SELECT * FROM session_participants 
WHERE last_seen_at < NOW() - INTERVAL '1 hour';
"""  # noqa: W291


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def expired(db: Connection, session: str) -> Any:
    """Ask with the seed's own words about a real id."""
    return scalar(db, EXPIRY.replace("session-id-here", session))


def test_the_migration_is_verified(db: Connection) -> None:
    assert sorted((row["column_name"], row["data_type"]) for row in db.execute(VERIFY)) == [
        ("first_message_at", "timestamp with time zone"),
        ("status", "text"),
    ]


def test_draft_sessions_created_today(db: Connection) -> None:
    add_session(db, idle="0")
    add_session(db, idle="25 hours")  # created today, too: it was only used long ago
    add_session(db, idle="0", status="active")
    add_session(db, idle="0", kind="room", status="active")
    db.execute(
        "update lull.sessions set created_at = now() - interval '2 days' where last_activity_at < now() - interval '1 day'"
    )
    assert db.execute(DRAFTS_TODAY).fetchall() == [{"draft_sessions_today": 1}]


def test_the_conversion_rate_of_the_last_seven_days(db: Connection) -> None:
    for status in ("draft", "active", "active", "paused"):
        add_session(db, status=status, idle="0")
    old = add_session(db, idle="0")
    db.execute("update lull.sessions set created_at = now() - interval '8 days' where id = %s", (old,))
    row = db.execute(CONVERSION).fetchone()
    assert row is not None
    assert (row["total_drafts"], row["activated"], str(row["conversion_rate_percent"])) == (3, 2, "66.67")


def test_the_conversion_rate_in_our_pages_is_the_seed_s_and_survives_an_empty_table(db: Connection) -> None:
    [ours] = [b.text for b in blocks_of(ROOT / "docs" / "deploy.md") if "conversion_rate_percent" in b.text and b.kind == "sql"]
    assert " ".join(ours.replace("NULLIF(COUNT(*), 0)", "COUNT(*)").split()) == " ".join(CONVERSION.split())
    row = db.execute(ours.encode()).fetchone()
    assert row == {"total_drafts": 0, "activated": 0, "conversion_rate_percent": None}


def test_active_sessions_count_and_sessions_by_activity(db: Connection) -> None:
    for status, idle in [
        ("active", "2 hours"),
        ("active", "59 minutes"),
        ("paused", "0"),
        ("ended", "0"),
        ("draft", "0"),
    ]:
        add_session(db, kind="room", status=status, idle=idle)
    add_session(db, kind="chat", status="active")
    assert scalar(db, ACTIVE) == 2
    row = {"total_sessions": 2, "recent_activity": 1, "old_sessions": 1}
    assert db.execute(BY_ACTIVITY).fetchall() == [row]


def test_participant_activity(db: Connection) -> None:
    room = add_session(db, kind="room", status="active")
    for minutes, active in [(10, True), (5, True), (1, False)]:
        db.execute(
            "insert into lull.session_participants (session_id, is_active, last_seen_at) "
            "values (%s, %s, timestamptz '2026-01-01' - make_interval(mins => %s))",
            (room, active, minutes),
        )
    (row,) = db.execute(PARTICIPANTS).fetchall()
    assert (str(row["session_id"]), row["participant_count"]) == (room, 2)
    assert row["last_activity"].isoformat().startswith("2025-12-31T23:55:00")


def test_the_indexes_exist_by_their_names_and_the_query_runs(db: Connection) -> None:
    """No index has last_seen_at, so that a heartbeat writes none; the first serves a session's participants."""
    indexes = (
        "select indexname, tablename from pg_indexes where schemaname = 'lull' and indexname like 'idx%%' order by 1"
    )
    assert [tuple(row.values()) for row in db.execute(indexes.replace("%%", "%"))] == [
        ("idx_reading_sessions_updated_at", "sessions"),
        ("idx_session_participants_last_seen", "session_participants"),
    ]
    rooms = [add_session(db, kind="room", status="active") for _ in range(40)]
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) "
        "select room::uuid, now() - n * interval '10 minutes' from unnest(%s::text[]) room, generate_series(1, 100) n",
        (rooms,),
    )
    db.execute("analyze lull.session_participants")
    assert "Rows Removed by Filter: 200" in "\n".join(row["QUERY PLAN"] for row in db.execute(INDEXES))
    of_one = "explain select max(last_seen_at) from lull.session_participants where session_id = %s"
    plan = "\n".join(row["QUERY PLAN"] for row in db.execute(of_one, (rooms[0],)))
    assert "idx_session_participants_last_seen" in plan


def test_cleanup_inactive_sessions_removes_idle_rooms_and_no_other_session(db: Connection) -> None:
    stale = [add_session(db, kind="room", status="active", idle=idle) for idle in ("61 minutes", "9 days")]
    kept = [
        add_session(db, kind="room", status="active", idle="59 minutes"),
        add_session(db, kind="room", status="active", hold=True),
        *(add_session(db, kind="room", status=status) for status in ("draft", "paused", "ended")),
        *(add_session(db, kind=kind, status="active") for kind in ("chat", "game")),
        add_session(db),
    ]
    assert scalar(db, CLEANUP) == 2
    assert {str(row["id"]) for row in db.execute("select id from lull.sessions")} == set(kept)
    assert {row["key"] for row in db.execute("select key from lull.archive_keys")} == set(stale)
    assert scalar(db, CLEANUP) == 0


def test_cleanup_inactive_sessions_keeps_a_room_whose_participant_was_seen_a_minute_ago(db: Connection) -> None:
    rooms = [add_session(db, kind="room", status="active", idle="9 days") for _ in range(2)]
    for room, seen in zip(rooms, ("1 minute", "61 minutes"), strict=True):
        db.execute(
            "insert into lull.session_participants (session_id, name, last_seen_at) values "
            "(%(room)s, 'one', now() - interval '2 hours'), (%(room)s, 'two', now() - %(seen)s::interval)",
            {"room": room, "seen": seen},
        )
    assert scalar(db, CLEANUP) == 1
    assert [str(row["id"]) for row in db.execute("select id from lull.sessions")] == rooms[:1]


def test_cleanup_inactive_sessions_is_a_run_like_any_other(db: Connection) -> None:
    add_session(db, kind="room", status="active")
    scalar(db, CLEANUP)
    run = db.execute("select id, caller, status from lull.cleanup_runs").fetchone()
    assert run is not None
    assert (run["caller"], run["status"]) == ("cleanup_inactive_sessions", "completed")
    assert call(db, "lull_restore_run", p_run=run["id"])["restored"] == 1


def test_cleanup_inactive_sessions_takes_its_age_from_the_policies(db: Connection) -> None:
    add_session(db, kind="room", status="active", idle="90 minutes")
    run_cleanup(db, "stale-user-sessions", p_policies=policies(empty_rooms={"age_seconds": 7200}))
    assert scalar(db, CLEANUP) == 0
    run_cleanup(db, "stale-user-sessions", p_policies=policies(empty_rooms={"age_seconds": 3600}))
    assert scalar(db, CLEANUP) == 1


def test_cleanup_inactive_sessions_stopped_by_the_breaker_raises_and_changes_nothing(db: Connection) -> None:
    for _ in range(3):
        add_session(db, kind="room", status="active")
    run_cleanup(db, "stale-user-sessions", p_policies=policies(empty_rooms={"max_rows": 2}))
    tables = ("lull.sessions", "lull.archive_pages", "lull.cleanup_runs", "lull.session_events")
    before = snapshot(db, *tables)
    with pytest.raises(psycopg.Error, match=r"No room was touched: 3 rows would go and the limit is 2\."):
        db.execute(CLEANUP)
    assert snapshot(db, *tables) == before


def test_cleanup_inactive_sessions_with_a_room_that_refuses_raises_and_changes_nothing(
    db: Connection,
) -> None:
    add_session(db, kind="room", status="active")
    room = add_session(db, kind="room", status="active")
    db.execute(f"""
        create function public.keep() returns trigger language plpgsql as $$
        begin if old.id = '{room}' then raise exception 'there are receipts'; end if; return old; end $$;
        create trigger keep before delete on lull.sessions for each row execute function public.keep();
    """)
    before = snapshot(db, "lull.sessions", "lull.archive_pages", "lull.cleanup_runs")
    with pytest.raises(psycopg.Error, match=r"No room was removed: .*receipts"):
        db.execute(CLEANUP)
    assert snapshot(db, "lull.sessions", "lull.archive_pages", "lull.cleanup_runs") == before


def test_cleanup_inactive_sessions_beside_a_run_is_0_and_a_notice(db: Connection) -> None:
    add_session(db, kind="room", status="active")
    run = Run.begin(db)
    notices: list[str] = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    assert scalar(db, CLEANUP) == 0
    assert f"Run {run.id} is already running since" in notices[0]
    run.finish()
    assert scalar(db, CLEANUP) == 1


def test_cleanup_inactive_sessions_while_paused_is_0_and_a_notice(db: Connection) -> None:
    add_session(db, kind="room", status="active")
    db.execute("insert into lull.switches (name, is_on, reason) values ('cleanup', true, 'moving house')")
    notices: list[str] = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    assert scalar(db, CLEANUP) == 0
    assert "Cleanup is paused since" in notices[0]
    assert "moving house" in notices[0]


def test_check_session_expiry_of_a_room_a_chat_and_a_game(db: Connection) -> None:
    assert expired(db, add_session(db, kind="room", status="active", idle="59 minutes")) is False
    assert expired(db, add_session(db, kind="room", status="active", idle="61 minutes")) is True
    assert expired(db, add_session(db, kind="room", status="paused", idle="9 days")) is False
    assert expired(db, add_session(db, kind="game", status="active", idle="31 minutes")) is True
    assert expired(db, add_session(db, kind="chat", status="active", idle="900 days")) is False
    assert expired(db, "00000000-0000-4000-8000-000000000000") is None


def test_check_session_expiry_of_a_cleaned_and_of_a_purged_room_is_true(db: Connection) -> None:
    room = add_session(db, kind="room", status="active")
    scalar(db, CLEANUP)
    assert expired(db, room) is True
    db.execute(
        "update lull.archive_pages set purge_after = now() - interval '1 second' where id in (select page from lull.archive_keys where key = %s)",
        (room,),
    )
    assert line(run_cleanup(db, "purge"), "purge")["did"] == 1
    assert expired(db, room) is True


def seen(db: Connection, change: str) -> float:
    """Make the change to a participant that was last seen an hour ago; return how many seconds ago it is now."""
    room = add_session(db, kind="room", status="active")
    insert = "insert into lull.session_participants (session_id, last_seen_at) values (%s, now() - interval '1 hour')"
    db.execute(insert, (room,))
    db.execute(f"update lull.session_participants set {change} where session_id = %s", (room,))
    ago = "select extract(epoch from now() - last_seen_at) from lull.session_participants where session_id = %s"
    return float(scalar(db, ago, room))


def test_updating_a_participant_moves_last_seen_at_forward(db: Connection) -> None:
    assert scalar(db, "select to_regprocedure('update_participant_last_seen()') is not null")
    assert 0 <= seen(db, "name = 'Ada'") < 60
    assert 0 <= seen(db, "last_seen_at = now()") < 60


def test_updating_a_participant_never_moves_last_seen_at_back(db: Connection) -> None:
    room = add_session(db, kind="room", status="active")
    insert = "insert into lull.session_participants (session_id, last_seen_at) values (%s, now() + interval '1 hour')"
    db.execute(insert, (room,))
    db.execute("update lull.session_participants set name = 'Ada', is_active = false where session_id = %s", (room,))
    assert scalar(db, "select last_seen_at > now() + interval '59 minutes' from lull.session_participants")


def test_a_participant_can_be_aged_by_hand(db: Connection) -> None:
    assert seen(db, "last_seen_at = now() - interval '2 hours'") >= 7200


def test_a_restored_participant_was_last_seen_when_it_was(db: Connection) -> None:
    room = add_session(db, kind="room", status="active")
    insert = "insert into lull.session_participants (session_id, last_seen_at) values (%s, now() - interval '2 hours')"
    db.execute(insert, (room,))
    before = snapshot(db, "lull.session_participants")
    scalar(db, CLEANUP)
    call(db, "lull_restore_run", p_run=scalar(db, "select id from lull.cleanup_runs"))
    assert snapshot(db, "lull.session_participants") == before


def test_the_service_may_call_the_seeds_functions(db: Connection) -> None:
    room = add_session(db, kind="room", status="active")
    db.execute("set role service_role")
    assert expired(db, room) is True
    assert scalar(db, CLEANUP) == 1
