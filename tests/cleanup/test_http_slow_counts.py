"""A dry run of which one policy takes too long to count: it says so, and the others are shown."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.cleanup.policies import load_policies
from api.cleanup.preview import preview_cleanup
from api.cleanup.report import dry_run_report
from api.composition import create_app, create_cleanup
from api.errors import Problem
from api.settings import Settings
from tests.calls import ADMIN, CLEANUP, add_session, settings
from tests.cleanup.runs import run_cleanup
from tests.in_process import client_of
from tests.policies import FILE
from tests.reload import statement_timeout
from tests.sql.driver import stored

Sql = psycopg.Connection[Any]


# To compare with a value of this domain takes for ever, in a function that may take one second.
SLOW_DOMAIN = """
    create function public.takes_for_ever(text) returns boolean language plpgsql as $$
    begin
      if current_setting('statement_timeout') = '1s' then
        perform pg_sleep(30);
      end if;
      return true;
    end $$;
    create domain public.slow_text as text;
    alter table lull.user_sessions add column speed public.slow_text;
    alter domain public.slow_text add check (public.takes_for_ever(value)) not valid;
"""
NO_SLOW_DOMAIN = """
    alter table lull.user_sessions drop column speed;
    drop domain public.slow_text;
    drop function public.takes_for_ever;
"""


@pytest.fixture
def slow(sql: Sql, environment: dict[str, str], tmp_path: Path) -> Iterator[Settings]:
    """Settings by which user sessions take for ever to count; previews are cancelled after one second."""
    file = tmp_path / "policies.toml"
    target = 'target = "lull.user_sessions"'
    file.write_text(FILE.read_text().replace(target, f'{target}\nequals = {{ speed = "x" }}', 1))
    sql.execute(SLOW_DOMAIN)
    given = settings(environment, policies_file=str(file))
    with (
        stored(sql, load_policies(given)),
        statement_timeout(sql, environment, "lull_preview_cleanup", seconds=1, usual=30),
        statement_timeout(sql, environment, "lull_open_policy", seconds=1, usual=30),
    ):
        yield given
    sql.execute(NO_SLOW_DOMAIN)


@pytest.fixture
def slow_api(slow: Settings) -> Iterator[httpx.Client]:
    with client_of(create_app(slow)) as client:
        yield client


def lines(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in answer.json()["policies"]}


def test_a_policy_that_takes_too_long_to_count_says_so_and_the_others_are_shown(
    slow_api: httpx.Client, sql: Sql
) -> None:
    add_session(sql)
    answer = slow_api.get(CLEANUP, headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:lull:problem:dry-run-failed")
    assert "stale-user-sessions: counting its rows took longer than 30 s" in answer.json()["detail"]
    assert (answer.json()["wouldDelete"], len(answer.json()["sessions"])) == (1, 1)
    line = lines(answer)["stale-user-sessions"]
    assert (line["wouldDelete"], line["error"][:8]) == (None, "counting")
    assert {name for name, line in lines(answer).items() if line["error"]} == {"stale-user-sessions"}


def test_the_subject_may_be_the_one(slow_api: httpx.Client, sql: Sql) -> None:
    add_session(sql)
    answer = slow_api.get(f"{CLEANUP}?policy=stale-user-sessions", headers=ADMIN)
    assert answer.status_code == 500
    assert (answer.json()["wouldDelete"], answer.json()["sessions"]) == (None, [])
    assert lines(answer)["abandoned-drafts"]["wouldDelete"] == 1


def test_all_policies_are_judged_at_one_time(api: httpx.Client, admin: dict[str, str]) -> None:
    answer = api.get(CLEANUP, headers=admin)
    ats = {
        datetime.fromisoformat(line["cutoff"]) + timedelta(hours=line["thresholdHours"])
        for line in answer.json()["policies"]
    }
    assert ats == {datetime.fromisoformat(answer.json()["at"])}


def test_what_the_time_does_not_allow_to_count_is_named(environment: dict[str, str]) -> None:
    readings = iter(range(0, 10_000, 10))
    hurried = replace(create_cleanup(settings(environment)), clock=lambda: next(readings))
    answer = preview_cleanup(hurried, hurried.policies, "purge")
    with pytest.raises(Problem) as caught:
        dry_run_report(answer, hurried.policies, "purge")
    counted = [line["name"] for line in caught.value.members["policies"] if line["error"] is None]
    assert counted[-1] == "purge"  # the subject goes first
    assert "not counted: the time for a dry run (50 s) was used up" in caught.value.detail


def test_a_run_says_the_same_of_a_policy_that_it_cannot_open(slow: Settings, sql: Sql) -> None:
    add_session(sql)
    report = run_cleanup(create_cleanup(slow), caller="test")
    lines = {line["policy"]: line for line in report["policies"]}
    assert lines["stale-user-sessions"]["outcome"] == "failed"
    assert lines["stale-user-sessions"]["error"].startswith("counting its rows took longer than 30 s")
    assert lines["abandoned-drafts"]["did"] == 1
