"""What the selection costs: stale rows only, through an index, and no more for the last batch than for the first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.driver import Connection, Run, scalar
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"
LEVELS = [
    ("abandoned-drafts", "chat", "draft"),
    ("orphaned-games", "game", "active"),
    ("empty-rooms", "room", "active"),
    ("unopened-rooms", "room", "draft"),
    ("unopened-games", "game", "draft"),
]


@pytest.fixture
def crowd(sql_database: Database) -> Connection:
    """20,000 sessions of every kind and status in random heap order, 5 % of each stale, some of them held."""
    db = sql_database.connect()
    db.execute(
        "select setseed(0.5)"
    )  # else one crowd in thirty has too few stale rows of a kind for the plans below
    db.execute("""
        insert into lull.sessions (kind, status, last_activity_at, hold, first_message_at, paused_at, ended_at)
        select k, s, now() - case when r < 0.05 then interval '40 hours' else interval '1 minute' end
            - random() * interval '9 minutes',
          r < 0.01, case when s <> 'draft' then now() end, case when s = 'paused' then now() end,
          case when s = 'ended' then now() end
        from (
          select (array['chat', 'room', 'game'])[1 + n % 3] as k, (array['draft', 'active', 'paused', 'ended'])[1 + n % 4] as s,
            random() as r
          from generate_series(1, 20000) n order by random()
        ) x
    """)
    db.execute("analyze lull.sessions")
    return db


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Flatten a plan."""
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def batch_settings(db: Connection) -> None:
    """Give this connection the settings that the batch function runs with."""
    settings = scalar(db, "select proconfig from pg_proc where proname = 'lull_cleanup_lane'")
    for name, _, value in (setting.partition("=") for setting in settings):
        db.execute("select set_config(%s, %s, false)", [name, value.strip('"')])


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(("policy", "kind", "status"), LEVELS)
def test_the_selection_reads_stale_rows_only_through_the_index(
    crowd: Connection, policy: str, kind: str, status: str, resumed: bool
) -> None:
    batch_settings(crowd)
    stale = f"from lull.sessions where kind = '{kind}' and status = '{status}' and not hold and last_activity_at < now() - interval '25 h'"
    middle = crowd.execute(
        f"select last_activity_at as clock, array[id::text] as key {stale} order by 1, id offset 20"
    ).fetchone()
    assert middle
    run = Run.begin(crowd, policy)
    run.open(policy)
    statement = "next_statement" if resumed else "first_statement"
    query = scalar(crowd, f"select {statement} from lull.compiled_policies where policy = %s", policy)
    cutoff = scalar(crowd, "select cutoff from lull.cleanup_run_policies where policy = %s", policy)
    for name, value in {
        "$1": f"'{cutoff}'::timestamptz",
        "$2": "30",
        "$3": f"'{middle['clock']}'::timestamptz",
        "$4": f"'{{{middle['key'][0]}}}'::text[]",
    }.items():
        query = query.replace(name, value)
    plan = scalar(crowd, f"explain (analyze, buffers, format json) {query}")[0]["Plan"]
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "sessions"]
    assert [scan["Node Type"] for scan in scans] == ["Index Scan"]
    assert "Sort" not in {node["Node Type"] for node in nodes(plan)}
    assert scans[0]["Actual Rows"] == 30
    assert scans[0].get("Rows Removed by Filter", 0) == 0
    assert scans[0]["Shared Hit Blocks"] < 100, "the entries before the cursor are not read again"


def buffers_of_batch(run: Run, size: int) -> tuple[int, int]:
    """Run one batch under EXPLAIN and return (buffers touched, rows deleted)."""
    db = run.connection
    before = int(scalar(db, "select did from lull.cleanup_run_policies where run_id = %s", run.id))
    plan = scalar(
        db,
        "explain (analyze, buffers, format json) select public.lull_cleanup_batch(%s, %s, %s, %s)",
        run.id,
        run.token,
        DRAFTS,
        size,
    )[0]
    after = int(scalar(db, "select did from lull.cleanup_run_policies where run_id = %s", run.id))
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], after - before


def test_the_last_batch_touches_no_more_than_the_first_beside_an_open_transaction(
    sql_database: Database,
) -> None:
    db, pin = sql_database.connect(), sql_database.connect()
    db.execute("""
        insert into lull.sessions (kind, last_activity_at)
        select 'chat', now() - interval '30 hours' - random() * interval '9 days' from generate_series(1, 20000) order by random()
    """)
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) "
        "select id, now() - interval '99 days' from lull.sessions order by random()"
    )
    db.execute("analyze")
    pin.execute("begin isolation level repeatable read")
    pin.execute("select count(*) from lull.sessions")  # keeps every dead row visible to itself until it ends
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    run.batch(DRAFTS, 1000)  # the first one also fills caches of the catalog
    costs = [buffers_of_batch(run, 1000) for _ in range(18)]
    per_row = [buffers / rows for buffers, rows in costs]
    assert [rows for _, rows in costs] == [1000] * 18
    assert sum(per_row[-3:]) <= 1.25 * sum(per_row[:3]), per_row
