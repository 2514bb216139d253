"""What the README says is so: its commands, links, variables, ages, SQL and pasted answers."""

import re
from pathlib import Path

import httpx
import psycopg

from tests.calls import add_drafts
from tests.sql.driver import scalar

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
Sql = psycopg.Connection[dict[str, object]]


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (?:-s )?([a-z0-9-]+)", README, re.MULTILINE))
    assert {"demo", "test", "dev", "help"} <= named <= targets


def test_every_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_variable_it_names_is_one() -> None:
    example = (ROOT / ".env.example").read_text()
    elsewhere = {"DATABASE_URL", "API_URL", "LULL_HOME", "PORT"}  # of make, the shell and the local stack
    named = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", README)) - elsewhere
    assert [name for name in named if not re.search(rf"^{name}=", example, re.MULTILINE)] == []


def test_it_has_at_most_110_lines() -> None:
    assert len(README.splitlines()) <= 110


def test_its_way_to_adopt_a_table_of_sessions_works(sql: Sql) -> None:
    statement = re.search(r"`(select lull\.adopt_sessions\('public\.my_chats'.+?;)`", README)
    assert statement
    sql.execute(
        """
        create table public.my_chats (
          id uuid primary key default gen_random_uuid(), user_id uuid, status text not null default 'draft',
          first_message_at timestamptz, created_at timestamptz not null default now(),
          updated_at timestamptz not null default now());
        create index on public.my_chats (updated_at, id);
        """
    )
    try:
        sql.execute(statement[1].encode())
        adopted = "select name from lull.targets union select name from lull.session_tables"
        assert scalar(sql, f"select count(*) from ({adopted}) t where name = 'public.my_chats'") == 1
    finally:
        sql.execute("drop table public.my_chats cascade")


def pasted(command: str) -> str:
    """What the README shows below a command, unwrapped."""
    found = re.search(re.escape(command) + r"\n(.*?)```", README, re.DOTALL)
    assert found, command
    return found[1].replace("\n", "")


def test_the_refusal_it_shows_is_the_real_one(api: httpx.Client) -> None:
    answer = api.get("/api/admin/cleanup-sessions")
    shown = pasted('$ curl -si "$API_URL/api/admin/cleanup-sessions"')
    assert shown.startswith("HTTP/1.1 401 Unauthorizedcontent-type: application/problem+json")
    assert answer.status_code == 401
    assert answer.text.startswith(shown[shown.index("{") : -1])


def test_the_answers_it_shows_have_the_keys_of_the_real_ones(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_drafts(sql, 3)
    url = "/api/admin/cleanup-sessions"
    for method, command in (("GET", "sessions?limit=1"), ("POST", "-X POST")):
        shown = next(text for text in re.findall(r"```\n(\$ curl.*?)```", README, re.DOTALL) if command in text)
        answer = api.request(method, url, headers=admin, params={"limit": 1} if method == "GET" else None)
        keys = re.findall(r'"(\w+)":', shown.replace("\n", "").partition('"policies"')[0])
        real = re.findall(r'"(\w+)":', answer.text.partition('"policies"')[0])
        assert keys == real


def test_the_breaker_stop_it_shows_is_the_real_sentence(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_drafts(sql, 61200)
    answer = api.post("/api/admin/cleanup-sessions", headers=admin)
    shown = re.search(r'"detail":"(abandoned-drafts: [^"]+)"', README)
    assert shown and answer.status_code == 409
    assert answer.json()["detail"] == shown[1].replace("\n", " ")
