"""A batch does not wait for its WAL. What its run has reported is there after a crash all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from infra.local.postgres import LocalPostgres
from tests.database import migrated
from tests.sql.driver import line, run_cleanup, scalar


def test_what_a_run_reported_is_there_after_a_crash(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with LocalPostgres(tmp_path / "server", "for-this-test", environ=os.environ) as server:
        migrated(server.url())
        with psycopg.connect(server.url(), autocommit=True, row_factory=dict_row) as db:
            db.execute(
                "insert into lull.sessions (kind, last_activity_at) "
                "select 'chat', now() - interval '30 hours' from generate_series(1, 200)"
            )
            report = run_cleanup(db, "abandoned-drafts", size=50)
            assert line(report, "abandoned-drafts")["did"] == 200
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGQUIT)  # "immediate": nothing more is written
            server.stop()
        server.start()
        with psycopg.connect(server.url(), autocommit=True, row_factory=dict_row) as db:
            assert scalar(db, "select status from lull.cleanup_runs") == "completed"
            assert scalar(db, "select count(*) from lull.archive_keys") == 200
            assert scalar(db, "select count(*) from lull.sessions") == 0
