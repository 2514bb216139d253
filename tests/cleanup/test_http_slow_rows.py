"""A row whose deletion takes for ever: the run steps over it, cleans the rest, and keeps its lease."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from api.cleanup.run import Cleanup
from api.composition import create_cleanup
from tests.calls import add_drafts, add_session, count_sessions, settings
from tests.cleanup.runs import run_cleanup
from tests.reload import statement_timeout

Sql = psycopg.Connection[Any]
Answer = dict[str, Any]

SLEEP_ON_SLOW_ROWS = """
    create function public.sleep_on_slow_rows() returns trigger language plpgsql as $$
    begin
      if old.title = 'slow' then
        perform pg_sleep(30);
      end if;
      return old;
    end $$;
    create trigger sleep_on_slow_rows before delete on lull.sessions
      for each row execute function public.sleep_on_slow_rows();
"""


@pytest.fixture
def cleanup(environment: dict[str, str], sql: Sql) -> Iterator[Cleanup]:
    """A cleanup whose batches are cancelled after one second, and whose lease is three."""
    sql.execute(SLEEP_ON_SLOW_ROWS)
    with statement_timeout(sql, environment, "lull_cleanup_lane", seconds=1, usual=10):
        yield replace(create_cleanup(settings(environment)), lease_seconds=3)
    sql.execute("drop function public.sleep_on_slow_rows cascade")


def line_of(answer: Answer, name: str = "abandoned-drafts") -> Answer:
    return next(line for line in answer["policies"] if line["policy"] == name)


@pytest.mark.parametrize(("before", "after"), [(0, 300), (300, 300), (700, 0)])
def test_a_row_that_takes_for_ever_is_stepped_over_and_the_rest_goes(
    before: int, after: int, cleanup: Cleanup, sql: Sql
) -> None:
    add_drafts(sql, before, age="3 d")
    slow = add_session(sql, age="2 d", title="slow")
    add_drafts(sql, after, age="25 h")
    add_session(sql, "game", "active", age="31 min")
    report = run_cleanup(cleanup, caller="test")
    line = line_of(report)
    assert (line["outcome"], line["did"], count_sessions(sql)) == ("failed", before + after, 1)
    assert line["skipped_rows"] == [{"key": slow, "reason": "it took longer than a batch may take"}]
    others = [line for line in report["policies"] if line["policy"] != "abandoned-drafts"]
    assert {line["outcome"] for line in others} == {"completed"}
    assert line_of(report, "orphaned-games")["did"] == 1


def test_the_run_after_it_finds_the_row_in_one_time_out(cleanup: Cleanup, sql: Sql) -> None:
    add_session(sql, age="2 d", title="slow")
    add_drafts(sql, 20)
    report = run_cleanup(cleanup, caller="test", only="abandoned-drafts")
    assert line_of(report)["did"] == 20
    assert report["duration_ms"] < 2000


def test_several_such_rows_are_all_stepped_over(cleanup: Cleanup, sql: Sql) -> None:
    for age in ("5 d", "4 d", "26 h"):
        add_session(sql, age=age, title="slow")
        add_drafts(sql, 20, age=age)
    report = run_cleanup(cleanup, caller="test")
    assert (line_of(report)["did"], len(line_of(report)["skipped_rows"])) == (60, 3)
