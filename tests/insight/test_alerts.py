"""Each alert: provoked, seen where the table of docs/runbook.md says, told once, and over when it says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pydantic import SecretStr

from api.cleanup.signals import Signals
from api.composition import create_app
from api.database import Database
from tests.calls import ADMIN, CLEANUP, add_drafts, add_session, settings
from tests.in_process import client_of
from tests.monitor import Monitor, monitoring

Sql = psycopg.Connection[Any]
HEALTH = "/api/health/cleanup"
DRAFTS = "abandoned-drafts"


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with monitoring() as made:
        yield made


@pytest.fixture
def api(environment: dict[str, str], monitor: Monitor, sql: Sql) -> Iterator[httpx.Client]:
    """The API with a cron monitor and a chat."""
    sql.execute("update lull.policies_known set since = now(), oldest = null")
    told = {"cleanup_ping_url": f"{monitor.url}/ping/key", "alert_webhook_url": f"{monitor.url}/chat"}
    with client_of(create_app(settings(environment, **told))) as client:
        yield client
    sql.execute("update lull.policies_known set since = now(), oldest = null")


@dataclass
class Shown:
    """Where a condition is seen: health's problem, the metric, logged and told states since the last look."""

    health: str | None
    metric: float
    logged: list[str]
    told: list[str]


@pytest.fixture
def shown(
    api: httpx.Client, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Shown]:
    def look(condition: str) -> Shown:
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        answer = api.get(HEALTH)
        holding = [each["condition"] for each in answer.json()["alerts"]]
        problem = answer.json()["type"].removeprefix("urn:lull:problem:") if condition in holding else None
        assert answer.status_code == (503 if holding else 200)
        text = api.get("/api/admin/metrics", headers=ADMIN).text
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        [alert] = [family for family in families if family.name == "lull_alert"]
        states = {sample.labels["condition"]: sample.value for sample in alert.samples}
        messages = [each["state"] for each in monitor.messages() if each["condition"] == condition]
        monitor.forget()
        logged = [
            (line["event"], line["level"]) for line in lines if line.get("condition") == condition
        ]
        assert all(level == ("info" if event == "alert cleared" else "error") for event, level in logged)
        return Shown(problem, states[condition], [event for event, _ in logged], messages)

    return look


def run(api: httpx.Client, **params: Any) -> httpx.Response:
    return api.post(CLEANUP, headers=ADMIN, params=params)


def tell(api: httpx.Client) -> None:
    """Let a small run tell what is to be told."""
    assert run(api, policy="empty-rooms").status_code == 200


RAISED = (["alert raised"], ["raised"])
CLEARED = (["alert cleared"], ["cleared"])


def test_a_quiet_system_shows_nothing(api: httpx.Client, shown: Callable[[str], Shown], monitor: Monitor) -> None:
    assert run(api).status_code == 200
    endings = [(ending, rid) for ending, rid, _ in monitor.pings()]
    assert [ending for ending, _ in endings] == ["/key/start", "/key"]
    assert endings[0][1] == endings[1][1] is not None, "start and end have the run's id"
    assert shown("failing") == Shown(None, 0, [], [])


def test_late(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown]) -> None:
    run(api)
    sql.execute("update lull.cleanup_run_policies set opened_at = opened_at - interval '31 min', "
                "completed_at = completed_at - interval '31 min'")  # fmt: skip
    assert shown("late") == Shown("cleanup-late", 1, [], [])
    run(api)
    assert shown("late") == Shown(None, 0, [], [])


def test_a_scheduled_call_of_a_paused_cleanup_is_not_late(api: httpx.Client, sql: Sql) -> None:
    run(api)
    sql.execute("update lull.cleanup_run_policies set opened_at = opened_at - interval '31 min', "
                "completed_at = completed_at - interval '31 min'")  # fmt: skip
    api.post("/api/admin/pause", headers=ADMIN, json={"reason": "x"})
    assert api.get(HEALTH).status_code == 503
    run(api)
    assert api.get(HEALTH).json()["status"] == "paused"


