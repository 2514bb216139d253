"""Vercel's cron, the AWS schedule and pg_cron in one minute, on one database: each stale row goes once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from infra.local import ports
from infra.local.stack import LocalSupabase, start_api
from tests import policies
from tests.calls import CLEANUP
from tests.database import migrated
from tests.release.pg_cron import (
    BINARIES,
    JOBS,
    SETTINGS,
    Sql,
    let_jobs_log_in,
    needs_pg_cron,
    outcomes,
    wait_until,
)
from tests.release.runtime_api import RuntimeApi, lambda_function
from tests.sql.driver import add_session, call, scalar

pytestmark = needs_pg_cron
SCHEDULED = {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {"task": "cleanup"}}
USERS = 2
RACE_SECONDS = 6
Fired = TypeVar("Fired")


@dataclass
class Project:
    """One database, and what is deployed on it."""

    stack: LocalSupabase
    sql: Sql
    vercel: httpx.Client
    aws: RuntimeApi

    def fire_vercel(self) -> tuple[int, dict[str, Any]]:
        answer = self.vercel.get(CLEANUP)
        return answer.status_code, answer.json()

    def fire_aws(self) -> dict[str, Any]:
        report: dict[str, Any] = self.aws.invoke(SCHEDULED)
        return report


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    home = tmp_path / "home"

    def prepare(url: str) -> None:
        migrated(url)
        with psycopg.connect(url, autocommit=True) as connection:
            let_jobs_log_in(home, connection)

    with LocalSupabase(
        home, environ=os.environ, prepare=prepare, postgres_binaries=BINARIES, postgres_settings=SETTINGS
    ) as stack:
        environment = stack.environment() | policies.ENVIRONMENT
        port = ports.find_free()
        deployed = start_api(environment, port, environ=os.environ, log=tmp_path / "api.log")
        cron = {"User-Agent": "vercel-cron/1.0", "Authorization": f"Bearer {environment['CRON_SECRET']}"}
        with (
            psycopg.connect(stack.database_url, autocommit=True, row_factory=dict_row) as sql,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=cron, timeout=60) as vercel,
            lambda_function(environment, tmp_path / "lambda.log") as aws,
        ):
            yield Project(stack, sql, vercel, aws)
        deployed.stop()


def add_stale(sql: Sql, minute: datetime) -> list[str]:
    """Drafts, rooms and games that are stale, and drafts that become so while the schedulers are at it."""
    rows = sql.execute(
        """
        insert into lull.sessions (kind, status, last_activity_at)
        select case n %% 4 when 0 then 'room' when 1 then 'game' else 'chat' end,
          case when n %% 4 < 2 then 'active' else 'draft' end,
          now() - interval '25 hours' - n * interval '1 second'
        from generate_series(1, 1200) n
        union all
        select 'chat', 'draft', %s - interval '24 hours' + n * interval '10 milliseconds'
        from generate_series(1, 500) n
        returning id::text
        """,
        [minute],
    ).fetchall()
    sql.execute("insert into lull.session_participants (session_id, last_seen_at) "
        "select id, now() - interval '9 days' from lull.sessions"
    )
    return [row["id"] for row in rows]


def activate(url: str, drafts: list[str]) -> None:
    """Users come back to their drafts, one after the other."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        for draft in drafts:
            answer = call(connection, "lull_activate_session", p_session=draft, p_caller={"service": True})
            assert answer["session"]["status"] == "active"
            time.sleep(RACE_SECONDS / len(drafts) / 2)


def is_working(sql: Sql) -> bool:
    """Whether pg_cron's tick is at it, or has been."""
    query = (
        "select 1 from pg_stat_activity where query like %s and state = 'active' and pid <> pg_backend_pid()"
    )
    return bool(sql.execute(query, ["%lull_cleanup_step%"]).fetchone() or outcomes(sql, "lull-cleanup"))


def test_each_stale_row_is_deleted_once(project: Project) -> None:
    sql = project.sql
    now: datetime = scalar(sql, "select now()")
    minute = (now + timedelta(seconds=65)).replace(second=0, microsecond=0)
    stale = add_stale(sql, minute)
    kept = {add_session(sql, idle="20 hours") for _ in range(20)}
    kept |= {add_session(sql, idle="99 hours", hold=True) for _ in range(20)}
    coming_back = [row["id"] for row in sql.execute(
        "select id::text from lull.sessions where status = 'draft' and not hold and id::text = any (%s) "
        "order by last_activity_at desc limit 700", [stale])][::3]  # fmt: skip
    while scalar(sql, "select now()") < minute - timedelta(seconds=2):
        time.sleep(0.5)
    sql.execute(JOBS.encode())
    while not is_working(sql):
        time.sleep(0.005)

    until = time.monotonic() + RACE_SECONDS
    with ThreadPoolExecutor(8) as threads:
        users = [
            threads.submit(activate, project.stack.database_url, coming_back[user::USERS])
            for user in range(USERS)
        ]
        vercel = threads.submit(again_and_again, project.fire_vercel, until)
        aws = threads.submit(again_and_again, project.fire_aws, until)
        for user in users:
            user.result()
        answers, reports = vercel.result(), aws.result()
    wait_until(lambda: scalar(sql, "select count(*) from lull.cleanup_runs where status = 'running'") == 0)
    answers.append(project.fire_vercel())
    reports.append(project.fire_aws())

    assert {status for status, _ in answers} == {200}
    assert not any(report["dryRun"] for report in reports)
    assert {status for status, _ in outcomes(sql, "lull-cleanup")} == {"succeeded"}
    runs = sql.execute("select distinct caller, status from lull.cleanup_runs").fetchall()
    assert {row["caller"] for row in runs} == {"vercel-cron", "aws-scheduler", "pg_cron"}
    assert {row["status"] for row in runs} == {"completed"}
    left = {str(row["id"]) for row in sql.execute("select id from lull.sessions")}
    assert left == kept | set(coming_back)
    gone = {row["key"] for row in sql.execute("select key from lull.archive_keys where target = 'lull.sessions'")}
    assert gone == set(stale) - set(coming_back)
    once = sql.execute(
        "select e.session_id from lull.session_events e where event = 'archived' "
        "and e.session_id::text = any (%s) group by 1 having count(*) <> 1",
        [list(gone)],
    ).fetchall()
    assert once == []
    did = scalar(
        sql, "select sum(did) from lull.cleanup_run_policies where definition ->> 'target' = 'lull.sessions'"
    )
    restored = scalar(sql, "select count(*) from lull.session_events where event = 'restored'")
    assert did == len(gone) + restored
    assert scalar(sql, "select count(*) from lull.session_events where event = 'activated'") == len(
        coming_back
    )


def again_and_again(fire: Callable[[], Fired], until: float) -> list[Fired]:
    """Fire a scheduler until the time is up."""
    fired = []
    while time.monotonic() < until:
        fired.append(fire())
        time.sleep(0.2)
    return fired
