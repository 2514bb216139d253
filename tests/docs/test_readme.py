"""What the README says is so: its commands, links, variables, ages, SQL and pasted answers."""

import re
from pathlib import Path

import httpx
import psycopg
import pytest

from api.cleanup.policies import load_policies
from api.settings import Settings
from tests.calls import add_drafts
from tests.sql.driver import add_session, run_cleanup, scalar

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
Sql = psycopg.Connection[dict[str, object]]


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test", "dev", "help"} <= named <= targets


def test_every_file_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_ages_and_variables_are_those_of_the_policies() -> None:
    hours = {"24 h": 24, "30 min": 0.5, "1 h": 1}
    rows = re.findall(r"^\| (?:chat|game|room|user session) \|.*?\| ([^|]+) \| `(\w+)`", README, re.MULTILINE)
    policies = load_policies(Settings.model_construct())
    assert {variable: hours[age] for age, variable in rows} == {
        policy.age_variable: policy.age / 3600 for policy in policies if policy.age_variable
    }


def test_every_variable_it_names_is_one() -> None:
    example = (ROOT / ".env.example").read_text()
    elsewhere = {"DATABASE_URL", "API_URL", "LULL_HOME", "PORT"}  # of make, the shell and the local stack
    named = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", README)) - elsewhere
    assert [name for name in named if not re.search(rf"^{name}=", example, re.MULTILINE)] == []


@pytest.fixture
def statements() -> dict[str, str]:
    """The SQL of the table "When you need it", by what it is for."""
    pattern = r"^\| ([^|]+) \| `((?:update|insert|delete|select) [^`]+;)`"
    return dict(re.findall(pattern, README, re.MULTILINE))


def test_its_sql_does_what_it_says(sql: Sql, statements: dict[str, str]) -> None:
    held = add_session(sql)
    sql.execute(statements["protect a session for good"].replace("…", held))
    gone = add_session(sql)
    sql.execute(statements["pause the cleanup, a run in progress too"])
    assert scalar(sql, "select lull_begin_cleanup('[]', 'test', 60)")["reason"] == "paused"
    sql.execute(statements["go on"])
    run = run_cleanup(sql, "abandoned-drafts")["run_id"]
    assert scalar(sql, "select id::text from lull.sessions") == held
    sql.execute(statements["bring back what a run took"].replace("<runId>", run))
    assert scalar(sql, "select count(*) from lull.sessions where id = %s", gone) == 1


def test_its_way_to_clean_a_table_of_your_own_works(sql: Sql, statements: dict[str, str]) -> None:
    sql.execute("create table public.my_table (id int primary key, last_used_at timestamptz)")
    sql.execute("create index on public.my_table (last_used_at, id)")
    try:
        sql.execute(statements["clean a table of your own"])
        assert scalar(sql, "select key_columns from lull.targets where name = 'public.my_table'") == ["id"]
    finally:
        sql.execute("delete from lull.targets where not builtin; drop table public.my_table")


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
        shown = next(
            text for text in re.findall(r"```\n(\$ curl.*?)```", README, re.DOTALL) if command in text
        )
        answer = api.request(method, url, headers=admin, params={"limit": 1} if method == "GET" else None)
        keys = re.findall(r'"(\w+)":', shown.replace("\n", "").partition('"policies"')[0])
        real = re.findall(r'"(\w+)":', answer.text.partition('"policies"')[0])
        assert keys == real


def test_the_breaker_stop_it_shows_is_the_real_sentence(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_drafts(sql, 61200)
    answer = api.post("/api/admin/cleanup-sessions", headers=admin)
    shown = re.search(r'"detail":"(abandoned-drafts: [^"]+)"', README)
    assert shown and answer.status_code == 409
    assert answer.json()["detail"] == shown[1].replace("\n", " ")
