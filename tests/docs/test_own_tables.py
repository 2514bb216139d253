"""docs/own-tables.md: its blocks run in their order, with row security on, and a late user gets the draft back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import DictRow

from infra.local.environment import ROOT
from infra.local.nodejs import find_npm
from tests.callers import access_token
from tests.docs.blocks import Block, blocks_of
from tests.sql.driver import run_cleanup, scalar

PAGE = ROOT / "docs" / "own-tables.md"
ADA = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def team(sql: psycopg.Connection[DictRow]) -> Iterator[psycopg.Connection[DictRow]]:
    """A connection; what the page creates is dropped afterwards."""
    yield sql
    sql.execute("""
        drop table if exists public.attachments, public.messages, public.chats, public.carts cascade;
        drop trigger if exists lull_erase on auth.users;
        delete from lull.targets where not builtin;
    """)


def run_sql(connection: psycopg.Connection[DictRow], block: Block) -> None:
    try:
        connection.execute(block.text.encode())
    except psycopg.Error as error:
        pytest.fail(f"{block}: {error}")


def activate(block: Block, url: str, token: str, chat: str, folder: Path) -> dict[str, object]:
    """Run the page's function in Node.js."""
    script = folder / "activate.mjs"
    call = f"activate({json.dumps(url)}, {json.dumps(token)}, {json.dumps(chat)})"
    script.write_text(f"{block.text}\nconsole.log(JSON.stringify(await {call}));\n")
    node = shutil.which("node", path=find_npm(os.environ, print).environ["PATH"])
    done = subprocess.run([str(node), str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_page_runs_from_the_proposal_to_the_release(
    team: psycopg.Connection[DictRow], environment: dict[str, str], docs_server: str, tmp_path: Path
) -> None:
    known = os.environ | environment | {"API_URL": docs_server, "PYTHONPATH": str(ROOT)}
    known["PATH"] = f"{Path(sys.executable).parent}:{known['PATH']}"
    taken = False
    for block in blocks_of(PAGE):
        if block.kind == "sql":
            if "lull.holds" in block.text:
                assert scalar(team, "select status from public.chats") == "active"
            run_sql(team, block)
        elif block.kind == "sh":
            done = subprocess.run(["sh", "-eu", "-c", block.text], cwd=tmp_path, env=known, capture_output=True, text=True)
            assert done.returncode == 0, f"{block}: {done.stderr}"
            if "curl" in block.text:
                answer = json.loads(done.stdout)
                assert "policies" in answer, answer
                lines = answer["policies"]
                (line,) = [line for line in lines if line.get("table") == "public.chats"]
                assert (line["name"], line["wouldDelete"]) == ("abandoned-drafts", 1)
                abandon(team)
                taken = True
        else:
            assert block.kind == "js"
            chat = str(scalar(team, "select key from lull.archive_keys where target = 'public.chats'"))
            answer = activate(block, docs_server, access_token(environment, ADA), chat, tmp_path)
            assert answer["restored"] is True
            assert scalar(team, "select count(*) from public.attachments") == 1
    assert taken
    assert scalar(team, "select count(*) from lull.targets where not builtin") == 0
    assert (tmp_path / "uninstall.sql").read_text() == (ROOT / "sql" / "uninstall.sql").read_text()


def abandon(team: psycopg.Connection[DictRow]) -> None:
    """Let two days pass for the draft and the adoption, and run; row security shows a stranger nothing at any time."""
    with team.transaction():
        team.execute("insert into public.attachments (chat_id, name) select id, 'a.pdf' from public.chats")
        team.execute("update public.chats set updated_at = now() - interval '2 days'")
        team.execute("update lull.targets set adopted_at = now() - interval '3 days' where not builtin")
    assert {who: chats_seen_by(team, who) for who in (ADA, BOB)} == {ADA: 1, BOB: 0}
    run_cleanup(team)
    assert scalar(team, "select count(*) from public.chats") == 0


def chats_seen_by(team: psycopg.Connection[DictRow], user: str) -> int:
    """How many chats a user sees through row security, as PostgREST asks."""
    with team.transaction():
        team.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": user})])
        team.execute("set local role authenticated")
        return int(scalar(team, "select count(*) from public.chats"))
