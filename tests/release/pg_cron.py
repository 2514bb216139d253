"""Debian's Postgres 15 with pg_cron, set up as a hosted Supabase has it: the jobs log in as an ordinary role."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow

from infra.local.environment import ROOT
from infra.local.postgres import UNSAFE
from tests.sql_servers import DEBIAN_15

JOBS = (ROOT / "infra" / "supabase" / "pg_cron.sql").read_text()
BINARIES = DEBIAN_15
SETTINGS = {
    **UNSAFE,
    "shared_preload_libraries": "pg_cron",
    "cron.database_name": "postgres",
    "cron.host": "127.0.0.1",
}
EXTENSION = Path("/usr/share/postgresql/15/extension/pg_cron.control")
needs_pg_cron = pytest.mark.skipif(
    not EXTENSION.exists(), reason="no pg_cron (Debian: apt-get install postgresql-15-cron)"
)
TICK_SECONDS = 75  # a minute, and some for a busy machine

Sql = psycopg.Connection[DictRow]


def let_jobs_log_in(home: Path, sql: psycopg.Connection[object]) -> None:
    """Let pg_cron's own connections in without a password, which it has no place for."""
    rules = home / "postgres" / "pg_hba.conf"
    rules.write_text("host all all 127.0.0.1/32 trust\n" + rules.read_text())
    sql.execute("select pg_reload_conf()")


def wait_until(seen: Callable[[], bool], seconds: float = TICK_SECONDS) -> None:
    """Look twice a second until it is so."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)


def outcomes(sql: Sql, job: str) -> list[tuple[str, str]]:
    """Status and message of a job's ticks that have ended, oldest first."""
    rows = sql.execute(
        "select d.status, d.return_message from cron.job_run_details d join cron.job j using (jobid) "
        "where j.jobname = %s and d.end_time is not null order by d.runid",
        [job],
    )
    return [(row["status"], row["return_message"]) for row in rows]
