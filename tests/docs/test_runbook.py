"""docs/runbook.md: each alert is provoked, the commands of its chapter are run as they stand, and it is over."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from infra.local.environment import ROOT
from tests.calls import CLEANUP, add_drafts, add_session
from tests.docs.blocks import Block, blocks_of
from tests.docs.test_pages import run

Sql = psycopg.Connection[Any]
PAGE = ROOT / "docs" / "runbook.md"
DRAFTS = "abandoned-drafts"
ADA = "a0a0a0a0-0000-4000-8000-00000000000a"


def chapter_of(block: Block) -> str:
    """The heading above a block."""
    above = PAGE.read_text().splitlines()[: block.line]
    return next((line.removeprefix("## ") for line in reversed(above) if line.startswith("## ")), "")


@pytest.fixture
def follow(
    docs_server: str, environment: dict[str, str], sql: Sql, tmp_path: Path
) -> Callable[..., list[str]]:
    """Runs the commands of a chapter in their order; returns what they answered."""

    def do(chapter: str, **known: str) -> list[str]:
        answers = []
        variables = {**os.environ, **environment, "API_URL": docs_server, **known}
        blocks = [block for block in blocks_of(PAGE) if chapter_of(block) == chapter]
        assert blocks, chapter
        for block in blocks:
            if block.kind == "sh":
                answers.append(run(block, variables, tmp_path))
            else:
                answers.append(str(sql.execute(block.text.encode()).fetchall()))
        return answers

    return do


@pytest.fixture
def server(docs_server: str, admin: dict[str, str], sql: Sql) -> Iterator[httpx.Client]:
    sql.execute("update lull.policies_known set since = now(), oldest = null")
    with httpx.Client(base_url=docs_server, headers=admin, timeout=60, trust_env=False) as client:
        yield client
    sql.execute("update lull.policies_known set since = now(), oldest = null")


def conditions(server: httpx.Client) -> set[str]:
    answer = server.get("/api/health/cleanup")
    found = {alert["condition"] for alert in answer.json()["alerts"]}
    assert answer.status_code == (503 if found else 200)
    return found


def test_every_block_of_the_page_belongs_to_a_chapter_that_is_tried() -> None:
    chapters = {chapter_of(block) for block in blocks_of(PAGE)}
    tried = set(re.findall(r'follow\(\s*"([^"]+)"', Path(__file__).read_text()))
    assert chapters - {""} == tried


def test_the_cron_is_gone_for_a_week(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    add_session(sql)
    sql.execute("update lull.policies_known set since = now() - interval '7 d'")
    assert conditions(server) == {"late"}
    assert '"deleted":1' in follow("Late")[0]
    assert conditions(server) == set()


def test_a_run_went_silent(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    sql.execute(
        "insert into lull.cleanup_runs (caller, at, lease_seconds, lease_until) "
        "values ('test', now(), 45, now() - interval '2 min')"
    )
    assert "stuck" in conditions(server)
    follow("Stuck")
    assert conditions(server) == set()


def test_a_run_answered_500(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    poison = add_session(sql, title="poison")
    sql.execute(
        "create function public.refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$; "
        "create trigger refuse before delete on lull.sessions for each row execute function public.refuse()"
    )
    try:
        assert server.post(CLEANUP).status_code == 500
        assert conditions(server) == {"failing"}
        answers = follow("Failing", KEY=poison)
        assert "not this one" in answers[0]
        assert poison in answers[0]
        assert '"deleted":0' in answers[2], "the held row bars no run"
    finally:
        sql.execute("drop trigger refuse on lull.sessions; drop function public.refuse()")
    assert conditions(server) == set()
    assert sql.execute("select count(*) as n from lull.holds").fetchone() == {"n": 0}


def test_a_run_answered_409(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    add_drafts(sql, 3)
    assert server.post(CLEANUP, params={"policy": DRAFTS, "maxRows": "2"}).status_code == 409
    assert conditions(server) == {"breaker"}
    answers = follow("Breaker")
    assert '"wouldDelete":3' in answers[0]
    assert '"pauses":[]' in answers[2]
    assert '"deleted":3' in answers[3]
    assert conditions(server) == set()


def test_a_backlog_is_worked_off(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    add_drafts(sql, 2000)
    assert f'lull_backlog_rows{{policy="{DRAFTS}"}} 2000' in follow("Falling behind")[0]
    answers = follow("A large backlog")
    assert '"wouldDelete":2000' in answers[0]
    assert '"deleted":2000' in answers[2]
    assert sql.execute("select count(*) as n from lull.sessions").fetchone() == {"n": 0}


def test_dead_letters_are_settled(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    sql.execute("insert into lull.file_removals (bucket, path, dead_at, last_error) values ('b', 'p', now(), 'no bucket')")
    server.post(CLEANUP)
    assert conditions(server) == {"dead-letter"}
    assert "no bucket" in follow("Dead letter")[0]
    assert conditions(server) == set()


def test_a_long_pause_is_ended(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    server.post("/api/admin/pause", json={"reason": "holidays"})
    server.post(CLEANUP)
    sql.execute("update lull.switches set changed_at = now() - interval '8 d'")
    assert conditions(server) == {"paused-long"}
    assert "holidays" in follow("Paused long")[0]
    assert conditions(server) == set()


def test_a_remainder_comes_back(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    draft = add_session(sql)
    sql.execute(
        "insert into lull.session_participants (session_id, anonymous_id, name, is_active, last_seen_at) "
        "values (%s, 'a', 'Ada', true, now() - interval '30 h')",
        (draft,),
    )
    run = server.post(CLEANUP).json()["runId"]
    sql.execute("alter table lull.session_participants add constraint nobody check (name <> 'Ada')")
    try:
        assert server.post(f"/api/admin/runs/{run}/restore").json()["missingTotal"] == 1
        assert conditions(server) == {"remainder"}
    finally:
        sql.execute("alter table lull.session_participants drop constraint nobody")
    assert "nobody" in follow("Remainder", KEY=draft)[0]
    assert conditions(server) == set()
    assert sql.execute("select count(*) as n from lull.session_participants").fetchone() == {"n": 1}


def test_a_users_draft_and_a_run_come_back(server: httpx.Client, sql: Sql, follow: Callable[..., list[str]]) -> None:
    sql.execute("delete from auth.users where email = 'ada@example.com'")
    sql.execute("insert into auth.users (id, email) values (%s, 'ada@example.com') on conflict do nothing", (ADA,))
    mine, other = add_session(sql, owner_id=ADA), add_session(sql)
    server.post(CLEANUP)
    assert DRAFTS in follow("Archive large")[0]
    answers = follow("One user's draft back", EMAIL="ada@example.com")
    assert mine in answers[0]
    assert other not in answers[0]
    assert '"restored":1' in answers[1]
    assert '"restored":1' in follow("Undo a run")[0]
    assert sql.execute("select count(*) as n from lull.sessions").fetchone() == {"n": 2}
    assert '"checks":[' in follow("Database")[0]