def test_stuck(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown]) -> None:
    sql.execute(
        "insert into lull.cleanup_runs (caller, at, started_at, lease_seconds, lease_until) "
        "select 'test', now(), now() - interval '3 min', 45, now() - interval '61 s'"
    )
    assert shown("stuck") == Shown("cleanup-stuck", 1, [], [])
    run(api)
    assert shown("stuck") == Shown(None, 0, [], [])
    assert sql.execute("select n from lull.counts where label = 'abandoned'").fetchone() == {"n": 1}


def test_failing(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown], monitor: Monitor) -> None:
    add_session(sql, title="poison")
    sql.execute(
        "create function public.refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$; "
        "create trigger refuse before delete on lull.sessions for each row execute function public.refuse()"
    )
    try:
        assert run(api).status_code == 500
    finally:
        sql.execute("drop trigger refuse on lull.sessions; drop function public.refuse()")
    assert [ending for ending, _, _ in monitor.pings()] == ["/key/start", "/key/fail"]
    assert shown("failing") == Shown("cleanup-failing", 1, *RAISED)
    assert run(api).status_code == 200
    assert shown("failing") == Shown(None, 0, *CLEARED)


def test_breaker(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown], monitor: Monitor) -> None:
    add_drafts(sql, 4)
    assert run(api, policy=DRAFTS, maxRows=1).status_code == 409
    assert monitor.pings() == [], "an operator's errand"
    assert shown("breaker") == Shown("breaker-open", 1, *RAISED)
    assert run(api).status_code == 200
    assert shown("breaker") == Shown(None, 0, *CLEARED)


def test_falling_behind(
    environment: dict[str, str], api: httpx.Client, sql: Sql, monitor: Monitor, shown: Callable[[str], Shown]
) -> None:
    signals = Signals(Database(settings(environment)), 15, webhook_url=SecretStr(f"{monitor.url}/chat"))

    def left(rows: int, status: str = "partial", mode: str = "run") -> None:
        """A run whose time was up with so many rows left, the oldest stale for an hour."""
        sql.execute(
            "with run as (insert into lull.cleanup_runs (caller, at, lease_seconds, lease_until, finished_at, status, mode) "
            "values ('test', clock_timestamp(), 45, now(), clock_timestamp(), 'partial', %s) returning id) "
            "insert into lull.cleanup_run_policies (run_id, policy, position, definition, outcome, cutoff, opened_at, "
            "completed_at, backlog, backlog_oldest) select id, %s, 1, '{}', %s, now(), clock_timestamp(), "
            "clock_timestamp(), %s, now() - interval '1 h' from run",
            (mode, DRAFTS, status, rows),
        )

    for rows in (800, 900, 999):
        left(rows)
    assert shown("falling-behind").metric == 0, "fewer than 1,000"
    left(1100)
    signals.tell()
    assert shown("falling-behind") == Shown("cleanup-behind", 1, *RAISED)
    left(1100)
    signals.tell()
    assert shown("falling-behind") == Shown("cleanup-behind", 1, [], []), "it lasts until a run ends lower"
    left(1050)
    signals.tell()
    assert shown("falling-behind") == Shown(None, 0, *CLEARED)
    left(1060)
    left(1070, "shadow", "shadow")
    assert shown("falling-behind").metric == 0


def test_a_run_stores_what_it_left(api: httpx.Client, sql: Sql) -> None:
    add_drafts(sql, 5, age="30 h")
    assert run(api, policy=DRAFTS, maxRows=2).status_code == 409
    row = sql.execute(
        "select backlog, backlog_oldest < now() - interval '29 h' as old from lull.cleanup_run_policies"
    ).fetchone()
    assert row == {"backlog": 5, "old": True}
    run(api)
    row = sql.execute("select backlog from lull.cleanup_run_policies where policy = %s and did = 5", (DRAFTS,))
    assert row.fetchone() == {"backlog": 0}


def test_dead_letter(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown]) -> None:
    sql.execute("insert into lull.file_removals (bucket, path, dead_at) values ('b', 'p', now())")
    sql.execute(
        "insert into lull.deliveries (event_id, session_id, state, settled_at) "
        "values (1, gen_random_uuid(), 'dead', now())"
    )
    tell(api)
    assert shown("dead-letter") == Shown("dead-letters", 1, *RAISED)
    sql.execute("select public.lull_settle_dead_letters(p_forget => true)")
    assert sql.execute("select state from lull.deliveries").fetchone() == {"state": "dead"}
    tell(api)
    assert shown("dead-letter") == Shown(None, 0, *CLEARED)


