"""GET /api/health/cleanup: for anybody; 503 when the cleanup is late, failing or stuck, and which."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.broken_server import refusing_url
from tests.callers import problem_of
from tests.calls import CLEANUP, add_session, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
HEALTH = "/api/health/cleanup"


@pytest.fixture(autouse=True)
def just_migrated(sql: Sql) -> Iterator[None]:
    """The first run is due in two intervals."""
    sql.execute("update lull.policies_known set since = now()")
    yield
    sql.execute("update lull.policies_known set since = now()")


def add_run(sql: Sql, status: str, age: str = "1 minute", *, stopped: int = 0, failed: int = 0) -> None:
    """A run that began so long ago, with lines of these outcomes."""
    row = sql.execute(
        "insert into lull.cleanup_runs (status, caller, at, started_at, lease_seconds, lease_until, finished_at) "
        "select %(status)s, 'test', t, t, 45, t + interval '45 s', case when %(status)s <> 'running' then t end "
        "from (select now() - %(age)s::interval as t) x returning id",
        {"status": status, "age": age},
    ).fetchone()
    assert row
    sql.execute(
        "insert into lull.cleanup_run_policies (run_id, policy, position, definition, outcome, opened_at) "
        "select %s, name, position, '{}', 'completed', now() - %s::interval from lull.policies",
        (row["id"], age),
    )
    for outcome, count in (("stopped", stopped), ("failed", failed)):
        sql.execute(
            "insert into lull.cleanup_run_policies (run_id, policy, position, definition, outcome, error) "
            "select %s, %s || n, n, '{}', %s, 'hush: an error' from generate_series(1, %s) n",
            (row["id"], outcome, outcome, count),
        )


def health(api: httpx.Client) -> dict[str, Any]:
    answer = api.get(HEALTH)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def sick(api: httpx.Client) -> tuple[str, str]:
    """The type and the words of a 503."""
    answer = api.get(HEALTH)
    assert answer.headers["cache-control"] == "no-store"
    status, kind = problem_of(answer)
    assert status == 503
    return kind, answer.json()["detail"]


def test_before_the_first_run_it_is_well_for_two_intervals(api: httpx.Client, sql: Sql) -> None:
    found = health(api)
    assert (found["status"], found["intervalMinutes"], found["lastStartedAt"]) == ("ok", 15, None)
    sql.execute("update lull.policies_known set since = now() - interval '29 minutes'")
    assert health(api)["status"] == "ok"
    sql.execute("update lull.policies_known set since = now() - interval '31 minutes'")
    assert sick(api) == (
        "cleanup-late",
        "No run began yet; one is expected every 15 minutes. A scheduler that sends a plain GET only dry-runs.",
    )


def test_a_run_makes_it_well_and_a_dry_run_does_not(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    sql.execute("update lull.policies_known set since = now() - interval '2 days'")
    assert api.get(CLEANUP, headers=admin).status_code == 200
    assert sick(api)[0] == "cleanup-late"
    assert api.post(CLEANUP, headers=admin).status_code == 200
    found = health(api)
    assert found["lastStatus"] == "completed"
    assert found["lastCompletedAt"] == found["lastFinishedAt"]
    assert found["lastStartedAt"].endswith("Z")


def test_a_run_of_one_policy_is_no_run_of_the_others(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    assert api.post(f"{CLEANUP}?policy=empty-rooms", headers=admin).status_code == 200
    assert health(api)["latePolicies"] == [], "nothing of the others is stale"
    add_session(sql, age="24 h 29 min")
    assert api.post(f"{CLEANUP}?policy=empty-rooms", headers=admin).status_code == 200
    assert health(api)["latePolicies"] == [], "not for two intervals"
    sql.execute("update lull.sessions set last_activity_at = now() - interval '24 h 31 min'")
    assert api.post(f"{CLEANUP}?policy=empty-rooms", headers=admin).status_code == 200
    kind, said = sick(api)
    assert kind == "cleanup-late"
    assert "abandoned-drafts" in said
    late = api.get(HEALTH).json()["latePolicies"]
    assert "abandoned-drafts" in late
    assert "empty-rooms" not in late


def test_it_is_late_after_two_intervals_of_its_own(environment: dict[str, str], sql: Sql) -> None:
    add_run(sql, "completed", "25 hours")
    with client_of(create_app(settings(environment, vercel="1"))) as api:
        assert health(api)["intervalMinutes"] == 1440
    with client_of(create_app(settings(environment, cleanup_interval_minutes=60))) as api:
        kind, words = sick(api)
        assert kind == "cleanup-late"
        assert "expected every 60 minutes" in words


@pytest.mark.parametrize(
    ("status", "lines", "words"),
    [
        ("failed", {"failed": 2}, "2 policies failed"),
        ("abandoned", {}, "it was killed or lost its lease"),
    ],
)
def test_a_last_run_that_ended_badly_is_failing(
    status: str, lines: dict[str, int], words: str, api: httpx.Client, sql: Sql
) -> None:
    add_run(sql, "completed", "10 minutes")
    add_run(sql, status, "5 minutes", **lines)
    kind, said = sick(api)
    assert kind == "cleanup-failing"
    assert words in said
    add_run(sql, status, "3 minutes", **lines)
    assert sick(api)[1].endswith(f"{words} (2 runs in a row).")
    assert api.get(HEALTH).json()["consecutiveFailures"] == 2
    add_run(sql, "partial", "1 minute")
    assert health(api)["consecutiveFailures"] == 0


def test_a_run_in_progress_is_well_until_its_lease_has_run_out_for_a_minute(api: httpx.Client, sql: Sql) -> None:
    add_run(sql, "running", "30 seconds")
    sql.execute("update lull.cleanup_runs set lease_until = now() - interval '59 seconds'")
    assert health(api)["runningSince"] is not None
    sql.execute("update lull.cleanup_runs set lease_until = now() - interval '61 seconds'")
    kind, said = sick(api)
    assert kind == "cleanup-stuck"
    assert "went silent" in said


def test_a_file_that_was_given_up_is_a_dead_letter(api: httpx.Client, sql: Sql) -> None:
    sql.execute("insert into lull.file_removals (bucket, path) select 'b', n::text from generate_series(1, 3) n")
    assert (health(api)["queuedFiles"], health(api)["deadFiles"]) == (3, 0)
    sql.execute("update lull.file_removals set dead_at = now(), last_error = 'hush' where path = '1'")
    assert sick(api)[0] == "dead-letters"
    assert api.get(HEALTH).json()["deadFiles"] == 1


def test_a_pause_is_told_and_becomes_late(api: httpx.Client, sql: Sql) -> None:
    sql.execute("insert into lull.switches (name, is_on, reason) values ('cleanup', true, 'hush')")
    found = health(api)
    assert found["status"] == "paused"
    assert found["pausedSince"] is not None
    add_run(sql, "completed", "40 minutes")
    kind, said = sick(api)
    assert kind == "cleanup-late"
    assert "It is paused since " in said


def test_it_shows_no_id_no_error_and_no_reason(api: httpx.Client, sql: Sql) -> None:
    add_session(sql)
    add_run(sql, "failed", failed=1)
    sql.execute("insert into lull.switches (name, is_on, reason) values ('cleanup', true, 'hush')")
    answer = api.get(HEALTH)
    runs = sql.execute("select id, token from lull.cleanup_runs").fetchall()
    assert "hush" not in answer.text
    assert not any(str(value) in answer.text for run in runs for value in run.values())
    assert "policy" not in json.dumps(list(answer.json()))


def test_without_a_database_it_is_unavailable(stack: object) -> None:
    nowhere: list[dict[str, Any]] = [
        {},
        {"supabase_url": refusing_url(), "supabase_secret_key": "sb_secret_x"},
    ]
    for changes in nowhere:
        with client_of(create_app(settings(**changes))) as api:
            assert sick(api)[0] in {"not-configured", "database-unavailable"}


def test_asking_costs_little_however_long_the_history_is(sql: Sql) -> None:
    sql.execute(
        "insert into lull.cleanup_runs (status, caller, at, started_at, lease_seconds, lease_until, finished_at) "
        "select 'completed', 'test', t, t, 45, t, t "
        "from (select now() - n * interval '15 minutes' as t from generate_series(1, 8640) n) x"
    )
    sql.execute("insert into lull.file_removals (bucket, path) select 'b', n::text from generate_series(1, 20000) n")
    sql.execute("analyze lull.cleanup_runs, lull.file_removals")
    sql.execute("select public.lull_cleanup_health(15)")
    row = sql.execute("explain (analyze, buffers, format json) select public.lull_cleanup_health(15)").fetchone()
    assert row
    plan = row["QUERY PLAN"][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 400
