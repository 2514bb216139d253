"""A run whose process is killed outright, in the middle of its batches."""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import psycopg

from infra.local import ports
from infra.local.stack import start_api
from tests.calls import CLEANUP, count_sessions

Sql = psycopg.Connection[Any]
DRAFTS = 20_000


def wait_for_the_first_batch(sql: Sql, caller: threading.Thread, answers: list[str]) -> None:
    while not sql.execute("select 1 from lull.cleanup_run_policies where did > 0").fetchone():
        assert caller.is_alive(), answers


def wait_for_the_batch_in_flight(sql: Sql) -> None:
    """PostgREST goes on with what it was asked for, whoever asked: a last batch may commit after the kill."""
    while sql.execute(
        "select 1 from pg_stat_activity where pid <> pg_backend_pid() and state <> 'idle' and query like '%lull_cleanup%'"
    ).fetchone():
        pass


def kill_a_run(environment: dict[str, str], sql: Sql, log: Path) -> None:
    """Start an API of its own, start a run, and kill the process after the first batch."""
    port = ports.find_free()
    child = start_api(environment, port, environ=os.environ, log=log)
    url = f"http://{ports.HOST}:{port}{CLEANUP}"
    headers = {"Authorization": f"Bearer {environment['CRON_SECRET']}"}

    answers: list[str] = []

    def post() -> None:
        with contextlib.suppress(httpx.TransportError):
            answers.append(httpx.post(url, headers=headers, timeout=60, trust_env=False).text)

    caller = threading.Thread(target=post)
    caller.start()
    wait_for_the_first_batch(sql, caller, answers)
    os.kill(child.pid, signal.SIGKILL)
    caller.join()
    child.stop()
    wait_for_the_batch_in_flight(sql)


def test_a_killed_run_leaves_whole_sessions_and_the_next_one_completes(
    environment: dict[str, str], api: httpx.Client, admin: dict[str, str], sql: Sql, tmp_path: Path
) -> None:
    sql.execute(
        "with s as (insert into lull.sessions (kind, last_activity_at) "
        "select 'chat', now() - interval '2 d' from generate_series(1, %s) returning id) "
        "insert into lull.session_participants (session_id, last_seen_at) select id, now() - interval '9 days' from s",
        (DRAFTS,),
    )
    kill_a_run(environment, sql, tmp_path / "api.log")
    left = count_sessions(sql)
    assert 0 < left < DRAFTS
    whole = sql.execute(
        "select (select count(*) from lull.archive_keys) as archived, "
        "(select count(*) from lull.session_participants) as children, "
        "(select sum(did) from lull.cleanup_run_policies) as counted"
    ).fetchone()
    assert whole == {"archived": DRAFTS - left, "children": left, "counted": DRAFTS - left}

    assert api.post(CLEANUP, headers=admin).json()["skipped"] is True
    sql.execute("update lull.cleanup_runs set lease_until = now() where status = 'running'")
    report = api.post(CLEANUP, headers=admin).json()
    assert (report["deleted"], report["hasMore"]) == (left, False)
    states = sql.execute("select status from lull.cleanup_runs order by started_at").fetchall()
    assert [row["status"] for row in states] == ["abandoned", "completed"]