def test_dead_letters_can_be_tried_again(sql: Sql) -> None:
    sql.execute("insert into lull.file_removals (bucket, path, attempts, dead_at) values ('b', 'p', 10, now())")
    sql.execute(
        "insert into lull.deliveries (event_id, session_id, state, attempts, settled_at) "
        "values (1, gen_random_uuid(), 'dead', 10, now())"
    )
    sql.execute("select public.lull_settle_dead_letters()")
    assert sql.execute("select attempts, dead_at from lull.file_removals").fetchone() == {"attempts": 0, "dead_at": None}
    assert sql.execute("select state, attempts from lull.deliveries").fetchone() == {"state": "queued", "attempts": 0}


def test_paused_long(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown], monitor: Monitor) -> None:
    api.post("/api/admin/pause", headers=ADMIN, json={"reason": "x"})
    run(api)
    assert [(ending, rid) for ending, rid, _ in monitor.pings()] == [("/key", None)]
    assert "paused since" in monitor.pings()[0][2]
    assert shown("paused-long") == Shown(None, 0, [], [])
    sql.execute("update lull.switches set changed_at = now() - interval '8 d'")
    run(api)
    assert [ending for ending, _, _ in monitor.pings()] == ["/key/fail"]
    assert shown("paused-long") == Shown("paused-long", 1, *RAISED)
    api.post("/api/admin/unpause", headers=ADMIN)
    run(api)
    assert shown("paused-long") == Shown(None, 0, *CLEARED)


def test_remainder(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown]) -> None:
    sql.execute(
        "insert into lull.archive_pages (batch, run_id, policy, target, kind, rows, content, purge_after) "
        "values (1, gen_random_uuid(), 'abandoned-drafts', 'lull.sessions', 'remainder', 1, '[]', now() + interval '1 d')"
    )
    tell(api)
    assert shown("remainder") == Shown("archive-remainders", 1, *RAISED)
    sql.execute("delete from lull.archive_pages")
    tell(api)
    assert shown("remainder") == Shown(None, 0, *CLEARED)


def test_archive_large(api: httpx.Client, sql: Sql, shown: Callable[[str], Shown]) -> None:
    sizes = """
        create or replace function lull.archive_bytes() returns bigint language sql stable
        set search_path = pg_catalog, pg_temp as $$ select %s::bigint $$"""
    body = sql.execute("select pg_get_functiondef('lull.archive_bytes'::regproc) as text").fetchone()
    assert body
    try:
        sql.execute(sizes % 1_000_000_000)
        tell(api)
        assert shown("archive-large") == Shown(None, 1, *RAISED), "not in health"
        sql.execute(sizes % 999_999_999)
        tell(api)
        assert shown("archive-large") == Shown(None, 0, *CLEARED)
    finally:
        sql.execute(body["text"])


def test_an_alert_is_told_once_and_again_after_a_day_and_until_it_was_taken(
    api: httpx.Client, sql: Sql, monitor: Monitor
) -> None:
    sql.execute("insert into lull.file_removals (bucket, path, dead_at) values ('b', 'p', now())")

    def told() -> list[str]:
        tell(api)  # a webhook that is lost fails no run
        states = [each["state"] for each in monitor.messages()]
        monitor.forget()
        return states

    monitor.status = 500
    assert told() == ["raised", "raised"], "one retry"
    sql.execute("update lull.alert_states set claimed_until = now()")
    monitor.status = 200
    assert told() == ["raised"]
    assert told() == []
    sql.execute("update lull.alert_states set told_at = told_at - interval '24 h'")
    assert told() == ["lasts"]
    sql.execute("delete from lull.file_removals")
    assert told() == ["cleared"]
    assert told() == []


def test_neither_dry_runs_nor_single_policies_nor_calls_beside_a_run_ping(
    api: httpx.Client, sql: Sql, monitor: Monitor
) -> None:
    api.get(CLEANUP, headers=ADMIN)
    run(api, dryRun="true")
    run(api, policy=DRAFTS)
    sql.execute(
        "insert into lull.cleanup_runs (caller, at, lease_seconds, lease_until) "
        "values ('test', now(), 45, now() + interval '1 min')"
    )
    assert run(api).json()["reason"] == "running"
    assert monitor.pings() == []
