"""A restore of many rows: whole, row by row, and with no more memory than one of few."""

import gc
import time
import tracemalloc
from typing import Any

import httpx
import psycopg

from api.cleanup.undo.restore import restore
from api.database import Database
from tests.calls import add_drafts, settings
from tests.cleanup.conftest import team_chats  # noqa: F401
from tests.cleanup.test_restore import ROWS, clean, fill, restore_all, snapshot
from tests.scale import examples
from tests.sql.driver import Run

Sql = psycopg.Connection[Any]
DRAFTS = "abandoned-drafts"


def test_a_run_of_5000_sessions_and_as_many_chats_is_restored_row_by_row(
    api: httpx.Client,
    admin: dict[str, str],
    sql: Sql,
    team_chats: str,  # noqa: F811
) -> None:
    fill(sql, examples(500))
    before = snapshot(sql)
    run = clean(api, admin)
    assert snapshot(sql) == {table: [] for table in ROWS}
    assert restore_all(api, admin, run) == 2 * examples(500)
    assert snapshot(sql) == before
    assert restore_all(api, admin, run) == 0


def test_the_memory_of_a_restore_of_100000_rows_is_that_of_one_of_1000(environment: dict[str, str], sql: Sql) -> None:
    database = Database(settings(environment))

    def clock() -> float:
        """The time between two calls of the database, whose garbage does not count, however many they were."""
        gc.collect()
        return time.monotonic()

    def peak(rows: int) -> int:
        """The largest memory of a restore of so many rows, in bytes of Python's objects."""
        add_drafts(sql, rows)
        run = Run.begin(sql, DRAFTS, p_max_rows=rows, p_lease_seconds=600)
        run.open(DRAFTS)
        run.drain(DRAFTS, 2000)
        run.finish()
        gc.collect()
        tracemalloc.start()
        restored, more = 0, True
        while more:
            report = restore(database, {"run": run.id}, budget_seconds=50, clock=clock)
            restored, more = restored + report.restored, report.has_more
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert restored == rows
        return largest

    peak(3000)  # what the first calls of a process import and keep
    few = peak(1000)
    assert peak(examples(10_000)) <= 1.2 * few
