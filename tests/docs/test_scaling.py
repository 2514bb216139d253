"""docs/scaling.md: its SQL runs, in its order, and Lull does on the partitions what it did on the tables."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.migrate import script
from tests.policies import policy_arguments
from tests.sql.driver import Connection, add_session, call, run_cleanup, scalar
from tests.sql_servers import Database

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()
SERVICE = {"service": True}


def blocks() -> list[str]:
    """The SQL of the page, with its dates so far from today as they were from its own."""
    today = datetime.now(UTC)
    month = (today.replace(day=1) + timedelta(days=62)).replace(day=1)
    dates = {
        "2027-02-01": f"{month:%Y-%m-%d}",
        "2028-01-01": f"{month.replace(year=month.year + 1):%Y-%m-%d}",
    }
    found = re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL)
    return [re.sub("|".join(dates), lambda date: dates[date[0]], block) for block in found]


def run(db: Connection, block: str) -> None:
    """Run a block; the migration goes behind one that leaves its transaction open, as the page says."""
    db.execute(block)
    if block.startswith("begin;") and "commit;" not in block:
        db.execute(script(policy_arguments()).encode())


def test_its_sql_runs_and_lull_goes_on_with_partitions(sql_database: Database) -> None:
    db = sql_database.connect()
    first = add_session(db)
    run_cleanup(db, "abandoned-drafts")
    for block in blocks():
        run(db, block)

    later = add_session(db)
    run_cleanup(db, "abandoned-drafts")
    for session in (first, later):
        answer = call(db, "lull_activate_session", p_session=session, p_caller=SERVICE)
        assert answer["restored"]
        events = "select array_agg(event order by id) from lull.session_events where session_id = %s"
        assert scalar(db, events, session) == ["archived", "restored", "activated"]
    assert scalar(db, "select relkind::text from pg_class where oid = 'lull.session_events'::regclass") == "p"
