"""The run over HTTP: what it answers when it went well, was not its turn, was stopped, or failed."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.cleanup.policies import load_policies
from api.composition import create_app
from tests.calls import ADMIN, CLEANUP, add_drafts, add_session, count_sessions, settings
from tests.in_process import client_of
from tests.policies import FILE
from tests.sql.driver import stored

Sql = psycopg.Connection[Any]
ApiWith = Callable[[str, str], httpx.Client]

REFUSE_ONE = """
    create function public.refuse_one() returns trigger language plpgsql as $$
    begin
      if old.title = 'poison' then
        raise exception 'a trigger of the team' using errcode = '{code}';
      end if;
      return old;
    end $$;
    create trigger refuse_one before delete on lull.sessions
      for each row execute function public.refuse_one();
"""

EXPIRE_THE_LEASE = """
    create function public.refuse_one() returns trigger language plpgsql as $$
    begin
      update lull.cleanup_runs set lease_until = now() - interval '1 second' where status = 'running';
      return old;
    end $$;
    create trigger refuse_one before delete on lull.sessions
      for each row execute function public.refuse_one();
"""


@pytest.fixture
def api_with(environment: dict[str, str], tmp_path: Path, sql: Sql) -> Iterator[ApiWith]:
    """Makes an API whose policies file differs from ours, as is stored: the first occurrence of a text is replaced."""
    with ExitStack() as open_clients:

        def make(old: str, new: str) -> httpx.Client:
            file = tmp_path / "policies.toml"
            file.write_text(FILE.read_text().replace(old, new, 1))
            given = settings(environment, policies_file=str(file))
            open_clients.enter_context(stored(sql, load_policies(given)))
            app = create_app(given)
            return open_clients.enter_context(client_of(app))

        yield make


@pytest.fixture
def poison(sql: Sql) -> Iterator[Callable[[str], None]]:
    """Makes the sessions of the title `poison` refuse to be deleted, with this SQLSTATE."""

    def make(code: str) -> None:
        sql.execute(REFUSE_ONE.format(code=code))

    yield make
    sql.execute("drop function if exists public.refuse_one() cascade")


def line_of(answer: httpx.Response, name: str = "abandoned-drafts") -> dict[str, Any]:
    return next(line for line in answer.json()["policies"] if line["name"] == name)


def test_a_run_does_what_its_dry_run_said_and_the_next_finds_nothing(
    live_api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_drafts(sql, 1200)
    add_session(sql, "game", "active", age="31 min")
    kept = add_session(sql, age="1 h")
    would = {
        line["name"]: line["wouldDelete"] for line in live_api.get(CLEANUP, headers=admin).json()["policies"]
    }
    answer = live_api.post(CLEANUP, headers=admin)
    report = answer.json()
    assert answer.status_code == 200
    assert list(report)[:7] == [
        "dryRun", "runId", "thresholdHours", "deleted", "policies", "hasMore", "durationMs"
    ]  # fmt: skip
    assert (report["dryRun"], report["deleted"], report["hasMore"]) == (False, 1200, False)
    assert {line["name"]: line["deleted"] for line in report["policies"]} == would
    assert {line["outcome"] for line in report["policies"]} == {"completed"}
    assert [str(row["id"]) for row in sql.execute("select id from lull.sessions")] == [kept]
    assert live_api.get(CLEANUP, headers=admin).json()["wouldDelete"] == 0
    assert live_api.post(CLEANUP, headers=admin).json()["deleted"] == 0


def test_without_the_usual_policy_the_first_of_the_file_is_the_subject(api_with: ApiWith, sql: Sql) -> None:
    add_session(sql)
    api = api_with('name = "abandoned-drafts"', 'name = "old-chats"')
    dry = api.get(CLEANUP, headers=ADMIN)
    assert (dry.status_code, dry.json()["wouldDelete"], len(dry.json()["sessions"])) == (200, 1, 1)
    answer = api.post(CLEANUP, headers=ADMIN)
    assert (answer.status_code, answer.json()["deleted"]) == (200, 1)


def test_one_policy_can_run_alone(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql)
    add_session(sql, "room", "active", age="2 h")
    report = api.post(f"{CLEANUP}?policy=empty-rooms", headers=admin).json()
    assert [(line["name"], line["deleted"]) for line in report["policies"]] == [("empty-rooms", 1)]
    assert (report["thresholdHours"], report["deleted"]) == (1, 1)
    assert count_sessions(sql) == 1


def test_while_one_runs_the_other_is_told_since_when(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_session(sql)
    sql.execute("select lull_begin_cleanup('[]', 'somebody', 30)")
    answer = api.post(CLEANUP, headers=admin)
    report = answer.json()
    assert answer.status_code == 200
    assert (report["dryRun"], report["skipped"], report["reason"]) == (False, True, "running")
    assert report["since"].endswith("Z")
    assert "already running since" in report["message"]
    assert count_sessions(sql) == 1
    assert api.get(CLEANUP, headers=admin).json()["wouldDelete"] == 1


def test_a_paused_cleanup_says_so(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql)
    sql.execute("insert into lull.switches (name, is_on, reason) values ('cleanup', true, 'moving house')")
    report = api.post(CLEANUP, headers=admin).json()
    assert (report["skipped"], report["reason"]) == (True, "paused")
    assert "moving house" in report["message"]
    assert count_sessions(sql) == 1


def test_the_breaker_stops_one_policy_loudly_and_the_others_run(api_with: ApiWith, sql: Sql) -> None:
    add_drafts(sql, 11)
    add_session(sql, "game", "active", age="31 min")
    api = api_with('name = "abandoned-drafts"', 'name = "abandoned-drafts"\nmax_rows = 10')
    dry = api.get(CLEANUP, headers=ADMIN)
    assert (dry.status_code, line_of(dry)["stop"], line_of(dry)["limit"]) == (200, "max_rows", 10)
    answer = api.post(CLEANUP, headers=ADMIN)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "urn:lull:problem:cleanup-stopped")
    assert problem["detail"] == (
        "abandoned-drafts: 11 rows would go and the limit is 10. Nothing of this policy was touched. "
        "Read the dry run, then let them go with POST /api/admin/cleanup-sessions?policy=abandoned-drafts&maxRows=11"
    )
    assert (problem["dryRun"], problem["deleted"], line_of(answer)["outcome"]) == (False, 0, "stopped")
    assert line_of(answer, "orphaned-games")["deleted"] == 1
    assert count_sessions(sql) == 11


def test_an_operator_lets_a_backlog_through(api_with: ApiWith, sql: Sql) -> None:
    add_drafts(sql, 11)
    api = api_with('name = "abandoned-drafts"', 'name = "abandoned-drafts"\nmax_rows = 10')
    through = f"{CLEANUP}?policy=abandoned-drafts&maxRows=11"
    assert line_of(api.get(through, headers=ADMIN))["stop"] is None
    assert line_of(api.get(through.replace("11", "9"), headers=ADMIN))["stop"] == "max_rows"
    answer = api.post(through, headers=ADMIN)
    assert (answer.status_code, answer.json()["deleted"]) == (200, 11)
    add_drafts(sql, 11)
    assert api.post(CLEANUP, headers=ADMIN).status_code == 409


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('kind = "chat"', 'colour = "red"', "colour"),
        ('clock = "last_activity_at"', 'clock = "title"', "timestamptz"),
        ('target = "lull.sessions"', 'target = "public.unheard_of"', "not adopted"),
        ('kind = "chat"', "kind = 'chat', hold = 7", "does not fit"),
    ],
)
def test_a_policy_that_does_not_fit_the_database_fails_and_the_others_run(
    old: str, new: str, reason: str, api_with: ApiWith, sql: Sql
) -> None:
    add_session(sql)
    add_session(sql, "game", "active", age="31 min")
    api = api_with(old, new)
    dry = api.get(CLEANUP, headers=ADMIN)
    assert (dry.status_code, dry.json()["type"]) == (500, "urn:lull:problem:dry-run-failed")
    assert dry.json()["detail"].startswith("abandoned-drafts: ")
    assert reason in line_of(dry)["error"]
    answer = api.post(CLEANUP, headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:lull:problem:cleanup-failed")
    assert any(said in line_of(answer)["error"] for said in (reason, "it is not stored"))
    assert (line_of(answer)["outcome"], line_of(answer, "orphaned-games")["deleted"]) == ("failed", 1)
    assert count_sessions(sql) == 1


@pytest.mark.parametrize("code", ["P0001", "23503", "57014"])
def test_a_row_that_cannot_go_is_found_named_and_left(
    code: str,
    api: httpx.Client,
    admin: dict[str, str],
    sql: Sql,
    poison: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_drafts(sql, 300, age="3 d")
    bad = [add_session(sql, age="2 d 12 h", title="poison"), add_session(sql, age="25 h", title="poison")]
    add_drafts(sql, 300, age="2 d")
    poison(code)
    answer = api.post(CLEANUP, headers=admin)
    assert answer.status_code == 500
    line = line_of(answer)
    assert (line["outcome"], line["deleted"]) == ("failed", 600)
    assert line["error"].startswith("2 rows could not be deleted")
    assert [row["key"] for row in line["skippedRows"]] == bad
    assert [str(row["id"]) for row in sql.execute("select id from lull.sessions order by 1")] == sorted(bad)
    logged = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    lines = [entry for entry in logged if entry["event"] == "cleanup policy"]
    assert len(lines) == len(answer.json()["policies"]), "one line a policy"
    [failure] = [entry for entry in lines if entry["level"] == "error"]
    assert (failure["policy"], failure["outcome"], failure["error"]) == ("abandoned-drafts", "failed", line["error"])
    assert [row["key"] for row in failure["rows"]] == bad


def test_a_run_whose_lease_ran_out_in_the_middle_is_a_409_and_took_nothing(
    api: httpx.Client, admin: dict[str, str], sql: Sql, poison: Callable[[str], None]
) -> None:
    add_session(sql)
    sql.execute(EXPIRE_THE_LEASE)
    answer = api.post(CLEANUP, headers=admin)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:lull:problem:lease-lost")
    assert answer.json()["runId"]
    assert count_sessions(sql) == 1


def test_a_key_without_rights_is_a_503(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql)
    sql.execute("revoke execute on function lull_begin_cleanup from service_role")
    try:
        answer = api.post(CLEANUP, headers=admin)
    finally:
        sql.execute("grant execute on function lull_begin_cleanup to service_role")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:lull:problem:database-refused")
    assert "permission denied" not in answer.text
