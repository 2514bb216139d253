"""What a caller may send: `begin` runs what is stored, no younger and no looser than it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from infra import migrate
from tests.policies import policy_arguments
from tests.sql.driver import Run, add_session, line, policies, preview, run_cleanup, scalar
from tests.sql_servers import Connection, Database

DRAFTS = "abandoned-drafts"


def sent(name: str = DRAFTS, **changes: Any) -> list[dict[str, Any]]:
    """The stored policies as a caller sends them, one of them changed."""
    return [policy | (changes if policy["name"] == name else {}) for policy in policy_arguments()]


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """A connection with the rights of the API, on a database with one stale draft; policies are as migrated."""
    connection = sql_database.connect()
    add_session(connection)
    return connection


# What was sent, and what the caller is told.
LOOSER: list[tuple[dict[str, Any], str]] = [
    ({"archive": False, "restore_days": 0}, "archive false (stored: true)"),
    ({"restore_days": 1}, "restore_window"),
    ({"max_rows": 10**9}, "max_rows 1000000000 (stored: 50000)"),
    ({"growth_factor": None}, "growth_factor none (stored: 5)"),
    ({"growth_factor": "NaN"}, "growth_factor NaN (stored: 5)"),
    ({"growth_floor": 10**9}, "growth_floor"),
    ({"max_cascaded": 10**9}, "max_cascaded"),
    ({"max_below_root": 10**9}, "max_below_root"),
    ({"max_below_bytes": 10**12}, "max_below_bytes"),
    ({"age_seconds": 1}, "age 00:00:01 (no younger than 00:06:00)"),
    ({"equals": {"kind": "chat", "status": "active"}, "nulls": []}, "equals"),
    ({"equals": {}}, "equals {} (stored: "),
    ({"nulls": []}, "nulls"),
    ({"clock": "created_at"}, "clock created_at (stored: last_activity_at)"),
    ({"target": "lull.user_sessions", "clock": "updated_at", "equals": {}, "nulls": []}, "target"),
    ({"below": {"lull.session_files": "goes along"}}, "below"),
    ({"also_clocks": ["created_at"]}, "also_clocks"),
]


def test_a_policy_that_is_looser_than_the_stored_one_is_refused_before_anything_goes(db: Connection) -> None:
    before = scalar(db, "select lull.effective_policies()")
    db.execute("set role service_role")
    for changes, told in LOOSER:
        run = Run.begin(db, DRAFTS, p_policies=sent(**changes), p_store=False)
        assert run.begun["policies"] == [], changes
        report = line(run.finish(), DRAFTS)
        assert (report["outcome"], report["did"]) == ("failed", 0), changes
        assert told in report["error"] and "nothing of it was touched" in report["error"]
        assert "python -m infra migrate" in report["error"]
    db.execute("reset role")
    assert scalar(db, "select count(*) from lull.sessions") == 1
    assert scalar(db, "select lull.effective_policies()") == before


def test_a_policy_that_is_not_stored_is_refused_and_the_others_run(db: Connection) -> None:
    mine = sent()[0] | {"name": "mine", "archive": False}
    report = run_cleanup(db, p_policies=[mine, *sent()], p_store=False)
    assert (line(report, "mine")["outcome"], line(report, "mine")["did"]) == ("failed", 0)
    assert line(report, "mine")["error"].startswith("it is not stored")
    assert (line(report, DRAFTS)["outcome"], line(report, DRAFTS)["did"]) == ("completed", 1)
    assert scalar(db, "select count(*) from lull.archive_keys") == 1


def test_no_caller_can_take_a_stored_policy_away(db: Connection) -> None:
    names = "select count(*) from lull.policies"
    before = scalar(db, names)
    Run.begin(db, p_policies=[], p_store=False).finish()
    assert scalar(db, names) == before


def test_what_a_caller_leaves_out_is_as_stored(db: Connection) -> None:
    report = run_cleanup(db, p_policies=[{"name": DRAFTS}], p_store=False)
    assert (line(report, DRAFTS)["outcome"], line(report, DRAFTS)["did"]) == ("completed", 1)
    assert scalar(db, "select count(*) from lull.archive_keys") == 1


def test_a_caller_may_tighten_limits_for_its_own_run(db: Connection) -> None:
    add_session(db)
    before = scalar(db, "select lull.effective_policies()")
    report = line(run_cleanup(db, p_policies=sent(max_rows=1), p_store=False), DRAFTS)
    assert (report["outcome"], report["did"]) == ("stopped", 0)
    assert scalar(db, "select lull.effective_policies()") == before
    assert line(run_cleanup(db, p_policies=sent(), p_store=False), DRAFTS)["did"] == 2


def test_a_caller_may_change_an_age_within_its_bounds_and_the_database_goes_by_it(db: Connection) -> None:
    add_session(db, idle="10 minutes")
    report = run_cleanup(db, p_policies=sent(age_seconds=360), p_store=False)
    assert line(report, DRAFTS)["did"] == 2
    assert scalar(db, "select extract(epoch from age)::integer from lull.policies where name = %s", DRAFTS) == 360
    assert run_cleanup(db, p_policies=sent(age_seconds=86400), p_store=False)["status"] == "completed"


def test_an_age_without_a_variable_is_no_younger_than_the_stored_one(db: Connection) -> None:
    for days, outcome in ((1, "failed"), (400, "completed"), (500, "completed"), (400, "completed")):
        report = run_cleanup(db, "old-events", p_policies=sent("old-events", age_seconds=days * 86400), p_store=False)
        assert line(report, "old-events")["outcome"] == outcome, days


def test_a_dry_run_says_what_the_run_would_refuse(db: Connection) -> None:
    refused = preview(db, DRAFTS, p_policies=sent(archive=False), p_store=False)
    assert (refused["would"], "archive false (stored: true)" in refused["error"]) == (0, True)
    young = sent("old-events", age_seconds=60)
    assert "age" in preview(db, "old-events", p_policies=young, p_store=False)["error"]
    simulated = sent("old-events", age_seconds=60, age_is_simulated=True)
    assert preview(db, "old-events", p_policies=simulated, p_store=False)["error"] is None
    assert "age" in line(run_cleanup(db, p_policies=simulated, p_store=False), "old-events")["error"]


def test_migrate_stores_what_callers_may_send_from_then_on(db: Connection, sql_database: Database) -> None:
    wider = policies(abandoned_drafts={"max_rows": 100_000})
    assert line(run_cleanup(db, p_policies=wider, p_store=False), DRAFTS)["outcome"] == "failed"
    migrate.apply(sql_database.url, wider)
    assert line(run_cleanup(db, p_policies=wider, p_store=False), DRAFTS)["did"] == 1
