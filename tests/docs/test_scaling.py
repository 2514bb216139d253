"""docs/scaling.md: its SQL runs, in its order, and Lull does on the partitions what it did on the tables."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra.migrate import script
from tests.sql.driver import Connection, add_session, call, run_cleanup, scalar
from tests.sql_servers import Database

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()
DETACH = "detach partition lull.archive_"
SERVICE = {"service": True}


def blocks() -> list[str]:
    """The SQL of the page, with its dates so far from today as they were from its own."""
    today = datetime.now(UTC)
    month = (today.replace(day=1) + timedelta(days=62)).replace(day=1)
    day = today + timedelta(days=30)
    dates = {
        "2027-02-01": f"{month:%Y-%m-%d}",
        "2028-01-01": f"{month.replace(year=month.year + 1):%Y-%m-%d}",
        "2026-12-24": f"{day:%Y-%m-%d}",
        "2026_12_24": f"{day:%Y_%m_%d}",
        "2026-12-25": f"{day + timedelta(days=1):%Y-%m-%d}",
    }
    found = re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL)
    return [re.sub("|".join(dates), lambda date: dates[date[0]], block) for block in found]


def run(db: Connection, block: str) -> None:
    """Run a block; the migration goes behind one that leaves its transaction open, as the page says."""
    db.execute(block)
    if block.startswith("begin;") and "commit;" not in block:
        policies = [policy.arguments() for policy in load_policies(Settings.model_construct())]
        db.execute(script(policies).encode())


def archived(db: Connection) -> str:
    """A draft with a file, cleaned."""
    session = add_session(db)
    db.execute(
        "insert into lull.session_files (session_id, bucket, path, state) values (%s, 'files', %s, 'uploaded')",
        (session, f"{session}/picture.png"),
    )
    run_cleanup(db, "abandoned-drafts")
    return session


def test_its_sql_runs_and_lull_goes_on_with_partitions(sql_database: Database) -> None:
    db = sql_database.connect()
    first = archived(db)
    dropped = ""
    for block in blocks():
        if DETACH in block:
            dropped = archived(db)
            day = re.findall(rf"{DETACH}(\w+)", block)[0].replace("_", "-")
            db.execute("update lull.archive set purge_after = %s where key = %s", (f"{day} 12:00Z", dropped))
        run(db, block)

    removed = scalar(db, "select array_agg(path) from lull.file_removals")
    events = "select array_agg(event order by id) from lull.session_events where session_id = %s"
    assert removed == [f"{dropped}/picture.png"]
    assert scalar(db, events, dropped)[-1] == "purged"
    assert scalar(db, "select count(*) from lull.tombstones where session_id = %s", dropped) == 1

    later = archived(db)
    for session in (first, later):
        answer = call(db, "lull_activate_session", p_session=session, p_caller=SERVICE)
        assert answer["restored"]
        assert scalar(db, events, session) == ["archived", "restored", "activated"]
    kinds = "select relkind::text from pg_class where oid = any('{lull.session_events, lull.archive}'::regclass[])"
    assert [row["relkind"] for row in db.execute(kinds).fetchall()] == ["p", "p"]
